//! What the settler writes down before it sends.

use crate::allowance::Share;
use crate::app::App;
use crate::expenses::Bill;
use tallybook_ledger::{Attempt, Change, Expense, Purpose};
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Journal};

/// The settler's notes on one batch, deposit, refund or page: durable before anything is sent.
pub(crate) struct Notebook<'a, C> {
    app: &'a App<C>,
    purpose: Purpose,
    book: [u8; 32],
    expense: Expense,
    share: Option<Share>,
}

impl<'a, C> Notebook<'a, C> {
    /// For a purpose of a book, at whose expense it is.
    pub(crate) const fn new(app: &'a App<C>, purpose: Purpose, book: [u8; 32], expense: Expense) -> Self {
        Self { app, purpose, book, expense, share: None }
    }

    /// With what was put aside for it.
    pub(crate) const fn paid_from(self, share: Option<Share>) -> Self {
        Self { share, ..self }
    }
}

impl<C: Chain> Journal for Notebook<'_, C> {
    async fn record(&self, attempt: Attempt) -> Result<(), Rejection> {
        let purpose = self.purpose;
        let written = self.app.sequencer.insist(move |desk| desk.write(Change::Sending { purpose, attempt }));
        written.await
    }

    async fn table(&self, page: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        self.app.table(page).await
    }

    async fn keep_table(&self, page: &[u8; 32], table: &[u8; 32]) -> Result<(), Rejection> {
        self.app.keep_table(page, table).await
    }

    fn billed(&self, signature: [u8; 64]) {
        self.app.bills.put(Bill { share: self.share, ..Bill::whole(signature, self.book, self.expense) });
    }

    fn billed_for_accounts(&self, signature: [u8; 64]) {
        self.app.bill_for_accounts(signature, self.book);
    }
}
