//! Tallybook on Solana, once for all clients: where its accounts are, how its instructions are written, how its
//! accounts are read, the one shape of transaction that a sponsor pays for, and what it looks at in those of others. No I/O.
//!
//! Reading path: [`address`] → [`instruction`] → [`account`] → [`deposit`]; what happened: [`event`].
#![forbid(unsafe_code)]

pub mod account;
pub mod address;
pub mod deposit;
pub mod event;
pub mod instruction;
mod named;
pub mod shape;
pub mod transaction;

pub use account::{BookView, PageView, TokenAccountView};
pub use address::PROGRAM_ID;
pub use named::NamedInstruction;
pub use solana_address::Address;
