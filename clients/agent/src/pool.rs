//! Who may use which channel when: one call at a time on each.

use crate::channel::{OwnChannel, Phase};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tallybook_rules::Amount;
use tallybook_wire::Key;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A channel that is shared between whoever uses it and whoever looks at it. The lock is held for moments only; the
/// right to use the channel is the [`Lease`].
pub(crate) type Shared = Arc<Mutex<OwnChannel>>;

/// Locks; a panic elsewhere does not matter, since every change of a channel is a single step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where channels can be used for the same calls.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PoolKey {
    /// `host:port`.
    pub(crate) authority: String,
    /// The payee's book.
    pub(crate) book: Key,
}

/// The channels of one payee at one host that nobody uses just now.
#[derive(Debug)]
pub(crate) struct Pool {
    turns: Arc<Semaphore>,
    lanes: u32,
    idle: Mutex<Vec<Shared>>,
}

impl Pool {
    /// A pool in which `lanes` calls run at a time.
    pub(crate) fn new(lanes: u16) -> Arc<Self> {
        Arc::new(Self {
            turns: Arc::new(Semaphore::new(usize::from(lanes))),
            lanes: u32::from(lanes),
            idle: Mutex::default(),
        })
    }

    /// Adds a channel that nobody uses.
    pub(crate) fn add(&self, channel: Shared) {
        lock(&self.idle).push(channel);
    }

    /// Waits for a turn, first come first served.
    pub(crate) async fn turn(self: &Arc<Self>) -> Lease {
        self.turns_of(1).await
    }

    /// Waits until nobody uses a channel, and keeps it so.
    pub(crate) async fn all_turns(self: &Arc<Self>) -> Lease {
        self.turns_of(self.lanes).await
    }

    async fn turns_of(self: &Arc<Self>, count: u32) -> Lease {
        Lease {
            pool: Arc::clone(self),
            // The semaphore is never closed.
            turns: Arc::clone(&self.turns).acquire_many_owned(count).await.ok(),
            channel: None,
        }
    }

    /// Takes a channel that nobody uses out of the pool, until what is returned is dropped; nothing when it is in use.
    pub(crate) fn take(self: &Arc<Self>, id: &Key) -> Option<Lease> {
        let mut idle = lock(&self.idle);
        let at = idle.iter().position(|channel| lock(channel).id == *id)?;
        let channel = Some(idle.swap_remove(at));
        Some(Lease { pool: Arc::clone(self), turns: None, channel })
    }

    /// All channels, while [`Pool::all_turns`] are held.
    pub(crate) fn channels(&self) -> Vec<Shared> {
        lock(&self.idle).clone()
    }
}

/// A turn, and the channel that is used in it; given back when dropped, also when the call is cancelled.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    turns: Option<OwnedSemaphorePermit>,
    channel: Option<Shared>,
}

impl Lease {
    /// The pool.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The channel of this turn that can pay `price`: the one in hand, else an idle one (an open one before one whose
    /// opening is not decided, and that before one that must be topped up). Nothing means that a new one is needed.
    pub(crate) fn channel_for(&mut self, price: Amount, may_top_up: bool) -> Option<Shared> {
        let rank = |channel: &Shared| {
            let channel = lock(channel);
            match channel.phase {
                Phase::Open if channel.next_cumulative(price).is_some() => Some(0),
                Phase::Open => Some(2).filter(|_| may_top_up && !channel.no_top_up),
                Phase::Opening { .. } => Some(1),
                Phase::GivenUp | Phase::Closing { .. } | Phase::Ended => None,
            }
        };
        let mut idle = lock(&self.pool.idle);
        if self.channel.as_ref().is_some_and(|channel| rank(channel).is_none()) {
            idle.extend(self.channel.take());
        }
        if self.channel.is_none() {
            // The last ones first: that keeps few channels in use, and their ceilings warm.
            let ranked = idle.iter().enumerate().rev();
            let best =
                ranked.filter_map(|(at, channel)| rank(channel).map(|rank| (rank, at))).min_by_key(|(rank, _)| *rank);
            self.channel = best.map(|(_, at)| idle.swap_remove(at));
        }
        self.channel.clone()
    }

    /// Takes up a channel that was just made.
    pub(crate) fn use_new(&mut self, channel: Shared) {
        if let Some(old) = self.channel.replace(channel) {
            self.pool.add(old);
        }
    }

    /// The channel in hand.
    pub(crate) fn channel(&self) -> Option<&Shared> {
        self.channel.as_ref()
    }

    /// Lets go of a channel that came to nothing: it does not go back to the pool.
    pub(crate) fn forget_channel(&mut self) {
        self.channel = None;
    }

    /// Gives turn and channel to somebody else; this lease keeps neither.
    pub(crate) fn hand_over(&mut self) -> Self {
        Self { pool: Arc::clone(&self.pool), turns: self.turns.take(), channel: self.channel.take() }
    }

    /// Gives turn and channel back.
    pub(crate) fn leave(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.pool.add(channel);
        }
        self.turns = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leave();
    }
}
