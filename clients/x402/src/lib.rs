//! The x402 scheme `@tallybook/channel` for the crates of [x402-rs](https://docs.rs/x402-types): an agent that uses
//! `x402-reqwest` pays from prepaid channels, and a server that uses `x402-axum` is paid from them, beside the `exact`
//! payments that they make and take already.
//!
//! # Paying
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example(wallet: solana_keypair::Keypair, policy: tallybook_agent::Policy) -> Result<(), Box<dyn std::error::Error>> {
//! use tallybook_agent::Agent;
//! use tallybook_x402::TallybookChannel;
//! use x402_reqwest::{ReqwestWithPayments, ReqwestWithPaymentsBuild, X402Client};
//!
//! let agent = Agent::builder(wallet, policy, "https://api.mainnet-beta.solana.com".parse()?, "./agent-state").build()?;
//! let channel = TallybookChannel::new(agent);
//! let http = reqwest::Client::new()
//!     .with_payments(X402Client::new().register(channel.clone()))
//!     .builder()
//!     .with(channel.answers()) // below X402Client
//!     .build();
//! println!("{}", http.get("https://api.example.com/weather").send().await?.text().await?);
//! # Ok(()) }
//! ```
//!
//! Every rule of money (limits, budgets, the journal, corrections) is that of [`tallybook_agent`]; this is where its payments
//! are handed to `x402-reqwest`. `examples/pay.rs` pays by channel and by `exact`.
//!
//! # Being paid
//!
//! ```no_run
//! # #[cfg(feature = "server")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::get};
//! use tallybook_paywall::Paywall;
//! use tallybook_x402::Channels;
//! use x402_axum::X402Middleware;
//!
//! let paywall = Paywall::builder("http://127.0.0.1:4020", "4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM").build()?;
//! let channels = Channels::new(paywall, "http://127.0.0.1:4020")?;
//! let x402 = X402Middleware::from_facilitator(channels.facilitator());
//! let price = channels.price("$0.0005")?;
//! let app: Router = Router::new().route(
//!     "/weather",
//!     get(|| async { "sunny" }).layer(channels.around(x402.with_dynamic_price(price.tags()))),
//! );
//! # Ok(()) }
//! ```
//!
//! Every rule (what a payment is checked for, durability, the copy of the vouchers, cooperative closes) is that of
//! [`tallybook_paywall`]. `examples/sell.rs` sells by channel and by `exact`.
//!
//! # What the traits of x402-rs 2.0.2 do not let in
//!
//! | where | what is missing | what is done about it here |
//! |---|---|---|
//! | `x402-reqwest`: `X402SchemeClient`, `PaymentCandidateSigner` | a scheme sees the 402, but neither the request nor the answer: it cannot know what a call cost, or correct a payment | a second middleware, [`TallybookChannel::answers`], below `X402Client` |
//! | the same | every call is asked for its price first: a known price is not paid with the first request | use [`tallybook_agent`] itself where the round trip counts |
//! | `x402-axum`: `v2::PriceTag` | the answered requirements must equal the offered ones to the letter, and ours name a free slot, which changes | a price tag of our own, [`Tag`], which takes others in too |
//! | `x402-axum`: `PaygateProtocol` | its functions know neither the server nor the request | what they need is kept for the time of a request by [`Channels::around`] |
//! | `x402-axum`: `Facilitator` | nobody is told that a handler failed, so that nothing could give the payment back | the same |
//! | `x402-axum` | a handler runs whatever is paid for; a request to close a channel must not reach it | the same |
//! | `x402-axum` | a handler that says what it cost, streams, the answer again for a payment whose answer was lost | use [`tallybook_paywall`], which is a tower layer too |
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "client")]
pub use client::{Answers, TallybookChannel};
#[cfg(feature = "server")]
pub use server::{Around, ChannelFacilitator, Channels, ChannelsError, Price, Tag, WatchedService};

/// The scheme's id, in both.
pub const SCHEME: &str = tallybook_wire::SCHEME;
