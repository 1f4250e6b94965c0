//! The eye on the chain: reads the served pages again and again, so that deposits, claims and above all closings are
//! seen within seconds, long before a grace period ends.

use crate::app::App;
use crate::first_sight;
use crate::holding::PAYMENTS;
use crate::metrics;
use crate::nodes::learn;
use crate::sight::seen;
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::{Address, BookView, PageView};
use tallybook_ledger::{Event, Finality};
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Commitment, PagesRead};
use tokio::time::Instant;

/// Every so many looks, what is final is read too, and the books for new pages.
const FINAL_EVERY: u64 = 5;
/// Every so many looks, the schemes forget what is over.
const TEND_EVERY: u64 = 30;
/// The longest that a long look is rested from: a closing is to be seen long before its 900 seconds are over.
const LONGEST_REST: Duration = Duration::from_secs(15);

/// Reads the pages that were not read yet, and looks at all, until it is told to stop.
pub(crate) async fn watch<C: Chain>(app: Arc<App<C>>) {
    let poll = Duration::from_millis(app.config.chain.poll_milliseconds);
    let mut looks = 0u64;
    loop {
        // Of a book that was taken up just now, too.
        if first_sight::go_on(&app).await.is_err() {
            return;
        }
        let begun = Instant::now();
        looks = looks.wrapping_add(1);
        let mut looked = look(&app, looks.is_multiple_of(FINAL_EVERY)).await;
        if looked.is_ok() && looks.is_multiple_of(TEND_EVERY) {
            looked = app.schemes.tend(&app).await;
        }
        match looked {
            Ok(()) => {}
            Err(Rejection::StoreUnavailable) => return,
            Err(rejection) => {
                app.chain_silent();
                tracing::warn!(%rejection, "the pages could not be read");
            }
        }
        tokio::time::sleep(pause(poll, begun.elapsed())).await;
    }
}

/// The pause after a look that took so long: until `poll` after it began. One that took more than half of that leaves the node and
/// this process as much time for everything else, up to [`LONGEST_REST`].
fn pause(poll: Duration, took: Duration) -> Duration {
    poll.saturating_sub(took).max(took.min(LONGEST_REST))
}

/// One look at everything that is held here. Nothing of it is given away meanwhile.
pub(crate) async fn look<C: Chain>(app: &App<C>, thorough: bool) -> Result<(), Rejection> {
    let visits = app.holding.enter_all();
    let addresses: Vec<[u8; 32]> = visits.iter().map(|visit| *visit.book()).filter(|book| *book != PAYMENTS).collect();
    if addresses.is_empty() {
        return read_blockhash(app).await;
    }
    if thorough {
        read_books(app, &addresses).await?;
    }
    let books = app.look().books;
    let books: Vec<&BookView> = addresses.iter().filter_map(|address| books.get(address)).map(AsRef::as_ref).collect();
    let read = app.settler.read_pages(&books, Commitment::Confirmed).await?;
    app.see(|sight| sight.take_in(&addresses, pages_of(&read).collect(), read.slot));
    take_in(app, read).await?;
    read_blockhash(app).await?;
    if thorough {
        let last = app.settler.read_pages(&books, Commitment::Finalized).await?;
        let books = addresses;
        let pages: Vec<_> = last.pages.iter().map(|page| seen(page, last.slot)).collect();
        app.sequencer.observe(&pages, Finality::Final).await?;
        let shown: Vec<[u8; 32]> = last.pages.iter().map(|page| page.address.to_bytes()).collect();
        let observed = app.sequencer.insist(|desk| desk.drop_closed(&books, &shown, last.slot));
        tell(app, &observed.await?);
    }
    Ok(())
}

/// Reads a blockhash for offers.
pub(crate) async fn read_blockhash<C: Chain>(app: &App<C>) -> Result<(), Rejection> {
    let blockhash = app.settler.latest_blockhash().await?.hash.to_bytes();
    app.see(|sight| sight.blockhash = Some(blockhash));
    Ok(())
}

/// One look at one book and its pages, out of turn, by somebody who is busy with it.
pub(crate) async fn look_at<C: Chain>(app: &App<C>, book: &Address) -> Result<(), Rejection> {
    let book = app.settler.read_books(&[*book], Commitment::Confirmed).await?.books;
    let book = Arc::new(book.into_iter().next().ok_or(Rejection::UnknownBook)?);
    let read = app.settler.read_pages(&[&book], Commitment::Confirmed).await?;
    app.see(|sight| {
        sight.books.insert(book.address.to_bytes(), book);
        sight.pages.extend(pages_of(&read));
    });
    take_in(app, read).await
}

fn pages_of(read: &PagesRead) -> impl Iterator<Item = ([u8; 32], Arc<PageView>)> {
    read.pages.iter().map(|page| (page.address.to_bytes(), Arc::new(page.clone())))
}

/// Lets the ledger see what was read, and says what is new.
async fn take_in<C: Chain>(app: &App<C>, read: PagesRead) -> Result<(), Rejection> {
    let slot = read.slot;
    let pages: Vec<_> = read.pages.iter().map(|page| seen(page, slot)).collect();
    let found = learn(app, &read.pages).await?;
    let events = app.sequencer.observe(&pages, Finality::Confirmed).await?;
    app.go_on_with(found);
    let channels = app.sequencer.insist(|desk| desk.ledger.len()).await?;
    app.chain_answered(slot);
    metrics::watched(slot, channels);
    tell(app, &events);
    Ok(())
}

/// Reads books that are held here, so that their new pages are read too.
pub(crate) async fn read_books<C: Chain>(app: &App<C>, books: &[[u8; 32]]) -> Result<(), Rejection> {
    let addresses: Vec<Address> = books.iter().map(|book| Address::from(*book)).collect();
    let read = app.settler.read_books(&addresses, Commitment::Confirmed).await?;
    app.see(|sight| {
        let books = read.books.into_iter();
        sight.books.extend(books.map(|book| (book.address.to_bytes(), Arc::new(book))));
    });
    Ok(())
}

/// Says what happened, and wakes the settlement for what is urgent.
pub(crate) fn tell<C: Chain>(app: &App<C>, events: &[Event]) {
    for event in events {
        match event {
            Event::Opened { channel_id, .. } => tracing::info!(channel = %name(channel_id), "a channel is open"),
            Event::Closing { channel_id, closing_at, unsettled } => {
                tracing::info!(channel = %name(channel_id), closing_at, %unsettled, "a channel is closing: claimed at once");
                app.wake.notify_one();
            }
            Event::Over { channel_id, unsettled, refunded } => {
                app.forget_refund(channel_id);
                if unsettled.is_zero() || *refunded {
                    tracing::info!(channel = %name(channel_id), "a channel is over");
                } else {
                    tracing::warn!(channel = %name(channel_id), %unsettled, "a channel is over; its last claim was not seen to settle");
                }
            }
        }
    }
}

fn name(channel_id: &[u8; 32]) -> tallybook_wire::Key {
    tallybook_wire::Key(*channel_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_looks_that_take_longer_and_longer_when_they_are_rested_from_then_half_of_the_time_is_left_at_most_a_while()
    {
        let millis = Duration::from_millis;
        for (took, rest) in [(0, 1_000), (300, 700), (500, 500), (800, 800), (4_000, 4_000), (60_000, 15_000)] {
            assert_eq!(pause(millis(1_000), millis(took)), millis(rest), "{took} ms");
        }
        assert_eq!(pause(millis(60_000), millis(20_000)), millis(40_000));
    }
}
