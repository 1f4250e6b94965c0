//! A book's next page: built and paid for here, looked at and signed by the book's operator, who is the resource server.

use crate::allowance::highest_rent;
use crate::app::App;
use crate::audit::Act;
use crate::watcher;
use std::sync::Arc;
use tallybook_chain::{Address, BookView, PageView};
use tallybook_ledger::{Expense, Purpose};
use tallybook_rules::Rejection;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::{GrowRequest, GrowResponse, Key, Signature, TransactionBytes};

/// The slots of a book's first page, where there is none whose size could be taken: as many as a page can have.
const FIRST_CAPACITY: u8 = 96;

/// `POST /books/{book}/pages`.
pub(crate) async fn grow<C: Chain>(app: &App<C>, book: &Key, request: &GrowRequest) -> Result<GrowResponse, Rejection> {
    app.takes_on()?;
    let address = app.book(book.as_bytes())?.address;
    let outcome = match &request.transaction {
        None => prepare(app, book, &address).await,
        Some(signed) => send(app, book, &address, signed.as_bytes()).await,
    };
    app.record(|| Act::page(book, outcome.as_ref().map(|grown| grown.signature).map_err(|rejection| *rejection)))
        .await?;
    outcome
}

/// The transaction of the next page; the newest page, and nothing to sign, while the book has place enough.
///
/// [`Rejection::PageLimit`] by `limits.pages_per_book`; [`Rejection::IdleCloseOff`] for a book whose idle channels never
/// close: the sponsor would not get its rent back.
async fn prepare<C: Chain>(app: &App<C>, book: &Key, address: &Address) -> Result<GrowResponse, Rejection> {
    watcher::look_at(app, address).await?;
    let view = app.book(book.as_bytes())?;
    let newest = newest_page(app, &view);
    let id = book.0;
    let room = app.sequencer.ask(move |desk| desk.ledger.room(&id, desk.now)).await?;
    let capacity = newest.as_ref().map_or(FIRST_CAPACITY, |page| page.header.capacity);
    if let Some(page) = newest.filter(|_| room.free_slots >= u32::from(capacity / 4).max(1)) {
        return Ok(standing(&page));
    }
    if room.pages >= app.config.limits.pages_per_book {
        return Err(Rejection::PageLimit);
    }
    if view.state.max_idle_seconds == 0 {
        return Err(Rejection::IdleCloseOff);
    }
    let prepared = app.settler.page_transaction(&view, capacity).await?;
    let page = Key(prepared.page.to_bytes());
    let answer = GrowResponse {
        page,
        index: prepared.index,
        capacity,
        transaction: Some(TransactionBytes::new(prepared.transaction.bytes.clone())?),
        signature: None,
    };
    app.keep_page(*book.as_bytes(), prepared);
    Ok(answer)
}

/// Takes the signed transaction back, co-signs and sends it, waits for it to be confirmed, and serves the page. The same
/// again is the same answer. [`Rejection::NoReservation`] for one that was not prepared since the last start: ask anew.
async fn send<C: Chain>(app: &App<C>, book: &Key, address: &Address, signed: &[u8]) -> Result<GrowResponse, Rejection> {
    let prepared = app.prepared_page(book.as_bytes()).ok_or(Rejection::NoReservation)?;
    let purpose = Purpose::Page(prepared.page.to_bytes());
    let previous = app.last_attempt(purpose).await?;
    let share = match previous {
        Some(_) => None,
        None => {
            Some(app.allowance().take(app.prepared_fee().saturating_add(highest_rent(prepared.capacity)), clock())?)
        }
    };
    let notebook = app.notebook(purpose, *book.as_bytes(), Expense::Pages).paid_from(share);
    let landed = app.settler.send_prepared(&prepared.transaction, signed, previous, &notebook).await?;
    watcher::look_at(app, address).await?;
    tracing::info!(%book, index = prepared.index, "a page was added");
    Ok(GrowResponse {
        page: Key(prepared.page.to_bytes()),
        index: prepared.index,
        capacity: prepared.capacity,
        transaction: None,
        signature: Some(Signature(landed.attempt.signature)),
    })
}

fn newest_page<C: Chain>(app: &App<C>, book: &BookView) -> Option<Arc<PageView>> {
    let pages = app.look().pages;
    pages.into_values().filter(|page| page.book() == book.address).max_by_key(|page| page.header.index)
}

fn standing(page: &PageView) -> GrowResponse {
    GrowResponse {
        page: Key(page.address.to_bytes()),
        index: page.header.index,
        capacity: page.header.capacity,
        transaction: None,
        signature: None,
    }
}
