//! The first sight of every page since the start, or since its book was taken up. With many pages that takes a while, so requests are answered meanwhile: a
//! channel takes nothing before its own page was read, so that closings and deposits of the meantime are known, and that page
//! is read for the request that needs it. All others follow, newest first, since it is there that channels are opened.

use crate::app::App;
use crate::holding::{Holding, Visit};
use crate::nodes::learn;
use crate::sight::seen;
use crate::watcher;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tallybook_chain::{Address, BookView, PROGRAM_ID, address};
use tallybook_ledger::{BatchRecord, PageSeen};
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Commitment, PagesRead};
use tokio::sync::Semaphore;

/// Pages of one question to the chain. So many are read before anybody is answered, which is all of most facilitators.
const PAGES_AT_ONCE: usize = 100;
/// Requests that may have a page of theirs read at one time.
const REQUESTS_AT_ONCE: usize = 16;

/// How far the first sight is.
#[derive(Debug)]
pub(crate) struct FirstSight {
    /// The pages that are still to be read, each with its book, last one first.
    left: Mutex<Vec<([u8; 32], Address)>>,
    /// How many there are, with those that are being read.
    unread: AtomicU64,
    turns: Semaphore,
}

impl Default for FirstSight {
    fn default() -> Self {
        Self { left: Mutex::default(), unread: AtomicU64::new(0), turns: Semaphore::new(REQUESTS_AT_ONCE) }
    }
}

impl FirstSight {
    /// Every page was read, as far as there was one.
    pub(crate) fn is_over(&self) -> bool {
        self.unread() == 0
    }

    /// How many pages there may be that were not read.
    pub(crate) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Acquire)
    }

    /// The pages of a book are not to be read any more. Nobody reads one of them now.
    pub(crate) fn forget(&self, book: &[u8; 32]) {
        let mut left = self.lock();
        let before = left.len();
        left.retain(|(of, _)| of != book);
        self.count_read(before.saturating_sub(left.len()));
    }

    /// These are to be read, first of all.
    fn add(&self, mut pages: Vec<([u8; 32], Address)>) {
        self.unread.fetch_add(count(pages.len()), Ordering::AcqRel);
        pages.reverse();
        self.lock().extend(pages);
    }

    fn put_back(&self, pages: Vec<([u8; 32], Address)>) {
        self.lock().extend(pages);
    }

    fn count_read(&self, pages: usize) {
        self.unread.fetch_sub(count(pages), Ordering::AcqRel);
    }

    /// The next ones, and who is busy with their books.
    fn next(&self, holding: &Arc<Holding>) -> (Vec<([u8; 32], Address)>, Vec<Visit>) {
        let mut left = self.lock();
        let from = left.len().saturating_sub(PAGES_AT_ONCE);
        let mut visits: Vec<Visit> = Vec::new();
        let mut is_held = |book: &[u8; 32]| {
            visits.iter().any(|visit| visit.book() == book)
                || holding.enter_early(book).map(|visit| visits.push(visit)).is_some()
        };
        // One whose book is about to be given away is left where it is.
        let some = left.extract_if(from.., |(book, _)| is_held(book)).collect();
        (some, visits)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<([u8; 32], Address)>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what has to be known of these books before anybody is answered for them: the pages of batches that were on their way, so
/// that nothing of them is planned a second time, and the newest pages. All others are left for [`go_on`].
pub(crate) async fn begin<C: Chain>(
    app: &App<C>,
    books: &[&BookView],
    sending: &[BatchRecord],
) -> Result<(), Rejection> {
    let needed: HashSet<[u8; 32]> = sending.iter().map(|batch| batch.page).collect();
    let all = newest_first(books);
    let (first, rest): (Vec<_>, Vec<_>) =
        (0..).zip(all).partition(|(at, (_, page))| *at < PAGES_AT_ONCE || needed.contains(&page.to_bytes()));
    let first: Vec<Address> = first.into_iter().map(|(_, (_, page))| page).collect();
    meet(app, &first).await?;
    let rest: Vec<_> = rest.into_iter().map(|(_, page)| page).collect();
    if rest.is_empty() {
        return is_over(app).await;
    }
    tracing::info!(unread = rest.len(), "serving before all pages are read");
    app.first_sight.add(rest);
    Ok(())
}

/// Reads all that are left, however often the chain does not answer. `Err` when the writer has ended.
pub(crate) async fn go_on<C: Chain>(app: &App<C>) -> Result<(), Rejection> {
    let pause = Duration::from_millis(app.config.chain.poll_milliseconds);
    while !app.first_sight.is_over() {
        let (some, visits) = app.first_sight.next(&app.holding);
        let pages: Vec<Address> = some.iter().map(|(_, page)| *page).collect();
        match meet(app, &pages).await {
            Ok(()) if some.is_empty() => tokio::time::sleep(pause).await,
            Ok(()) => {
                app.first_sight.count_read(some.len());
                if app.first_sight.is_over() {
                    is_over(app).await?;
                }
            }
            Err(Rejection::StoreUnavailable) => return Err(Rejection::StoreUnavailable),
            Err(rejection) => {
                app.chain_silent();
                tracing::warn!(%rejection, "pages could not be read for the first time: trying again");
                app.first_sight.put_back(some);
                drop(visits);
                tokio::time::sleep(pause).await;
            }
        }
    }
    Ok(())
}

/// Sees to it that the page of a channel was read since the start. [`Rejection::ChainUnavailable`] for a channel that nothing is
/// known of as long as not all pages were read: whoever asks again is told.
pub(crate) async fn of_channel<C: Chain>(app: &App<C>, channel_id: &[u8; 32]) -> Result<(), Rejection> {
    if app.first_sight.is_over() || app.sequencer.payer(channel_id).is_some() {
        return Ok(());
    }
    let place = app.sequencer.place(channel_id).await?.ok_or(Rejection::ChainUnavailable)?;
    of_page(app, &place.page).await
}

/// The same of a page that somebody names; nothing happens for one that is none of a served book's.
pub(crate) async fn of_page<C: Chain>(app: &App<C>, page: &[u8; 32]) -> Result<(), Rejection> {
    if is_met(app, page).await? {
        return Ok(());
    }
    let _turn = app.first_sight.turns.acquire().await.map_err(|_| Rejection::ChainUnavailable)?;
    // Somebody else may have had it read meanwhile.
    if is_met(app, page).await? {
        return Ok(());
    }
    app.in_time(meet(app, &[Address::from(*page)])).await
}

/// Whether the ledger has seen a page, or all of them.
async fn is_met<C: Chain>(app: &App<C>, page: &[u8; 32]) -> Result<bool, Rejection> {
    if app.first_sight.is_over() {
        return Ok(true);
    }
    app.sequencer.insist(|desk| desk.ledger.book_of(page).is_some()).await
}

/// Reads pages, and lets the ledger see what is confirmed of each together with what is final, so that nobody is refused for a
/// deposit that is final and not known as such.
async fn meet<C: Chain>(app: &App<C>, pages: &[Address]) -> Result<(), Rejection> {
    let mut read = app.settler.read_pages_at(pages, Commitment::Confirmed).await?;
    let last = app.settler.read_pages_at(pages, Commitment::Finalized).await?;
    // Whoever names a page may name another book's.
    let books = app.look().books;
    read.pages.retain(|page| books.contains_key(&page.header.book));
    app.see(|sight| {
        sight.pages.extend(read.pages.iter().map(|page| (page.address.to_bytes(), Arc::new(page.clone()))))
    });
    let found = learn(app, &read.pages).await?;
    let events = app.sequencer.meet(&all_seen(&read), &all_seen(&last)).await?;
    app.go_on_with(found);
    app.chain_answered(read.slot);
    watcher::tell(app, &events);
    Ok(())
}

/// From now on what no page shows is not there.
async fn is_over<C: Chain>(app: &App<C>) -> Result<(), Rejection> {
    let unmet = app.sequencer.insist(|desk| desk.ledger.unmet()).await?;
    if unmet > 0 {
        tracing::warn!(
            unmet,
            "stored channels that no served page shows: their book may have been taken out of `books`"
        );
    }
    Ok(())
}

/// All pages of these books: the newest of each, then the next, and so on.
fn newest_first(books: &[&BookView]) -> Vec<([u8; 32], Address)> {
    let most = books.iter().map(|book| book.state.next_page).max().unwrap_or(0);
    let rows = (1..=most).flat_map(|back| books.iter().map(move |book| (book, back)));
    rows.filter_map(|(book, back)| {
        let index = book.state.next_page.checked_sub(back)?;
        Some((book.address.to_bytes(), address::page(&PROGRAM_ID, &book.address, index).0))
    })
    .collect()
}

fn all_seen(read: &PagesRead) -> Vec<PageSeen<'_>> {
    read.pages.iter().map(|page| seen(page, read.slot)).collect()
}

fn count(pages: usize) -> u64 {
    u64::try_from(pages).unwrap_or(u64::MAX)
}
