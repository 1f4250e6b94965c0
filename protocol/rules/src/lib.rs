//! What a Tallybook voucher means.
//!
//! The rules of money, and nothing else: no disk, no network, no clock, no Solana and no serde type. The program
//! on chain and the ledger off chain call the *same* functions, so that nothing is accepted off chain that the
//! chain would not settle. `now` is always an argument. Hash functions come in as a parameter ([`Hasher`]), since
//! the virtual machine has its own.
//!
//! Reading path: [`Amount`] → [`Slot`] and [`PageHeader`] (the bytes) → [`Page`] (the transitions) →
//! [`voucher`] (what is signed) → [`half_aggregation`] (what is claimed) → [`Rejection`] (why not).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(feature = "signing", test))]
extern crate std;

mod amount;
mod book;
pub mod half_aggregation;
mod page;
mod rejection;
#[cfg(feature = "signing")]
pub mod signing;
mod slot;
pub mod voucher;

pub use amount::{Amount, Decimal};
pub use book::{Book, Leg, MAX_LEGS, MAX_SPLITS, OpenPolicy, TOTAL_BASIS_POINTS, Terms};
pub use page::{MAX_CAPACITY, Opening, Page, PageHeader, Returned};
pub use rejection::{Class, Rejection};
pub use slot::{Slot, Status};
pub use voucher::Hasher;
