//! The benches themselves stand in `benches/`; run them with `cargo measure`. Here is what they report, and the worlds that
//! they measure in.

#![allow(
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "a bench's world is as its author made it, or there is nothing to measure"
)]

pub mod planner;
pub mod report;
pub mod request;
pub mod settlement;
