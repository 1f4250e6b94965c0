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
mod approval;
mod breach;
mod budget;
mod builder;
mod call;
mod channel;
mod closing;
mod correction;
mod disk;
mod error;
mod exit;
mod journal;
mod looking;
mod opening;
mod paid;
mod policy;
mod pool;
mod recovery;
mod route;
mod state;
mod stream;
mod tending;
mod terms;
mod topping;
mod transact;

pub use agent::{Agent, ChannelReport};
pub use answer::receipt;
pub use approval::{Ask, Asked};
pub use breach::Breach;
pub use budget::BudgetReport;
pub use builder::AgentBuilder;
pub use channel::Phase;
pub use closing::Closed;
pub use error::AgentError;
pub use exit::{Exit, ExitStep};
pub use paid::{Bought, Paid, paid, write_csv, write_json_lines};
pub use policy::{Cluster, Policy};
pub use stream::{Metered, StreamEnd};
pub use tallybook_rpc::{Account, Accounts, Blockhash, Chain, ChainError, RpcEndpoint, View};
pub use tending::{Tended, Tending};
