//! The state machines, checked whole: every order of events within small bounds, by the code that runs in production.
//!
//! `slot` runs the program's transitions. `batch` runs the ledger, the store and the settler's decision about a sent
//! transaction, over a chain that drops, delays, forks and forgets, and a facilitator that crashes at any moment.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests say what they expect, also in the functions they share"
)]

mod batch;
mod explore;
mod slot;
