use std::hash::{BuildHasher, RandomState};
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
    // Each state has keys of its own, so that its hash of nothing is as good as a die; nothing secret depends on it.
    let die = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    let half = pause.checked_div(2).unwrap_or(pause);
    let part = u128::from(die).saturating_mul(half.as_nanos()).checked_shr(32).unwrap_or_default();
    half.saturating_add(Duration::from_nanos(u64::try_from(part).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_pause_when_it_is_jittered_then_it_is_between_half_and_all_of_it_and_not_always_the_same() {
        let pause = Duration::from_millis(20);
        let drawn: Vec<Duration> = (0..100).map(|_| jittered(pause)).collect();
        assert!(drawn.iter().all(|drawn| (Duration::from_millis(10)..=pause).contains(drawn)), "{drawn:?}");
        assert!(drawn.iter().any(|other| *other != drawn[0]));
        assert_eq!(jittered(Duration::ZERO), Duration::ZERO);
    }
}
