use crate::channel::Place;
use crate::{Attempt, Batch, Landed, Outcome};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection};

/// The last call that was charged: what makes a second commit of it the same answer, and no second charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastCall {
    /// The cumulative amount of its voucher.
    pub cumulative: Amount,
    /// The signature of its voucher.
    pub signature: [u8; 64],
    /// What it cost; none in a record of before calls were metered, when each cost what it had reserved.
    pub charge: Option<Amount>,
}

impl LastCall {
    /// Whether this call was paid for by `voucher`, one of the same channel.
    pub(crate) fn is_of(&self, voucher: &SignedVoucher) -> bool {
        self.cumulative == voucher.cumulative && self.signature == voucher.signature
    }
}

/// What is durable of a channel; written whole each time, so that the last write is the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelRecord {
    /// Where the channel is.
    pub place: Place,
    /// Who funded it.
    pub payer: [u8; 32],
    /// Whose vouchers bind it.
    pub signer: [u8; 32],
    /// The newest voucher, which is the one over most, with its full signature: aggregation cannot be undone.
    pub voucher: SignedVoucher,
    /// What calls cost so far, at most what the voucher says.
    pub charged: Amount,
    /// The last call that was charged here.
    pub last: Option<LastCall>,
    /// Since when something is charged and not settled, in Unix seconds; 0 when nothing is.
    pub unsettled_since: i64,
    /// Since when the payer wants out by a refund, in Unix seconds; 0 when not.
    pub leaving_since: i64,
}

impl ChannelRecord {
    /// What must hold of what is stored. A claim that somebody else made may have charged more than this voucher says, but
    /// that is read from the chain and never stored without its voucher.
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        if self.charged <= self.voucher.cumulative { Ok(()) } else { Err(Rejection::InvariantBroken) }
    }
}

/// One row of a batch, as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowRecord {
    /// The channel's slot.
    pub slot: u8,
    /// The channel.
    pub channel_id: [u8; 32],
    /// The cumulative amount that is claimed: what calls have cost.
    pub cumulative: Amount,
    /// What was settled when the batch was planned.
    pub settled: Amount,
}

/// How far a batch has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Decided, and perhaps on its way: after a crash, the chain is asked about its attempts.
    Sending,
    /// Every row is settled on chain.
    Confirmed,
    /// Ended with some row refused or expired; what is still owed is planned anew.
    Failed,
}

/// A batch with everything that happened to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchRecord {
    /// Counts up from 1, in the order of planning.
    pub id: u64,
    /// The page.
    pub page: [u8; 32],
    /// The rows.
    pub rows: Vec<RowRecord>,
    /// What it was expected to add on chain.
    pub gain: Amount,
    /// When it was planned, in Unix seconds.
    pub planned_at: i64,
    /// When it ended, in Unix seconds; 0 before.
    pub ended_at: i64,
    /// How far it has come.
    pub state: State,
    /// Every sending, oldest first.
    pub attempts: Vec<Attempt>,
    /// The transactions that are confirmed.
    pub landed: Vec<Landed>,
    /// The rows that the chain refused, by slot.
    pub refused: Vec<(u8, Rejection)>,
}

impl BatchRecord {
    /// The record of a batch that was just planned.
    pub fn planned(id: u64, batch: &Batch, now: i64) -> Result<Self, Rejection> {
        let rows = batch.rows().iter().map(|row| RowRecord {
            slot: row.slot,
            channel_id: row.voucher.voucher().channel_id,
            cumulative: row.amount,
            settled: row.settled,
        });
        Ok(Self {
            id,
            page: *batch.page(),
            rows: rows.collect(),
            gain: batch.gain()?,
            planned_at: now,
            ended_at: 0,
            state: State::Sending,
            attempts: Vec::new(),
            landed: Vec::new(),
            refused: Vec::new(),
        })
    }

    /// The channels that are claimed.
    pub fn channel_ids(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.rows.iter().map(|row| row.channel_id)
    }

    /// Ends it: confirmed if every row has landed, else failed.
    pub fn end(&mut self, outcome: &Outcome, at: i64) {
        let landed = outcome.landed.iter().map(|landed| usize::try_from(landed.rows));
        let landed = landed.fold(0usize, |sum, rows| sum.saturating_add(rows.unwrap_or(usize::MAX)));
        let whole = outcome.refused.is_empty() && landed >= self.rows.len();
        self.state = if whole { State::Confirmed } else { State::Failed };
        self.landed.clone_from(&outcome.landed);
        self.refused.clone_from(&outcome.refused);
        self.ended_at = at;
    }
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// The batch of this number.
    Batch(u64),
    /// Opening the channel of this id.
    Deposit([u8; 32]),
    /// Adding to the deposit of the channel of this id.
    TopUp([u8; 32]),
    /// The refund that closes the channel of this id.
    Refund([u8; 32]),
    /// Adding the page of this address.
    Page([u8; 32]),
}

/// What a sponsor spends lamports for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Expense {
    /// Fees of claims and payouts.
    Claims,
    /// Fees of channels opened and topped up.
    Deposits,
    /// Fees of cooperative closes.
    Refunds,
    /// Fees of pages and lookup tables and of payees' token accounts, and the rent that is locked in them.
    Pages,
    /// Fees of payments that go to their payee at once, without a channel.
    Payments,
}

/// A payment without a channel: a client's transaction that pays its payee at once, at the sponsor's expense.
///
/// Kept from before it is sent until it can neither land nor be asked for any more, so that it is granted once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaymentRecord {
    /// The hash of the message that was signed, which is what makes two of them the same: a signature of it can be
    /// changed by whoever carries it.
    pub message_hash: [u8; 32],
    /// What was sent.
    pub attempt: Attempt,
    /// To whom it was granted, once it was: who asked for it then. Nobody else is told that it is paid.
    pub granted_to: Option<[u8; 32]>,
}

impl PaymentRecord {
    /// Who asks without a name of its own: nobody can ask again as this one.
    pub const UNNAMED: [u8; 32] = [0; 32];

    /// Whether it was granted, to somebody else than `asker` or to nobody who can be told again.
    pub fn is_granted_to_another(&self, asker: &[u8; 32]) -> bool {
        self.granted_to.is_some_and(|granted_to| granted_to == Self::UNNAMED || granted_to != *asker)
    }
}

/// A row of the catalogue of what was paid for: kept as its writer wrote it. No rule of money rests on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListingRecord {
    /// Names it, and its owner with it.
    pub key: [u8; 32],
    /// What is known of it, in JSON.
    pub text: String,
    /// When it was paid for last, in Unix seconds.
    pub paid_at: i64,
}

/// What must be durable before anybody is answered, or anything is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A channel's record, new or in the place of the former one.
    Channel(ChannelRecord),
    /// The channel is over on chain: kept, but not loaded again.
    Over {
        /// The channel.
        channel_id: [u8; 32],
    },
    /// A new batch.
    Planned(BatchRecord),
    /// A transaction is about to be sent.
    Sending {
        /// What for.
        purpose: Purpose,
        /// Which one.
        attempt: Attempt,
    },
    /// Nothing of a batch is on its way any more.
    Ended {
        /// The batch's number.
        id: u64,
        /// How it ended.
        outcome: Outcome,
        /// When, in Unix seconds.
        at: i64,
    },
    /// A transaction has landed that the sponsor paid for. The same transaction for the same book again changes nothing.
    Spent {
        /// The transaction's signature.
        signature: [u8; 64],
        /// The book that it was for.
        book: [u8; 32],
        /// What for.
        expense: Expense,
        /// What the sponsor had less afterwards.
        lamports: u64,
        /// When that was asked, in Unix seconds.
        at: i64,
    },
    /// A payment without a channel, new or in the place of what was known of it.
    Payment(PaymentRecord),
    /// Such a payment can neither land nor be asked for any more.
    PaymentOver {
        /// The hash of its message.
        message_hash: [u8; 32],
    },
    /// A row of the catalogue, new or in the place of the former one.
    Listing(ListingRecord),
    /// Such a row is gone.
    Unlisted {
        /// Its key.
        key: [u8; 32],
    },
    /// A lookup table was made for a page: a hint, which is checked on chain before use.
    Table {
        /// The page's address.
        page: [u8; 32],
        /// The table's address.
        table: [u8; 32],
    },
}
