//! Rows by their ids, packed: a table of numbers, and rows that are allocated many at a time, so that a table which grows
//! moves none of them.

use hashbrown::HashTable;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Rows that are allocated together.
pub(crate) const CHUNK: usize = 1_024;

/// What has an id of its own.
pub(crate) trait Named {
    fn id(&self) -> &[u8; 32];
}

/// Rows, each of another id.
#[derive(Clone)]
pub(crate) struct Slab<T> {
    /// Where each row is, by the hash of its id. Seeded, so that nobody can choose ids that fall together.
    places: HashTable<u32>,
    seed: RandomState,
    pub(crate) chunks: Vec<Vec<Option<T>>>,
    /// Rows that are free.
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: HashTable::new(), seed: RandomState::new(), chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T: Named> Slab<T> {
    /// The row of this id.
    pub(crate) fn get(&self, id: &[u8; 32]) -> Option<&T> {
        row_in(&self.chunks, self.place(id)?)
    }

    /// Keeps a row; gives its place.
    pub(crate) fn put(&mut self, row: T) -> u32 {
        let id = *row.id();
        self.put_after(&id, |_| row)
    }

    /// Keeps the row of this id that is made of the one in whose place it is; gives its place.
    pub(crate) fn put_after(&mut self, id: &[u8; 32], make: impl FnOnce(Option<&T>) -> T) -> u32 {
        let found = self.place(id);
        let at = found.or_else(|| self.free.pop()).unwrap_or_else(|| self.grow());
        if let Some(slot) = self.slot(at) {
            let row = make(slot.as_ref());
            *slot = Some(row);
        }
        if found.is_none() {
            let hash = self.seed.hash_one(id);
            let Self { places, seed, chunks, .. } = self;
            places.insert_unique(hash, at, |at| row_in(chunks, *at).map_or(0, |row| seed.hash_one(row.id())));
        }
        at
    }

    /// Takes a row out. With the last one its memory is given back.
    pub(crate) fn remove(&mut self, id: &[u8; 32]) -> Option<T> {
        let hash = self.seed.hash_one(id);
        let Self { places, chunks, .. } = self;
        let is = |at: &u32| row_in(chunks, *at).is_some_and(|row| row.id() == id);
        let (at, _) = places.find_entry(hash, is).ok()?.remove();
        let row = self.slot(at)?.take();
        if self.places.is_empty() {
            *self = Self::default();
        } else {
            self.free.push(at);
        }
        row
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flatten()
    }

    /// The row at a place.
    pub(crate) fn at(&self, at: u32) -> Option<&T> {
        row_in(&self.chunks, at)
    }

    /// Where the row of this id is.
    pub(crate) fn place(&self, id: &[u8; 32]) -> Option<u32> {
        let is = |at: &u32| row_in(&self.chunks, *at).is_some_and(|row| row.id() == id);
        self.places.find(self.seed.hash_one(id), is).copied()
    }

    fn slot(&mut self, at: u32) -> Option<&mut Option<T>> {
        let (chunk, within) = split(at);
        self.chunks.get_mut(chunk)?.get_mut(within)
    }

    /// One more row. Beyond 2^32 of them, which no memory holds, the last one is given again.
    fn grow(&mut self) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = self.chunks.len().saturating_sub(1).saturating_mul(CHUNK);
        let Some(chunk) = self.chunks.last_mut() else { return u32::MAX };
        chunk.push(None);
        u32::try_from(before.saturating_add(chunk.len()).saturating_sub(1)).unwrap_or(u32::MAX)
    }
}

fn split(at: u32) -> (usize, usize) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    (at / CHUNK, at % CHUNK)
}

fn row_in<T>(chunks: &[Vec<Option<T>>], at: u32) -> Option<&T> {
    let (chunk, within) = split(at);
    chunks.get(chunk)?.get(within)?.as_ref()
}
