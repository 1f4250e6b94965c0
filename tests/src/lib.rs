//! What crosses crates: tests of the whole, and what they share.

pub mod artifact;
pub mod exact;
