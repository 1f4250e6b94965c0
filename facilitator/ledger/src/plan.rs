use crate::{Batch, Channel, ClaimRow, Ledger};
use std::cmp::Reverse;
use tallybook_rules::Amount;
use tallybook_rules::half_aggregation::MAX_ROWS;

/// When claims are worth a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Rows of one transaction: 23 fit into a v0 one.
    pub rows_per_batch: usize,
    /// Rows of one transaction that settles less than was signed in some of them: 20 fit into a v0 one.
    pub rows_per_batch_below: usize,
    /// A page is claimed when so much waits in it.
    pub due_amount: Amount,
    /// A page is claimed when something has waited so long in it, in seconds.
    pub due_age_seconds: i64,
    /// A page is claimed when so many of its channels wait; only full batches are sent for this reason alone.
    pub due_rows: usize,
    /// Everything is claimed at once, as soon as it is charged.
    pub per_call: bool,
}

impl Default for Policy {
    /// 23 rows, or 20; a page is due at 25 USDC, after an hour, or with 69 channels waiting.
    fn default() -> Self {
        Self {
            rows_per_batch: 23,
            rows_per_batch_below: 20,
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
    rows: Vec<ClaimRow>,
    oldest: i64,
    amount: Amount,
}

impl Ledger {
    /// The batches that are due at `now`: the same whatever the order in which vouchers came. Changes nothing; tell
    /// [`Ledger::sent`] of each batch that is taken up.
    ///
    /// A closing channel is claimed at once and alone, so that no other row of its batch can fail with it; a channel
    /// that leaves by a refund only when the refund has not come within the due age.
    pub fn plan(&self, now: i64, policy: &Policy) -> Vec<Batch> {
        let mut batches = Vec::new();
        for (page, board) in &self.boards {
            let mut waiting = Waiting::default();
            for channel in board.seats.iter().filter_map(|seat| self.channels.get(&seat.channel?)) {
                let Some(row) = channel.claim_row(now) else { continue };
                if !channel.is_closing() {
                    waiting.add(row, channel.unsettled_since);
                } else if channel.is_claimed_alone(now, policy) {
                    batches.extend(Batch::new(*page, vec![row]));
                }
            }
            batches.extend(waiting.batches(now, policy).flat_map(|rows| Batch::new(*page, rows)));
        }
        batches
    }
}

impl Channel {
    /// The row that claims what is charged by the newest voucher; none when that adds nothing, is on its way, or was just refused.
    pub(crate) fn claim_row(&self, now: i64) -> Option<ClaimRow> {
        let row = ClaimRow {
            slot: self.place.slot,
            voucher: self.newest?,
            amount: self.due()?,
            settled: self.on_chain.settled,
            deposit: self.on_chain.deposit,
        };
        (!self.in_flight && now >= self.claim_after && !self.gain().is_zero()).then_some(row)
    }

    fn is_claimed_alone(&self, now: i64, policy: &Policy) -> bool {
        let closing_on_chain = self.on_chain.closing_at != 0;
        closing_on_chain || now.saturating_sub(self.leaving_since) >= policy.due_age_seconds
    }
}

impl Waiting {
    fn add(&mut self, row: ClaimRow, since: i64) {
        self.oldest = if self.rows.is_empty() { since } else { self.oldest.min(since) };
        // Deposits are below 2^48 and a page has at most 96 slots, so the sum stays below 2^55.
        self.amount = self.amount.plus(row.gain()).unwrap_or(self.amount);
        self.rows.push(row);
    }

    /// The rows of each batch that is due, those that settle less than was signed first.
    fn batches(mut self, now: i64, policy: &Policy) -> impl Iterator<Item = Vec<ClaimRow>> {
        let all = policy.per_call
            || self.amount >= policy.due_amount
            || now.saturating_sub(self.oldest) >= policy.due_age_seconds;
        let some = self.rows.len() >= policy.due_rows;
        // Stable: rows of equal gain stay in the order of their slots.
        self.rows.sort_by_key(|row| Reverse(row.gain()));
        let width = policy.rows_per_batch.clamp(1, MAX_ROWS);
        let width_below = policy.rows_per_batch_below.clamp(1, width);
        let (mut below, mut exact): (Vec<_>, Vec<_>) = self.rows.into_iter().partition(ClaimRow::is_below);
        // A transaction of the wider kind of rows takes the others too, so that none is sent half empty for nothing.
        let room = below.len().next_multiple_of(width_below).saturating_sub(below.len()).min(exact.len());
        below.extend(exact.drain(..room));
        let batches = [(below, width_below), (exact, width)].into_iter().flat_map(|(rows, width)| {
            let chunks: Vec<_> = rows.chunks(width).map(|rows| (rows.to_vec(), width)).collect();
            chunks
        });
        batches.filter(move |(rows, width)| all || (some && rows.len() == *width)).map(|(rows, _)| rows)
    }
}
