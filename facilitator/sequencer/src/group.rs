use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// What became of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It would survive a loss of power.
    Durable,
    /// Whether it is on disk is not known.
    Lost,
}

/// All that is written in one commit, and all who wait for it. They are told all at once, and nothing is allocated for one.
#[derive(Default, Debug)]
pub(crate) struct Group {
    /// 0 while it is not known, then one of the two below.
    state: AtomicU8,
    told: Notify,
}

const DURABLE: u8 = 1;
const LOST: u8 = 2;

impl Group {
    /// Tells everybody. Only the first outcome counts.
    pub(crate) fn end(&self, outcome: Outcome) {
        let state = match outcome {
            Outcome::Durable => DURABLE,
            Outcome::Lost => LOST,
        };
        // Whoever has found no state before has asked to be told, and is.
        let _is_first = self.state.compare_exchange(0, state, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.told.notify_waiters();
    }

    /// Waits until it is known.
    pub(crate) async fn outcome(&self) -> Outcome {
        loop {
            let mut told = std::pin::pin!(self.told.notified());
            told.as_mut().enable();
            match self.state.load(Ordering::Acquire) {
                DURABLE => return Outcome::Durable,
                0 => told.await,
                _ => return Outcome::Lost,
            }
        }
    }
}
