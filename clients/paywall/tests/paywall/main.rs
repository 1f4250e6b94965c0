//! The paywall over loopback, with a scripted facilitator behind it.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

mod call;
mod declared;
mod extensions;
mod metered;
mod till;
mod ways;
mod world;
