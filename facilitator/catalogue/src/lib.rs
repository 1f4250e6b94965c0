//! What was paid for, listed: the catalogue of a facilitator, as x402's extension `bazaar` has it. Pure: no clock, no disk.
//!
//! A payment that was charged brings along what its resource says of itself. [`Sale::read`] takes that out of the request,
//! [`judge`] refuses what is malformed, dangerous or dear to check, by a named reason, and [`Catalogue::paid`] lists the rest:
//! under the address **and** the payee, so that nobody's payment changes what another payee sells. What a seller claims of
//! itself only finds its resource; what ranks it is who paid for it ([`Catalogue::search`]).
//!
//! What is declared comes from strangers. Everything of it has a bound: its bytes, its depth, the cost of its schema, how many
//! entries one payee has, and how many there are.
#![forbid(unsafe_code)]

mod catalogue;
mod entry;
mod filter;
mod judge;
mod place;
mod refusals;
mod sale;
mod schema;
mod words;

pub use catalogue::{Catalogue, Taken};
pub use filter::Filter;
pub use judge::{Candidate, judge};
pub use sale::Sale;

/// How much is listed, and what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Entries in all; beyond them one goes for each that comes.
    pub entries: usize,
    /// Entries of one payee.
    pub entries_per_payee: usize,
    /// For how long an entry stays that nobody pays for, in seconds.
    pub keep_seconds: i64,
    /// List resources at addresses that only some can reach, too: of this machine, of private networks.
    pub private_addresses: bool,
}
