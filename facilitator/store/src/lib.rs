//! Where vouchers are durable.
//!
//! [`VoucherStore`] is the one seam between the ledger and a disk: a few methods, of which [`VoucherStore::commit`] is the
//! promise that everything else rests on. [`SqliteStore`] keeps them in one file; `PostgresStore` (feature `postgres`) in a
//! database that a server keeps; [`MemoryStore`] and [`FaultyStore`] are the forms for tests. All pass one conformance suite.
#![forbid(unsafe_code)]

mod common;
mod copy;
mod decode;
mod encode;
mod failure;
mod faulty;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod sqlite;

pub use common::{CommonStore, MAX_NODES, Node, lock_of};
pub use failure::StoreFailure;
pub use faulty::FaultyStore;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresFailure, PostgresStore, PostgresUrl};
pub use rows::{Row, Tally};
pub use sqlite::SqliteStore;

use std::collections::HashSet;
use std::path::Path;
use tallybook_ledger::{Attempt, BatchRecord, Change, ChannelRecord, Expense, ListingRecord, PaymentRecord, Purpose};

/// What a facilitator needs to go on after a restart.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stored {
    /// The channels that are not over, by id.
    pub channels: Vec<ChannelRecord>,
    /// The batches that have not ended, oldest first: the chain is to be asked about them.
    pub sending: Vec<BatchRecord>,
    /// The payments without a channel that are not over, by the hash of their message.
    pub payments: Vec<PaymentRecord>,
    /// The rows of the catalogue, by key.
    pub listings: Vec<ListingRecord>,
    /// Lookup tables, as (page, table), by page.
    pub tables: Vec<([u8; 32], [u8; 32])>,
    /// The number of the newest batch; 0 before the first.
    pub newest_batch: u64,
}

/// A channel's record, and whether the channel is over on chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptChannel {
    /// The record as it was written last.
    pub record: ChannelRecord,
    /// True once its slot was freed.
    pub over: bool,
}

/// What a sponsor spent for one book since the store was made, in lamports.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spending {
    /// For [`Expense::Claims`].
    pub claims: u64,
    /// For [`Expense::Deposits`].
    pub deposits: u64,
    /// For [`Expense::Refunds`].
    pub refunds: u64,
    /// For [`Expense::Pages`].
    pub pages: u64,
    /// For [`Expense::Payments`]: such a payment is for no book, and counted under its payee's address.
    pub payments: u64,
}

impl Spending {
    pub(crate) fn add(&mut self, expense: Expense, lamports: u64) {
        let sum = match expense {
            Expense::Claims => &mut self.claims,
            Expense::Deposits => &mut self.deposits,
            Expense::Refunds => &mut self.refunds,
            Expense::Pages => &mut self.pages,
            Expense::Payments => &mut self.payments,
        };
        *sum = sum.saturating_add(lamports);
    }
}

/// Durable rows. One writer owns it.
///
/// After any method has failed, whether the last write is on disk is not known: the store is *poisoned*, every later call
/// fails with [`StoreFailure::Poisoned`], and its owner must stop answering and end. The next process reads what is there.
pub trait VoucherStore: Send {
    /// Everything that is needed to go on: each channel is handed over by itself, by id, and there are none in the answer.
    fn load_each(&mut self, channel: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure>;

    /// Everything that is needed to go on, all of it in memory.
    fn load(&mut self) -> Result<Stored, StoreFailure> {
        let mut channels = Vec::new();
        let stored = self.load_each(&mut |record| channels.push(record))?;
        Ok(Stored { channels, ..stored })
    }

    /// What is needed to go on with these pages alone: their channels, each handed over by itself, their batches that have not
    /// ended, their tables; and the number of the newest batch of all. Nothing in the answer is of no page.
    fn load_pages(
        &mut self,
        pages: &[[u8; 32]],
        channel: &mut dyn FnMut(ChannelRecord),
    ) -> Result<Stored, StoreFailure> {
        let pages: HashSet<&[u8; 32]> = pages.iter().collect();
        let mut stored = self.load_each(&mut |record| {
            if pages.contains(&record.place.page) {
                channel(record);
            }
        })?;
        stored.sending.retain(|batch| pages.contains(&batch.page));
        stored.tables.retain(|(page, _)| pages.contains(page));
        Ok(Stored { payments: Vec::new(), listings: Vec::new(), ..stored })
    }

    /// The payments without a channel that are not over, by the hash of their message.
    fn payments(&mut self) -> Result<Vec<PaymentRecord>, StoreFailure> {
        Ok(self.load_each(&mut |_| {})?.payments)
    }

    /// The rows of the catalogue, by key.
    fn listings(&mut self) -> Result<Vec<ListingRecord>, StoreFailure> {
        Ok(self.load_each(&mut |_| {})?.listings)
    }

    /// What this store says besides, if several processes work on it at a time. Most are of one alone.
    fn common(&mut self) -> Option<&mut dyn CommonStore> {
        None
    }

    /// Everything that is kept, each row by itself, in the order in which [`Row::changes`] can be committed to an empty store.
    /// Ends with what `row` fails with, if it does.
    fn each_row(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure>;

    /// Writes `changes` in their order, all or none, and returns only when they would survive a loss of power.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure>;

    /// What was written last of a channel, also after it was over.
    fn channel(&mut self, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure>;

    /// At most `limit` batches below the number `before` (all if none), newest first.
    fn batches(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<BatchRecord>, StoreFailure>;

    /// The newest sending for a purpose.
    fn last_attempt(&mut self, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure>;

    /// What was spent for a book.
    fn spent(&mut self, book: &[u8; 32]) -> Result<Spending, StoreFailure>;

    /// What was spent on others' behalf, for anything but [`Expense::Claims`], at or after a time: Unix seconds, lamports.
    fn spent_for_others_since(&mut self, at: i64) -> Result<u64, StoreFailure>;

    /// Copies everything into a new file, readable by its owner alone, that is a store of its own: whoever finds it there finds
    /// it whole, synced and read back. Takes as long as there are rows. A copy that fails harms nothing, and the store is not
    /// poisoned by it.
    ///
    /// # Errors
    /// [`StoreFailure::CopiedElsewhere`] where rows are not in a file.
    fn copy_to(&mut self, _file: &Path) -> Result<(), StoreFailure> {
        Err(StoreFailure::CopiedElsewhere)
    }
}
