//! What must be true of each channel, as those know it who signed and were answered: the measure that ledger and chain are
//! held to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tallybook_rules::signing::SignedVoucher;

/// A channel, seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) agent: usize,
    /// What was answered for: the ledger must have charged as much.
    pub(crate) low: u64,
    /// What was answered for, or may have been committed without an answer: it must not have charged more.
    pub(crate) high: u64,
    /// The largest amount that was signed.
    pub(crate) signed: u64,
    /// The voucher over most that paid for a call, and what was charged by then: what a resource server keeps.
    pub(crate) newest: Option<(SignedVoucher, u64)>,
    /// It was heard of since the ledger was last looked at.
    pub(crate) touched: bool,
    /// The facilitator has said that the deposit can never land.
    pub(crate) said_expired: bool,
}

/// What has happened, in numbers.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    pub(crate) openings: u64,
    pub(crate) top_ups: u64,
    pub(crate) refunds: u64,
    pub(crate) withdrawals: u64,
    pub(crate) kills: u64,
    pub(crate) forks: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.openings += other.openings;
        self.top_ups += other.top_ups;
        self.refunds += other.refunds;
        self.withdrawals += other.withdrawals;
        self.kills += other.kills;
        self.forks += other.forks;
    }
}

/// Everybody in a world writes into the same one.
#[derive(Clone, Default)]
pub(crate) struct Truth(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) channels: BTreeMap<[u8; 32], Known>,
    pub(crate) counts: Counts,
    /// A law that somebody saw broken.
    pub(crate) broken: Option<String>,
}

impl Truth {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while writing")
    }

    /// Changes what is known of a channel.
    pub(crate) fn of(&self, id: &[u8; 32], change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.lock().channels.get_mut(id) {
            known.touched = true;
            change(known);
        }
    }

    pub(crate) fn known(&self, id: &[u8; 32]) -> Option<Known> {
        self.lock().channels.get(id).cloned()
    }

    /// A channel to be.
    pub(crate) fn meet(&self, id: [u8; 32], agent: usize) {
        let mut state = self.lock();
        let new = Known { agent, low: 0, high: 0, signed: 0, newest: None, touched: true, said_expired: false };
        // A deposit that has expired may be made anew, for the same channel.
        state.channels.entry(id).or_insert(new).said_expired = false;
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
    }

    /// A law was seen broken; the first one counts.
    pub(crate) fn breach(&self, what: String) {
        self.lock().broken.get_or_insert(what);
    }
}
