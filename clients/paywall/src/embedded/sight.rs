//! What is seen of the chain: the book and its pages, over the server's own endpoint.

use super::Embedded;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tallybook_chain::address::page as page_address;
use tallybook_chain::{Address, BookView, PROGRAM_ID, PageView};
use tallybook_ledger::{Event, Finality, PageSeen};
use tallybook_rpc::{Account, Chain, ChainError, View};
use tallybook_rules::Rejection;
use tallybook_wire::{Key, Offer};

/// Every so many looks, what is final is read too.
const FINAL_EVERY: u32 = 5;
/// An endpoint that did not answer is not asked again for so long: whoever waits is told at once.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Strangers with vouchers of channels that nobody knows make us look at most this often.
const NEWS_AT_MOST_EVERY: Duration = Duration::from_millis(500);

/// The last picture of the chain.
#[derive(Debug)]
pub(super) struct Sight {
    seen: Mutex<Seen>,
    /// The pages that were read by themselves before all of them were, and when.
    pub(super) read_first: Mutex<HashMap<[u8; 32], Instant>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<Looks>,
    /// Where the terms are remembered over a restart.
    pub(super) offer_file: PathBuf,
}

#[derive(Default, Debug)]
struct Looks {
    count: u32,
    /// The newest slot of the chain that was seen: nothing older is taken.
    slot: u64,
    /// When the last look failed, if it did.
    failed: Option<Instant>,
}

#[derive(Default, Debug)]
struct Seen {
    book: Option<BookView>,
    blockhash: Option<Key>,
    /// When the pages were read last.
    at: Option<Instant>,
    terms: Option<Arc<Offer>>,
}

impl Sight {
    pub(super) fn new(offer_file: PathBuf) -> Self {
        let remembered = std::fs::read(&offer_file).ok().and_then(|json| serde_json::from_slice(&json).ok());
        let seen = Seen { terms: remembered.map(Arc::new), ..Seen::default() };
        Self {
            seen: Mutex::new(seen),
            read_first: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            offer_file,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The terms of the facilitator, as it said them last.
    pub(super) fn terms(&self) -> Option<Arc<Offer>> {
        self.lock().terms.clone()
    }

    pub(super) fn set_terms(&self, terms: Arc<Offer>) {
        self.lock().terms = Some(terms);
    }

    /// The book was read, and a page of it that has room, before all of them were.
    pub(super) fn begin(&self, book: BookView, blockhash: Option<Key>) {
        let mut seen = self.lock();
        (seen.book, seen.blockhash) = (Some(book), blockhash);
    }

    /// The book, and a blockhash to build transactions with.
    pub(super) fn book(&self) -> (Option<BookView>, Option<Key>) {
        let seen = self.lock();
        (seen.book, seen.blockhash)
    }

    /// How old the last picture is; none before the first.
    pub(super) fn age(&self) -> Option<Duration> {
        self.lock().at.map(|at| at.elapsed())
    }
}

impl Embedded {
    /// Sees to it that what is decided next stands on a picture that is not too old. [`Rejection::ChainUnavailable`].
    pub(super) async fn look_if_old(&self) -> Result<(), Rejection> {
        self.look_if_older(self.settings.max_age).await
    }

    /// Reads the pages again, unless that was done just now.
    pub(super) async fn look_for_news(&self) -> Result<(), Rejection> {
        self.look_if_older(NEWS_AT_MOST_EVERY).await
    }

    async fn look_if_older(&self, max_age: Duration) -> Result<(), Rejection> {
        let is_fresh = || self.sight.age().is_some_and(|age| age <= max_age);
        if is_fresh() {
            return Ok(());
        }
        // Few calls have to look, and to look takes a future of some kilobytes.
        Box::pin(self.look_in_turn(is_fresh)).await
    }

    async fn look_in_turn(&self, is_fresh: impl Fn() -> bool) -> Result<(), Rejection> {
        let mut looks = self.sight.looking.lock().await;
        // Somebody else may have looked while this one waited for its turn.
        if is_fresh() {
            return Ok(());
        }
        if looks.failed.is_some_and(|failed| failed.elapsed() < AFTER_FAILURE) {
            return Err(Rejection::ChainUnavailable);
        }
        self.look(&mut looks).await
    }

    /// Reads the pages now.
    pub(super) async fn look_now(&self) -> Result<(), Rejection> {
        let mut looks = self.sight.looking.lock().await;
        self.look(&mut looks).await
    }

    /// One look at the book and its pages.
    async fn look(&self, looks: &mut Looks) -> Result<(), Rejection> {
        if self.sight.age().is_none() {
            self.begin_to_look().await?;
        }
        let begun = Instant::now();
        let looked = self.read(View::CONFIRMED.not_before(looks.slot)).await;
        let (book, pages, slot) = looked.map_err(|error| {
            tracing::warn!(%error, "the pages could not be read");
            looks.failed = Some(Instant::now());
            Rejection::ChainUnavailable
        })?;
        looks.failed = None;
        looks.slot = looks.slot.max(slot);
        looks.count = looks.count.wrapping_add(1);
        let events = self.observe(pages, slot, Finality::Confirmed).await?;
        self.tell(&events);
        let blockhash = self.chain.latest_blockhash().await.ok().map(|latest| Key(latest.hash.to_bytes()));
        {
            let mut seen = self.sight.lock();
            (seen.book, seen.at) = (Some(book), Some(begun));
            seen.blockhash = blockhash.or(seen.blockhash);
        }
        self.sight.read_first.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if looks.count % FINAL_EVERY == 1
            && let Ok((_, pages, slot)) = self.read(View::FINALIZED).await
        {
            self.observe(pages, slot, Finality::Final).await?;
        }
        Ok(())
    }

    /// Book and pages, and the slot at which they were read.
    async fn read(&self, view: View) -> Result<(BookView, Vec<PageView>, u64), Unseen> {
        let address = Address::from(self.book.0);
        let known = self.sight.book().0.map_or(0, |book| book.state.next_page);
        let mut wanted = self.page_addresses(known);
        wanted.insert(0, address);
        let mut read = self.chain.accounts(&wanted, view).await?;
        let book = read.list.first().and_then(Option::as_ref).filter(|account| account.owner == PROGRAM_ID);
        let book =
            book.and_then(|account| BookView::parse(address, &account.data).ok()).ok_or(Unseen::NoBook(self.book))?;
        if book.state.next_page > known {
            // There are more pages than were known: read all of them at one time.
            wanted.truncate(1);
            wanted.extend(self.page_addresses(book.state.next_page));
            read = self.chain.accounts(&wanted, view.not_before(read.context_slot)).await?;
        }
        let pages = wanted.iter().zip(read.list).skip(1).filter_map(|(address, account)| page(*address, account));
        Ok((book, pages.collect(), read.context_slot))
    }

    pub(super) fn page_addresses(&self, count: u32) -> Vec<Address> {
        (0..count).map(|index| page_address(&PROGRAM_ID, &self.book.0.into(), index).0).collect()
    }

    async fn observe(&self, pages: Vec<PageView>, slot: u64, finality: Finality) -> Result<Vec<Event>, Rejection> {
        let seen = pages.iter().map(|page| PageSeen {
            address: page.address.to_bytes(),
            chain_slot: slot,
            header: &page.header,
            slots: &page.slots,
        });
        self.sequencer.observe(&seen.collect::<Vec<_>>(), finality).await
    }

    pub(super) fn tell(&self, events: &[Event]) {
        for event in events {
            match event {
                Event::Opened { channel_id, .. } => {
                    tracing::info!(channel = %Key(*channel_id), "a channel is open");
                    // After a restart it may have vouchers.
                    self.forwarded.is_waiting(*channel_id);
                }
                Event::Closing { channel_id, closing_at, unsettled } => {
                    tracing::info!(channel = %Key(*channel_id), closing_at, %unsettled, "a channel is closing");
                    self.forwarded.is_urgent(*channel_id);
                    self.urgent.notify_one();
                }
                Event::Over { channel_id, unsettled, refunded } => {
                    self.forwarded.forget(channel_id);
                    if !unsettled.is_zero() && !refunded {
                        tracing::error!(channel = %Key(*channel_id), %unsettled, "a channel is over and its last claim was not seen to settle");
                    }
                }
            }
        }
    }
}

/// Why the chain was not seen.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("there is no book {0} on the cluster of the RPC endpoint: check the book's address and the endpoint")]
    NoBook(Key),
}

pub(super) fn page(address: Address, account: Option<Account>) -> Option<PageView> {
    let account = account.filter(|account| account.owner == PROGRAM_ID)?;
    PageView::parse(address, &account.data).ok()
}

/// Looks again and again, for as long as somebody uses the ledger.
pub(super) async fn watch(embedded: Weak<Embedded>) {
    loop {
        let Some(this) = embedded.upgrade() else { return };
        if this.look_now().await == Err(Rejection::StoreUnavailable) {
            tracing::error!("the store has failed: nothing more is taken until the server is started again");
            return;
        }
        let poll = this.settings.poll;
        tokio::select! {
            () = this.look.notified() => {}
            () = tokio::time::sleep(poll) => {}
        }
    }
}
