//! The ledger: which vouchers are accepted, and which are claimed together.
//!
//! Pure: no clock (`now` is an argument, in Unix seconds), no disk, no async. One writer owns a [`Ledger`], asks it, and
//! makes the [`Change`] that comes back durable before it answers anybody.
//!
//! Two guarantees, both tested as properties:
//! * what is accepted, [`tallybook_rules::Slot::claim`] settles in full: the decision *is* a claim on a copy of the slot;
//! * `settled ≤ charged ≤ signed ≤ deposit` after every call, see [`Channel::check`].
//!
//! What was stored is verified again before anything rests on it, but nobody waits for all of it: see [`Unproven`].
//!
//! A call may turn out to cost less than its voucher says: `charged` then stays behind `signed`, and exactly `charged` is
//! claimed.
//!
//! Reading path: [`Channel`] (four numbers) → [`Ledger::reserve`], [`Ledger::commit`] (a call) → [`Ledger::observe`] (the
//! chain) → [`Ledger::plan`] (claims) → [`Change`] (what is durable).
#![forbid(unsafe_code)]

mod batch;
mod board;
mod change;
mod channel;
mod ledger;
mod money;
mod observe;
mod offers;
mod pack;
mod plan;
mod queue;
mod records;
mod rows;
mod slab;
mod unproven;

pub use batch::{Attempt, Batch, Bundle, ClaimRow, Landed, Outcome};
pub use board::{Held, PageSeen, Room};
pub use change::{
    BatchRecord, Change, ChannelRecord, Expense, LastCall, ListingRecord, PaymentRecord, Purpose, RowRecord, State,
};
pub use channel::{Channel, Place, Reservation};
pub use ledger::{Committed, Ledger, Refused, Settings};
pub use money::PageMoney;
pub use observe::{Event, Finality, Observed};
pub use pack::{Capacity, Load, pack};
pub use plan::Policy;
pub use unproven::{Proofs, Unproven, verify_stored};
