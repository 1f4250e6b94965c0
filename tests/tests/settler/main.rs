//! The settler against a real local chain: the released program behind real JSON-RPC.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod faults;
mod faulty;
mod life;
mod service;
mod shapes;
mod world;
