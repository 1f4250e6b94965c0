//! What an administrator may do at any time: stop what is new, have everything claimed, and what a page owes paid out. By the
//! routes under `/admin`, and by the operator's page.

use crate::app::App;
use crate::audit::Act;
use crate::holding::To;
use crate::money::owed;
use crate::problem::{FULL, Problem};
use crate::settlement::pay_out_now;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tallybook_chain::{Address, BookView};
use tallybook_rules::{Amount, Rejection};
use tallybook_sequencer::clock;
use tallybook_settler::{Chain, Commitment};
use tallybook_wire::{AdministrationView, Asked, Key, PaidOut, Signature};

/// `GET /admin`.
pub(crate) fn view<C: Chain>(app: &App<C>) -> AdministrationView {
    AdministrationView {
        paused: app.paused.load(Ordering::Relaxed),
        sponsored_lamports: app.allowance().used(clock()),
        sponsored_lamports_per_day: app.config.limits.sponsored_lamports_per_day,
    }
}

/// `POST /admin/pause` and `/admin/resume`. A pause ends with the process. `by` is who acts, where a name is known.
pub(crate) async fn pause<C: Chain>(
    app: &App<C>,
    paused: bool,
    by: Option<&str>,
) -> Result<AdministrationView, Rejection> {
    app.paused.store(paused, Ordering::Relaxed);
    tracing::warn!(paused, "an administrator decided whether anything new is taken on");
    app.record(|| Act::administered(if paused { Asked::Pause } else { Asked::Resume }, by)).await?;
    let view = view(app);
    app.operator.administered(view);
    Ok(view)
}

/// `POST /admin/settle`: all that is charged is claimed now, whatever `settlement` says.
pub(crate) async fn settle_now<C: Chain>(app: &App<C>, by: Option<&str>) -> Result<AdministrationView, Rejection> {
    app.settle_now.store(true, Ordering::Relaxed);
    app.wake.notify_one();
    tracing::info!("an administrator has everything claimed");
    app.record(|| Act::administered(Asked::SettleNow, by)).await?;
    Ok(view(app))
}

/// `POST /admin/pages/{page}/pay-out`: what was claimed in a page and is owed to its recipients is paid out now. Goes on to its
/// end, and is recorded, whether or not anybody waits for the answer. Meanwhile its book is not given away.
///
/// [`Rejection::UnknownPage`], [`Rejection::ChainUnavailable`]; [`Rejection::SettlementPending`] while it is not known what
/// became of it: asking again does no harm. [`Problem::Elsewhere`] for a page of a book that another facilitator holds.
pub(crate) async fn pay_out<C: Chain>(app: &Arc<App<C>>, page: Key, by: Option<&str>) -> Result<PaidOut, Problem> {
    let of = book_of(app, &page).await?;
    let visit = app.enter(&of, To::Begin)?;
    let book = app.book(&of).map_err(|_| Rejection::UnknownPage)?;
    let _place = app.places.on_chain().ok_or(FULL)?;
    let (at_work, by) = (Arc::clone(app), by.map(str::to_owned));
    let paid = tokio::spawn(async move {
        let _visit = visit;
        pay_out_recorded(&at_work, &book, page, by.as_deref()).await
    });
    let waited = app.in_time(async { Ok(paid.await.unwrap_or(Err(Rejection::SettlementPending))) }).await;
    // Cut off while it was at work, it is not known what becomes of it.
    Ok(waited.unwrap_or(Err(Rejection::SettlementPending))?)
}

/// The book of a page: as it was seen here, or where others may have seen it, as the chain shows it.
async fn book_of<C: Chain>(app: &App<C>, page: &Key) -> Result<[u8; 32], Rejection> {
    match app.page(page.as_bytes()) {
        Ok(seen) => Ok(seen.header.book),
        Err(_) if app.line.is_some() => {
            let read = app.settler.read_page(&Address::from(page.0), 0, Commitment::Confirmed).await;
            let away = Rejection::ChainUnavailable;
            read.map(|(_, view)| view.header.book)
                .map_err(|rejection| if rejection == away { away } else { Rejection::UnknownPage })
        }
        Err(rejection) => Err(rejection),
    }
}

async fn pay_out_recorded<C: Chain>(
    app: &App<C>,
    book: &BookView,
    page: Key,
    by: Option<&str>,
) -> Result<PaidOut, Rejection> {
    let address = Address::from(page.0);
    let before = owed_now(app, book, &address).await?;
    let landed = if before.is_zero() { Ok(Vec::new()) } else { pay_out_now(app, book, address).await };
    let told = landed.as_ref().map(|landed| landed.last().map(|landed| Signature(landed.signature)));
    let places = (Key(book.address.to_bytes()), page);
    app.record(|| Act::paid_out(places, before, by, told.map_err(|rejection| *rejection))).await?;
    let transactions = landed?.iter().map(|landed| Signature(landed.signature)).collect();
    Ok(PaidOut { page, owed: before, left: owed_now(app, book, &address).await?, transactions })
}

/// What a page owes, as the chain shows it now.
async fn owed_now<C: Chain>(app: &App<C>, book: &BookView, page: &Address) -> Result<Amount, Rejection> {
    let (slot, view) = app.settler.read_page(page, 0, Commitment::Confirmed).await?;
    app.chain_answered(slot);
    let owes = owed(book, &view);
    app.see(|sight| drop(sight.pages.insert(page.to_bytes(), Arc::new(view))));
    Ok(owes)
}
