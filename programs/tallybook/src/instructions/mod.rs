//! One file for each instruction: its accounts, and a handler that loads, decides by the rules, stores, and moves.

mod add_page;
mod claim;
mod init_book;
mod open;
mod payout;
mod refund;
mod request_close;
mod withdraw;

// The program macro finds the accounts and their generated companions by these globs.
pub use add_page::*;
pub use claim::*;
pub use init_book::*;
pub use open::*;
pub use payout::*;
pub use refund::*;
pub use request_close::*;
pub use withdraw::*;

use crate::error::Failure;

/// What a handler answers.
type Outcome<T = ()> = Result<T, Failure>;
