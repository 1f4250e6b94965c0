//! One file for each instruction: its accounts, and a handler that loads, decides by the rules, stores, and moves.

mod add_page;
mod claim;
mod close_page;
mod idle_close;
mod init_book;
mod open;
mod payout;
mod refund;
mod request_close;
mod set_operator;
mod top_up;
mod withdraw;

// The program macro finds the accounts and their generated companions by these globs.
pub use add_page::*;
pub use claim::*;
pub use close_page::*;
pub use idle_close::*;
pub use init_book::*;
pub use open::*;
pub use payout::*;
pub use refund::*;
pub use request_close::*;
pub use set_operator::*;
pub use top_up::*;
pub use withdraw::*;

use crate::error::Failure;

/// What a handler answers.
type Outcome<T = ()> = Result<T, Failure>;
