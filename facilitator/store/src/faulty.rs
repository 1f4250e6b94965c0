use crate::{KeptChannel, Row, Spending, StoreFailure, Stored, VoucherStore};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tallybook_ledger::{Attempt, BatchRecord, Change, ChannelRecord, Purpose};

/// A store over another one whose disk can be broken from outside, for tests.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    broken: Arc<AtomicBool>,
    poisoned: bool,
}

impl<S> FaultyStore<S> {
    /// A sound store; once the switch is true, the next write fails and poisons it.
    pub fn new(inner: S) -> (Self, Arc<AtomicBool>) {
        let broken = Arc::new(AtomicBool::new(false));
        let store = Self { inner, broken: Arc::clone(&broken), poisoned: false };
        (store, broken)
    }

    /// What the disk holds.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn sound(&mut self) -> Result<&mut S, StoreFailure> {
        if self.poisoned { Err(StoreFailure::Poisoned) } else { Ok(&mut self.inner) }
    }
}

impl<S: VoucherStore> VoucherStore for FaultyStore<S> {
    fn load_each(&mut self, channel: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
        self.sound()?.load_each(channel)
    }

    fn each_row(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure> {
        self.sound()?.each_row(row)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure> {
        if self.broken.load(Ordering::SeqCst) && !self.poisoned {
            self.poisoned = true;
            return Err(StoreFailure::File {
                path: "the broken disk".into(),
                error: io::Error::other("input/output error"),
            });
        }
        self.sound()?.commit(changes)
    }

    fn channel(&mut self, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
        self.sound()?.channel(channel_id)
    }

    fn batches(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<BatchRecord>, StoreFailure> {
        self.sound()?.batches(before, limit)
    }

    fn last_attempt(&mut self, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure> {
        self.sound()?.last_attempt(purpose)
    }

    fn spent(&mut self, book: &[u8; 32]) -> Result<Spending, StoreFailure> {
        self.sound()?.spent(book)
    }

    fn spent_for_others_since(&mut self, at: i64) -> Result<u64, StoreFailure> {
        self.sound()?.spent_for_others_since(at)
    }
}
