//! The released program in a virtual machine, instruction by instruction: what each does, and everything it refuses.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::type_complexity,
    clippy::wildcard_enum_match_arm,
    reason = "tests say what they expect, also in the functions they share, and list their cases as plain tuples"
)]

mod add_page;
mod adversaries;
mod batches;
mod claim;
mod claim_below;
mod close_page;
mod cost;
mod differential;
mod forgeries;
mod idle_close;
mod init_book;
mod machine;
mod memory;
mod mints;
mod open;
mod payout;
mod precedence;
mod refund;
mod request_close;
mod set_operator;
mod stateful;
mod tampered;
mod top_up;
mod vectors;
mod vouchers;
mod withdraw;
mod world;
