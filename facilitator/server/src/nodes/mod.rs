//! Several facilitators at work on one database, the *nodes*: each holds some of the books, all take any request, and whoever asks
//! may ask any of them. What one asks for a book that is held elsewhere is handed on to who holds it ([`crate::line`]).
//!
//! Who holds what is the server's to say: a lock for each book, of the session over which everything is written. So no two ever
//! work on one book, however wrong clocks and networks are, and the books of a node that is gone are free the moment the server
//! ends its session. Every node looks at all locks twice a second, and by the same rules ([`part`]) comes to its part without
//! asking the others. What was on its way is taken up as after a restart: the chain is asked first.

mod moving;
mod part;

pub(crate) use moving::learn;

use crate::app::App;
use crate::facilitator::DAY_SECONDS;
use crate::holding::Door;
use crate::metrics;
use moving::{give_away, take_up};
use part::Next;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::Rejection;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_store::Node;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often a node looks who holds what.
const LOOK: Duration = Duration::from_millis(500);
/// What nobody has taken for so long is anybody's.
const LEFT: Duration = Duration::from_secs(3);
/// The pause after a book could not be taken up or given away.
const AGAIN: Duration = Duration::from_secs(5);
/// How long calls under way may keep a book from being given away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Every so many looks it is read what others have had the sponsor pay.
const ALLOWANCE_EVERY: u64 = 10;

/// Takes up this node's part of the books, and gives away what is more, until the store fails.
pub(crate) async fn work<C: Chain>(app: Arc<App<C>>) {
    let Some(line) = &app.line else { return };
    let books = app.config.held_by_name();
    let (mut free_since, mut moves) = (HashMap::new(), JoinSet::new());
    let mut not_before = Instant::now();
    for looks in 0u64.. {
        let Ok(nodes) = look(&app, looks).await else { return };
        note_free(&mut free_since, &books, &nodes);
        while let Some(moved) = moves.try_join_next() {
            if !moved.unwrap_or(false) {
                not_before = Instant::now().checked_add(AGAIN).unwrap_or_else(Instant::now);
            }
        }
        if moves.is_empty() && !line.is_leaving() && Instant::now() >= not_before {
            let is_left = |book: &[u8; 32]| free_since.get(book).is_some_and(|since: &Instant| since.elapsed() >= LEFT);
            let next = part::next(&books, &nodes, is_left);
            if next != Next::default() {
                moves.spawn(make(Arc::clone(&app), next));
            }
        }
        line.tell(nodes);
        metrics::held(app.holding.at_work());
        line.until_nudged(LOOK).await;
    }
}

/// Who holds what. `Err` when the store has failed.
async fn look<C: Chain>(app: &App<C>, looks: u64) -> Result<Vec<Node>, Rejection> {
    let since = clock().saturating_sub(DAY_SECONDS);
    let counts = looks.is_multiple_of(ALLOWANCE_EVERY);
    let asked = app.sequencer.ask_beside(move |store| {
        let nodes = store.common().map_or_else(|| Ok(Vec::new()), |common| common.at_work())?;
        Ok((nodes, counts.then(|| store.spent_for_others_since(since)).transpose()?))
    });
    let (nodes, spent) = asked.await?;
    if let Some(spent) = spent {
        app.allowance().all_spent(spent, clock());
    }
    Ok(nodes)
}

/// Since when each book has been free.
fn note_free(since: &mut HashMap<[u8; 32], Instant>, books: &[[u8; 32]], nodes: &[Node]) {
    since.retain(|book, _| !nodes.iter().any(|node| node.holds(book)));
    for book in books.iter().filter(|book| !nodes.iter().any(|node| node.holds(book))) {
        since.entry(*book).or_insert_with(Instant::now);
    }
}

/// Takes up and gives away; false when something of it could not be done now.
async fn make<C: Chain>(app: Arc<App<C>>, Next { take, give }: Next) -> bool {
    let mut is_done = true;
    for book in take {
        is_done &= take_up(&app, book).await.is_ok();
    }
    if let Some(book) = give {
        is_done &= give_away(&app, book, PATIENCE).await.unwrap_or(false);
    }
    if let Some(line) = &app.line {
        line.nudge();
    }
    is_done
}

/// Gives everything away before this node ends, so that nobody waits until the server has seen that it is gone; not where there
/// is no other to take it.
pub(crate) async fn leave<C: Chain>(app: &Arc<App<C>>) {
    let Some(line) = &app.line else { return };
    line.leave();
    let left = app.sequencer.ask_beside(|store| store.common().map_or(Ok(()), |common| common.leave()));
    if left.await.is_err() || line.others().is_empty() {
        return;
    }
    tracing::info!(books = app.holding.count(), "giving all books away");
    let patience = Duration::from_secs(app.config.limits.drain_seconds.into());
    let all = async {
        loop {
            let mut given = JoinSet::new();
            for book in app.holding.with(Door::Open) {
                let app = Arc::clone(app);
                given.spawn(async move { give_away(&app, book, PATIENCE).await });
            }
            // Something may be on its way here or away still.
            while given.join_next().await.is_some() {}
            if app.holding.count() == 0 {
                return;
            }
            app.holding.wait(LOOK, |_| false).await;
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(
            books = app.holding.count(),
            "ending with books: another takes them up when the session has ended"
        );
    }
}
