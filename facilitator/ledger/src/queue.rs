//! What waits to be claimed, kept true with every change, so that planning looks at what is due and at nothing else.
//!
//! A channel's change costs one look-up of its page's tally. Trees are touched only when a page begins or ceases to wait,
//! when it passes a threshold, and when a channel is to be claimed alone or was refused.

use crate::channel::Newest;
use crate::{Channel, Policy};
use std::collections::{BTreeSet, HashMap};
use tallybook_rules::Amount;

/// How a channel waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nothing to claim, or nothing yet: its claim is on its way, or its stored voucher was not verified again.
    Idle,
    /// To be claimed together with others of its page.
    Waiting {
        /// What the claim adds on chain.
        gain: Amount,
        /// Since when something is charged and not settled, in Unix seconds.
        since: i64,
    },
    /// To be claimed in a transaction of its own: at once when it closes on chain, else since its payer wants out.
    Alone {
        /// Unix seconds; the least number for at once.
        since: i64,
    },
    /// The chain has refused its row.
    Refused {
        /// When it is tried again, in Unix seconds.
        until: i64,
    },
}

/// What waits in one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tally {
    rows: usize,
    amount: Amount,
    /// Nothing waits for longer, in Unix seconds. May lie too far back once the oldest is gone, until the page is looked at.
    oldest: i64,
    /// Beyond a threshold, and so among the full pages.
    full: bool,
}

/// All that waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// Only pages in which something waits.
    tallies: HashMap<[u8; 32], Tally>,
    by_age: BTreeSet<(i64, [u8; 32])>,
    full: BTreeSet<[u8; 32]>,
    alone: BTreeSet<(i64, [u8; 32])>,
    refused: BTreeSet<(i64, [u8; 32])>,
    thresholds: Thresholds,
    /// How many pages and channels planning has looked at, ever.
    pub(crate) looks: u64,
}

/// From when on a page is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Thresholds {
    amount: Amount,
    rows: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { amount: Amount::MAX_DEPOSIT, rows: usize::MAX }
    }
}

impl Thresholds {
    const fn of(policy: &Policy) -> Self {
        let amount = if policy.per_call { Amount::new(1) } else { policy.due_amount };
        Self { amount, rows: policy.due_rows }
    }

    fn are_passed(&self, tally: &Tally) -> bool {
        tally.rows >= self.rows || tally.amount >= self.amount
    }
}

impl Queue {
    /// A channel stood as `before`, and is now as it is.
    pub(crate) fn moved(&mut self, before: Standing, channel: &Channel) {
        self.change(channel, before, channel.standing());
    }

    /// A channel that stood as `before` is there no more.
    pub(crate) fn left(&mut self, channel: &Channel) {
        self.change(channel, channel.standing(), Standing::Idle);
    }

    fn change(&mut self, channel: &Channel, before: Standing, after: Standing) {
        if before == after {
            return;
        }
        let (page, id) = (channel.place.page, channel.id);
        if let (Standing::Waiting { gain: old, since }, Standing::Waiting { gain: new, since: same }) = (before, after)
            && since == same
        {
            return self.grow(&page, old, new);
        }
        // First in, then out: a page that goes on waiting keeps its place.
        match after {
            Standing::Idle => {}
            Standing::Waiting { gain, since } => self.enter(page, gain, since),
            Standing::Alone { since } => drop(self.alone.insert((since, id))),
            Standing::Refused { until } => drop(self.refused.insert((until, id))),
        }
        match before {
            Standing::Idle => {}
            Standing::Waiting { gain, .. } => self.leave(&page, gain),
            Standing::Alone { since } => drop(self.alone.remove(&(since, id))),
            Standing::Refused { until } => drop(self.refused.remove(&(until, id))),
        }
    }

    fn enter(&mut self, page: [u8; 32], gain: Amount, since: i64) {
        let tally = self.tallies.entry(page).or_insert_with(|| {
            self.by_age.insert((since, page));
            Tally { rows: 0, amount: Amount::ZERO, oldest: since, full: false }
        });
        tally.rows = tally.rows.saturating_add(1);
        // Deposits are below 2^48 and a page has at most 96 slots, so the sum stays below 2^55.
        tally.amount = tally.amount.plus(gain).unwrap_or(tally.amount);
        if since < tally.oldest {
            self.by_age.remove(&(tally.oldest, page));
            self.by_age.insert((since, page));
            tally.oldest = since;
        }
        Self::mark(&mut self.full, &self.thresholds, &page, tally);
    }

    /// A channel of the page goes on waiting, with another gain: what each call does.
    fn grow(&mut self, page: &[u8; 32], old: Amount, new: Amount) {
        let Some(tally) = self.tallies.get_mut(page) else { return };
        let others = tally.amount.less(old);
        tally.amount = others.plus(new).unwrap_or(others);
        Self::mark(&mut self.full, &self.thresholds, page, tally);
    }

    fn leave(&mut self, page: &[u8; 32], gain: Amount) {
        let Some(tally) = self.tallies.get_mut(page) else { return };
        tally.rows = tally.rows.saturating_sub(1);
        tally.amount = tally.amount.less(gain);
        Self::mark(&mut self.full, &self.thresholds, page, tally);
        if tally.rows == 0 {
            self.by_age.remove(&(tally.oldest, *page));
            self.full.remove(page);
            self.tallies.remove(page);
        }
    }

    /// Puts a page among the full ones, or takes it out, when it has passed a threshold.
    fn mark(full: &mut BTreeSet<[u8; 32]>, thresholds: &Thresholds, page: &[u8; 32], tally: &mut Tally) {
        let is_full = thresholds.are_passed(tally);
        if is_full == tally.full {
            return;
        }
        tally.full = is_full;
        if is_full {
            full.insert(*page);
        } else {
            full.remove(page);
        }
    }

    /// Sorts the pages by the thresholds of `policy`: work only when they are others than last time.
    pub(crate) fn measure_by(&mut self, policy: &Policy) {
        let thresholds = Thresholds::of(policy);
        if thresholds == self.thresholds {
            return;
        }
        self.thresholds = thresholds;
        self.full.clear();
        for (page, tally) in &mut self.tallies {
            tally.full = false;
            Self::mark(&mut self.full, &thresholds, page, tally);
        }
    }

    /// Notes how old the oldest of a page really is.
    pub(crate) fn correct_age(&mut self, page: &[u8; 32], oldest: i64) {
        let Some(tally) = self.tallies.get_mut(page) else { return };
        if oldest > tally.oldest {
            self.by_age.remove(&(tally.oldest, *page));
            self.by_age.insert((oldest, *page));
            tally.oldest = oldest;
        }
    }

    /// The pages that are full, or in which something may have waited since `since` or longer; each once, in their order.
    pub(crate) fn pages(&self, since: i64) -> BTreeSet<[u8; 32]> {
        let old = self.by_age.range(..=(since, [u8::MAX; 32])).map(|(_, page)| *page);
        self.full.iter().copied().chain(old).collect()
    }

    /// The channels to be claimed alone that want it since `since` or longer.
    pub(crate) fn alone(&self, since: i64) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.alone.range(..=(since, [u8::MAX; 32])).map(|(_, channel)| *channel)
    }

    /// The refused channels whose time is over.
    pub(crate) fn pardoned(&self, now: i64) -> Vec<[u8; 32]> {
        self.refused.range(..=(now, [u8::MAX; 32])).map(|(_, channel)| *channel).collect()
    }

    /// True when this is what counting `channels` anew would give; ages may lie back.
    pub(crate) fn is_of(&self, channels: impl Iterator<Item = Channel>) -> bool {
        let mut fresh = Self { thresholds: self.thresholds, ..Self::default() };
        channels.for_each(|channel| fresh.moved(Standing::Idle, &channel));
        let same = |page: &[u8; 32], tally: &Tally| {
            let other = self.tallies.get(page);
            other
                .is_some_and(|other| Tally { oldest: tally.oldest, ..*other } == *tally && other.oldest <= tally.oldest)
        };
        let ages = self.tallies.iter().all(|(page, tally)| self.by_age.contains(&(tally.oldest, *page)));
        fresh.tallies.len() == self.tallies.len()
            && self.by_age.len() == self.tallies.len()
            && fresh.tallies.iter().all(|(page, tally)| same(page, tally))
            && ages
            && (&fresh.full, &fresh.alone, &fresh.refused) == (&self.full, &self.alone, &self.refused)
    }
}

impl Channel {
    /// How it waits to be claimed.
    pub(crate) fn standing(&self) -> Standing {
        let is_proven = matches!(self.newest, Newest::Proven(_));
        if self.in_flight || !is_proven || self.unsettled_since == 0 {
            return Standing::Idle;
        }
        if self.claim_after != 0 {
            return Standing::Refused { until: self.claim_after };
        }
        if self.on_chain.closing_at != 0 {
            return Standing::Alone { since: i64::MIN };
        }
        if self.is_closing() {
            return Standing::Alone { since: self.leaving_since };
        }
        Standing::Waiting { gain: self.gain(), since: self.unsettled_since }
    }
}
