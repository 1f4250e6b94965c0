//! What vouchers in hand are worth, as the chain shows it.

use crate::vouchers::{Newest, VoucherLine};
use anyhow::{Context, Result, bail, ensure};
use solana_address::Address;
use std::collections::{BTreeMap, BTreeSet};
use tallybook_chain::shape::Shape;
use tallybook_chain::{BookView, PageView};
use tallybook_ledger::{Batch, Bundle, ClaimRow, Policy, pack};
use tallybook_rules::half_aggregation::MAX_ROWS;
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection, Slot, Status};
use tallybook_settler::{Commitment, Settler, rows};
use tallybook_wire::Key;

/// Vouchers held against the chain.
pub(crate) struct Survey {
    /// Pages with something to do, by address.
    pub(crate) pages: Vec<PageWork>,
    /// Vouchers whose channel stands in none of the pages.
    pub(crate) elsewhere: Vec<VoucherLine>,
}

/// What is to be claimed of one page.
pub(crate) struct PageWork {
    pub(crate) book: BookView,
    pub(crate) page: PageView,
    /// Every channel of the page that there is a voucher of.
    pub(crate) claims: Vec<Claim>,
}

/// A voucher held against its channel.
pub(crate) struct Claim {
    pub(crate) line: VoucherLine,
    pub(crate) slot: u8,
    pub(crate) on_chain: Slot,
    /// The row that claims it, or why it cannot be.
    pub(crate) row: Result<ClaimRow, Rejection>,
}

impl Claim {
    /// Takes the newest genuine voucher: a forged one must not hide what the others are worth.
    fn of(newest: &Newest, line: &VoucherLine, slot: u8, on_chain: &Slot) -> Self {
        let genuine = newest.candidates(&line.voucher.channel_id).find_map(|line| {
            let voucher = SignedVoucher::from(line.voucher).verify(&on_chain.signer).ok()?;
            Some((line, voucher))
        });
        let Some((line, voucher)) = genuine else {
            return Self { line: *line, slot, on_chain: *on_chain, row: Err(Rejection::BadSignature) };
        };
        let row = ClaimRow { slot, voucher, amount: line.due(), settled: on_chain.settled, deposit: on_chain.deposit };
        Self { line, slot, on_chain: *on_chain, row: Ok(row) }
    }

    /// What will be settled once it is claimed.
    pub(crate) fn target(&self) -> Amount {
        self.line.due().min(self.on_chain.deposit)
    }

    fn adds(&self) -> bool {
        self.row.is_ok() && self.target() > self.on_chain.settled
    }
}

impl PageWork {
    /// The rows that add something: those of closing channels, and the others.
    fn rows(&self) -> (Vec<ClaimRow>, Vec<ClaimRow>) {
        let adding = self.claims.iter().filter(|claim| claim.adds());
        let (closing, open): (Vec<&Claim>, Vec<&Claim>) =
            adding.partition(|claim| claim.on_chain.status() == Ok(Status::Closing));
        let rows = |claims: Vec<&Claim>| claims.into_iter().filter_map(|claim| claim.row.ok()).collect();
        (rows(closing), rows(open))
    }

    /// The page as it is now.
    pub(crate) async fn look_again(&self, settler: &Settler) -> Result<PageView> {
        Ok(settler.read_page(&self.page.address, 0, Commitment::Confirmed).await.context("reading the page again")?.1)
    }

    /// Transactions that it may take, the payout's own included.
    fn transactions(&self) -> u64 {
        let (closing, open) = self.rows();
        // Those that close are claimed alone. Without a lookup table, and with many legs, a transaction holds some fewer.
        let together = open.len().div_ceil(rows(Shape::V0, false) / 2);
        u64::try_from(closing.len().saturating_add(together).saturating_add(1)).unwrap_or(u64::MAX)
    }
}

impl Survey {
    /// Finds the channel of each voucher in the pages of the books that are named, by `books` or by the vouchers.
    pub(crate) async fn of(settler: &Settler, newest: &Newest, books: &[Address]) -> Result<Self> {
        let books = books_of(settler, newest, books).await?;
        let views = settler.read_books(&books, Commitment::Confirmed).await;
        let views = match views {
            Err(Rejection::UnknownBook) => bail!("one of the books is not on this chain: is --rpc the right cluster?"),
            views => views.context("reading the books")?.books,
        };
        let pages = settler.read_pages(&views.iter().collect::<Vec<_>>(), Commitment::Confirmed).await;
        let mut survey = Self { pages: Vec::new(), elsewhere: Vec::new() };
        let mut found = BTreeSet::new();
        for page in pages.context("reading the pages")?.pages {
            let book = views.iter().find(|book| book.address == page.book()).context("a page of another book")?;
            let claims: Vec<Claim> = claims_in(&page, newest).collect();
            found.extend(claims.iter().map(|claim| claim.line.voucher.channel_id));
            if !claims.is_empty() {
                survey.pages.push(PageWork { book: *book, page, claims });
            }
        }
        let missing = newest.lines.iter().filter(|(id, _)| !found.contains(*id));
        survey.elsewhere.extend(missing.map(|(_, line)| *line));
        Ok(survey)
    }

    /// What is to be claimed, in as few transactions as the chain allows now: closing channels alone and first, then pages of
    /// one book beside each other.
    pub(crate) async fn bundles(&self, settler: &Settler) -> Vec<Bundle> {
        let books = || self.pages.iter().map(|page| &page.book.state);
        let legs = books().map(|book| book.leg_count).max().unwrap_or(1);
        let mints: BTreeSet<_> = books().map(|book| (book.mint, book.token_program)).collect();
        let widest = Policy { rows_per_batch: MAX_ROWS, rows_per_batch_below: MAX_ROWS, ..Policy::default() };
        let policy = settler.fitted(widest, legs, mints.len() <= 1).await;
        let (mut bundles, mut open) = (Vec::new(), Vec::new());
        for page in &self.pages {
            let (closing, rows) = page.rows();
            let (book, page) = (page.book.address.to_bytes(), page.page.address.to_bytes());
            bundles.extend(closing.into_iter().filter_map(|row| Some(Bundle::of(Batch::new(page, vec![row]).ok()?))));
            open.push((book, page, rows));
        }
        open.sort_by_key(|(book, page, _)| (*book, *page));
        bundles.extend(pack(open, &policy));
        bundles
    }

    /// Each batch of a bundle with its book.
    pub(crate) fn with_books<'a>(&'a self, bundle: &'a Bundle) -> Vec<(&'a BookView, &'a Batch)> {
        let of = |batch: &Batch| self.pages.iter().find(|page| page.page.address.as_array() == batch.page());
        bundle.batches().iter().filter_map(|batch| Some((&of(batch)?.book, batch))).collect()
    }

    /// Transactions that it may take.
    pub(crate) fn transactions(&self) -> u64 {
        self.pages.iter().map(PageWork::transactions).fold(0, u64::saturating_add)
    }
}

/// The claims of every channel in `page` that there is a voucher of.
fn claims_in<'a>(page: &'a PageView, newest: &'a Newest) -> impl Iterator<Item = Claim> + 'a {
    (0u8..).zip(&page.slots).filter_map(|(at, slot)| {
        let line = newest.lines.get(&Key(page.channel_id(at)?))?;
        Some(Claim::of(newest, line, at, slot))
    })
}

/// All books that are named: on the command line, in a line, or by a page that a line names.
async fn books_of(settler: &Settler, newest: &Newest, named: &[Address]) -> Result<Vec<Address>> {
    let mut books: BTreeSet<Address> = named.iter().copied().collect();
    let mut by_page: BTreeMap<Key, Option<Address>> = BTreeMap::new();
    let mut homeless = 0usize;
    for line in newest.lines.values() {
        match (line.book, line.page) {
            (Some(book), _) => drop(books.insert(Address::from(book.0))),
            (None, Some(page)) => drop(by_page.insert(page, None)),
            (None, None) => homeless = homeless.saturating_add(1),
        }
    }
    for (page, book) in &mut by_page {
        match settler.read_page(&Address::from(page.0), 0, Commitment::Confirmed).await {
            Ok((_, page)) => *book = Some(page.book()),
            // A page is closed when all its channels are over.
            Err(Rejection::UnknownPage) => {}
            Err(rejection) => return Err(rejection).with_context(|| format!("reading the page {page}")),
        }
    }
    books.extend(by_page.values().flatten());
    ensure!(
        homeless == 0 || !books.is_empty(),
        "{homeless} of the vouchers do not say which book they are for: name it with --book"
    );
    Ok(books.into_iter().collect())
}
