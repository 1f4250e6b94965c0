//! A chain that cannot be trusted to answer: everybody speaks to the local chain through a proxy that loses, delays, repeats,
//! forges and takes back what is asked and answered. Nothing is ever lost or paid twice, and when the faults end all is settled.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test says what it expects, and counts"
)]

mod command_line;
mod deposits;
mod fault;
mod house;
mod payments;
mod proxy;
mod seeded;
mod settlement;
mod tape;
