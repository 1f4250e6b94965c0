//! What happened to money on chain: every transaction of a page, as the chain recorded it, and the page that follows from them.
//! Nobody is asked but the node, and what it says is held against the page itself.
//!
//! Reading path: [`read`] (transactions, oldest first) → [`replay`] (what moved, and whether it makes the page that stands) →
//! [`books`] (all pages of a book, or of a payer).

pub mod books;
pub mod read;
pub mod replay;

pub use books::{BookHistory, Cost, book_of, pages_of_payer};
pub use read::{Recorded, Step};
pub use replay::{Balance, Channel, Ended, Kind, Movement, PageHistory};

#[cfg(test)]
pub(crate) mod town;
