//! From decisions to the chain: deposits checked, co-signed and sent; planned batches claimed and paid out; channels
//! closed together with an operator; pages read.
//!
//! The settler has no role on chain. It pays fees (and rent, where [`Settings`] say so) and can send money nowhere but
//! where the program sends it. What it does not know it asks the chain, and never guesses: see [`decide`].
//!
//! Reading path: [`Chain`] → [`send_until_decided`] → [`check`] (deposits) → [`Settler::settle_together`] (batches) →
//! [`Settler::shape`] (what their transactions look like) → [`FeePolicy`].
#![forbid(unsafe_code)]

mod chain;
mod claim;
mod deposit;
mod fees;
mod line;
#[cfg(test)]
mod memory;
mod pace;
mod page;
mod prepared;
mod purse;
mod read;
mod refund;
mod rpc;
mod send;
mod settle;
mod settler;
mod shapes;
mod sponsored;
mod table;
mod work;

pub use chain::{
    Account, Blockhash, Chain, ChainError, Commitment, Failure, Height, Landing, Simulation, Snapshot, Spent, Statuses,
};
pub use deposit::{Caps, CheckedDeposit, DepositKind, ExpectedDeposit, Opened, check};
pub use fees::FeePolicy;
pub use line::rpc_client;
pub use pace::Pace;
pub use page::PreparedPage;
pub use prepared::{Closed, Prepared};
pub use read::{BooksRead, PagesRead};
pub use refund::Refund;
pub use rpc::RpcChain;
pub use send::{Fate, Journal, decide, fate, send_until_decided};
pub use settler::{Settings, Settler};
pub use shapes::{ShapeChoice, rows};
