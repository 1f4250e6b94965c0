//! The scheme `exact` of x402 on Solana: a client's transaction pays its payee exactly what was asked, and a sponsor pays
//! the network's fee for it. Here stands what the sponsor checks before it does; no I/O, no clock, no key.
//!
//! [`check`] is the one place that makes a [`Payment`], and everything that is refused is a [`Fault`] with the name that the
//! x402 reference has for it, in the reference's order. What only the chain can say is beside: [`check_mint`] for the mints
//! of Token-2022, and a simulation, which is the caller's.
//!
//! The wire types of the published crates of x402 are not used here: they bring their own Solana client with them, another
//! major version of it than this house's, and do not separate what cannot be read from what is refused by name.
//!
//! Reading path: [`Fault`] (what can be wrong) → [`check`] (in which order) → `layout` (instructions by position) →
//! [`check_mint`].
#![forbid(unsafe_code)]

mod check;
mod fault;
mod layout;
mod mint;

pub use check::{Caps, Denied, Payment, check};
pub use fault::Fault;
pub use mint::check_mint;
