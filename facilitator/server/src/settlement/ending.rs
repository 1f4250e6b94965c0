//! How batches end: what is unknown is asked of the chain, and the end of all that shared transactions is written at once.

use crate::app::App;
use crate::expenses::{Bill, Fraction};
use crate::metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::Address;
use tallybook_chain::shape::SIGNATURE_LAMPORTS;
use tallybook_ledger::{Attempt, Batch, BatchRecord, Change, Expense, Landed, Outcome};
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Fate};

/// The pause before the chain is asked again about a transaction that is neither landed nor expired.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A batch that has come to its end, or is about to.
pub(crate) struct Ending {
    id: u64,
    page: [u8; 32],
    channel_ids: Vec<[u8; 32]>,
    outcome: Outcome,
}

impl Ending {
    pub(super) fn of(id: u64, batch: &Batch, outcome: Outcome) -> Self {
        Self { id, page: *batch.page(), channel_ids: batch.channel_ids().collect(), outcome }
    }

    /// Of a batch that was on its way when the facilitator ended: nothing is known of it.
    fn unknown(record: &BatchRecord) -> Self {
        let outcome = Outcome { unknown: true, ..Outcome::default() };
        Self { id: record.id, page: record.page, channel_ids: record.channel_ids().collect(), outcome }
    }
}

/// Goes on with batches that shared transactions and were on their way when the facilitator ended.
pub(super) async fn resume<C: Chain>(app: Arc<App<C>>, records: Vec<BatchRecord>) {
    let batches: Vec<u64> = records.iter().map(|record| record.id).collect();
    tracing::info!(?batches, "asking the chain about batches");
    records.iter().for_each(|record| app.batch_begins(record.id, record.planned_at));
    if let Err(rejection) = finish(&app, records.iter().map(Ending::unknown).collect()).await {
        tracing::error!(?batches, %rejection, "the end of batches was not written");
    }
}

/// Batches that were on their way, those beside each other that shared a transaction.
pub(super) fn bundles(records: Vec<BatchRecord>) -> Vec<Vec<BatchRecord>> {
    let mut bundles: Vec<Vec<BatchRecord>> = Vec::new();
    for record in records {
        let sent: BTreeSet<[u8; 64]> = record.attempts.iter().map(|attempt| attempt.signature).collect();
        let shares = |other: &BatchRecord| other.attempts.iter().any(|attempt| sent.contains(&attempt.signature));
        let (mut with, without): (Vec<_>, Vec<_>) = bundles.into_iter().partition(|bundle| bundle.iter().any(shares));
        let mut joined: Vec<BatchRecord> = with.drain(..).flatten().collect();
        joined.push(record);
        bundles = without;
        bundles.push(joined);
    }
    bundles
}

/// Asks about what is unknown until nothing is, reads the pages, and writes the end of the batches.
pub(super) async fn finish<C: Chain>(app: &App<C>, mut endings: Vec<Ending>) -> Result<(), Rejection> {
    for ending in endings.iter_mut().filter(|ending| ending.outcome.unknown) {
        resolve(app, ending.id, &mut ending.outcome).await?;
    }
    let landed: Vec<Landed> = endings.iter().flat_map(|ending| ending.outcome.landed.iter().copied()).collect();
    metrics::settled(&landed);
    for ending in &endings {
        // If it cannot be read now the watcher reads it soon; then a row may be planned once more, which adds nothing.
        if let Err(rejection) = app.read_and_observe(&Address::from(ending.page), 0).await {
            tracing::warn!(batch = ending.id, %rejection, "the page of a batch was not read");
        }
        say(ending);
    }
    let costs: Vec<Change> = endings
        .iter()
        .filter_map(|ending| {
            let book = app.page(&ending.page).ok()?.header.book;
            Some(costs(app, book, &ending.outcome.landed, &landed))
        })
        .flatten()
        .collect();
    let ids: Vec<u64> = endings.iter().map(|ending| ending.id).collect();
    let ended = app.sequencer.insist(move |desk| {
        costs.into_iter().for_each(|cost| desk.write(cost));
        let at = desk.now;
        for Ending { id, channel_ids, outcome, .. } in endings {
            desk.ledger.ended(channel_ids, &outcome.refused, at);
            desk.write(Change::Ended { id, outcome, at });
        }
    });
    ended.await?;
    ids.iter().for_each(|id| app.batch_ends(*id));
    Ok(())
}

/// Says what a batch came to, and what it cost.
fn say(ending: &Ending) {
    let landed = &ending.outcome.landed;
    let sum = |number: fn(&Landed) -> u64| landed.iter().map(number).fold(0, u64::saturating_add);
    tracing::info!(
        batch = ending.id,
        transactions = landed.len(),
        claimed = sum(|landed| landed.rows.into()),
        refused = ending.outcome.refused.len(),
        lamports = sum(|landed| landed.fee_lamports),
        compute_units = sum(|landed| landed.compute_units),
        "a batch has ended"
    );
}

/// Writes down what payouts have cost their book.
pub(super) async fn write_costs<C: Chain>(app: &App<C>, book: [u8; 32], landed: &[Landed]) -> Result<(), Rejection> {
    let costs = costs(app, book, landed, landed);
    app.sequencer.insist(move |desk| costs.into_iter().for_each(|cost| desk.write(cost))).await
}

/// What to write of the costs of a book's transactions. What is not known is asked for: of a transaction that batches of
/// other books shared, `all` of whose parts are given too, the book's share.
fn costs<C: Chain>(app: &App<C>, book: [u8; 32], landed: &[Landed], all: &[Landed]) -> Vec<Change> {
    let (expense, at) = (Expense::Claims, tallybook_sequencer::clock());
    let mut changes = Vec::new();
    for Landed { signature, rows, fee_lamports, .. } in landed {
        if *fee_lamports > 0 {
            changes.push(Change::Spent { signature: *signature, book, expense, lamports: *fee_lamports, at });
            continue;
        }
        let weight = |landed: &Landed| u64::from(landed.rows.max(1));
        let parts = all.iter().filter(|other| other.signature == *signature);
        let whole = parts.map(weight).fold(0, u64::saturating_add);
        let fraction = Fraction { part: u64::from((*rows).max(1)), whole };
        app.bills.put(Bill { fraction, ..Bill::whole(*signature, book, expense) });
    }
    changes
}

/// The priority fees in the costs of these transactions: what was paid beside the one signature of each.
pub(crate) fn priority_lamports(landed: &[Landed]) -> u64 {
    let mut by_transaction: BTreeMap<[u8; 64], u64> = BTreeMap::new();
    for landed in landed {
        let cost = by_transaction.entry(landed.signature).or_default();
        *cost = cost.saturating_add(landed.fee_lamports);
    }
    by_transaction.values().map(|cost| cost.saturating_sub(SIGNATURE_LAMPORTS)).fold(0, u64::saturating_add)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_ledger::State;
    use tallybook_rules::Amount;

    fn record(id: u64, attempts: &[u8]) -> BatchRecord {
        let attempt = |number: &u8| Attempt { signature: [*number; 64], last_valid_block_height: 1 };
        BatchRecord {
            id,
            page: [u8::try_from(id).unwrap_or(0); 32],
            rows: Vec::new(),
            gain: Amount::ZERO,
            planned_at: 0,
            ended_at: 0,
            state: State::Sending,
            attempts: attempts.iter().map(attempt).collect(),
            landed: Vec::new(),
            refused: Vec::new(),
        }
    }

    #[test]
    fn given_batches_that_were_on_their_way_when_taken_up_then_those_that_shared_a_transaction_end_together() {
        let records =
            vec![record(1, &[1]), record(2, &[]), record(3, &[2]), record(4, &[1, 2]), record(5, &[3]), record(6, &[])];
        let bundles = bundles(records);
        let mut ids: Vec<Vec<u64>> =
            bundles.iter().map(|bundle| bundle.iter().map(|record| record.id).collect()).collect();
        ids.iter_mut().for_each(|ids| ids.sort_unstable());
        ids.sort();
        assert_eq!(ids, [vec![1, 3, 4], vec![2], vec![5], vec![6]]);
    }

    #[test]
    fn given_transactions_that_batches_share_when_their_bids_are_counted_then_each_has_one_signature() {
        let landed =
            |number: u8, fee_lamports: u64| Landed { signature: [number; 64], rows: 1, fee_lamports, compute_units: 0 };
        let all = [landed(1, 4_700), landed(1, 400), landed(2, 5_000), landed(3, 0), landed(4, 5_007)];
        assert_eq!(priority_lamports(&all), 107, "what is not known counts as nothing");
    }
}
