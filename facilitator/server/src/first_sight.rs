//! The first sight of every page since the start. With many pages that takes a while, so requests are answered meanwhile: a
//! channel takes nothing before its own page was read, so that closings and deposits of the meantime are known, and that page
//! is read for the request that needs it. All others follow, newest first, since it is there that channels are opened.

use crate::app::{App, seen};
use crate::watcher;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    is_over: AtomicBool,
    unread: AtomicU64,
    turns: Semaphore,
}

impl Default for FirstSight {
    fn default() -> Self {
        Self { is_over: AtomicBool::new(false), unread: AtomicU64::new(0), turns: Semaphore::new(REQUESTS_AT_ONCE) }
    }
}

impl FirstSight {
    /// Every page was read, as far as there was one.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// How many pages there may be that were not read.
    pub(crate) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }
}

/// The pages that are still to be read, last one first.
pub(crate) struct Unread(Vec<Address>);

/// Reads what has to be known before anybody is answered: the pages of batches that were on their way, so that nothing of
/// them is planned a second time, and the newest pages. Gives those that are left.
pub(crate) async fn begin<C: Chain>(app: &App<C>, sending: &[BatchRecord]) -> Result<Unread, Rejection> {
    let books = app.look().books;
    let books: Vec<&BookView> = books.values().map(AsRef::as_ref).collect();
    let needed: HashSet<[u8; 32]> = sending.iter().map(|batch| batch.page).collect();
    let all = newest_first(&books);
    let (first, rest): (Vec<_>, Vec<_>) =
        (0..).zip(all).partition(|(at, page)| *at < PAGES_AT_ONCE || needed.contains(&page.to_bytes()));
    let pages = |of: Vec<(usize, Address)>| of.into_iter().map(|(_, page)| page).collect::<Vec<_>>();
    let (first, mut rest) = (pages(first), pages(rest));
    meet(app, &first).await?;
    rest.reverse();
    let unread = Unread(rest);
    app.first_sight.unread.store(count(&unread.0), Ordering::Relaxed);
    if unread.0.is_empty() {
        is_over(app).await?;
    } else {
        tracing::info!(unread = unread.0.len(), "serving before all pages are read");
    }
    Ok(unread)
}

/// Reads all that are left, however often the chain does not answer. `Err` when the writer has ended.
pub(crate) async fn go_on<C: Chain>(app: &App<C>, Unread(mut left): Unread) -> Result<(), Rejection> {
    while !left.is_empty() {
        let some = left.split_off(left.len().saturating_sub(PAGES_AT_ONCE));
        match meet(app, &some).await {
            Ok(()) => app.first_sight.unread.store(count(&left), Ordering::Relaxed),
            Err(Rejection::StoreUnavailable) => return Err(Rejection::StoreUnavailable),
            Err(rejection) => {
                app.chain_silent();
                tracing::warn!(%rejection, "pages could not be read for the first time: trying again");
                left.extend(some);
                tokio::time::sleep(Duration::from_millis(app.config.chain.poll_milliseconds)).await;
            }
        }
    }
    if !app.first_sight.is_over() {
        is_over(app).await?;
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
    let events = app.sequencer.meet(&all_seen(&read), &all_seen(&last)).await?;
    app.chain_answered(read.slot);
    watcher::tell(app, &events);
    Ok(())
}

/// From now on what no page shows is not there.
async fn is_over<C: Chain>(app: &App<C>) -> Result<(), Rejection> {
    app.first_sight.is_over.store(true, Ordering::Release);
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
fn newest_first(books: &[&BookView]) -> Vec<Address> {
    let most = books.iter().map(|book| book.state.next_page).max().unwrap_or(0);
    let rows = (1..=most).flat_map(|back| books.iter().map(move |book| (book, back)));
    rows.filter_map(|(book, back)| {
        let index = book.state.next_page.checked_sub(back)?;
        Some(address::page(&PROGRAM_ID, &book.address, index).0)
    })
    .collect()
}

fn all_seen(read: &PagesRead) -> Vec<PageSeen<'_>> {
    read.pages.iter().map(|page| seen(page, read.slot)).collect()
}

fn count(pages: &[Address]) -> u64 {
    u64::try_from(pages.len()).unwrap_or(u64::MAX)
}
