//! What is kept, row by row: for moving it from one store to another, and for telling that nothing was lost on the way.

use crate::{KeptChannel, StoreFailure};
use std::fmt;
use tallybook_ledger::{Attempt, BatchRecord, Change, Expense, ListingRecord, Outcome, PaymentRecord, Purpose, State};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;

/// One thing that a store keeps, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// A channel, over or not.
    Channel(KeptChannel),
    /// A batch, with all that happened to it.
    Batch(BatchRecord),
    /// The newest sending for a purpose that is no batch.
    Attempt(Purpose, Attempt),
    /// What was spent for one book by one transaction.
    Spent {
        /// The transaction's signature.
        signature: [u8; 64],
        /// The book.
        book: [u8; 32],
        /// What for.
        expense: Expense,
        /// How much.
        lamports: u64,
        /// When, in Unix seconds.
        at: i64,
    },
    /// A payment without a channel.
    Payment(PaymentRecord),
    /// A row of the catalogue.
    Listing(ListingRecord),
    /// A page's lookup table.
    Table {
        /// The page's address.
        page: [u8; 32],
        /// The table's address.
        table: [u8; 32],
    },
}

impl Row {
    /// The changes that make this row in a store that has none of it.
    pub fn changes(self) -> Vec<Change> {
        match self {
            Self::Channel(KeptChannel { record, over }) => {
                let over = over.then_some(Change::Over { channel_id: record.voucher.channel_id });
                [Change::Channel(record)].into_iter().chain(over).collect()
            }
            Self::Batch(batch) => of_batch(batch),
            Self::Attempt(purpose, attempt) => vec![Change::Sending { purpose, attempt }],
            Self::Spent { signature, book, expense, lamports, at } => {
                vec![Change::Spent { signature, book, expense, lamports, at }]
            }
            Self::Payment(record) => vec![Change::Payment(record)],
            Self::Listing(record) => vec![Change::Listing(record)],
            Self::Table { page, table } => vec![Change::Table { page, table }],
        }
    }

    /// The bytes that stand for this row: every number in it, in an order of their own, behind the number of its kind.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Bytes::default();
        match self {
            Self::Channel(kept) => bytes.channel(kept),
            Self::Batch(batch) => bytes.batch(batch),
            Self::Attempt(purpose, attempt) => {
                let (kind, subject) = match purpose {
                    Purpose::Deposit(channel_id) => (0, *channel_id),
                    Purpose::TopUp(channel_id) => (1, *channel_id),
                    Purpose::Refund(channel_id) => (2, *channel_id),
                    Purpose::Page(page) => (3, *page),
                    Purpose::Batch(id) => (4, bytes_of(*id)),
                };
                bytes.byte(3).byte(kind).all(&subject).attempt(attempt);
            }
            Self::Spent { signature, book, expense, lamports, at } => {
                let kind = match expense {
                    Expense::Claims => 0,
                    Expense::Deposits => 1,
                    Expense::Refunds => 2,
                    Expense::Pages => 3,
                    Expense::Payments => 4,
                };
                bytes.byte(4).byte(kind).all(signature).all(book).number(*lamports).time(*at);
            }
            Self::Payment(PaymentRecord { message_hash, attempt, granted_to }) => {
                bytes.byte(5).all(message_hash).attempt(attempt).byte(granted_to.is_some().into());
                bytes.all(&granted_to.unwrap_or_default());
            }
            Self::Listing(ListingRecord { key, text, paid_at }) => {
                bytes.byte(7).all(key).time(*paid_at).all(text.as_bytes());
            }
            Self::Table { page, table } => {
                bytes.byte(6).all(page).all(table);
            }
        }
        bytes.0
    }
}

fn of_batch(batch: BatchRecord) -> Vec<Change> {
    let purpose = Purpose::Batch(batch.id);
    let outcome = Outcome { landed: batch.landed.clone(), refused: batch.refused.clone(), unknown: false };
    let ended = Change::Ended { id: batch.id, outcome, at: batch.ended_at };
    let ended = (batch.state != State::Sending).then_some(ended);
    let attempts: Vec<_> =
        batch.attempts.iter().map(|attempt| Change::Sending { purpose, attempt: *attempt }).collect();
    // A batch as it was planned: what happened to it afterwards is told by the others.
    let planned = BatchRecord {
        state: State::Sending,
        ended_at: 0,
        attempts: Vec::new(),
        landed: Vec::new(),
        refused: Vec::new(),
        ..batch
    };
    [Change::Planned(planned)].into_iter().chain(attempts).chain(ended).collect()
}

fn bytes_of(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    bytes
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn all(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        self.all(&[byte])
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.all(&number.to_le_bytes())
    }

    fn time(&mut self, time: i64) -> &mut Self {
        self.all(&time.to_le_bytes())
    }

    /// How many follow, so that no two rows have the same bytes.
    fn count(&mut self, count: usize) -> &mut Self {
        self.number(u64::try_from(count).unwrap_or(u64::MAX))
    }

    fn attempt(&mut self, attempt: &Attempt) -> &mut Self {
        self.all(&attempt.signature).number(attempt.last_valid_block_height)
    }

    fn channel(&mut self, KeptChannel { record, over }: &KeptChannel) {
        let place = record.place;
        self.byte(1).byte((*over).into()).all(&record.voucher.channel_id);
        self.all(&place.page).byte(place.slot).number(place.generation.into());
        self.all(&record.payer).all(&record.signer);
        self.number(record.voucher.cumulative.get()).all(&record.voucher.signature).number(record.charged.get());
        self.time(record.unsettled_since).time(record.leaving_since).byte(record.last.is_some().into());
        if let Some(last) = record.last {
            self.number(last.cumulative.get()).all(&last.signature).byte(last.charge.is_some().into());
            self.number(last.charge.map_or(0, |charge| charge.get()));
        }
    }

    fn batch(&mut self, batch: &BatchRecord) {
        let state = match batch.state {
            State::Sending => 0,
            State::Confirmed => 1,
            State::Failed => 2,
        };
        self.byte(2).number(batch.id).all(&batch.page).number(batch.gain.get());
        self.time(batch.planned_at).time(batch.ended_at).byte(state).count(batch.rows.len());
        for row in &batch.rows {
            self.byte(row.slot).all(&row.channel_id).number(row.cumulative.get()).number(row.settled.get());
        }
        self.count(batch.attempts.len());
        for attempt in &batch.attempts {
            self.attempt(attempt);
        }
        self.count(batch.landed.len());
        for landed in &batch.landed {
            self.all(&landed.signature).number(landed.rows.into()).number(landed.fee_lamports);
            self.number(landed.compute_units);
        }
        self.count(batch.refused.len());
        for (slot, rejection) in &batch.refused {
            self.byte(*slot).number(rejection.code().into());
        }
    }
}

/// How many rows of each kind there are, and a sum over all that stands in them. In whatever order rows are counted, and
/// whatever store they are in, the same rows give the same tally; and other rows another one, unless somebody who can
/// break SHA-256 has chosen them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Channels, over or not.
    pub channels: u64,
    /// Batches.
    pub batches: u64,
    /// Newest sendings for anything but a batch.
    pub attempts: u64,
    /// Transactions that were paid for, once for each book.
    pub spent: u64,
    /// Payments without a channel.
    pub payments: u64,
    /// Rows of the catalogue.
    pub listings: u64,
    /// Lookup tables.
    pub tables: u64,
    /// The hashes of all rows, added up.
    sum: [u8; 32],
}

impl Tally {
    /// Counts a row.
    pub fn add(&mut self, row: &Row) {
        let count = match row {
            Row::Channel(_) => &mut self.channels,
            Row::Batch(_) => &mut self.batches,
            Row::Attempt(..) => &mut self.attempts,
            Row::Spent { .. } => &mut self.spent,
            Row::Payment(_) => &mut self.payments,
            Row::Listing(_) => &mut self.listings,
            Row::Table { .. } => &mut self.tables,
        };
        *count = count.saturating_add(1);
        let mut carry = 0u16;
        for (sum, byte) in self.sum.iter_mut().zip(Sha2::sha256(&[&row.bytes()])) {
            // At most 255 + 255 + 1.
            let added = u16::from(*sum).saturating_add(byte.into()).saturating_add(carry);
            [*sum, _] = added.to_le_bytes();
            carry = added >> 8;
        }
    }

    /// Counts everything that a store keeps.
    pub fn of(store: &mut dyn crate::VoucherStore) -> Result<Self, StoreFailure> {
        let mut tally = Self::default();
        store.each_row(&mut |row| {
            tally.add(&row);
            Ok(())
        })?;
        Ok(tally)
    }

    /// The sum, as 64 hexadecimal digits.
    pub fn checksum(&self) -> String {
        self.sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, batches, attempts, spent, payments, listings, tables, .. } = self;
        write!(
            f,
            "{channels} channels, {batches} batches, {attempts} sendings, {spent} expenses, {payments} payments, "
        )?;
        write!(f, "{listings} listings, {tables} tables, checksum {}", self.checksum())
    }
}
