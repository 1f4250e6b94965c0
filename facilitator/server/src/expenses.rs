//! What the sponsor pays, for which book and what for: asked of the chain once a transaction has landed, beside the work
//! that it was sent for, and durable. What a crash leaves unasked is not counted; money is never read from here.

use crate::allowance::Share;
use crate::app::App;
use crate::line::was_handed_on;
use axum::http::HeaderMap;
use std::collections::HashSet;
use std::sync::Arc;
use tallybook_chain::{BookView, PageView};
use tallybook_ledger::{Change, Expense};
use tallybook_rules::{Amount, Leg, Rejection};
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_store::Spending;
use tallybook_wire::{IncomeList, IncomeView, Key, Spent};
use tokio::sync::mpsc;

/// The most bills that wait to be asked for; beyond them a transaction goes uncounted.
const WAITING: usize = 4_096;

/// A transaction that has landed at the sponsor's expense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bill {
    pub(crate) signature: [u8; 64],
    pub(crate) book: [u8; 32],
    pub(crate) expense: Expense,
    /// What was put aside for it, if others had it sent.
    pub(crate) share: Option<Share>,
    /// How much of its cost falls on this book.
    pub(crate) fraction: Fraction,
}

/// A part of a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fraction {
    pub(crate) part: u64,
    pub(crate) whole: u64,
}

impl Bill {
    /// Of a transaction that was for one book alone.
    pub(crate) const fn whole(signature: [u8; 64], book: [u8; 32], expense: Expense) -> Self {
        Self { signature, book, expense, share: None, fraction: Fraction { part: 1, whole: 1 } }
    }
}

impl Fraction {
    /// This part of an amount of lamports, rounded down.
    fn of(self, lamports: u64) -> u64 {
        let part = u128::from(lamports).saturating_mul(self.part.into()).checked_div(self.whole.into());
        part.and_then(|part| u64::try_from(part).ok()).unwrap_or(lamports)
    }
}

/// Where bills are put down.
#[derive(Clone, Debug)]
pub(crate) struct Bills(mpsc::Sender<Bill>);

impl Bills {
    /// A pile of bills, and the end that [`keep`] works on.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Bill>) {
        let (sender, waiting) = mpsc::channel(WAITING);
        (Self(sender), waiting)
    }

    /// Puts one down. The same transaction twice is counted once.
    pub(crate) fn put(&self, bill: Bill) {
        if self.0.try_send(bill).is_err() {
            tracing::warn!(?bill.expense, "too much to count: what a transaction cost is left out of the income");
        }
    }
}

/// Asks what each transaction cost, and writes it down, until it is told to stop.
pub(crate) async fn keep<C: Chain>(app: Arc<App<C>>, mut waiting: mpsc::Receiver<Bill>) {
    while let Some(Bill { signature, book, expense, share, fraction }) = waiting.recv().await {
        let Some(spent) = app.settler.spent(&signature).await else { continue };
        let (lamports, at) = (fraction.of(spent.lamports), clock());
        if expense != Expense::Claims {
            app.allowance().spent(share, lamports, at);
        }
        let change = Change::Spent { signature, book, expense, lamports, at };
        if let Err(Rejection::StoreUnavailable) = app.sequencer.insist(move |desk| desk.write(change)).await {
            return;
        }
    }
}

/// `GET /income`: of all books, those that are held elsewhere by the word of who holds them.
pub(crate) async fn income<C: Chain>(app: &App<C>, headers: &HeaderMap) -> Result<IncomeList, Rejection> {
    let mut list = income_here(app).await?;
    let Some(line) = app.line.as_ref().filter(|_| !was_handed_on(headers)) else { return Ok(list) };
    let (answers, are_all) = line.ask_others("/income", headers).await;
    for answer in answers {
        let whole = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
        let theirs: IncomeList = read_answer(&whole.map_err(|_| Rejection::StoreUnavailable)?)?;
        let known: HashSet<Key> = list.books.iter().map(|of| of.book).collect();
        list.books.extend(theirs.books.into_iter().filter(|of| !known.contains(&of.book)));
    }
    // Said of all, or of none.
    let is_whole = are_all && app.config.books.iter().all(|book| list.books.iter().any(|of| of.book == *book));
    list.books.sort_by_key(|of| app.config.books.iter().position(|book| *book == of.book));
    if is_whole { Ok(list) } else { Err(Rejection::StoreUnavailable) }
}

fn read_answer(answer: &[u8]) -> Result<IncomeList, Rejection> {
    serde_json::from_slice(answer).map_err(|_| Rejection::StoreUnavailable)
}

/// The same of the books that are held here.
async fn income_here<C: Chain>(app: &App<C>) -> Result<IncomeList, Rejection> {
    let books: Vec<[u8; 32]> = app.config.books.iter().map(|book| book.0).collect();
    let asked = app.sequencer.ask(move |desk| {
        let spent = books.iter().map(|book| desk.ask_store(|store| store.spent(book)));
        spent.collect::<Result<Vec<Spending>, Rejection>>()
    });
    let (spent, sight) = (asked.await??, app.look());
    let books = app.config.books.iter().zip(spent).filter_map(|(book, spent)| {
        let view = sight.books.get(book.as_bytes())?;
        let pages = sight.pages.values().filter(|page| page.book() == view.address);
        Some(income_of(view, pages.map(AsRef::as_ref), app.config.income, spent))
    });
    Ok(IncomeList { books: books.collect() })
}

/// What one book brings: the leg of `to`, in the pages that stand now.
fn income_of<'a>(
    book: &BookView,
    pages: impl Iterator<Item = &'a PageView>,
    to: Option<Key>,
    spent: Spending,
) -> IncomeView {
    let mut legs = book.state.legs().iter().enumerate();
    let own: Option<(usize, &Leg)> = legs.find(|(_, leg)| to.is_some_and(|to| leg.recipient == to.0));
    let (mut claimed, mut earned, mut paid) = (Amount::ZERO, Amount::ZERO, Amount::ZERO);
    // Sums over pages of less than 2^64 base units each: a book cannot hold more tokens than there are.
    let add = |sum: Amount, more: Amount| sum.plus(more).unwrap_or(sum);
    for header in pages.map(|page| &page.header) {
        claimed = add(claimed, header.claimed_total);
        if let Some((at, leg)) = own {
            earned = add(earned, header.claimed_total.share(leg.basis_points).unwrap_or_default());
            paid = add(paid, header.paid.get(at).copied().unwrap_or_default());
        }
    }
    IncomeView {
        book: Key(book.address.to_bytes()),
        payee: Key(book.state.payee),
        mint: Key(book.state.mint),
        decimals: book.state.decimals,
        basis_points: own.map_or(0, |(_, leg)| leg.basis_points),
        claimed,
        earned,
        paid,
        spent: Spent { claims: spent.claims, deposits: spent.deposits, refunds: spent.refunds, pages: spent.pages },
    }
}
