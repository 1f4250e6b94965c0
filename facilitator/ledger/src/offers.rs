//! The free seats of a book in the order in which they are offered, kept true with every change, so that an offer looks at
//! the first of them and at no page.

use crate::{Place, Room};
use std::collections::{BTreeMap, BTreeSet};

/// A seat in which a channel can be opened, by the order of its offering: the one that was offered longest ago first, and
/// among those the one of the lowest page and slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Opening {
    /// In Unix seconds; 0 before the first time.
    pub(crate) offered_at: i64,
    /// The page's number in its book.
    pub(crate) index: u32,
    pub(crate) slot: u8,
    /// The page's address.
    pub(crate) page: [u8; 32],
}

/// One book.
#[derive(Clone, Default, Debug)]
pub(crate) struct Offers {
    /// Its pages, and how many slots each has.
    pages: BTreeMap<[u8; 32], usize>,
    slots: usize,
    openings: BTreeSet<Opening>,
    /// Seats of these that are kept for a deposit, and until when, in Unix seconds.
    held: BTreeMap<([u8; 32], u8), i64>,
}

impl Offers {
    /// A page has come.
    pub(crate) fn add_page(&mut self, page: [u8; 32], slots: usize) {
        self.pages.insert(page, slots);
        self.slots = self.slots.saturating_add(slots);
    }

    /// A page is gone, with all that was open in it.
    pub(crate) fn drop_page(&mut self, page: &[u8; 32]) {
        self.slots = self.slots.saturating_sub(self.pages.remove(page).unwrap_or_default());
        self.openings.retain(|opening| opening.page != *page);
        self.held.retain(|(of, _), _| of != page);
    }

    /// A seat was open as `before`, or was not, and is as `after` now.
    pub(crate) fn moved(&mut self, before: Option<Opening>, after: Option<Opening>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.openings.remove(&before);
        }
        match after {
            Some(after) => drop(self.openings.insert(after)),
            // Taken: it is kept for nobody any more.
            None => {
                let taken = before.map(|before| (before.page, before.slot));
                self.held.retain(|seat, _| Some(*seat) != taken);
            }
        }
    }

    /// A seat is kept until a time. What was kept until before `now` is forgotten.
    pub(crate) fn hold(&mut self, place: &Place, until: i64, now: i64) {
        self.held.retain(|_, until| now < *until);
        self.held.insert((place.page, place.slot), until);
    }

    /// A seat is kept no more.
    pub(crate) fn unhold(&mut self, place: &Place) {
        self.held.remove(&(place.page, place.slot));
    }

    /// The seat to offer next.
    pub(crate) fn next(&self, now: i64) -> Option<Opening> {
        let is_held = |opening: &&Opening| self.is_held(&opening.page, opening.slot, now);
        self.openings.iter().find(|opening| !is_held(opening)).copied()
    }

    /// Any page of the book.
    pub(crate) fn any_page(&self) -> Option<[u8; 32]> {
        self.pages.first_key_value().map(|(page, _)| *page)
    }

    /// How much place there is.
    pub(crate) fn room(&self, now: i64) -> Room {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let held = self.held.keys().filter(|(page, slot)| self.is_held(page, *slot, now)).count();
        Room {
            pages: count(self.pages.len()),
            slots: count(self.slots),
            free_slots: count(self.openings.len().saturating_sub(held)),
        }
    }

    /// True when no page is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Whether the same is open in the same pages, whatever is kept.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.pages, self.slots, &self.openings) == (&other.pages, other.slots, &other.openings)
    }

    fn is_held(&self, page: &[u8; 32], slot: u8, now: i64) -> bool {
        self.held.get(&(*page, slot)).is_some_and(|until| now < *until)
    }
}
