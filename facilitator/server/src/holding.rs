//! What this facilitator works on: the books that it holds, and everybody who is busy with one of them. A book is given away
//! only when nobody is, so that nothing is ever done for a book that another facilitator has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// The name under which payments by the scheme `exact` are held, which are for no book.
pub(crate) const PAYMENTS: [u8; 32] = *b"tallybook:payments-by-exact:v001";

/// Who is let in to a book.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// Nobody: another has it, or nobody has.
    Away,
    /// Who takes it up.
    Coming,
    /// Everybody.
    Open,
    /// Who ends what was begun: it is about to be given away.
    Leaving,
    /// Nobody any more.
    Closed,
}

/// What somebody comes to a book for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To {
    /// To begin something.
    Begin,
    /// To end what was begun, or to look.
    End,
}

/// The books that are served, and which of them are held here.
#[derive(Debug)]
pub(crate) struct Holding {
    books: Mutex<HashMap<[u8; 32], Held>>,
    /// Told of every door that changes, and of everybody who leaves a book that is not open.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Held {
    door: Door,
    visits: usize,
}

/// Somebody who is busy with a book.
#[derive(Debug)]
pub(crate) struct Visit {
    holding: Arc<Holding>,
    book: [u8; 32],
}

impl Visit {
    /// Which book.
    pub(crate) const fn book(&self) -> &[u8; 32] {
        &self.book
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut books = self.holding.lock();
        if let Some(held) = books.get_mut(&self.book) {
            held.visits = held.visits.saturating_sub(1);
            if held.visits == 0 && held.door != Door::Open {
                self.holding.changed.send_replace(());
            }
        }
    }
}

impl Holding {
    /// Of a facilitator that holds all of these books for good, or none of them yet.
    pub(crate) fn new(books: impl IntoIterator<Item = [u8; 32]>, door: Door) -> Arc<Self> {
        let books = books.into_iter().map(|book| (book, Held { door, visits: 0 })).collect();
        Arc::new(Self { books: Mutex::new(books), changed: watch::Sender::new(()) })
    }

    /// Lets somebody in; none where the door is closed to them, or where the book is not served.
    pub(crate) fn enter(self: &Arc<Self>, book: &[u8; 32], to: To) -> Option<Visit> {
        self.visit(book, |door| door == Door::Open || (door == Door::Leaving && to == To::End))
    }

    /// Lets in who takes it up, beside everybody whom it is open to.
    pub(crate) fn enter_early(self: &Arc<Self>, book: &[u8; 32]) -> Option<Visit> {
        self.visit(book, |door| matches!(door, Door::Open | Door::Coming))
    }

    /// Lets in somebody else together with one who is there already, whatever the door says to others.
    pub(crate) fn accompany(self: &Arc<Self>, book: &[u8; 32]) -> Option<Visit> {
        self.visit(book, |door| !matches!(door, Door::Away | Door::Closed))
    }

    /// The same for every book that is open.
    pub(crate) fn enter_all(self: &Arc<Self>) -> Vec<Visit> {
        let open = self.with(Door::Open);
        open.iter().filter_map(|book| self.enter(book, To::Begin)).collect()
    }

    fn visit(self: &Arc<Self>, book: &[u8; 32], is_let_in: impl Fn(Door) -> bool) -> Option<Visit> {
        let mut books = self.lock();
        let held = books.get_mut(book).filter(|held| is_let_in(held.door))?;
        held.visits = held.visits.saturating_add(1);
        Some(Visit { holding: Arc::clone(self), book: *book })
    }

    /// How the door of a book stands; none of one that is not served.
    pub(crate) fn door(&self, book: &[u8; 32]) -> Option<Door> {
        self.lock().get(book).map(|held| held.door)
    }

    /// The books whose door stands so, in order.
    pub(crate) fn with(&self, door: Door) -> Vec<[u8; 32]> {
        let mut books: Vec<_> =
            self.lock().iter().filter(|(_, held)| held.door == door).map(|(book, _)| *book).collect();
        books.sort_unstable();
        books
    }

    /// How many books are held here, in whatever state.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().filter(|held| held.door != Door::Away).count()
    }

    /// How many of them requests are let in to.
    pub(crate) fn at_work(&self) -> usize {
        self.lock().values().filter(|held| matches!(held.door, Door::Open | Door::Leaving)).count()
    }

    /// Opens or closes a door.
    pub(crate) fn turn(&self, book: &[u8; 32], door: Door) {
        if let Some(held) = self.lock().get_mut(book) {
            held.door = door;
        }
        self.changed.send_replace(());
    }

    /// Closes the door behind the last one; false while there is somebody.
    pub(crate) fn close(&self, book: &[u8; 32]) -> bool {
        let mut books = self.lock();
        let Some(held) = books.get_mut(book).filter(|held| held.visits == 0) else { return false };
        held.door = Door::Closed;
        true
    }

    /// Waits until `holds`, or something may have changed, for so long at most.
    pub(crate) async fn wait(&self, patience: Duration, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        if !holds(self) {
            // It is as good to look again too early as too late.
            drop(timeout(patience, changed.changed()).await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Held>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: [u8; 32] = [1; 32];

    #[test]
    fn given_a_book_when_its_door_turns_then_only_those_are_let_in_who_may_be() {
        let holding = Holding::new([BOOK], Door::Away);
        let let_in = |door: Door| {
            holding.turn(&BOOK, door);
            let (begins, ends) = (holding.enter(&BOOK, To::Begin).is_some(), holding.enter(&BOOK, To::End).is_some());
            (begins, ends, holding.enter_early(&BOOK).is_some())
        };
        assert_eq!(let_in(Door::Away), (false, false, false));
        assert_eq!(let_in(Door::Coming), (false, false, true));
        assert_eq!(let_in(Door::Open), (true, true, true));
        assert_eq!(let_in(Door::Leaving), (false, true, false));
        assert!(holding.accompany(&BOOK).is_some());
        assert_eq!(let_in(Door::Closed), (false, false, false));
        assert!(holding.accompany(&BOOK).is_none());
        assert!(holding.enter(&[2; 32], To::End).is_none() && holding.door(&[2; 32]).is_none());
    }

    #[tokio::test]
    async fn given_somebody_busy_with_a_book_when_it_is_to_be_closed_then_that_is_after_the_last_one() {
        let holding = Holding::new([BOOK, [2; 32]], Door::Open);
        let visits = [holding.enter(&BOOK, To::Begin), holding.enter(&BOOK, To::End)];
        assert_eq!(holding.enter_all().len(), 2);
        holding.turn(&BOOK, Door::Leaving);
        assert!(!holding.close(&BOOK) && holding.door(&BOOK) == Some(Door::Leaving));
        assert_eq!(holding.with(Door::Open), [[2; 32]]);
        let waiting = tokio::spawn({
            let holding = Arc::clone(&holding);
            async move {
                while !holding.close(&BOOK) {
                    holding.wait(Duration::from_secs(60), |_| false).await;
                }
            }
        });
        tokio::task::yield_now().await;
        drop(visits);
        waiting.await.unwrap();
        assert!(holding.enter(&BOOK, To::End).is_none());
        assert_eq!((holding.count(), holding.at_work()), (2, 1));
        holding.turn(&BOOK, Door::Away);
        assert_eq!(holding.count(), 1);
    }
}
