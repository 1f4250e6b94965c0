//! What a light client asks the chain: five methods of Solana's JSON-RPC behind a trait of five functions, so that agent and
//! paywall need none of the large client crates, and tests a chain in memory.
//!
//! ```no_run
//! use tallybook_rpc::{Chain, RpcEndpoint, View};
//! # async fn example(page: tallybook_chain::Address) -> Result<(), Box<dyn std::error::Error>> {
//! let chain = RpcEndpoint::new(reqwest::Client::new(), "https://api.mainnet-beta.solana.com".parse()?);
//! let first = chain.accounts(&[page], View::CONFIRMED).await?;
//! // Never an older state than the one that was seen already, whichever node of a pool answers.
//! let next = chain.accounts(&[page], View::CONFIRMED.not_before(first.context_slot)).await?;
//! assert!(next.context_slot >= first.context_slot);
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod answer;
mod chain;
mod endpoint;
mod sight;

pub use chain::{Chain, ChainError};
pub use endpoint::RpcEndpoint;
pub use sight::{Account, Accounts, Blockhash, Commitment, View};
