//! A server on x402-axum that is paid from channels, and by `exact` beside them.
//!
//! Everything comes from the environment; where it listens is one line of JSON.
//!
//! ```sh
//! X402_FACILITATOR=http://127.0.0.1:4020 X402_BOOK=base58 X402_PAY_TO=base58 X402_MINT=base58 cargo run --example sell
//! ```

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use axum::http::StatusCode;
use axum::{Router, routing::get};
use serde_json::json;
use solana_keypair::Keypair;
use std::env;
use std::error::Error;
use tallybook_paywall::Paywall;
use tallybook_x402::Channels;
use tokio::net::TcpListener;
use x402_axum::X402Middleware;
use x402_chain_solana::chain::{Address, SolanaChainReference, SolanaTokenDeployment};
use x402_chain_solana::{KnownNetworkSolana, V1SolanaExact, V2SolanaExact};

async fn weather() -> &'static str {
    "sunny"
}

async fn broken() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (facilitator, book) = (env::var("X402_FACILITATOR")?, env::var("X402_BOOK")?);
    let pay_to: Address = env::var("X402_PAY_TO")?.parse()?;
    let token = SolanaTokenDeployment::new(SolanaChainReference::solana_devnet(), env::var("X402_MINT")?.parse()?, 6);
    let vouchers = env::var("X402_VOUCHERS").unwrap_or_else(|_| "vouchers.jsonl".to_owned());

    // By a channel, or by `exact` for whoever has none.
    let mut paywall = Paywall::builder(&facilitator, &book).keep_vouchers_in(vouchers);
    if let Ok(operator) = env::var("X402_OPERATOR") {
        // With it, payers that leave have their money back at once.
        paywall = paywall.operator(Keypair::try_from_base58_string(&operator)?);
    }
    let paywall = paywall.build()?;
    let channels = Channels::new(paywall, &facilitator)?;
    let x402 = X402Middleware::from_facilitator(channels.facilitator());
    let price = channels.price("$0.0005")?;
    let exact = V2SolanaExact::price_tag(pay_to.clone(), token.parse("0.0005")?);
    let either = price.clone().or(exact.clone());

    // As x402-axum has it by itself, in both versions of the protocol. Without a MIME type the first version's 402 says
    // `null`, which x402-fetch 1.2.0 does not take.
    let plain = X402Middleware::try_new(&facilitator)?;
    let exact_v1 = V1SolanaExact::price_tag(pay_to, token.parse("0.0005")?);

    let app = Router::new()
        .route("/weather", get(weather).layer(channels.around(x402.with_dynamic_price(either.tags()))))
        .route("/channel", get(weather).layer(channels.around(x402.with_dynamic_price(price.clone().tags()))))
        .route("/broken", get(broken).layer(channels.around(x402.with_dynamic_price(price.clone().tags()))))
        .route(
            "/first",
            get(weather).layer(channels.around(x402.settle_before_execution().with_dynamic_price(price.tags()))),
        )
        .route("/exact", get(weather).layer(plain.with_price_tag(exact)))
        .route("/v1/exact", get(weather).layer(plain.with_price_tag(exact_v1).with_mime_type("text/plain".to_owned())));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", json!({ "listening": format!("http://{}", listener.local_addr()?) }));
    axum::serve(listener, app).await?;
    Ok(())
}
