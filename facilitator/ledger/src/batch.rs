use tallybook_rules::half_aggregation::MAX_ROWS;
use tallybook_rules::signing::VerifiedVoucher;
use tallybook_rules::{Amount, Rejection};

/// One row of a batch: the newest voucher of the channel in a slot, and what the chain had settled when it was planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClaimRow {
    /// The channel's slot in the batch's page.
    pub slot: u8,
    /// The newest voucher.
    pub voucher: VerifiedVoucher,
    /// What was settled on chain when the batch was planned.
    pub settled: Amount,
}

impl ClaimRow {
    /// What the claim is expected to add on chain.
    pub fn gain(&self) -> Amount {
        self.voucher.voucher().cumulative.less(self.settled)
    }
}

/// The claims of one transaction: 1 to 96 rows of one page, each slot once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    page: [u8; 32],
    rows: Vec<ClaimRow>,
}

impl Batch {
    /// A batch of `rows`; [`Rejection::MalformedRows`] when there is none, too many, or one slot twice.
    pub fn new(page: [u8; 32], rows: Vec<ClaimRow>) -> Result<Self, Rejection> {
        let twice = rows
            .iter()
            .enumerate()
            .any(|(at, row)| rows.iter().take(at).any(|other| other.slot == row.slot));
        if rows.is_empty() || rows.len() > MAX_ROWS || twice {
            return Err(Rejection::MalformedRows);
        }
        Ok(Self { page, rows })
    }

    /// The page's address.
    pub const fn page(&self) -> &[u8; 32] {
        &self.page
    }

    /// The rows, in the order in which they are aggregated.
    pub fn rows(&self) -> &[ClaimRow] {
        &self.rows
    }

    /// What all rows together are expected to add on chain, or [`Rejection::Overflow`].
    pub fn gain(&self) -> Result<Amount, Rejection> {
        self.rows.iter().try_fold(Amount::ZERO, |sum, row| sum.plus(row.gain()))
    }

    /// The two halves of a batch that failed as a whole, to find the row at fault; `None` for a single row.
    pub fn bisect(&self) -> Option<(Self, Self)> {
        let middle = self.rows.len() / 2;
        let (left, right) = self
            .rows
            .split_at_checked(middle)
            .filter(|(left, _)| !left.is_empty())?;
        let half = |rows: &[ClaimRow]| Self {
            page: self.page,
            rows: rows.to_vec(),
        };
        Some((half(left), half(right)))
    }
}
