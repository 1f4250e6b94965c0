//! Money at a glance: where it is, by token, as monitors and people see it. Looked at every few seconds, some pages at a time, so
//! that calls come between; never on the way of a payment, and nothing is decided by it.

use crate::app::App;
use crate::metrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tallybook_ledger::PageMoney;
use tallybook_rules::{Amount, Rejection};
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::Key;
use tokio::time::MissedTickBehavior;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);
/// Pages of one look at the desk.
const PAGES_AT_ONCE: usize = 16;

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
            Ok(glance) => metrics::glanced(&glance, &app),
            // The writer has ended, and with it all this.
            Err(_) => return,
        }
    }
}

async fn look<C: Chain>(app: &App<C>) -> Result<Glance, Rejection> {
    let (sight, at) = (app.look(), clock());
    let mut mints: BTreeMap<Key, MintMoney> = BTreeMap::new();
    for page in sight.pages.values() {
        let Some(book) = sight.books.get(&page.header.book) else { continue };
        let money = mints.entry(Key(book.state.mint)).or_default();
        for (at, leg) in book.state.legs().iter().enumerate() {
            let owed = page.header.owed(at, leg).unwrap_or_default();
            money.owed = money.owed.plus(owed).unwrap_or(money.owed);
        }
    }
    let pages: Vec<[u8; 32]> = app.sequencer.insist(|desk| desk.ledger.pages().collect()).await?;
    for some in pages.chunks(PAGES_AT_ONCE) {
        let some = some.to_vec();
        let seen: Vec<([u8; 32], PageMoney)> = app
            .sequencer
            .insist(move |desk| {
                let money = |page: &[u8; 32]| Some((desk.ledger.book_of(page)?, desk.ledger.money_of(page, desk.now)?));
                some.iter().filter_map(money).collect()
            })
            .await?;
        for (book, channels) in seen {
            let Some(book) = sight.books.get(&book) else { continue };
            let money = mints.entry(Key(book.state.mint)).or_default();
            money.channels = money.channels.plus(&channels);
        }
        tokio::task::yield_now().await;
    }
    let balances = app.settler.balances().await.unwrap_or_default();
    let sponsors = balances.into_iter().map(|(address, lamports)| (Key(address.to_bytes()), lamports)).collect();
    let allowed = app.config.limits.sponsored_lamports_per_day;
    let sponsored_left = allowed.saturating_sub(app.allowance().used(at));
    Ok(Glance { at, mints, sponsors, sponsored_left, under_way: app.under_way() })
}
