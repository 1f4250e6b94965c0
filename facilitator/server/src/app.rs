//! What requests and background tasks share.

use crate::allowance::{Allowance, highest_fee};
use crate::audit::Audit;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::expenses::{Bill, Bills};
use crate::export;
use crate::first_sight::FirstSight;
use crate::guard::Places;
use crate::holding::{Holding, To, Visit};
use crate::line::Line;
use crate::nodes::learn;
use crate::notebook::Notebook;
use crate::operator::Operator;
use crate::problem::Problem;
use crate::quota::Quotas;
use crate::schemes::{Place, Schemes, registered};
use crate::shares::Shares;
use crate::sight::{Sight, seen};
use crate::traces::Vouchers;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tallybook_chain::shape::MAX_COMPUTE_UNITS;
use tallybook_chain::{Address, BookView, PageView};
use tallybook_ledger::{Attempt, BatchRecord, Change, Expense, Finality, Purpose};
use tallybook_rules::Rejection;
use tallybook_sequencer::{Sequencer, clock};
use tallybook_settler::{Chain, Prepared, PreparedPage, Settler};
use tallybook_wire::{Key, Network, PaymentRequirements};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// A facilitator at work.
pub(crate) struct App<C> {
    pub(crate) config: Config,
    /// Who takes which payments.
    pub(crate) schemes: Schemes<C>,
    pub(crate) network: Network,
    pub(crate) genesis_hash: [u8; 32],
    pub(crate) settler: Settler<C>,
    pub(crate) sequencer: Sequencer,
    /// The books that are held here.
    pub(crate) holding: Arc<Holding>,
    /// The others on the same database, if there can be any.
    pub(crate) line: Option<Line>,
    /// Batches that were on their way when this facilitator took them up: of these the chain is to be asked.
    found: Mutex<Vec<(BatchRecord, Option<Visit>)>>,
    pub(crate) sight: RwLock<Sight>,
    /// How far the pages were read since the start.
    pub(crate) first_sight: FirstSight,
    quotas: Mutex<Quotas>,
    allowance: Mutex<Allowance>,
    /// Where payments are recorded, if anywhere.
    pub(crate) audit: Option<Audit>,
    /// The catalogue of what was paid for, if one is kept.
    pub(crate) discovery: Option<Discovery>,
    /// Refunds that wait for their operator's signature, by channel.
    refunds: Mutex<HashMap<[u8; 32], Prepared>>,
    /// Pages that wait for their operator's signature, by book.
    pages: Mutex<HashMap<[u8; 32], PreparedPage>>,
    /// Transactions whose cost is to be asked for.
    pub(crate) bills: Bills,
    /// One sender at a time for each page.
    page_locks: Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>>,
    /// Places for requests at work.
    pub(crate) places: Places,
    /// What each payer has of the service now.
    pub(crate) payers: Shares,
    /// What each book has of it.
    pub(crate) payees: Shares,
    /// Something may have become due.
    pub(crate) wake: Notify,
    /// Nothing new is taken on, for good.
    pub(crate) draining: CancellationToken,
    /// Nothing new is taken on until an administrator says otherwise.
    pub(crate) paused: AtomicBool,
    /// The next plan takes all that there is to claim.
    pub(crate) settle_now: AtomicBool,
    /// What the operator's page needs between two requests.
    pub(crate) operator: Operator,
    /// Places for exports of vouchers.
    pub(crate) exports: Arc<Semaphore>,
    /// The newest slot of the chain that was seen, when the chain answered last, in Unix seconds, and whether it did at the
    /// last look.
    chain_slot: AtomicU64,
    chain_answered_at: AtomicI64,
    chain_answers: AtomicBool,
    /// Since when each batch that has not ended is on its way, by number: Unix seconds.
    under_way: Mutex<BTreeMap<u64, i64>>,
    /// By which trace the newest voucher of a channel came.
    pub(crate) traces: Vouchers,
    /// When the chain was looked at last because somebody forwarded what was not known here, in Unix seconds.
    looked_for_news_at: AtomicI64,
}

/// A batch that was on its way, and its book.
pub(crate) type Found = ([u8; 32], BatchRecord);

impl<C: Chain> App<C> {
    pub(crate) fn new(
        config: Config,
        network: Network,
        genesis_hash: [u8; 32],
        settler: Settler<C>,
        sequencer: Sequencer,
        (holding, line): (Arc<Holding>, Option<Line>),
        (bills, allowance, audit, discovery): (Bills, Allowance, Option<Audit>, Option<Discovery>),
    ) -> Self {
        let limits = &config.limits;
        let place = Place { network: &network, genesis_hash, sponsor: settler.sponsor() };
        Self {
            schemes: registered(&config, &place),
            quotas: Mutex::new(Quotas::new(limits.deposits_per_payer_per_hour)),
            allowance: Mutex::new(allowance),
            audit,
            discovery,
            places: Places::new(limits),
            payers: Shares::new(limits.payer_requests_in_flight, limits.payer_requests_per_second),
            payees: Shares::new(limits.book_requests_in_flight, limits.book_requests_per_second),
            operator: Operator::new(&config),
            exports: Arc::new(Semaphore::new(export::AT_ONCE)),
            config,
            network,
            genesis_hash,
            settler,
            sequencer,
            holding,
            line,
            found: Mutex::default(),
            sight: RwLock::default(),
            first_sight: FirstSight::default(),
            refunds: Mutex::default(),
            pages: Mutex::default(),
            bills,
            page_locks: Mutex::default(),
            wake: Notify::new(),
            draining: CancellationToken::new(),
            paused: AtomicBool::new(false),
            settle_now: AtomicBool::new(false),
            chain_slot: AtomicU64::new(0),
            chain_answered_at: AtomicI64::new(0),
            chain_answers: AtomicBool::new(true),
            under_way: Mutex::default(),
            traces: Vouchers::default(),
            looked_for_news_at: AtomicI64::new(0),
        }
    }

    /// A batch is on its way since then, in Unix seconds.
    pub(crate) fn batch_begins(&self, id: u64, since: i64) {
        lock(&self.under_way).insert(id, since);
    }

    /// A batch has ended.
    pub(crate) fn batch_ends(&self, id: u64) {
        lock(&self.under_way).remove(&id);
    }

    /// How many batches are on their way, and since when the oldest of them, in Unix seconds.
    pub(crate) fn under_way(&self) -> (usize, Option<i64>) {
        let under_way = lock(&self.under_way);
        (under_way.len(), under_way.values().min().copied())
    }

    /// Refuses new business while draining or paused: [`Rejection::Draining`]. What was begun goes on.
    pub(crate) fn takes_on(&self) -> Result<(), Rejection> {
        let stopped = self.draining.is_cancelled() || self.paused.load(Ordering::Relaxed);
        if stopped { Err(Rejection::Draining) } else { Ok(()) }
    }

    /// How many deposits each payer had sponsored.
    pub(crate) fn quotas(&self) -> MutexGuard<'_, Quotas> {
        lock(&self.quotas)
    }

    /// The most that a deposit can cost the sponsor, in lamports.
    pub(crate) const fn highest_deposit_fee(&self) -> u64 {
        highest_fee(self.config.chain.max_compute_units, self.config.chain.max_compute_price)
    }

    /// The most that a transaction of the sponsor's own making can cost it in fees, in lamports.
    pub(crate) const fn prepared_fee(&self) -> u64 {
        highest_fee(MAX_COMPUTE_UNITS, self.config.chain.highest_price())
    }

    /// What others may still make the sponsor pay.
    pub(crate) fn allowance(&self) -> MutexGuard<'_, Allowance> {
        lock(&self.allowance)
    }

    /// Whether the chain may be looked at once more for what somebody says is new: once a second, whoever asks.
    pub(crate) fn may_look_for_news(&self, now: i64) -> bool {
        self.looked_for_news_at.swap(now, Ordering::Relaxed) != now
    }

    /// Lets a request in to its book. None for a book that is not served at all: who looks for it finds none.
    ///
    /// [`Problem::Elsewhere`] for one that is served by who holds it, which is not this facilitator now.
    pub(crate) fn enter(&self, book: &[u8; 32], to: To) -> Result<Option<Visit>, Problem> {
        match self.holding.enter(book, to) {
            Some(visit) => Ok(Some(visit)),
            None if self.holding.door(book).is_some() => Err(Problem::Elsewhere(*book)),
            None => Ok(None),
        }
    }

    /// Has the settlement go on with batches that were on their way, each of a book, before it plans anything. Nobody gives the
    /// book away meanwhile.
    pub(crate) fn go_on_with(&self, batches: Vec<Found>) {
        let found = batches.into_iter().map(|(book, record)| (record, self.holding.accompany(&book)));
        lock(&self.found).extend(found);
    }

    /// The same at the start of a facilitator that holds everything for good.
    pub(crate) fn go_on_with_all(&self, batches: Vec<BatchRecord>) {
        lock(&self.found).extend(batches.into_iter().map(|record| (record, None)));
    }

    /// Takes what is to be gone on with.
    pub(crate) fn take_found(&self) -> Vec<(BatchRecord, Option<Visit>)> {
        std::mem::take(&mut *lock(&self.found))
    }

    /// The book, if it is served: [`Rejection::UnknownBook`].
    pub(crate) fn book(&self, book: &[u8; 32]) -> Result<Arc<BookView>, Rejection> {
        let sight = self.sight.read().unwrap_or_else(PoisonError::into_inner);
        sight.books.get(book).cloned().ok_or(Rejection::UnknownBook)
    }

    /// The page as it was read last, if it is served: [`Rejection::UnknownPage`].
    pub(crate) fn page(&self, page: &[u8; 32]) -> Result<Arc<PageView>, Rejection> {
        let sight = self.sight.read().unwrap_or_else(PoisonError::into_inner);
        sight.pages.get(page).cloned().ok_or(Rejection::UnknownPage)
    }

    /// A blockhash to build transactions with, if one was read.
    pub(crate) fn blockhash(&self) -> Option<[u8; 32]> {
        self.sight.read().unwrap_or_else(PoisonError::into_inner).blockhash
    }

    pub(crate) fn look(&self) -> Sight {
        self.sight.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is seen.
    pub(crate) fn see(&self, change: impl FnOnce(&mut Sight)) {
        change(&mut self.sight.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Refuses requirements that are not those of a served book, and says which book it is.
    pub(crate) fn book_required(&self, requirements: &PaymentRequirements) -> Result<Arc<BookView>, Rejection> {
        if requirements.network != self.network {
            return Err(Rejection::WrongNetwork);
        }
        let book = self.book(requirements.extra.book.as_bytes())?;
        let same = requirements.asset.0 == book.state.mint
            && requirements.pay_to.0 == book.state.payee
            && requirements.extra.fee_payer == self.sponsor();
        if same { Ok(book) } else { Err(Rejection::RequirementsMismatch) }
    }

    /// Who pays the network's fees.
    pub(crate) fn sponsor(&self) -> Key {
        Key(self.settler.sponsor().to_bytes())
    }

    /// Waits for the page's turn.
    pub(crate) async fn page_turn(&self, page: &[u8; 32]) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = Arc::clone(lock(&self.page_locks).entry(*page).or_default());
        lock.lock_owned().await
    }

    pub(crate) fn keep_refund(&self, channel_id: [u8; 32], refund: Prepared) {
        lock(&self.refunds).insert(channel_id, refund);
    }

    pub(crate) fn prepared_refund(&self, channel_id: &[u8; 32]) -> Option<Prepared> {
        lock(&self.refunds).get(channel_id).cloned()
    }

    pub(crate) fn forget_refund(&self, channel_id: &[u8; 32]) {
        lock(&self.refunds).remove(channel_id);
    }

    pub(crate) fn keep_page(&self, book: [u8; 32], page: PreparedPage) {
        lock(&self.pages).insert(book, page);
    }

    pub(crate) fn prepared_page(&self, book: &[u8; 32]) -> Option<PreparedPage> {
        lock(&self.pages).get(book).cloned()
    }

    /// The chain answered at a slot.
    pub(crate) fn chain_answered(&self, slot: u64) {
        self.chain_slot.fetch_max(slot, Ordering::Relaxed);
        self.chain_answered_at.store(clock(), Ordering::Relaxed);
        self.chain_answers.store(true, Ordering::Relaxed);
    }

    /// The chain did not answer.
    pub(crate) fn chain_silent(&self) {
        self.chain_answers.store(false, Ordering::Relaxed);
    }

    /// The newest slot that was seen, and whether the chain answers now.
    pub(crate) fn chain_seen(&self) -> (u64, bool) {
        let answers = self.chain_answers.load(Ordering::Relaxed);
        (self.chain_slot.load(Ordering::Relaxed), answers)
    }

    /// When the chain answered last, in Unix seconds; 0 before it did.
    pub(crate) fn chain_answered_at(&self) -> i64 {
        self.chain_answered_at.load(Ordering::Relaxed)
    }

    /// Something that waits for the chain, cut off in time to say so: well before the request's own limit would.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = Result<T, Rejection>>) -> Result<T, Rejection> {
        let whole = Duration::from_secs(self.config.limits.request_seconds.into());
        let patience = whole.saturating_mul(4).checked_div(5).unwrap_or(whole);
        tokio::time::timeout(patience, work).await.unwrap_or(Err(Rejection::ChainUnavailable))
    }

    /// What was recorded of the last sending for a purpose.
    pub(crate) async fn last_attempt(&self, purpose: Purpose) -> Result<Option<Attempt>, Rejection> {
        let asked = self.sequencer.ask(move |desk| desk.ask_store(|store| store.last_attempt(purpose)));
        asked.await?
    }

    /// Notes for a purpose of a book, at whose expense it is.
    pub(crate) const fn notebook(&self, purpose: Purpose, book: [u8; 32], expense: Expense) -> Notebook<'_, C> {
        Notebook::new(self, purpose, book, expense)
    }

    /// The lookup table that was written down for a page.
    pub(crate) async fn table(&self, page: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        let page = *page;
        self.sequencer.insist(move |desk| desk.tables.get(&page).copied()).await
    }

    /// Writes a page's lookup table down.
    pub(crate) async fn keep_table(&self, page: &[u8; 32], table: &[u8; 32]) -> Result<(), Rejection> {
        let (page, table) = (*page, *table);
        let kept = self.sequencer.insist(move |desk| {
            desk.tables.insert(page, table);
            desk.write(Change::Table { page, table });
        });
        kept.await
    }

    /// A lookup table or a payee's token account was made for a book.
    pub(crate) fn bill_for_accounts(&self, signature: [u8; 64], book: [u8; 32]) {
        self.bills.put(Bill::whole(signature, book, Expense::Pages));
    }

    /// Reads one page as of a slot or later, and lets the ledger see it.
    pub(crate) async fn read_and_observe(&self, page: &Address, min_slot: u64) -> Result<(), Rejection> {
        let commitment = tallybook_settler::Commitment::Confirmed;
        let (slot, view) = self.settler.read_page(page, min_slot, commitment).await?;
        self.chain_answered(slot);
        let found = learn(self, std::slice::from_ref(&view)).await?;
        let observed = self.sequencer.insist(move |desk| {
            desk.observe([seen(&view, slot)], Finality::Confirmed);
        });
        observed.await?;
        self.go_on_with(found);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
