//! From what is charged to what is settled: plans, hands bundles of batches to the settler, and writes down what became of
//! them.
//!
//! Batches of one bundle share transactions as far as the chain allows, and end together.

mod ending;
mod owed;

use crate::app::App;
use crate::holding::{To, Visit};
use crate::sight::Sight;
use crate::traces::{self, target};
use ending::{Ending, bundles, finish, resume};
use owed::{Owed, pay_out};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tallybook_chain::BookView;
use tallybook_ledger::{Attempt, Batch, BatchRecord, Bundle, Change, Outcome, Policy, Purpose};
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Journal};
use tallybook_wire::Signature;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub(crate) use ending::priority_lamports;
pub(crate) use owed::pay_out_now;

/// Plans until it is told to stop; bundles run on in `tasks`.
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
        let sight = app.look();
        if go_on(&app, &tasks).await.is_err() {
            return;
        }
        match plan(&app, &sight).await {
            Ok(bundles) => {
                for (bundle, visits) in bundles {
                    let app = Arc::clone(&app);
                    tasks.spawn(async move {
                        run(app, bundle).await;
                        drop(visits);
                    });
                }
            }
            Err(Rejection::StoreUnavailable) => return,
            Err(rejection) => tracing::warn!(%rejection, "nothing was planned"),
        }
        for (book, page) in owed.due(&app, &sight) {
            if let Some(visit) = app.holding.enter(&book.address.to_bytes(), To::Begin) {
                let app = Arc::clone(&app);
                tasks.spawn(async move {
                    pay_out(app, book, page).await;
                    drop(visit);
                });
            }
        }
    }
}

/// Goes on with batches that were on their way when they were taken up, before anything of their channels is planned. `Err` when
/// the writer has ended.
pub(crate) async fn go_on<C: Chain>(app: &Arc<App<C>>, tasks: &TaskTracker) -> Result<(), Rejection> {
    let (records, visits): (Vec<_>, Vec<_>) = app.take_found().into_iter().unzip();
    // Each keeps all of them, until the last of its bundle has ended.
    let visits: Arc<Vec<Option<Visit>>> = Arc::new(visits);
    for bundle in bundles(records) {
        let ids: Vec<_> = bundle.iter().flat_map(BatchRecord::channel_ids).collect();
        app.sequencer.insist(move |desk| desk.ledger.sent(ids)).await?;
        let (app, visits) = (Arc::clone(app), Arc::clone(&visits));
        tasks.spawn(async move {
            resume(app, bundle).await;
            drop(visits);
        });
    }
    Ok(())
}

/// Batches, each with its number, that share transactions.
type Numbered = Vec<(u64, Batch)>;

/// What is due now, numbered and durable, in bundles of as much as one transaction of the chain holds. Nothing of a book that is
/// about to be given away; whoever has it next plans that.
async fn plan<C: Chain>(app: &App<C>, sight: &Sight) -> Result<Vec<(Numbered, Vec<Visit>)>, Rejection> {
    let mut policy = fitted(app, sight).await;
    policy.per_call |= app.settle_now.swap(false, Ordering::Relaxed);
    let holding = &app.holding;
    let planned = app.sequencer.insist(move |desk| {
        let mut planned = Vec::new();
        for bundle in desk.ledger.plan(desk.now, &policy) {
            let (mut numbered, mut visits) = (Numbered::new(), Vec::new());
            for batch in Bundle::into_batches(bundle) {
                let book = desk.ledger.book_of(batch.page());
                let Some(visit) = book.and_then(|book| holding.enter(&book, To::Begin)) else { continue };
                visits.push(visit);
                desk.ledger.sent(batch.channel_ids());
                let id = desk.number_batch()?;
                let record = BatchRecord::planned(id, &batch, desk.now)?;
                desk.write(Change::Planned(record));
                numbered.push((id, batch));
            }
            if !numbered.is_empty() {
                planned.push((numbered, visits));
            }
        }
        Ok(planned)
    });
    planned.await?
}

/// The policy, for transactions of the shape that the chain takes now and the books that are served.
async fn fitted<C: Chain>(app: &App<C>, sight: &Sight) -> Policy {
    let legs = sight.books.values().map(|book| book.state.leg_count).max().unwrap_or(1);
    let mints: BTreeSet<_> = sight.books.values().map(|book| (book.state.mint, book.state.token_program)).collect();
    app.settler.fitted(app.config.policy(), legs, mints.len() <= 1).await
}

/// One bundle, from the plan to its end, as a trace of its own.
async fn run<C: Chain>(app: Arc<App<C>>, bundle: Numbered) {
    let ids: Vec<u64> = bundle.iter().map(|(id, _)| *id).collect();
    let vouchers = app.traces.claimed(bundle.iter().flat_map(|(_, batch)| batch.channel_ids()));
    let span = traces::of_claim(&ids, &vouchers);
    let claimed = async move {
        let landed = claim(app, bundle).await;
        traces::tell_claimed(&vouchers, &landed);
    };
    claimed.instrument(span).await;
}

/// Claims it; says which transactions landed.
async fn claim<C: Chain>(app: Arc<App<C>>, bundle: Numbered) -> BTreeSet<[u8; 64]> {
    // In one order for all, so that no two wait for each other.
    bundle.iter().for_each(|(id, _)| app.batch_begins(*id, tallybook_sequencer::clock()));
    let pages: BTreeSet<[u8; 32]> = bundle.iter().map(|(_, batch)| *batch.page()).collect();
    let mut turns = Vec::with_capacity(pages.len());
    for page in &pages {
        turns.push(app.page_turn(page).await);
    }
    let span = tracing::debug_span!(target: target!(), "send", otel.kind = "client");
    let outcomes = send(&app, &bundle).instrument(span).await;
    drop(turns);
    let landed = outcomes.iter().flat_map(|outcome| &outcome.landed).map(|landed| landed.signature).collect();
    let endings = bundle.iter().zip(outcomes).map(|((id, batch), outcome)| Ending::of(*id, batch, outcome)).collect();
    if let Err(rejection) = finish(&app, endings).await {
        let batches: Vec<u64> = bundle.iter().map(|(id, _)| *id).collect();
        tracing::error!(?batches, %rejection, "the end of batches was not written: it is asked for at the next start");
    }
    landed
}

/// Settles the batches of a bundle; their outcomes in its order. What cannot be sent is refused for now.
async fn send<C: Chain>(app: &App<C>, bundle: &Numbered) -> Vec<Outcome> {
    let of = |batch: &Batch| app.book(&app.page(batch.page())?.header.book);
    let books: Vec<Result<Arc<BookView>, Rejection>> = bundle.iter().map(|(_, batch)| of(batch)).collect();
    let known = bundle.iter().zip(&books).filter_map(|((_, batch), book)| Some((book.as_deref().ok()?, batch)));
    let known: Vec<(&BookView, &Batch)> = known.collect();
    let settled = app.settler.settle_together(&known, &Notes { app, bundle, books: &books }).await;
    let mut settled = settled.map(Vec::into_iter);
    let outcomes = bundle.iter().zip(&books).map(|((id, batch), book)| {
        let outcome = match (book, &mut settled) {
            (Ok(_), Ok(outcomes)) => outcomes.next().ok_or(Rejection::MalformedRows),
            (Err(rejection), _) => Err(*rejection),
            (_, Err(rejection)) => Err(*rejection),
        };
        // Nothing was sent: every row is tried again after a while.
        outcome.unwrap_or_else(|rejection| {
            tracing::warn!(batch = id, %rejection, "a batch was not sent");
            Outcome { refused: batch.rows().iter().map(|row| (row.slot, rejection)).collect(), ..Outcome::default() }
        })
    });
    outcomes.collect()
}

/// The settler's notes on a bundle: each transaction is written down for the batches of the pages that it names.
struct Notes<'a, C> {
    app: &'a App<C>,
    bundle: &'a Numbered,
    books: &'a [Result<Arc<BookView>, Rejection>],
}

impl<C: Chain> Notes<'_, C> {
    /// At whose expense lookup tables and token accounts are made: that of the first book. Claims are counted in outcomes.
    fn payer(&self) -> [u8; 32] {
        let first = self.books.iter().find_map(|book| book.as_ref().ok());
        first.map(|book| book.address.to_bytes()).unwrap_or_default()
    }
}

impl<C: Chain> Journal for Notes<'_, C> {
    async fn record(&self, attempt: Attempt) -> Result<(), Rejection> {
        let pages: Vec<[u8; 32]> = self.bundle.iter().map(|(_, batch)| *batch.page()).collect();
        self.record_for(attempt, &pages).await
    }

    async fn record_for(&self, attempt: Attempt, pages: &[[u8; 32]]) -> Result<(), Rejection> {
        let named = self.bundle.iter().filter(|(_, batch)| pages.contains(batch.page()));
        let ids: Vec<u64> = named.map(|(id, _)| *id).collect();
        tracing::debug!(target: target!(), transaction = %Signature(attempt.signature), "written down, to be sent");
        let written = self.app.sequencer.insist(move |desk| {
            ids.iter().for_each(|id| desk.write(Change::Sending { purpose: Purpose::Batch(*id), attempt }));
        });
        written.await
    }

    async fn table(&self, page: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        self.app.table(page).await
    }

    async fn keep_table(&self, page: &[u8; 32], table: &[u8; 32]) -> Result<(), Rejection> {
        self.app.keep_table(page, table).await
    }

    fn billed_for_accounts(&self, signature: [u8; 64]) {
        self.app.bill_for_accounts(signature, self.payer());
    }
}
