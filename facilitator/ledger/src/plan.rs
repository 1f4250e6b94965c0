use crate::channel::Newest;
use crate::offers::Offers;
use crate::pack::{Capacity, Packing, order};
use crate::{Batch, Bundle, Channel, ClaimRow, Ledger};
use std::collections::HashMap;
use tallybook_rules::{Amount, Rejection};

/// When claims are worth a transaction, and what goes into one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The most rows of one transaction.
    pub rows_per_batch: usize,
    /// The most rows of one transaction that settles less than was signed in some of them.
    pub rows_per_batch_below: usize,
    /// What a transaction has room for.
    pub capacity: Capacity,
    /// A page is claimed when so much waits in it.
    pub due_amount: Amount,
    /// A page is claimed when something has waited so long in it, in seconds.
    pub due_age_seconds: i64,
    /// A page is claimed when so many of its channels wait; for this reason alone only transactions are sent that are full,
    /// or have so many rows.
    pub due_rows: usize,
    /// Everything is claimed at once, as soon as it is charged.
    pub per_call: bool,
}

impl Default for Policy {
    /// 23 rows, or 20, of one page, as fit into a v0 transaction; a page is due at 25 USDC, after an hour, or with 69 channels
    /// waiting.
    fn default() -> Self {
        Self {
            rows_per_batch: 23,
            rows_per_batch_below: 20,
            capacity: Capacity::ONE_PAGE,
            due_amount: Amount::new(25_000_000),
            due_age_seconds: 3_600,
            due_rows: 69,
            per_call: false,
        }
    }
}

/// What waits in a page, largest gain first.
#[derive(Default)]
struct Waiting {
    book: [u8; 32],
    page: [u8; 32],
    rows: Vec<ClaimRow>,
    oldest: i64,
    amount: Amount,
}

impl Ledger {
    /// The transactions that are due at `now`: the same whatever the order in which vouchers came. Tell [`Ledger::sent`] of
    /// each batch that is taken up; what is not taken up is planned again.
    ///
    /// A closing channel is claimed at once and alone, so that no other row of its transaction can fail with it; a channel
    /// that leaves by a refund only when the refund has not come within the due age. The other rows of a page go together, and
    /// where [`Capacity`] allows several pages share a transaction.
    ///
    /// Looks only at pages that are due, and at those whose oldest row has gone since they were looked at last.
    pub fn plan(&mut self, now: i64, policy: &Policy) -> Vec<Bundle> {
        self.queue.measure_by(policy);
        self.pardon(now);
        let since = now.saturating_sub(policy.due_age_seconds);
        let mut bundles = self.alone(since);
        let mut due: Vec<Waiting> = Vec::new();
        for page in self.queue.pages(since) {
            let waiting = self.waiting_in(page);
            self.queue.correct_age(&page, waiting.oldest);
            due.push(waiting);
        }
        // Pages of one book beside each other: they name the same accounts.
        due.sort_by_key(|waiting| (waiting.book, waiting.page));
        let mut shared = Packing::new(policy);
        for mut waiting in due {
            self.queue.looks = self.queue.looks.saturating_add(waiting.sort());
            if policy.per_call || waiting.amount >= policy.due_amount || waiting.oldest <= since {
                shared.add(&waiting.book, &waiting.page, waiting.rows);
            } else if waiting.rows.len() >= policy.due_rows {
                let mut own = Packing::new(policy);
                own.add(&waiting.book, &waiting.page, waiting.rows);
                bundles.extend(own.worthwhile(policy.due_rows));
            }
        }
        bundles.extend(shared.finish());
        bundles
    }

    /// How many pages and channels planning has looked at, and how often it has compared two of them, since the ledger was
    /// made.
    pub const fn looks(&self) -> u64 {
        self.queue.looks
    }

    /// What must hold between calls: every channel is sound, and what is known of waiting claims is what a count gives.
    /// Walks all channels.
    pub fn check(&self) -> Result<(), Rejection> {
        self.channels.iter().try_for_each(|channel| channel.check())?;
        let gains = self.channels.iter().map(|channel| u128::from(channel.gain().get()));
        let unsettled = gains.fold(0u128, u128::saturating_add);
        let is_counted = u128::from(self.unsettled().get()) == unsettled.min(u64::MAX.into());
        if !self.offers_are_counted() {
            return Err(Rejection::InvariantBroken);
        }
        if is_counted && self.queue.is_of(self.channels.iter()) { Ok(()) } else { Err(Rejection::InvariantBroken) }
    }

    /// True when what can be offered is what the boards say.
    fn offers_are_counted(&self) -> bool {
        let mut fresh: HashMap<[u8; 32], Offers> = HashMap::new();
        for (page, board) in &self.boards {
            let offers = fresh.entry(board.header.book).or_default();
            offers.add_page(*page, board.seats.len());
            (0u8..).take(board.seats.len()).for_each(|at| offers.moved(None, board.opening(page, at)));
        }
        fresh.len() == self.offers.len()
            && fresh.iter().all(|(book, offers)| self.offers.get(book).is_some_and(|known| known.is_like(offers)))
    }

    /// Lets rows that the chain refused wait with the others again, when their time is over.
    fn pardon(&mut self, now: i64) {
        for id in self.queue.pardoned(now) {
            if let Some(before) = self.channels.get(&id) {
                self.keep(before.standing(), &Channel { claim_after: 0, ..before });
            }
        }
    }

    /// A transaction for each channel that is closing, or has wanted out since `since`.
    fn alone(&mut self, since: i64) -> Vec<Bundle> {
        let mut rows: Vec<([u8; 32], ClaimRow)> = Vec::new();
        for id in self.queue.alone(since) {
            rows.extend(self.channels.get(&id).and_then(|channel| Some((channel.place.page, channel.claim_row()?))));
        }
        self.queue.looks = self.queue.looks.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        rows.sort_by_key(|(page, row)| (*page, row.slot));
        rows.into_iter().filter_map(|(page, row)| Some(Bundle::of(Batch::new(page, vec![row]).ok()?))).collect()
    }

    /// What waits in a page, its slots in order.
    fn waiting_in(&mut self, page: [u8; 32]) -> Waiting {
        let mut waiting = Waiting { page, oldest: i64::MAX, ..Waiting::default() };
        let Some(board) = self.boards.get(&page) else { return waiting };
        waiting.book = board.header.book;
        for channel in board.seats.iter().filter_map(|seat| self.channels.get(&seat.channel?)) {
            if let Some(row) = channel.claim_row().filter(|_| !channel.is_closing()) {
                waiting.add(row, channel.unsettled_since);
            }
        }
        let seats = u64::try_from(board.seats.len()).unwrap_or(u64::MAX);
        self.queue.looks = self.queue.looks.saturating_add(seats).saturating_add(1);
        waiting
    }
}

impl Channel {
    /// The row that claims what is charged by the newest voucher; none when that adds nothing, is on its way, was just
    /// refused, or was stored and not verified again yet.
    fn claim_row(&self) -> Option<ClaimRow> {
        let Newest::Proven(voucher) = self.newest else { return None };
        let row = ClaimRow {
            slot: self.place.slot,
            voucher,
            amount: self.due()?,
            settled: self.on_chain.settled,
            deposit: self.on_chain.deposit,
        };
        (!self.in_flight && self.claim_after == 0 && !self.gain().is_zero()).then_some(row)
    }
}

impl Waiting {
    fn add(&mut self, row: ClaimRow, since: i64) {
        self.oldest = self.oldest.min(since);
        // Deposits are below 2^48 and a page has at most 96 slots, so the sum stays below 2^55.
        self.amount = self.amount.plus(row.gain()).unwrap_or(self.amount);
        self.rows.push(row);
    }

    /// Puts the rows into their order, and says how many comparisons that took.
    fn sort(&mut self) -> u64 {
        let mut comparisons = 0u64;
        // Stable: rows of equal gain stay in the order of their slots.
        self.rows.sort_by(|one, other| {
            comparisons = comparisons.saturating_add(1);
            order(one).cmp(&order(other))
        });
        comparisons
    }
}
