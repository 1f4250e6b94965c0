//! From what is charged to what is settled: plans, hands batches to the settler, and writes down what became of them.

use crate::app::{App, keep_table};
use crate::expenses::Bill;
use crate::metrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tallybook_chain::{Address, BookView, PageView};
use tallybook_ledger::{Attempt, Batch, BatchRecord, Bundle, Change, Expense, Landed, Outcome};
use tallybook_rules::{Amount, Rejection};
use tallybook_settler::{Chain, Fate, Journal};
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

/// The pause before the chain is asked again about a transaction that is neither landed nor expired.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Plans until it is told to stop; batches run on in `tasks`.
pub(crate) async fn settle<C: Chain>(app: Arc<App<C>>, tasks: TaskTracker) {
    let mut ticks = tokio::time::interval(Duration::from_millis(app.config.settlement.tick_milliseconds));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut owed = Owed::default();
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            () = app.wake.notified() => {}
        }
        match plan(&app).await {
            Ok(batches) => {
                for (id, batch) in batches {
                    tasks.spawn(run(Arc::clone(&app), id, batch));
                }
            }
            Err(Rejection::StoreUnavailable) => return,
            Err(rejection) => tracing::warn!(%rejection, "nothing was planned"),
        }
        for (book, page) in owed.due(&app) {
            tasks.spawn(pay_out(Arc::clone(&app), book, page));
        }
    }
}

/// What is due now, numbered and durable.
async fn plan<C: Chain>(app: &App<C>) -> Result<Vec<(u64, Batch)>, Rejection> {
    let mut policy = app.config.policy();
    policy.per_call |= app.settle_now.swap(false, Ordering::Relaxed);
    let planned = app.sequencer.insist(move |desk| {
        let mut planned = Vec::new();
        for batch in desk.ledger.plan(desk.now, &policy).into_iter().flat_map(Bundle::into_batches) {
            let id = desk.newest_batch.checked_add(1).ok_or(Rejection::Overflow)?;
            let record = BatchRecord::planned(id, &batch, desk.now)?;
            desk.newest_batch = id;
            desk.ledger.sent(batch.channel_ids());
            desk.write(Change::Planned(record));
            planned.push((id, batch));
        }
        Ok(planned)
    });
    planned.await?
}

/// One batch, from the plan to its end.
async fn run<C: Chain>(app: Arc<App<C>>, id: u64, batch: Batch) {
    let turn = app.page_turn(batch.page()).await;
    let outcome = match send(&app, id, &batch).await {
        Ok(outcome) => outcome,
        // Nothing was sent: every row is tried again after a while.
        Err(rejection) => {
            tracing::warn!(batch = id, %rejection, "a batch was not sent");
            Outcome { refused: batch.rows().iter().map(|row| (row.slot, rejection)).collect(), ..Outcome::default() }
        }
    };
    drop(turn);
    let ids: Vec<_> = batch.channel_ids().collect();
    if let Err(rejection) = finish(&app, id, batch.page(), ids, outcome).await {
        tracing::error!(batch = id, %rejection, "a batch's end was not written: it is asked for at the next start");
    }
}

async fn send<C: Chain>(app: &App<C>, id: u64, batch: &Batch) -> Result<Outcome, Rejection> {
    let book = app.book(&app.page(batch.page())?.header.book)?;
    let purpose = tallybook_ledger::Purpose::Batch(id);
    let notebook = app.notebook(purpose, book.address.to_bytes(), Expense::Claims);
    app.settler.settle(&book, batch, &notebook).await
}

/// Asks about what is unknown until nothing is, reads the page, and writes the end of the batch.
pub(crate) async fn finish<C: Chain>(
    app: &App<C>,
    id: u64,
    page: &[u8; 32],
    channel_ids: Vec<[u8; 32]>,
    mut outcome: Outcome,
) -> Result<(), Rejection> {
    if outcome.unknown {
        resolve(app, id, &mut outcome).await?;
    }
    metrics::settled(&outcome.landed);
    // If it cannot be read now the watcher reads it soon; then a row may be planned once more, which adds nothing.
    if let Err(rejection) = app.read_and_observe(&Address::from(*page), 0).await {
        tracing::warn!(batch = id, %rejection, "the page of a batch was not read");
    }
    tracing::info!(
        batch = id,
        transactions = outcome.landed.len(),
        refused = outcome.refused.len(),
        "a batch has ended"
    );
    let page = *page;
    if let Ok(of) = app.page(&page) {
        write_costs(app, of.header.book, &outcome.landed).await?;
    }
    let ended = app.sequencer.insist(move |desk| {
        desk.ledger.ended(channel_ids, &outcome.refused, desk.now);
        let at = desk.now;
        desk.write(Change::Ended { id, outcome, at });
    });
    ended.await
}

/// Writes down what claims and payouts have cost their book.
async fn write_costs<C: Chain>(app: &App<C>, book: [u8; 32], landed: &[Landed]) -> Result<(), Rejection> {
    let expense = Expense::Claims;
    let (known, unknown): (Vec<&Landed>, Vec<&Landed>) = landed.iter().partition(|landed| landed.fee_lamports > 0);
    unknown.iter().for_each(|landed| app.bills.put(Bill { signature: landed.signature, book, expense, share: None }));
    let at = tallybook_sequencer::clock();
    let spent = |landed: &Landed| {
        let (signature, lamports) = (landed.signature, landed.fee_lamports);
        Change::Spent { signature, book, expense, lamports, at }
    };
    let costs: Vec<Change> = known.into_iter().map(spent).collect();
    app.sequencer.insist(move |desk| costs.into_iter().for_each(|cost| desk.write(cost))).await
}

/// Asks the chain about every recorded sending of a batch until each is landed, failed or expired.
async fn resolve<C: Chain>(app: &App<C>, id: u64, outcome: &mut Outcome) -> Result<(), Rejection> {
    let record = app.sequencer.insist(move |desk| {
        let before = id.checked_add(1);
        desk.ask_store(|store| store.batches(before, 1))
    });
    let record = record.await??.pop().filter(|record| record.id == id);
    let attempts: Vec<Attempt> = record.as_ref().map(|record| record.attempts.clone()).unwrap_or_default();
    let rows = record.map_or(0, |record| record.rows.len());
    let known = |outcome: &Outcome, attempt: &Attempt| {
        let mut landed = outcome.landed.iter();
        landed.any(|landed| landed.signature == attempt.signature)
    };
    let mut open: Vec<Attempt> = attempts.into_iter().filter(|attempt| !known(outcome, attempt)).collect();
    while !open.is_empty() {
        let fates = app.settler.resolve(&open).await.unwrap_or_default();
        let decided = |at: usize| fates.get(at).is_some_and(|fate| *fate != Fate::Unknown);
        for (attempt, fate) in open.iter().zip(&fates) {
            if matches!(fate, Fate::Landed { .. }) {
                outcome.landed.push(landed_later(attempt, rows, outcome));
            }
        }
        let mut at = 0usize;
        open.retain(|_| {
            let keep = !decided(at);
            at = at.saturating_add(1);
            keep
        });
        if !open.is_empty() {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
    outcome.unknown = false;
    Ok(())
}

/// A transaction that was found to have landed. Which of the rows that are left it had is not recorded, and its cost is
/// no longer asked for; both are for people, money is read from the page.
fn landed_later(attempt: &Attempt, rows: usize, outcome: &Outcome) -> Landed {
    let counted = outcome.landed.iter().fold(0u32, |sum, landed| sum.saturating_add(landed.rows));
    let refused = u32::try_from(outcome.refused.len()).unwrap_or(u32::MAX);
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    Landed {
        signature: attempt.signature,
        rows: rows.saturating_sub(counted).saturating_sub(refused),
        fee_lamports: 0,
        compute_units: 0,
    }
}

/// Goes on with a batch that was on its way when the facilitator ended.
pub(crate) async fn resume<C: Chain>(app: Arc<App<C>>, record: BatchRecord) {
    tracing::info!(batch = record.id, attempts = record.attempts.len(), "asking the chain about a batch");
    let outcome = Outcome { unknown: true, ..Outcome::default() };
    let ids: Vec<_> = record.channel_ids().collect();
    if let Err(rejection) = finish(&app, record.id, &record.page, ids, outcome).await {
        tracing::error!(batch = record.id, %rejection, "a batch's end was not written");
    }
}

/// Pages that owe their payees something although nothing is claimed in them now: after a refund, which claims without
/// paying out, or when a payee's account could not be paid before.
#[derive(Default)]
struct Owed {
    since: BTreeMap<[u8; 32], i64>,
}

impl Owed {
    /// The pages whose debts are due by the same measures as claims are.
    fn due<C: Chain>(&mut self, app: &App<C>) -> Vec<(Arc<BookView>, Address)> {
        let (sight, policy, now) = (app.look(), app.config.policy(), tallybook_sequencer::clock());
        let mut due = Vec::new();
        for (address, page) in &sight.pages {
            let Some(book) = sight.books.get(&page.header.book) else { continue };
            let owed = owed(book, page);
            if owed.is_zero() {
                self.since.remove(address);
                continue;
            }
            let since = *self.since.entry(*address).or_insert(now);
            let old = now.saturating_sub(since) >= policy.due_age_seconds;
            // A claim pays out what is owed by then; this is for what no claim takes along, so it never hurries.
            if old || (owed >= policy.due_amount && now.saturating_sub(since) >= LATER_SECONDS) {
                self.since.insert(*address, now);
                due.push((Arc::clone(book), page.address));
            }
        }
        due
    }
}

/// How long a debt waits for a claim to take it along, in seconds.
const LATER_SECONDS: i64 = 10;

/// What all legs of a page are owed.
fn owed(book: &BookView, page: &PageView) -> Amount {
    let legs = book.state.legs().iter().enumerate();
    let owed = legs.map(|(at, leg)| page.header.owed(at, leg).unwrap_or_default());
    owed.fold(Amount::ZERO, |sum, owed| sum.plus(owed).unwrap_or(sum))
}

async fn pay_out<C: Chain>(app: Arc<App<C>>, book: Arc<BookView>, page: Address) {
    let _turn = app.page_turn(&page.to_bytes()).await;
    match app.settler.pay_out(&book, &page, &PayoutNotes { app: &app, book: book.address.to_bytes() }).await {
        Ok(outcome) => {
            metrics::settled(&outcome.landed);
            if let Err(rejection) = write_costs(&app, book.address.to_bytes(), &outcome.landed).await {
                tracing::warn!(%page, %rejection, "what a payout cost was not written");
            }
            tracing::info!(%page, transactions = outcome.landed.len(), "paid out what was owed");
        }
        Err(rejection) => tracing::warn!(%page, %rejection, "nothing was paid out: it stays owed"),
    }
}

/// Notes on a payout: only its table. The page itself records what was paid, so a payout that is sent twice pays once.
struct PayoutNotes<'a, C> {
    app: &'a App<C>,
    book: [u8; 32],
}

impl<C: Chain> Journal for PayoutNotes<'_, C> {
    async fn record(&self, _: Attempt) -> Result<(), Rejection> {
        Ok(())
    }

    async fn table(&self, page: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        let page = *page;
        self.app.sequencer.insist(move |desk| desk.tables.get(&page).copied()).await
    }

    async fn keep_table(&self, page: &[u8; 32], table: &[u8; 32]) -> Result<(), Rejection> {
        keep_table(&self.app.sequencer, *page, *table).await
    }

    fn billed(&self, signature: [u8; 64]) {
        self.app.bills.put(Bill { signature, book: self.book, expense: Expense::Claims, share: None });
    }

    fn billed_for_accounts(&self, signature: [u8; 64]) {
        self.app.bills.put(Bill { signature, book: self.book, expense: Expense::Pages, share: None });
    }
}
