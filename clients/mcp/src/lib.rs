//! [MCP](https://modelcontextprotocol.io) and money, from both sides.
//!
//! # An agent's wallet
//!
//! [`WalletServer`] is an MCP server that lets a model ask what a URL costs, fetch it and pay for it, and see what is left: from
//! the wallet of its owner, within the owner's [`Policy`](tallybook_agent::Policy). No tool raises a limit, and none shows or uses
//! the key for anything but the payments that the policy allows; whatever a prompt says, the budget stays what it is. Over standard
//! input and output it is served by `rmcp`, over HTTP by [`serve_http`]; `tallybook mcp` does both.
//!
//! ```no_run
//! # #[cfg(feature = "wallet")]
//! # async fn example(wallet: solana_keypair::Keypair, policy: tallybook_agent::Policy) -> Result<(), Box<dyn std::error::Error>> {
//! use rmcp::{ServiceExt, transport::stdio};
//! use tallybook_agent::{Agent, RpcEndpoint};
//! use tallybook_mcp::{Guard, WalletServer, ask_the_client};
//!
//! let (guard, rpc) = (Guard::new(["api.example.com"]), "https://api.mainnet-beta.solana.com".parse()?);
//! let agent = Agent::builder(wallet, policy.clone(), "https://api.mainnet-beta.solana.com".parse()?, "./agent-state")
//!     .chain(RpcEndpoint::new(reqwest::Client::new(), rpc))
//!     .http(guard.client()?)
//!     .approver(ask_the_client(6)) // a dialog of the client, where the policy wants a person asked
//!     .build()?;
//! WalletServer::new(agent.clone(), 6, "./agent-state").guard(guard).serve(stdio()).await?.waiting().await?;
//! agent.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! # A price on a tool
//!
//! [`Priced`] puts prices on the tools of any server of `rmcp`, one line each. What a call costs, who is paid and what is checked
//! are the [paywall](tallybook_paywall)'s, as for a route over HTTP:
//!
//! ```no_run
//! # #[cfg(feature = "priced")]
//! # async fn example(server: impl rmcp::ServerHandler) -> Result<(), Box<dyn std::error::Error>> {
//! use rmcp::{ServiceExt, transport::stdio};
//! use tallybook_mcp::Priced;
//! use tallybook_paywall::Paywall;
//!
//! let paywall = Paywall::builder("http://127.0.0.1:4020", "4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM").build()?;
//! let server = Priced::new(server).tool("forecast", &paywall.charge("$0.001")?.exact());
//! server.serve(stdio()).await?.waiting().await?;
//! # Ok(()) }
//! ```
//!
//! It speaks the tool-result binding of x402's [MCP transport](https://github.com/x402-foundation/x402/blob/main/specs/transports-v2/mcp.md):
//! an unpaid call is answered by a result that is an error and says how to pay, in `structuredContent` and as text; the payment
//! comes in `_meta["x402/payment"]`, the receipt in `_meta["x402/payment-response"]`. (The experimental extension binding needs a
//! kind of result that `rmcp` has no place for.)
//!
//! # Paying for the tools of others
//!
//! [`call_paid`] calls a tool of any such server and pays for it from an agent's channels; [`ToolPayment`] is the same, step by step.
//!
//! Reading path: `wallet` ([`WalletServer`]) → `wallet::request` (what may be asked for) → `wallet::fetch`; `priced`
//! ([`Priced`]) → `priced::tool` (the tool as the paywall sees it) → `priced::answer` (its answers as results); `pay`.
#![forbid(unsafe_code)]

#[cfg(feature = "wallet")]
mod http_server;
#[cfg(feature = "wallet")]
mod pay;
#[cfg(feature = "priced")]
mod priced;
#[cfg(feature = "wallet")]
mod wallet;

#[cfg(feature = "wallet")]
pub use http_server::{HttpSettings, Insecure, serve_http};
#[cfg(feature = "wallet")]
pub use pay::{ToolAnswered, ToolError, ToolPayment, call_paid};
#[cfg(feature = "priced")]
pub use priced::Priced;
#[cfg(feature = "wallet")]
pub use wallet::{Guard, WalletServer, ask_the_client};

/// Where a payment stands in the `_meta` of a tool call.
pub const PAYMENT: &str = "x402/payment";
/// Where the receipt stands in the `_meta` of its result.
pub const PAYMENT_RESPONSE: &str = "x402/payment-response";
