//! What the page shows, made once for all who look: from one look at the money, the chain as it was read, what the process has
//! counted, and the newest batches of the store.

use super::trend::Point;
use crate::money::{Closing, Glance, PageGlance};
use crate::sight::Sight;
use std::collections::BTreeMap;
use tallybook_chain::BookView;
use tallybook_ledger::PageMoney;
use tallybook_rules::Amount;
use tallybook_wire::{AdministrationView, BatchView, Key};

/// The most books whose recipients are shown; beyond them those with most that is owed.
const BOOKS: usize = 50;

/// Everything that is shown live.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Snapshot {
    /// When the ledger was looked at, in Unix seconds: the age of every figure that has no other.
    pub(super) at: i64,
    /// How the facilitator is.
    pub(super) state: State,
    /// Where the money of each token is.
    pub(super) tokens: Vec<TokenMoney>,
    /// Whom each book owes.
    pub(super) books: Vec<BookDebts>,
    /// How many books there are in all.
    pub(super) books_in_all: usize,
    /// The channels that close, those with the least time left first.
    pub(super) closings: Vec<Closing>,
    /// How many there are in all.
    pub(super) closing: u64,
    /// The newest batches.
    pub(super) batches: Vec<BatchView>,
    /// Who pays the network's fees, and what they hold in lamports, the sponsor first; none if the chain did not say.
    pub(super) wallets: Vec<(Key, u64)>,
    /// Payments that were refused since the start, by reason, the most frequent first.
    pub(super) rejections: Vec<(String, u64)>,
    /// The last minutes.
    pub(super) trend: Vec<Point>,
    /// Every page, for who asks for them.
    pub(super) pages: Vec<PageGlance>,
    /// Decimals of each book's mint.
    pub(super) decimals: BTreeMap<Key, u8>,
}

/// How the facilitator is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct State {
    pub(super) administration: Administration,
    pub(super) draining: bool,
    /// The newest slot of the chain that was seen, when, in Unix seconds, and whether the last look succeeded.
    pub(super) chain_slot: u64,
    pub(super) chain_at: i64,
    pub(super) chain_answers: bool,
    /// Pages that were not read since the start.
    pub(super) unread: u64,
    pub(super) batches_under_way: usize,
}

/// What administrators have decided, and what others made the sponsor pay within a day, in lamports.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Administration {
    pub(super) paused: bool,
    pub(super) sponsored: u64,
    pub(super) sponsored_at_most: u64,
}

impl From<AdministrationView> for Administration {
    fn from(view: AdministrationView) -> Self {
        Self {
            paused: view.paused,
            sponsored: view.sponsored_lamports,
            sponsored_at_most: view.sponsored_lamports_per_day,
        }
    }
}

/// Where the money of one token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TokenMoney {
    pub(super) mint: Key,
    pub(super) decimals: u8,
    pub(super) channels: PageMoney,
    pub(super) owed: Amount,
}

/// What one book owes its recipients, as its pages were read last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BookDebts {
    pub(super) book: Key,
    pub(super) decimals: u8,
    pub(super) legs: Vec<LegMoney>,
}

/// One recipient's part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LegMoney {
    pub(super) recipient: Key,
    pub(super) basis_points: u16,
    pub(super) paid: Amount,
    pub(super) owed: Amount,
}

impl Snapshot {
    /// From one look at the money, and the books and pages as they were read last.
    pub(super) fn of(glance: Glance, sight: &Sight) -> Self {
        let decimals: BTreeMap<Key, u8> =
            sight.books.iter().map(|(book, view)| (Key(*book), view.state.decimals)).collect();
        let of_mint = |mint: &Key| {
            let book = sight.books.values().find(|book| book.state.mint == mint.0);
            book.map_or(0, |book| book.state.decimals)
        };
        let tokens = glance.mints.iter().map(|(mint, money)| TokenMoney {
            mint: *mint,
            decimals: of_mint(mint),
            channels: money.channels,
            owed: money.owed,
        });
        let tokens = tokens.collect();
        let closing = glance.pages.iter().map(|page| u64::from(page.channels.closing)).fold(0, u64::saturating_add);
        let mut books = debts(sight);
        let books_in_all = books.len();
        books.truncate(BOOKS);
        Self {
            at: glance.at,
            tokens,
            books,
            books_in_all,
            closings: glance.closings,
            closing,
            wallets: glance.sponsors,
            pages: glance.pages,
            decimals,
            ..Self::default()
        }
    }
}

/// What each book owes, those that owe most first.
fn debts(sight: &Sight) -> Vec<BookDebts> {
    let mut pages: BTreeMap<[u8; 32], Vec<&tallybook_rules::PageHeader>> = BTreeMap::new();
    for page in sight.pages.values() {
        pages.entry(page.header.book).or_default().push(&page.header);
    }
    let none = Vec::new();
    let mut books: Vec<BookDebts> =
        sight.books.iter().map(|(book, view)| of_book(view, pages.get(book).unwrap_or(&none))).collect();
    books.sort_by_key(|book| std::cmp::Reverse(book.legs.iter().map(|leg| leg.owed).max()));
    books
}

fn of_book(book: &BookView, pages: &[&tallybook_rules::PageHeader]) -> BookDebts {
    // Sums over pages of less than 2^64 base units each: a book cannot hold more tokens than there are.
    let add = |sum: Amount, more: Amount| sum.plus(more).unwrap_or(sum);
    let legs = book.state.legs().iter().enumerate().map(|(at, leg)| LegMoney {
        recipient: Key(leg.recipient),
        basis_points: leg.basis_points,
        paid: pages.iter().filter_map(|page| page.paid.get(at).copied()).fold(Amount::ZERO, add),
        owed: pages.iter().filter_map(|page| page.owed(at, leg).ok()).fold(Amount::ZERO, add),
    });
    BookDebts { book: Key(book.address.to_bytes()), decimals: book.state.decimals, legs: legs.collect() }
}
