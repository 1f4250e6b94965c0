//! How rows are packed into transactions. Sizes come from outside: nothing here knows what a transaction looks like.

use crate::{Batch, Bundle, ClaimRow, Policy};
use std::cmp::Reverse;
use tallybook_rules::Amount;
use tallybook_rules::half_aggregation::MAX_ROWS;

/// A transaction that already holds something takes only a part of a page if it is at least so many rows: each part costs a
/// claim and a payout of its own.
const LEAST_PART: usize = 8;

/// What something takes of a transaction, or what a transaction can hold.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// Serialized bytes.
    pub bytes: u32,
    /// Addresses of accounts.
    pub addresses: u32,
    /// Compute units.
    pub compute_units: u32,
}

impl Load {
    /// No limit.
    pub const UNBOUNDED: Self = Self { bytes: u32::MAX, addresses: u32::MAX, compute_units: u32::MAX };

    /// Both together; none when that cannot be said in 32 bits, which no transaction holds.
    fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            bytes: self.bytes.checked_add(other.bytes)?,
            addresses: self.addresses.checked_add(other.addresses)?,
            compute_units: self.compute_units.checked_add(other.compute_units)?,
        })
    }

    fn times(self, times: u32) -> Option<Self> {
        Some(Self {
            bytes: self.bytes.checked_mul(times)?,
            addresses: self.addresses.checked_mul(times)?,
            compute_units: self.compute_units.checked_mul(times)?,
        })
    }

    /// What is left of it; none when `used` is more in any respect.
    fn less(self, used: Self) -> Option<Self> {
        Some(Self {
            bytes: self.bytes.checked_sub(used.bytes)?,
            addresses: self.addresses.checked_sub(used.addresses)?,
            compute_units: self.compute_units.checked_sub(used.compute_units)?,
        })
    }

    /// How often `one` fits.
    fn holds(self, one: Self) -> u32 {
        let of = |all: u32, one: u32| all.checked_div(one).unwrap_or(u32::MAX);
        of(self.bytes, one.bytes).min(of(self.addresses, one.addresses)).min(of(self.compute_units, one.compute_units))
    }
}

/// What a transaction has room for, and what goes into it takes. An estimate: whoever builds the transaction counts its
/// bytes, and splits what is too large after all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// What there is.
    pub limit: Load,
    /// What every transaction takes by itself.
    pub transaction: Load,
    /// What a book takes with the accounts that it pays, however many of its pages are claimed.
    pub book: Load,
    /// What a page takes: its accounts, the claim without its rows, the payout.
    pub page: Load,
    /// What a row takes.
    pub row: Load,
    /// What a row takes in a claim that settles less than was signed.
    pub row_below: Load,
    /// The most pages.
    pub pages: usize,
}

impl Capacity {
    /// One page, and no limit but that of its rows.
    pub const ONE_PAGE: Self = Self {
        limit: Load::UNBOUNDED,
        transaction: Load { bytes: 0, addresses: 0, compute_units: 0 },
        book: Load { bytes: 0, addresses: 0, compute_units: 0 },
        page: Load { bytes: 0, addresses: 0, compute_units: 0 },
        row: Load { bytes: 0, addresses: 0, compute_units: 0 },
        row_below: Load { bytes: 0, addresses: 0, compute_units: 0 },
        pages: 1,
    };
}

/// Packs the rows of pages, each given as (book, page, rows), into as few transactions as `policy` allows, whether they are
/// due or not. Pages of one book go best beside each other.
pub fn pack(pages: Vec<([u8; 32], [u8; 32], Vec<ClaimRow>)>, policy: &Policy) -> Vec<Bundle> {
    let mut packing = Packing::new(policy);
    for (book, page, mut rows) in pages {
        rows.sort_by_key(order);
        packing.add(&book, &page, rows);
    }
    packing.finish()
}

/// Rows that settle less than was signed first, and of each kind those that gain most.
pub(crate) fn order(row: &ClaimRow) -> (bool, Reverse<Amount>) {
    (!row.is_below(), Reverse(row.gain()))
}

/// Fills transactions one after another.
pub(crate) struct Packing<'a> {
    policy: &'a Policy,
    done: Vec<Bundle>,
    open: Open,
}

/// The transaction that is being filled.
#[derive(Default)]
struct Open {
    used: Load,
    rows: usize,
    is_below: bool,
    book: Option<[u8; 32]>,
    batches: Vec<Batch>,
}

impl<'a> Packing<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Self {
        Self { policy, done: Vec::new(), open: Open { used: policy.capacity.transaction, ..Open::default() } }
    }

    /// Adds a page's rows, those that settle less than was signed first: a claim of the wider kind of rows takes the others
    /// too, so that none is sent half empty for nothing.
    pub(crate) fn add(&mut self, book: &[u8; 32], page: &[u8; 32], mut rows: Vec<ClaimRow>) {
        while let Some(first) = rows.first() {
            let is_below = first.is_below();
            let fit = self.rows_that_fit(book, is_below).min(rows.len());
            let is_part = fit < rows.len();
            if !self.open.batches.is_empty() && (fit == 0 || (is_part && fit < LEAST_PART)) {
                self.close();
                continue;
            }
            // A row that fits nowhere goes by itself, and whoever builds its transaction says so.
            let rest = rows.split_off(fit.max(1));
            self.put(book, page, rows, is_below);
            rows = rest;
        }
    }

    /// All transactions, the last one as full as it is.
    pub(crate) fn finish(mut self) -> Vec<Bundle> {
        self.close();
        self.done
    }

    /// As [`Self::finish`] for one page, without a last transaction that has both room left and less than `rows` rows.
    pub(crate) fn worthwhile(mut self, rows: usize) -> Vec<Bundle> {
        let is_full = self.count(Some(Load::default()), self.open.is_below) == 0;
        if !is_full && self.open.rows < rows {
            self.open = Open::default();
        }
        self.finish()
    }

    /// How many rows of a further page fit into the open transaction.
    fn rows_that_fit(&self, book: &[u8; 32], is_below: bool) -> usize {
        let is_new_page = self.open.batches.len() < self.policy.capacity.pages.max(1);
        if is_new_page { self.count(self.head(book), is_below) } else { 0 }
    }

    /// How many rows fit behind `head`.
    fn count(&self, head: Option<Load>, is_below: bool) -> usize {
        let capacity = &self.policy.capacity;
        let used = head.and_then(|head| self.open.used.plus(head));
        let Some(left) = used.and_then(|used| capacity.limit.less(used)) else { return 0 };
        let width = self.width(is_below || self.open.is_below).saturating_sub(self.open.rows);
        usize::try_from(left.holds(self.row(is_below))).unwrap_or(usize::MAX).min(width)
    }

    fn put(&mut self, book: &[u8; 32], page: &[u8; 32], rows: Vec<ClaimRow>, is_below: bool) {
        let count = rows.len();
        let taken = u32::try_from(count).ok().and_then(|count| self.row(is_below).times(count));
        let taken = taken.zip(self.head(book)).and_then(|(rows, head)| rows.plus(head));
        let used = taken.and_then(|taken| self.open.used.plus(taken)).unwrap_or(Load::UNBOUNDED);
        let Ok(batch) = Batch::new(*page, rows) else { return };
        self.open.used = used;
        self.open.rows = self.open.rows.saturating_add(count);
        self.open.is_below |= is_below;
        self.open.book = Some(*book);
        self.open.batches.push(batch);
    }

    /// What a page takes before its rows, and its book if it is another one than that of the page before.
    fn head(&self, book: &[u8; 32]) -> Option<Load> {
        let capacity = &self.policy.capacity;
        if self.open.book == Some(*book) { Some(capacity.page) } else { capacity.page.plus(capacity.book) }
    }

    const fn row(&self, is_below: bool) -> Load {
        if is_below { self.policy.capacity.row_below } else { self.policy.capacity.row }
    }

    fn width(&self, is_below: bool) -> usize {
        let width = self.policy.rows_per_batch.clamp(1, MAX_ROWS);
        if is_below { self.policy.rows_per_batch_below.clamp(1, width) } else { width }
    }

    fn close(&mut self) {
        let open =
            std::mem::replace(&mut self.open, Open { used: self.policy.capacity.transaction, ..Open::default() });
        self.done.extend(Bundle::new(open.batches));
    }
}
