//! One order for all decisions, and one writer: a decision is made at the desk, by whoever asks, in its turn; one thread
//! takes all that was decided while it wrote the last commit, makes it durable in one, and only then is anybody answered.
//!
//! Whoever keeps vouchers uses it: the facilitator, and a resource server that embeds its own ledger. A [`Desk`] is what
//! decisions are made on, a [`Sequencer`] the way to it for any number of tasks. The desk is locked for the microsecond that
//! a decision takes, never while a signature is verified or something is written. So a reservation costs no turn of another
//! thread, and a commit costs one; nobody waits for others to come.
//!
//! Decisions run ahead of the disk by one commit and what is gathered for the next. What is answered does not: an answer
//! waits for every write that it may speak of.
//!
//! What was stored is trusted no more than what comes over a network, but nobody waits until all of it is verified again: a
//! second thread does that beside the calls, with the desk unlocked, and a call whose channel it has not come to does it itself.
//!
//! When the store fails, nobody who waits is answered, the thread ends, and [`Sequencer::ended`] is cancelled: whether the
//! last write is on disk is known only after a restart, so its owner ends too.
//!
//! ```no_run
//! use tallybook_ledger::{Change, Settings};
//! use tallybook_sequencer::{Desk, Sequencer};
//! use tallybook_store::SqliteStore;
//!
//! # async fn example(voucher: tallybook_rules::signing::SignedVoucher) -> Result<(), Box<dyn std::error::Error>> {
//! let store = SqliteStore::open("vouchers.db".as_ref())?;
//! let (desk, _batches_under_way) = Desk::open(Box::new(store), Settings::default())?;
//! let (sequencer, _thread) = Sequencer::start(desk, 4_096)?;
//!
//! // Nothing is locked while the signature is verified.
//! let voucher = sequencer.verify(voucher).await?;
//! let amount = tallybook_rules::Amount::new(500);
//! let reserved = sequencer.ask(move |desk| desk.ledger.reserve(voucher, amount, desk.now, desk.now + 60)).await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod calls;
mod desk;
mod offer;
mod sequencer;
mod signatures;
mod signers;
mod told;

pub use calls::{check_book, correction, state_of};
pub use desk::{Desk, OpenFailure, SharedStore};
pub use offer::Sponsorship;
pub use sequencer::Sequencer;
pub use signers::Signers;

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix seconds; 0 before 1970. The only clock of whoever keeps vouchers: rules take it as an argument.
pub fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
