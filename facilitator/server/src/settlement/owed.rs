//! What is owed to payees although nothing is claimed for them now.

use crate::app::App;
use crate::expenses::Bill;
use crate::metrics;
use crate::money::owed;
use crate::settlement::ending::write_costs;
use crate::sight::Sight;
use std::collections::BTreeMap;
use std::sync::Arc;
use tallybook_chain::{Address, BookView};
use tallybook_ledger::{Attempt, Expense, Landed};
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Journal};

/// Pages that owe their payees something although nothing is claimed in them now: after a refund, which claims without
/// paying out, or when a payee's account could not be paid before.
#[derive(Default)]
pub(super) struct Owed {
    since: BTreeMap<[u8; 32], i64>,
}

impl Owed {
    /// The pages whose debts are due by the same measures as claims are.
    pub(super) fn due<C: Chain>(&mut self, app: &App<C>, sight: &Sight) -> Vec<(Arc<BookView>, Address)> {
        let (policy, now) = (app.config.policy(), tallybook_sequencer::clock());
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

pub(super) async fn pay_out<C: Chain>(app: Arc<App<C>>, book: Arc<BookView>, page: Address) {
    if let Err(rejection) = pay_out_now(&app, &book, page).await {
        tracing::warn!(%page, %rejection, "nothing was paid out: it stays owed");
    }
}

/// Pays out what a page owes, in its turn. [`Rejection::SettlementPending`] while it is not known what became of it; it does no
/// harm to try again.
pub(crate) async fn pay_out_now<C: Chain>(
    app: &App<C>,
    book: &BookView,
    page: Address,
) -> Result<Vec<Landed>, Rejection> {
    let _turn = app.page_turn(&page.to_bytes()).await;
    let book_address = book.address.to_bytes();
    let outcome = app.settler.pay_out(book, &page, &PayoutNotes { app, book: book_address }).await?;
    metrics::settled(&outcome.landed);
    if let Err(rejection) = write_costs(app, book_address, &outcome.landed).await {
        tracing::warn!(%page, %rejection, "what a payout cost was not written");
    }
    tracing::info!(%page, transactions = outcome.landed.len(), "paid out what was owed");
    if outcome.unknown { Err(Rejection::SettlementPending) } else { Ok(outcome.landed) }
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
        self.app.table(page).await
    }

    async fn keep_table(&self, page: &[u8; 32], table: &[u8; 32]) -> Result<(), Rejection> {
        self.app.keep_table(page, table).await
    }

    fn billed(&self, signature: [u8; 64]) {
        self.app.bills.put(Bill::whole(signature, self.book, Expense::Claims));
    }

    fn billed_for_accounts(&self, signature: [u8; 64]) {
        self.app.bill_for_accounts(signature, self.book);
    }
}
