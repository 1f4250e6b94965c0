//! The benches themselves stand in `benches/`; run them with `cargo measure`. Here is what they write down, for the report.

pub mod planner;
