//! The scheme in x402-reqwest, before any money moves. (What it pays is tested end to end: `tests/interop`.)
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use reqwest_middleware::ClientWithMiddleware;
use serde_json::{Value, json};
use solana_keypair::Keypair;
use tallybook_agent::{Agent, Cluster, Policy};
use tallybook_rules::Amount;
use tallybook_wire::{Key, Network, header};
use tallybook_x402::{SCHEME, TallybookChannel};
use x402_reqwest::{ReqwestWithPayments, ReqwestWithPaymentsBuild, X402Client};
use x402_types::proto::PaymentRequired;
use x402_types::scheme::client::X402SchemeClient;

const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

/// A 402 with our scheme and another one.
fn required() -> Value {
    let key = |byte| Key([byte; 32]).to_string();
    let exact = json!({
        "scheme": "exact", "network": NETWORK, "amount": "500", "asset": key(2), "payTo": key(1),
        "maxTimeoutSeconds": 60, "extra": { "feePayer": key(6) },
    });
    let mut channel = exact.clone();
    channel["scheme"] = json!(SCHEME);
    channel["extra"] = json!({
        "book": key(3), "bookId": 0, "page": key(5), "slot": 0, "generation": 1, "feePayer": key(6),
        "withdrawDelay": 900, "minDeposit": "1000", "tokenProgram": key(7), "decimals": 6,
    });
    json!({ "x402Version": 2, "resource": { "url": "http://127.0.0.1/" }, "accepts": [exact, channel] })
}

fn channel(state: &std::path::Path) -> TallybookChannel {
    let cluster = Cluster { network: Network::devnet(), genesis_hash: Key([9; 32]), mint: Key([2; 32]) };
    let limit = Amount::new(1_000_000);
    let policy = Policy::new(cluster, limit, limit, limit).allow_host("127.0.0.1").attempts(1);
    let nowhere = "http://127.0.0.1:9".parse().unwrap();
    TallybookChannel::new(Agent::builder(Keypair::new(), policy, nowhere, state).build().unwrap())
}

/// A server that asks for payment, and says in its answer whether it got one.
async fn server() -> String {
    let ask = async || {
        let required = required();
        (StatusCode::PAYMENT_REQUIRED, [("payment-required", header(&required).unwrap())], Json(json!({})))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(ask))).await });
    url
}

async fn refused(http: &ClientWithMiddleware) -> String {
    let url = server().await;
    let Err(error) = http.get(url).send().await else { panic!("it was served") };
    format!("{error:#}")
}

#[tokio::test]
async fn given_a_402_when_the_scheme_is_asked_then_it_names_its_own_entry_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let channel = channel(folder.path());
    let required = serde_json::from_value(required()).unwrap();
    let candidates = channel.accept(&PaymentRequired::V2(required));
    assert_eq!(candidates.len(), 1);
    let candidate = &candidates[0];
    assert_eq!((candidate.scheme.as_str(), candidate.x402_version), (SCHEME, 2));
    assert_eq!((candidate.amount.to_string(), candidate.chain_id.to_string()), ("500".into(), NETWORK.into()));
    assert_eq!((&candidate.asset, &candidate.pay_to), (&Key([2; 32]).to_string(), &Key([1; 32]).to_string()));
}

#[tokio::test]
async fn given_no_middleware_for_answers_when_a_call_is_made_then_nothing_is_signed_and_it_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let x402 = X402Client::new().register(channel(folder.path()));
    let http = reqwest::Client::new().with_payments(x402).build();
    assert!(refused(&http).await.contains("channel.answers()"));
}

#[tokio::test]
async fn given_a_chain_that_is_away_when_a_call_is_made_then_its_agent_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let channel = channel(folder.path());
    let x402 = X402Client::new().register(channel.clone());
    let http = reqwest::Client::new().with_payments(x402).builder().with(channel.answers()).build();
    let error = refused(&http).await;
    assert!(!error.contains("channel.answers()") && error.contains("sign"), "{error}");
    assert_eq!(channel.agent().channels(), Vec::new());
}
