//! Money at a glance: where it is, by token, as monitors and people see it. Looked at every few seconds, some pages at a time, so
//! that calls come between; never on the way of a payment, and nothing is decided by it.

use crate::app::App;
use crate::{metrics, operator};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::{BookView, PageView};
use tallybook_ledger::{Channel, Ledger, PageMoney};
use tallybook_rules::{Amount, Rejection, Status};
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::Key;
use tokio::time::MissedTickBehavior;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);
/// Pages of one look at the desk.
const PAGES_AT_ONCE: usize = 16;
/// The most closings that are kept in sight by themselves, those with the least time left; all are counted.
const CLOSINGS: usize = 100;

/// Where money is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Glance {
    /// When it was looked, in Unix seconds.
    pub(crate) at: i64,
    /// By token.
    pub(crate) mints: BTreeMap<Key, MintMoney>,
    /// What the sponsor and those who pay for claims hold, in lamports, the sponsor first; empty if the chain did not say.
    pub(crate) sponsors: Vec<(Key, u64)>,
    /// What others may still make it pay today, in lamports.
    pub(crate) sponsored_left: u64,
    /// Batches that have not ended, and since when the oldest of them is on its way, in Unix seconds.
    pub(crate) under_way: (usize, Option<i64>),
    /// By page, in the order of their addresses.
    pub(crate) pages: Vec<PageGlance>,
    /// The channels that are closing on chain, those with the least time left first, at most 100 of them.
    pub(crate) closings: Vec<Closing>,
}

/// Where the money of one page is. Amounts are base units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PageGlance {
    pub(crate) address: Key,
    pub(crate) book: Key,
    /// In its channels, as the ledger has it.
    pub(crate) channels: PageMoney,
    /// Claimed and not paid out yet, as the chain showed it.
    pub(crate) owed: Amount,
}

/// A channel that is closing on chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closing {
    pub(crate) channel_id: Key,
    pub(crate) payer: Key,
    pub(crate) book: Key,
    /// When its payer may withdraw what is left, in Unix seconds.
    pub(crate) at: i64,
    /// What a claim would add now, lost to the payee if it is not claimed by then.
    pub(crate) unclaimed: Amount,
    /// Whether that is on its way in a batch.
    pub(crate) in_flight: bool,
}

impl Closing {
    fn of(channel: &Channel, book: [u8; 32]) -> Option<Self> {
        let slot = channel.on_chain();
        (slot.status() == Ok(Status::Closing)).then(|| Self {
            channel_id: Key(*channel.id()),
            payer: Key(slot.payer),
            book: Key(book),
            at: slot.closing_at,
            unclaimed: channel.gain(),
            in_flight: channel.is_in_flight(),
        })
    }
}

/// Where the money of one token is. Amounts are base units.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct MintMoney {
    /// In channels.
    pub(crate) channels: PageMoney,
    /// Claimed, and not paid out yet.
    pub(crate) owed: Amount,
}

/// Looks until it is told to stop.
pub(crate) async fn keep<C: Chain>(app: Arc<App<C>>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match look(&app).await {
            Ok(glance) => {
                metrics::glanced(&glance, &app);
                operator::show(&app, glance).await;
            }
            // The writer has ended, and with it all this.
            Err(_) => return,
        }
    }
}

async fn look<C: Chain>(app: &App<C>) -> Result<Glance, Rejection> {
    let (sight, at) = (app.look(), clock());
    let mut glance = Glance { at, ..Glance::default() };
    for page in sight.pages.values() {
        let Some(book) = sight.books.get(&page.header.book) else { continue };
        let money = glance.mints.entry(Key(book.state.mint)).or_default();
        money.owed = money.owed.plus(owed(book, page)).unwrap_or(money.owed);
    }
    let pages: Vec<[u8; 32]> = app.sequencer.insist(|desk| desk.ledger.pages().collect()).await?;
    for some in pages.chunks(PAGES_AT_ONCE) {
        let some = some.to_vec();
        let seen = app.sequencer.insist(move |desk| seen(&desk.ledger, &some, desk.now)).await?;
        for (page, closings) in seen {
            let Some(book) = sight.books.get(page.book.as_bytes()) else { continue };
            let money = glance.mints.entry(Key(book.state.mint)).or_default();
            money.channels = money.channels.plus(&page.channels);
            let owed = sight.pages.get(page.address.as_bytes()).map(|page| owed(book, page)).unwrap_or_default();
            glance.pages.push(PageGlance { owed, ..page });
            glance.closings.extend(closings);
        }
        glance.closings.sort_by_key(|closing| (closing.at, closing.channel_id));
        glance.closings.truncate(CLOSINGS);
        tokio::task::yield_now().await;
    }
    let balances = app.settler.balances().await.unwrap_or_default();
    glance.sponsors = balances.into_iter().map(|(address, lamports)| (Key(address.to_bytes()), lamports)).collect();
    let allowed = app.config.limits.sponsored_lamports_per_day;
    glance.sponsored_left = allowed.saturating_sub(app.allowance().used(at));
    glance.under_way = app.under_way();
    Ok(glance)
}

/// What the ledger has of these pages, and their channels that are closing.
fn seen(ledger: &Ledger, pages: &[[u8; 32]], now: i64) -> Vec<(PageGlance, Vec<Closing>)> {
    let of = |page: &[u8; 32]| {
        let (book, channels) = (ledger.book_of(page)?, ledger.money_of(page, now)?);
        let glance = PageGlance { address: Key(*page), book: Key(book), channels, owed: Amount::ZERO };
        // Few pages have any.
        let closings = (channels.closing > 0).then(|| ledger.channels_of(page));
        let closings = closings.into_iter().flatten().filter_map(|channel| Closing::of(&channel, book));
        Some((glance, closings.collect()))
    };
    pages.iter().filter_map(of).collect()
}

/// What a page owes all recipients of its book together, as the chain showed both.
pub(crate) fn owed(book: &BookView, page: &PageView) -> Amount {
    let legs = book.state.legs().iter().enumerate();
    let owed = legs.map(|(at, leg)| page.header.owed(at, leg).unwrap_or_default());
    owed.fold(Amount::ZERO, |sum, owed| sum.plus(owed).unwrap_or(sum))
}
