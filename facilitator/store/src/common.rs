//! What a store says besides when several processes work on it at a time: who works on what.

use crate::StoreFailure;
use std::collections::BTreeSet;
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;

/// The most processes that can work on one store at a time: each has a number below it.
pub const MAX_NODES: u16 = 64;

/// Tells the locks of books from everything else that is hashed.
const DOMAIN: &[u8] = b"tallybook:book:v1";

/// A store that several processes, the *nodes*, work on at a time, each on some of what is in it. Whoever writes of something
/// holds it; nobody else does, by the word of the server that keeps the rows, and until that server has ended the session over
/// which everything is written: there is no clock and no lease in it.
pub trait CommonStore {
    /// The number of this node, below [`MAX_NODES`]: no other has it as long as this store is open.
    fn number(&self) -> u16;

    /// Takes something to work on, a book by its address: true unless another node has it. What that one wrote is there to be
    /// loaded then. To be asked once, until [`CommonStore::let_go`].
    fn hold(&mut self, name: &[u8; 32]) -> Result<bool, StoreFailure>;

    /// Lets others take it. Everything of it has to be written before.
    fn let_go(&mut self, name: &[u8; 32]) -> Result<(), StoreFailure>;

    /// Who is at work, and on what, this one among them, by their numbers.
    fn at_work(&mut self) -> Result<Vec<Node>, StoreFailure>;

    /// Is not counted among those at work any more. What is held stays held.
    fn leave(&mut self) -> Result<(), StoreFailure>;
}

/// A process at work on a common store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Where the others reach it.
    pub address: String,
    /// Its number.
    pub number: u16,
    /// Whether it is the one that asks.
    pub is_this_one: bool,
    locks: BTreeSet<i64>,
}

impl Node {
    /// A node that has the locks of these names.
    pub fn new(address: String, number: u16, is_this_one: bool, locks: impl IntoIterator<Item = i64>) -> Self {
        Self { address, number, is_this_one, locks: locks.into_iter().collect() }
    }

    /// Whether it works on what has this name.
    pub fn holds(&self, name: &[u8; 32]) -> bool {
        self.locks.contains(&lock_of(name))
    }
}

/// The lock of a book, or of what else has a name: 64 bits, as databases have them. Two names of one lock, which nobody finds
/// by chance, go together; neither can ever have two owners.
pub fn lock_of(name: &[u8; 32]) -> i64 {
    let hash = Sha2::sha256(&[DOMAIN, name]);
    let mut lock = [0; 8];
    lock.iter_mut().zip(hash).for_each(|(to, byte)| *to = byte);
    i64::from_be_bytes(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_when_their_locks_are_computed_then_they_are_these_and_no_two_are_the_same() {
        // They are the same in every version: nodes of two versions must mean the same lock.
        let locks: BTreeSet<i64> = (0..=u8::MAX).map(|name| lock_of(&[name; 32])).collect();
        assert_eq!(locks.len(), 256);
        assert_eq!(lock_of(&[7; 32]), LOCK_OF_SEVENS);
        let node = Node::new("http://one:1".to_owned(), 3, true, [lock_of(&[7; 32])]);
        assert!(node.holds(&[7; 32]) && !node.holds(&[8; 32]));
    }

    const LOCK_OF_SEVENS: i64 = -158_300_615_343_673_139;
}
