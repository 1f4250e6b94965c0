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
//! A program that pays by itself is told what it may spend ([`Policy`] says what each limit bounds), whom it asks when it
//! would spend more, and shows what it bought:
//!
//! ```no_run
//! # use tallybook_agent::{Agent, Cluster, Policy, paid, write_csv};
//! # use tallybook_rules::Amount;
//! # async fn ask_the_owner(question: String) -> bool { question.is_empty() }
//! # async fn example(wallet: solana_keypair::Keypair, cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::new(cluster, Amount::new(50_000), Amount::new(1_000_000), Amount::new(20_000_000))
//!     .allow_host("*.example.com")
//!     .deny_host("expensive.example.com")
//!     .budget_per_hour(Amount::new(500_000))
//!     .budget_per_day(Amount::new(2_000_000))
//!     .approve_price_above(Amount::new(10_000))
//!     .close_idle_after(std::time::Duration::from_secs(3_600))
//!     .channels_per_host(4);
//! let agent = Agent::builder(wallet, policy, "https://api.mainnet-beta.solana.com".parse()?, "./agent-1")
//!     // every process of this owner, each with a state directory of its own
//!     .budget_directory("./budget")
//!     .approver(|ask| ask_the_owner(format!("{} base units to {}?", ask.amount, ask.host)))
//!     .build()?;
//! agent.get("https://api.example.com/answer".parse()?).await?;
//! write_csv(paid("./agent-1".as_ref()), 6, &mut std::io::stdout())?;
//! agent.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! What a call would cost is asked without paying by [`Agent::quote`], and [`Agent::execute_within`] pays no more than that.
//! Answers may be paid for as they come ([`Metered`]). Channels are topped up when they are used up, closed when they are
//! used up for good or idle ([`Agent::tend`]), found again when the state directory is lost ([`Agent::recover`]), and left
//! with the server's help ([`Agent::close`]) or without ([`Agent::force_close`], and [`Agent::exit_transaction`] for a wallet
//! without lamports). Books whose operator signs each opening are not paid: the agent has nobody to ask for that signature.
//!
//! What can be bought is listed by facilitators: [`find`] asks one, [`quote`] asks a server for its price. A listing is a hint;
//! what is paid is held against the limits like anything else.
//!
//! Where another client sends the requests (one with x402 of its own, say), [`Agent::pay`] makes the payment of one call and
//! [`Payment::answered`] looks at its answer.
//!
//! What it never does: sign above `charged + price`; believe a server that claims more than was signed; pay twice for
//! one call without being told to; deposit beyond its budgets; take program, cluster or mint from the wire; or let a
//! voucher leave before its ceiling is durable and its budget counts it.
//!
//! Reading path: [`Agent::execute`] → `call` and `correction` (one paid call) → `channel` (the decisions) → `opening`,
//! `topping`, `closing`, `exit` → `journal` (what survives a crash, and why that is enough) → `budget`.
#![forbid(unsafe_code)]

mod agent;
mod answer;
mod approval;
mod breach;
mod budget;
mod builder;
mod call;
mod carried;
mod channel;
mod closing;
mod correction;
mod disk;
mod error;
mod exit;
mod finding;
mod journal;
mod limits;
mod looking;
mod opening;
mod paid;
mod policy;
mod pool;
mod quote;
mod recovery;
mod route;
mod state;
mod stream;
mod tending;
mod terms;
mod topping;
mod transact;

pub use agent::{Agent, ChannelReport};
pub use answer::{receipt, signed_receipt};
pub use approval::{Ask, Asked};
pub use breach::Breach;
pub use budget::BudgetReport;
pub use builder::AgentBuilder;
pub use carried::{Answered, Payment};
pub use channel::{Known, Phase};
pub use closing::Closed;
pub use error::AgentError;
pub use exit::{Exit, ExitStep};
pub use finding::{FindError, Quote, Sample, Wanted, find, listing_status, quote};
pub use limits::LimitsReport;
pub use paid::{Bought, Paid, paid, write_csv, write_json_lines};
pub use policy::{Cluster, Policy};
pub use quote::CallQuote;
pub use stream::{Metered, StreamEnd};
pub use tallybook_rpc::{Account, Accounts, Blockhash, Chain, ChainError, RpcEndpoint, View};
pub use tending::{Tended, Tending};

/// The guide's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/agent.md")]
struct Guide;
