//! Payments by the scheme `exact` through the facilitator, over real HTTP and a real JSON-RPC chain with the real token
//! programs.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test says what it expects, and counts"
)]

mod attacks;
mod house;
mod paying;
mod selling;
mod tokens;
