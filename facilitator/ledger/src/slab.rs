//! Rows by their ids, packed: tables of numbers, and rows that are allocated many at a time, so that a table which grows
//! moves none of them. A table that grows looks at all of its rows, and calls wait meanwhile: so there are many, of which each grows
//! by itself.

use hashbrown::HashTable;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Rows that are allocated together.
pub(crate) const CHUNK: usize = 1_024;

/// Tables among which the rows are divided. They come to their limits one after the other, each with so much less to do.
const TABLES: usize = 256;

/// What has an id of its own.
pub(crate) trait Named {
    fn id(&self) -> &[u8; 32];
}

/// Rows, each of another id.
#[derive(Clone)]
pub(crate) struct Slab<T> {
    /// Where each row is, by the hash of its id. Seeded, so that nobody can choose ids that fall together. [`TABLES`], or none as
    /// long as there is no row.
    places: Vec<HashTable<u32>>,
    seed: RandomState,
    len: usize,
    pub(crate) chunks: Vec<Vec<Option<T>>>,
    /// Rows that are free.
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        let (places, chunks, free) = Default::default();
        Self { places, seed: RandomState::new(), len: 0, chunks, free }
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
            self.note(id, at);
        }
        at
    }

    /// Takes a row out. With the last one its memory is given back.
    pub(crate) fn remove(&mut self, id: &[u8; 32]) -> Option<T> {
        let hash = self.seed.hash_one(id);
        let Self { places, chunks, .. } = self;
        let is = |at: &u32| row_in(chunks, *at).is_some_and(|row| row.id() == id);
        let (at, _) = places.get_mut(table_of(hash))?.find_entry(hash, is).ok()?.remove();
        self.len = self.len.saturating_sub(1);
        let row = self.slot(at)?.take();
        if self.len == 0 {
            *self = Self::default();
        } else {
            self.free.push(at);
        }
        row
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
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
        let hash = self.seed.hash_one(id);
        let is = |at: &u32| row_in(&self.chunks, *at).is_some_and(|row| row.id() == id);
        self.places.get(table_of(hash))?.find(hash, is).copied()
    }

    /// Notes the place of a new row.
    fn note(&mut self, id: &[u8; 32], at: u32) {
        let Self { places, seed, chunks, len, .. } = self;
        if places.is_empty() {
            places.resize_with(TABLES, HashTable::new);
        }
        let hash = seed.hash_one(id);
        if let Some(table) = places.get_mut(table_of(hash)) {
            table.insert_unique(hash, at, |at| row_in(chunks, *at).map_or(0, |row| seed.hash_one(row.id())));
            *len = len.saturating_add(1);
        }
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

/// By bits of the hash that a table itself does not use.
fn table_of(hash: u64) -> usize {
    usize::from(hash.to_be_bytes()[1])
}

fn split(at: u32) -> (usize, usize) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    (at / CHUNK, at % CHUNK)
}

fn row_in<T>(chunks: &[Vec<Option<T>>], at: u32) -> Option<&T> {
    let (chunk, within) = split(at);
    chunks.get(chunk)?.get(within)?.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    struct Row([u8; 32]);

    impl Named for Row {
        fn id(&self) -> &[u8; 32] {
            LOOKED_AT.set(LOOKED_AT.get().saturating_add(1));
            &self.0
        }
    }

    #[test]
    fn given_many_rows_when_one_more_comes_then_few_of_the_others_are_looked_at_for_it() {
        const ROWS: u32 = 100_000;
        let id = |number: u32| {
            let mut id = [7; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            id
        };
        let (mut slab, mut most) = (Slab::default(), 0);
        for number in 0..ROWS {
            LOOKED_AT.set(0);
            slab.put(Row(id(number)));
            most = most.max(LOOKED_AT.get());
        }
        assert!((100..2_000).contains(&most), "{most} rows were looked at for one");
        assert_eq!(slab.len(), 100_000);
        assert!((0..ROWS).all(|number| slab.remove(&id(number)).is_some_and(|row| row.0 == id(number))));
        assert_eq!((slab.len(), slab.chunks.len(), slab.places.len()), (0, 0, 0));
    }
}
