//! An HTTP client that pays by vouchers: it meets a 402, checks what is asked for against its [`Policy`] and against the
//! chain, opens a channel once, and then signs one small voucher for each call.
//!
//! ```no_run
//! use tallybook_agent::{Agent, Cluster, Policy};
//! use tallybook_rules::Amount;
//! # async fn example(wallet: solana_keypair::Keypair, cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
//! // At most $0.001 a call, $1 into each channel, $5 tied up or spent in all.
//! let policy = Policy::new(cluster, Amount::new(1_000), Amount::new(1_000_000), Amount::new(5_000_000))
//!     .allow_host("api.example.com");
//! let agent = Agent::builder(wallet, policy, "https://api.mainnet-beta.solana.com".parse()?, "./agent-state").build()?;
//! let answer = agent.get("https://api.example.com/weather".parse()?).await?;
//! println!("{}", answer.text().await?);
//! # Ok(()) }
//! ```
//!
//! What it never does: sign above `charged + price`; believe a server that claims more than was signed; pay twice for
//! one call without being told to; deposit beyond its budgets; take program, cluster or mint from the wire; or let a
//! voucher leave before its ceiling is durable.
//!
//! Reading path: [`Agent::execute`] → `call` and `correction` (one paid call) → `channel` (the decisions) → `opening`, `closing` →
//! `journal` (what survives a crash, and why that is enough).
#![forbid(unsafe_code)]

mod agent;
mod answer;
mod budget;
mod call;
mod channel;
mod closing;
mod correction;
mod error;
mod journal;
mod opening;
mod policy;
mod pool;
mod route;
mod terms;
mod transact;

pub use agent::{Agent, AgentBuilder, ChannelReport};
pub use answer::receipt;
pub use channel::Phase;
pub use closing::Closed;
pub use error::AgentError;
pub use policy::{Breach, Cluster, Policy};
pub use tallybook_rpc::{Account, Accounts, Blockhash, Chain, ChainError, RpcEndpoint, View};
