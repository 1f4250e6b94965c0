use rand::Rng;
use std::time::Duration;

/// How often the chain is asked about a transaction, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// The first pause before asking again; doubles up to [`Self::slowest`].
    pub first: Duration,
    /// The longest pause.
    pub slowest: Duration,
    /// How often the same transaction is handed over again while its blockhash is valid.
    pub resend: Duration,
    /// How long one call waits for a decision. After that the outcome is unknown, and asked for later.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            slowest: Duration::from_millis(500),
            resend: Duration::from_secs(2),
            patience: Duration::from_secs(90),
        }
    }
}

impl Pace {
    /// The pause after one of `pause`.
    pub(crate) fn after(&self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.slowest)
    }
}

/// Between half of `pause` and all of it, so that many who were refused together do not come back together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    match pause.checked_div(2) {
        Some(half) => rand::rng().random_range(half..=pause),
        None => pause,
    }
}
