use crate::{Signers, clock};
use metrics::{counter, histogram};
use std::collections::BTreeMap;
use std::time::Instant;
use tallybook_ledger::{BatchRecord, Change, Event, Finality, Ledger, PageSeen, Settings};
use tallybook_rules::Rejection;
use tallybook_store::{StoreFailure, VoucherStore};
use thiserror::Error;

/// Why what was stored cannot be taken up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// The store itself.
    #[error("the store: {0}")]
    Store(#[from] StoreFailure),
    /// A stored voucher does not verify.
    #[error("the store is damaged, a voucher in it is refused: {0}")]
    Damaged(Rejection),
}

/// What the writer works on. A job gets it for itself, and is over before the next one begins.
pub struct Desk {
    /// The rules.
    pub ledger: Ledger,
    /// The time of this group, in Unix seconds; never runs backwards.
    pub now: i64,
    /// Lookup tables, by page.
    pub tables: BTreeMap<[u8; 32], [u8; 32]>,
    /// The number of the newest batch.
    pub newest_batch: u64,
    store: Box<dyn VoucherStore>,
    signers: Signers,
    changes: Vec<Change>,
    failure: Option<StoreFailure>,
}

impl Desk {
    /// A desk over an empty store.
    pub fn new(ledger: Ledger, store: Box<dyn VoucherStore>) -> Self {
        Self {
            ledger,
            now: clock(),
            tables: BTreeMap::new(),
            newest_batch: 0,
            store,
            signers: Signers::default(),
            changes: Vec::new(),
            failure: None,
        }
    }

    /// Ledger and store as they were left, and the batches that were on their way then, of which the chain is to be asked.
    /// Channels are met again when their pages are observed.
    pub fn open(mut store: Box<dyn VoucherStore>, settings: Settings) -> Result<(Self, Vec<BatchRecord>), OpenFailure> {
        let stored = store.load()?;
        let mut ledger = Ledger::new(settings);
        stored.channels.into_iter().try_for_each(|record| ledger.restore(record)).map_err(OpenFailure::Damaged)?;
        let mut desk = Self::new(ledger, store);
        desk.tables = stored.tables.into_iter().collect();
        desk.newest_batch = stored.newest_batch;
        Ok((desk, stored.sending))
    }

    /// Makes a change durable before anybody of this group is answered.
    pub fn write(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Asks the store for what is durable; what this group writes is not there yet. A failure ends the group unanswered,
    /// as a failed commit does, so that [`Rejection::StoreUnavailable`] is seen by the job alone.
    pub fn ask_store<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn VoucherStore) -> Result<T, StoreFailure>,
    ) -> Result<T, Rejection> {
        ask(self.store.as_mut()).map_err(|failure| {
            self.failure = Some(failure);
            Rejection::StoreUnavailable
        })
    }

    /// Takes in pages as the chain showed them; says what is new. A page that makes no sense is logged and left out.
    pub fn observe<'a>(&mut self, pages: impl IntoIterator<Item = PageSeen<'a>>, finality: Finality) -> Vec<Event> {
        let mut events = Vec::new();
        for page in pages {
            match self.ledger.observe(&page, finality, self.now) {
                Ok(observed) => {
                    events.extend(observed.events);
                    self.changes.extend(observed.changes);
                }
                Err(rejection) => {
                    tracing::error!(page = format_args!("{:02x?}", page.address), %rejection, "a page makes no sense")
                }
            }
        }
        self.signers.note(&events);
        events
    }

    /// Drops the pages of `books` that a finalized look at `chain_slot` does not show any more; see [`Ledger::drop_closed`].
    pub fn drop_closed(&mut self, books: &[[u8; 32]], shown: &[[u8; 32]], chain_slot: u64) -> Vec<Event> {
        let observed = self.ledger.drop_closed(books, shown, chain_slot);
        self.changes.extend(observed.changes);
        self.signers.note(&observed.events);
        observed.events
    }

    /// Whose vouchers bind each channel.
    pub(crate) const fn signers(&self) -> &Signers {
        &self.signers
    }

    /// Makes all that was written durable, at once.
    pub(crate) fn commit(&mut self) -> Result<(), StoreFailure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.changes.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        self.store.commit(&self.changes)?;
        counter!("tallybook_changes_total").increment(u64::try_from(self.changes.len()).unwrap_or(u64::MAX));
        histogram!("tallybook_commit_seconds").record(begun.elapsed());
        self.changes.clear();
        Ok(())
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unwritten = self.changes.len();
        f.debug_struct("Desk").field("now", &self.now).field("unwritten", &unwritten).finish_non_exhaustive()
    }
}
