//! The ledger: which vouchers are accepted, and which are claimed together. Pure: no clock, no disk, no async.
mod batch;
pub use batch::{Batch, ClaimRow};
