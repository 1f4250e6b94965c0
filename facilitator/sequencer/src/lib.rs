//! The single writer: one thread owns ledger and store, takes all that waits, decides in order, makes it durable in one
//! commit, and only then answers.
//!
//! Whoever keeps vouchers uses it: the facilitator, and a resource server that embeds its own ledger. A [`Desk`] is what
//! the thread works on, a [`Sequencer`] the way to it for any number of tasks.
//!
//! When the store fails, nobody of that group is answered, the thread ends, and [`Sequencer::ended`] is cancelled: whether
//! the last write is on disk is known only after a restart, so its owner ends too.
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
//! let voucher = voucher.verify(&sequencer.signer(&voucher.channel_id)?)?;
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
mod signers;

pub use calls::{check_book, correction, state_of};
pub use desk::{Desk, OpenFailure};
pub use offer::Sponsorship;
pub use sequencer::Sequencer;
pub use signers::Signers;

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix seconds; 0 before 1970. The only clock of whoever keeps vouchers: rules take it as an argument.
pub fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
