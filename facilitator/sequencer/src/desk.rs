mod taking;

use crate::{Signers, clock};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tallybook_ledger::{
    BatchRecord, Change, Event, Finality, Ledger, ListingRecord, PageSeen, PaymentRecord, Settings,
};
use tallybook_rules::Rejection;
use tallybook_store::{StoreFailure, VoucherStore};
use tallybook_wire::Key;
use thiserror::Error;

/// Why what was stored cannot be taken up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// The store itself.
    #[error("the store: {0}")]
    Store(#[from] StoreFailure),
    /// What is stored of a channel cannot be.
    #[error("the store is damaged, a channel in it is refused: {0}")]
    Damaged(Rejection),
}

/// The store, held by the writer while it writes, and by whoever asks it.
pub struct SharedStore {
    store: Mutex<Box<dyn VoucherStore>>,
    /// Had by who is next: the writer, which comes back at once, so does not keep others from the store.
    next: Mutex<()>,
}

impl SharedStore {
    /// Waits for whoever has it.
    ///
    /// # Errors
    /// [`StoreFailure::Poisoned`] once somebody has panicked with it.
    pub fn lock(&self) -> Result<MutexGuard<'_, Box<dyn VoucherStore>>, StoreFailure> {
        let _next = self.next.lock().map_err(|_| StoreFailure::Poisoned)?;
        self.store.lock().map_err(|_| StoreFailure::Poisoned)
    }
}

/// What decisions are made on. A job gets it for itself, and is over before the next one begins.
pub struct Desk {
    /// The rules.
    pub ledger: Ledger,
    /// The time of this job, in Unix seconds; never runs backwards.
    pub now: i64,
    /// Lookup tables, by page.
    pub tables: BTreeMap<[u8; 32], [u8; 32]>,
    /// The rows of the catalogue as they were stored, for whoever keeps it to take.
    pub listings: Vec<ListingRecord>,
    /// Payments without a channel that are not over, by the hash of their message.
    payments: BTreeMap<[u8; 32], PaymentRecord>,
    /// The number of the newest batch.
    pub newest_batch: u64,
    /// The number of this node; none for a process that has the store alone.
    node: Option<u16>,
    /// The pages that were taken up, each with its book; none where all are.
    taken_up: Option<HashMap<[u8; 32], [u8; 32]>>,
    store: Arc<SharedStore>,
    signers: Signers,
    /// What is written next, in the order in which it was decided.
    changes: Vec<Change>,
    /// The channels that are in it.
    unwritten: HashSet<[u8; 32]>,
    /// The channels that are in what is being written.
    being_written: HashSet<[u8; 32]>,
    failure: Option<StoreFailure>,
}

impl Desk {
    /// A desk over an empty store.
    pub fn new(ledger: Ledger, store: Box<dyn VoucherStore>) -> Self {
        Self {
            ledger,
            now: clock(),
            tables: BTreeMap::new(),
            listings: Vec::new(),
            payments: BTreeMap::new(),
            newest_batch: 0,
            node: None,
            taken_up: None,
            store: Arc::new(SharedStore { store: Mutex::new(store), next: Mutex::new(()) }),
            signers: Signers::default(),
            changes: Vec::new(),
            unwritten: HashSet::new(),
            being_written: HashSet::new(),
            failure: None,
        }
    }

    /// Ledger and store as they were left, and the batches that were on their way then, of which the chain is to be asked.
    /// Channels are met again when their pages are observed; their vouchers are verified from then on, by whoever needs one and
    /// beside everything else.
    pub fn open(mut store: Box<dyn VoucherStore>, settings: Settings) -> Result<(Self, Vec<BatchRecord>), OpenFailure> {
        let mut ledger = Ledger::new(settings);
        let mut restored = Ok(());
        let stored = store.load_each(&mut |record| {
            if restored.is_ok() {
                restored = ledger.restore(record);
            }
        })?;
        restored.map_err(OpenFailure::Damaged)?;
        let mut desk = Self::new(ledger, store);
        desk.tables = stored.tables.into_iter().collect();
        desk.payments = stored.payments.into_iter().map(|record| (record.message_hash, record)).collect();
        desk.listings = stored.listings;
        desk.newest_batch = stored.newest_batch;
        Ok((desk, stored.sending))
    }

    /// Makes a change durable before the job that wrote it, or any later one that may speak of it, is answered.
    pub fn write(&mut self, change: Change) {
        if let Change::Channel(record) = &change {
            self.unwritten.insert(record.voucher.channel_id);
        }
        self.changes.push(change);
    }

    /// What is known of the payment without a channel whose message has this hash.
    pub fn payment(&self, message_hash: &[u8; 32]) -> Option<PaymentRecord> {
        self.payments.get(message_hash).copied()
    }

    /// All such payments that are not over.
    pub fn payments(&self) -> impl Iterator<Item = &PaymentRecord> {
        self.payments.values()
    }

    /// Takes in what is known of such a payment now, and makes it durable as [`Self::write`] does.
    pub fn keep_payment(&mut self, record: PaymentRecord) {
        self.payments.insert(record.message_hash, record);
        self.write(Change::Payment(record));
    }

    /// Forgets such a payment, here and in the store.
    pub fn end_payment(&mut self, message_hash: [u8; 32]) {
        if self.payments.remove(&message_hash).is_some() {
            self.write(Change::PaymentOver { message_hash });
        }
    }

    /// Asks the store for what is durable; what was written just now may not be there yet. Waits for a commit that is under
    /// way, so this is nothing for a job of every call. A failure ends the group unanswered, as a failed commit does, so that
    /// [`Rejection::StoreUnavailable`] is seen by the job alone.
    pub fn ask_store<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn VoucherStore) -> Result<T, StoreFailure>,
    ) -> Result<T, Rejection> {
        let asked = self.store.lock().and_then(|mut store| ask(store.as_mut()));
        asked.map_err(|failure| {
            self.failure = Some(failure);
            Rejection::StoreUnavailable
        })
    }

    /// The store, for what takes longer than a job may, with the desk unlocked: who holds it keeps the writer waiting, and with it
    /// whoever waits for an answer; decisions go on.
    pub fn store(&self) -> Arc<SharedStore> {
        Arc::clone(&self.store)
    }

    /// Takes in pages as the chain showed them; says what is new. A page that makes no sense is logged and left out, and one
    /// that was not taken up is left out: what is stored of it is not known here. A channel
    /// that is stored with another signer than the page shows ends the writer, as a failed commit does: the log names it.
    pub fn observe<'a>(&mut self, pages: impl IntoIterator<Item = PageSeen<'a>>, finality: Finality) -> Vec<Event> {
        let mut events = Vec::new();
        for page in pages {
            if !self.has_taken_up(&page.address) {
                continue;
            }
            match self.ledger.observe(&page, finality, self.now) {
                Ok(observed) => {
                    events.extend(observed.events);
                    self.changes.extend(observed.changes);
                    observed.damaged.into_iter().for_each(|channel| self.is_damaged(channel));
                }
                Err(rejection) => {
                    tracing::error!(page = format_args!("{:02x?}", page.address), %rejection, "a page makes no sense")
                }
            }
        }
        self.signers.note(&events);
        events
    }

    /// Ends the writer: what is stored of a channel is not what was written.
    pub(crate) fn is_damaged(&mut self, channel: [u8; 32]) {
        tracing::error!(
            channel = %Key(channel),
            "the stored voucher of a channel does not verify: the store is damaged, take it from a copy"
        );
        self.failure = Some(StoreFailure::Damaged("a voucher that does not verify"));
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

    /// Whether there is something for the writer: changes, or a failure to end with.
    pub(crate) fn has_work(&self) -> bool {
        !self.changes.is_empty() || self.failure.is_some()
    }

    /// Whether the store has failed a job.
    pub(crate) const fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether a channel's newest record waits to be written.
    pub(crate) fn is_unwritten(&self, channel_id: &[u8; 32]) -> bool {
        self.unwritten.contains(channel_id)
    }

    /// Whether a record of a channel is being written.
    pub(crate) fn is_being_written(&self, channel_id: &[u8; 32]) -> bool {
        self.being_written.contains(channel_id)
    }

    /// Hands over all that is to be written, in the place of what was; or the failure of a job.
    pub(crate) fn take(&mut self, changes: &mut Vec<Change>) -> Result<Arc<SharedStore>, StoreFailure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        changes.clear();
        std::mem::swap(&mut self.changes, changes);
        std::mem::swap(&mut self.unwritten, &mut self.being_written);
        self.unwritten.clear();
        Ok(Arc::clone(&self.store))
    }

    /// What was handed over is durable.
    pub(crate) fn wrote(&mut self) {
        self.being_written.clear();
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unwritten = self.changes.len();
        f.debug_struct("Desk").field("now", &self.now).field("unwritten", &unwritten).finish_non_exhaustive()
    }
}
