use std::collections::BTreeSet;
use tallybook_rules::half_aggregation::MAX_ROWS;
use tallybook_rules::signing::VerifiedVoucher;
use tallybook_rules::{Amount, Rejection};

/// One row of a batch: the newest voucher of the channel in a slot, and what the chain showed of it when it was planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClaimRow {
    /// The channel's slot in the batch's page.
    pub slot: u8,
    /// The newest voucher.
    pub voucher: VerifiedVoucher,
    /// What is to be settled of it, as a cumulative amount: what calls have cost, at most what the voucher says.
    pub amount: Amount,
    /// What was settled on chain when the batch was planned.
    pub settled: Amount,
    /// The deposit on chain when the batch was planned: the most that can be settled.
    pub deposit: Amount,
}

impl ClaimRow {
    /// What the claim is expected to add on chain: up to `min(amount, deposit)`.
    pub fn gain(&self) -> Amount {
        self.amount.min(self.deposit).less(self.settled)
    }

    /// True when less is to be settled than was signed, which only `claim_below` can say.
    pub fn is_below(&self) -> bool {
        self.amount < self.voucher.voucher().cumulative
    }
}

/// Claims that go together: 1 to 96 rows of one page, each slot once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    page: [u8; 32],
    rows: Vec<ClaimRow>,
}

impl Batch {
    /// A batch of `rows`; [`Rejection::MalformedRows`] when there is none, too many, or one slot twice,
    /// [`Rejection::AmountAboveSigned`] when one settles more than was signed.
    pub fn new(page: [u8; 32], rows: Vec<ClaimRow>) -> Result<Self, Rejection> {
        let twice = rows.iter().enumerate().any(|(at, row)| rows.iter().take(at).any(|other| other.slot == row.slot));
        if rows.is_empty() || rows.len() > MAX_ROWS || twice {
            return Err(Rejection::MalformedRows);
        }
        if rows.iter().any(|row| row.amount > row.voucher.voucher().cumulative) {
            return Err(Rejection::AmountAboveSigned);
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

    /// The channels that are claimed.
    pub fn channel_ids(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.rows.iter().map(|row| row.voucher.voucher().channel_id)
    }

    /// What all rows together are expected to add on chain, or [`Rejection::Overflow`].
    pub fn gain(&self) -> Result<Amount, Rejection> {
        self.rows.iter().try_fold(Amount::ZERO, |sum, row| sum.plus(row.gain()))
    }
}

/// The batches of one transaction: one, or several of different pages, of which each is claimed and paid out by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle(Vec<Batch>);

impl Bundle {
    /// A batch alone.
    pub fn of(batch: Batch) -> Self {
        Self(vec![batch])
    }

    /// Batches of different pages; none without any, or with two of one page.
    pub fn new(batches: Vec<Batch>) -> Option<Self> {
        let pages: BTreeSet<_> = batches.iter().map(Batch::page).collect();
        (!batches.is_empty() && pages.len() == batches.len()).then_some(Self(batches))
    }

    /// The batches, in their order in the transaction.
    pub fn batches(&self) -> &[Batch] {
        &self.0
    }

    /// The batches by themselves.
    pub fn into_batches(self) -> Vec<Batch> {
        self.0
    }

    /// How many rows there are in all.
    pub fn rows(&self) -> usize {
        self.0.iter().map(|batch| batch.rows.len()).sum()
    }

    /// The channels that are claimed.
    pub fn channel_ids(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.0.iter().flat_map(Batch::channel_ids)
    }
}

/// One sending of a transaction of a batch. Durable before the transaction leaves the house, so that after a crash the
/// chain can be asked about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The transaction's signature, which is also its name.
    pub signature: [u8; 64],
    /// The block height after which the transaction can land no more.
    pub last_valid_block_height: u64,
}

/// A transaction of a batch that is confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Landed {
    /// The transaction's signature.
    pub signature: [u8; 64],
    /// How many rows it claimed.
    pub rows: u32,
    /// What the sponsor paid for it, in lamports.
    pub fee_lamports: u64,
    /// What it used of the chain, in compute units.
    pub compute_units: u64,
}

/// How a batch ended. What it settled is read from the page, never taken from here.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    /// The transactions that are confirmed: one, or several after a bisection.
    pub landed: Vec<Landed>,
    /// The rows that the chain refuses, by slot.
    pub refused: Vec<(u8, Rejection)>,
    /// True while the fate of an attempt is not known: the chain must be asked again.
    pub unknown: bool,
}
