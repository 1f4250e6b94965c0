//! Where a secret comes from: a file that nobody else may read, a variable of the environment, or a command such as that of
//! a password store. One way for the facilitator, the command line, and your own servers and agents.
//!
//! ```no_run
//! use tallybook_keys::Source;
//!
//! tallybook_keys::keep_out_of_cores()?;
//! let wallet = "command:pass show agent-wallet".parse::<Source>()?.keypair()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! No error and no `Debug` of this crate holds a part of a secret, and what was read is wiped from memory after use.

mod problem;
mod process;
mod source;

pub use problem::Problem;
pub use process::keep_out_of_cores;
pub use source::{MAX_SECRET_BYTES, Source, keypair_in};
