//! How a book comes to a node, and how it leaves it.

use crate::app::{App, Found};
use crate::first_sight;
use crate::holding::{Door, PAYMENTS};
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::{Address, PROGRAM_ID, PageView, address};
use tallybook_ledger::BatchRecord;
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Commitment};
use tallybook_store::Stored;
use tallybook_wire::Key;
use tokio::time::Instant;

/// Pages whose rows are read at one time: commits go on between.
const PAGES_AT_ONCE: usize = 32;
/// Pages of one look at the desk.
const PAGES_OF_A_LOOK: usize = 16;
/// How often it is looked whether calls under way have ended.
const TICK: Duration = Duration::from_millis(20);

/// Takes a book up, unless another has it: everything that was written of it, and its pages as the chain shows them.
pub(super) async fn take_up<C: Chain>(app: &Arc<App<C>>, book: [u8; 32]) -> Result<(), Rejection> {
    let held = app.sequencer.ask_beside(move |store| store.common().map_or(Ok(false), |common| common.hold(&book)));
    if !held.await? {
        return Ok(());
    }
    app.holding.turn(&book, Door::Coming);
    if let Err(rejection) = read_up(app, book).await {
        tracing::warn!(book = %Key(book), %rejection, "a book could not be taken up: trying again, here or elsewhere");
        app.holding.turn(&book, Door::Closed);
        forget(app, book).await?;
        return Err(rejection);
    }
    app.holding.turn(&book, Door::Open);
    app.wake.notify_one();
    tracing::info!(book = %Key(book), "a book was taken up");
    Ok(())
}

async fn read_up<C: Chain>(app: &App<C>, book: [u8; 32]) -> Result<(), Rejection> {
    if book == PAYMENTS {
        let payments = app.sequencer.ask_beside(|store| store.payments()).await?;
        return app.sequencer.insist(move |desk| desk.take_up_payments(payments)).await;
    }
    let read = app.settler.read_books(&[Address::from(book)], Commitment::Confirmed).await?.books;
    let view = Arc::new(read.into_iter().next().ok_or(Rejection::UnknownBook)?);
    let pages: Vec<[u8; 32]> =
        (0..view.state.next_page).map(|index| address::page(&PROGRAM_ID, &view.address, index).0.to_bytes()).collect();
    let mut sending = Vec::new();
    for some in pages.chunks(PAGES_AT_ONCE) {
        sending.extend(load(app, book, some.to_vec()).await?);
    }
    app.see(|sight| drop(sight.books.insert(book, Arc::clone(&view))));
    first_sight::begin(app, &[&view], &sending).await?;
    app.go_on_with(sending.into_iter().map(|record| (book, record)).collect());
    Ok(())
}

/// Reads what is stored of pages, and has the desk take it up. Gives the batches that were on their way.
async fn load<C: Chain>(app: &App<C>, book: [u8; 32], pages: Vec<[u8; 32]>) -> Result<Vec<BatchRecord>, Rejection> {
    let asked = pages.clone();
    let stored = app.sequencer.ask_beside(move |store| {
        let mut channels = Vec::new();
        let stored = store.load_pages(&asked, &mut |record| channels.push(record))?;
        Ok(Stored { channels, ..stored })
    });
    let stored = stored.await?;
    app.sequencer.insist(move |desk| desk.take_up(book, &pages, stored)).await
}

/// Takes up those of these pages that are new in their book, such as one that was added just now, before anything of them is
/// taken in. Whoever looks at them is let in to their book. Gives the batches that were on their way: see [`App::go_on_with`].
pub(crate) async fn learn<C: Chain>(app: &App<C>, pages: &[PageView]) -> Result<Vec<Found>, Rejection> {
    if app.line.is_none() {
        return Ok(Vec::new());
    }
    let new = app.sequencer.not_taken_up(pages.iter().map(|page| page.address.to_bytes())).await?;
    let mut found = Vec::new();
    for page in pages.iter().filter(|page| new.contains(&page.address.to_bytes())) {
        let book = page.header.book;
        if app.holding.accompany(&book).is_some() {
            let sending = load(app, book, vec![page.address.to_bytes()]).await?;
            found.extend(sending.into_iter().map(|record| (book, record)));
        }
    }
    Ok(found)
}

/// Gives a book away: begins nothing more for it, waits until what was begun has ended, and lets others take it once everything
/// of it is durable. False when somebody was busy with it for longer than `patience`: then it goes on here. A call that has only
/// a reservation by then loses it, as it would when this node ended.
pub(super) async fn give_away<C: Chain>(app: &App<C>, book: [u8; 32], patience: Duration) -> Result<bool, Rejection> {
    app.holding.turn(&book, Door::Leaving);
    let begun = Instant::now();
    loop {
        let is_late = begun.elapsed() >= patience;
        if (is_late || calls_under_way(app, &book).await? == 0) && app.holding.close(&book) {
            break;
        }
        if is_late {
            app.holding.turn(&book, Door::Open);
            tracing::info!(book = %Key(book), "a book is busy: it is given away later");
            return Ok(false);
        }
        app.holding.wait(TICK, |_| false).await;
    }
    forget(app, book).await?;
    tracing::info!(book = %Key(book), "a book was given away");
    Ok(true)
}

async fn calls_under_way<C: Chain>(app: &App<C>, book: &[u8; 32]) -> Result<u32, Rejection> {
    let of = *book;
    let pages = app.sequencer.insist(move |desk| desk.ledger.pages_of(&of)).await?;
    let mut under_way = 0u32;
    for some in pages.chunks(PAGES_OF_A_LOOK) {
        let some = some.to_vec();
        let reserved = app.sequencer.insist(move |desk| {
            let of_page = |page: &[u8; 32]| desk.ledger.money_of(page, desk.now).map_or(0, |money| money.reserved);
            some.iter().map(of_page).fold(0u32, u32::saturating_add)
        });
        under_way = under_way.saturating_add(reserved.await?);
    }
    Ok(under_way)
}

/// Forgets a book that nobody is busy with and nobody is let in to, and lets others take it.
async fn forget<C: Chain>(app: &App<C>, book: [u8; 32]) -> Result<(), Rejection> {
    app.first_sight.forget(&book);
    let pages = app.sequencer.insist(move |desk| desk.taken_up_of(&book)).await?;
    for some in pages.chunks(PAGES_OF_A_LOOK) {
        let some = some.to_vec();
        app.sequencer.insist(move |desk| desk.give_away(&some)).await?;
    }
    if book == PAYMENTS {
        app.sequencer.insist(|desk| desk.take_up_payments(Vec::new())).await?;
    }
    app.see(|sight| {
        sight.books.remove(&book);
        sight.pages.retain(|_, page| page.header.book != book);
    });
    // Whoever takes it up reads what is durable: all that was decided here has to be, before it can.
    app.sequencer.insist(|_| ()).await?;
    app.sequencer.ask_beside(move |store| store.common().map_or(Ok(()), |common| common.let_go(&book))).await?;
    app.holding.turn(&book, Door::Away);
    Ok(())
}
