//! Where vouchers are durable.
//!
//! [`VoucherStore`] is the one seam between the ledger and a disk: five methods, of which [`VoucherStore::commit`] is the
//! promise that everything else rests on. [`SqliteStore`] keeps them in one file; [`MemoryStore`] and [`FaultyStore`] are
//! the forms for tests. All pass one conformance suite.
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod failure;
mod faulty;
mod memory;
mod sqlite;

pub use failure::StoreFailure;
pub use faulty::FaultyStore;
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

use tallybook_ledger::{Attempt, BatchRecord, Change, ChannelRecord, Purpose};

/// What a facilitator needs to go on after a restart.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stored {
    /// The channels that are not over, by id.
    pub channels: Vec<ChannelRecord>,
    /// The batches that have not ended, oldest first: the chain is to be asked about them.
    pub sending: Vec<BatchRecord>,
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

/// Durable rows. One writer owns it.
///
/// After any method has failed, whether the last write is on disk is not known: the store is *poisoned*, every later call
/// fails with [`StoreFailure::Poisoned`], and its owner must stop answering and end. The next process reads what is there.
pub trait VoucherStore: Send {
    /// Everything that is needed to go on.
    fn load(&mut self) -> Result<Stored, StoreFailure>;

    /// Writes `changes` in their order, all or none, and returns only when they would survive a loss of power.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure>;

    /// What was written last of a channel, also after it was over.
    fn channel(&mut self, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure>;

    /// At most `limit` batches below the number `before` (all if none), newest first.
    fn batches(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<BatchRecord>, StoreFailure>;

    /// The newest sending for a purpose.
    fn last_attempt(&mut self, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure>;
}
