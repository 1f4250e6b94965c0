//! Charge for an HTTP route, one line a route:
//!
//! ```no_run
//! use axum::{Router, routing::post};
//! use tallybook_paywall::Paywall;
//!
//! async fn summary(text: String) -> String {
//!     format!("{} words", text.split_whitespace().count())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let paywall = Paywall::builder("http://127.0.0.1:4020", "4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM")
//!     .keep_vouchers_in("vouchers.jsonl")
//!     .build()?;
//! let app = Router::new().route("/summary", post(summary).route_layer(paywall.charge("$0.0005")?));
//! axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A call is taken in three steps: its voucher is **reserved**, the handler runs, the voucher is **committed**, and only then
//! the answer goes out. A handler that fails (any status of 400 and above, a panic, a client that hangs up before the handler
//! is done) releases the reservation, and nothing is charged. Handlers find a [`Payment`] among the request's extensions.
//!
//! What a call costs is a [`Price`]: fixed ([`Paywall::charge`]), made for each request ([`Paywall::charge_by`]), a ceiling
//! under which the handler says by its [`Charge`] what it really was ([`Paywall::charge_up_to`]), or a stream's, paid in parts
//! as it comes ([`Paywall::charge_stream`]). A [`ChargeLayer`] can also let some calls in free, and offer other books and
//! other x402 schemes beside this one.
//!
//! Where something else carries x402 (another middleware, another transport), the three steps are there one by one:
//! [`Paywall::requirements`], [`Paywall::take`] and [`Accepted::charge`].
//!
//! Who decides on vouchers and keeps them is the facilitator, asked over HTTP; or, with the feature `embedded` and
//! `PaywallBuilder::embed`, a ledger in this process, so that calls ask nobody. In the first case the newest voucher of every
//! channel is also kept in a file of your own, unless you decline, so that no facilitator can withhold your money; see
//! [`PaywallBuilder::keep_vouchers_in`].
//!
//! Reading path: [`Paywall`] → [`ChargeLayer`] → `sale` (what a 402 says, and which payment answers it) → `call` and
//! `reservation` (the three steps) → `tab` and `stream` (metered calls) → `answers` and `named` (what a repeated request gets) → `keeper` (who has the vouchers) →
//! `refund` and `grow` (what the operator's key signs).
#![forbid(unsafe_code)]

mod answers;
mod browser;
mod builder;
mod call;
mod charge;
mod declared;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod exact;
mod facilitator;
mod foreign;
mod grow;
mod keeper;
mod layer;
mod named;
mod operator;
mod overrides;
mod price;
mod quota;
mod refund;
mod reservation;
mod respond;
mod sale;
mod statements;
mod stream;
mod tab;
mod till;
mod traced;
mod vouchers;

pub use builder::{Paywall, PaywallBuilder};
pub use call::Payment;
pub use charge::{Charge, Meter};
#[cfg(feature = "embedded")]
pub use embedded::{EmbedError, Embedding};
pub use error::PaywallError;
pub use layer::{ChargeLayer, Charged};
pub use price::{Price, Rate};
pub use quota::FreeQuota;
pub use respond::Body;
pub use sale::ResourceUrl;
pub use tallybook_wire::{BodyType, Discoverable, ReceiptKey};
pub use till::{Accepted, Declined, Taken};

/// The guide's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/server.md")]
struct Guide;
