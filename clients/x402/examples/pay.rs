//! An agent on x402-reqwest that pays from a channel where that is offered, and by `exact` where only that is.
//!
//! Everything comes from the environment; what came back is one line of JSON for each call.
//!
//! ```sh
//! X402_URL=http://127.0.0.1:3000/weather X402_RPC_URL=http://127.0.0.1:8899 X402_PAYER=base58 X402_MINT=base58 \
//!   X402_GENESIS_HASH=base58 X402_STATE=./agent-state cargo run --example pay
//! ```
//!
//! `X402_VERSION=1` pays as x402 v1 has it, which knows `exact` only, and `X402_SCHEME=exact` leaves channels out.

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use reqwest_middleware::ClientWithMiddleware;
use serde_json::{Value, json};
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_commitment_config::CommitmentConfig;
use solana_keypair::Keypair;
use std::env;
use std::error::Error;
use std::sync::Arc;
use tallybook_agent::{Agent, Cluster, Policy};
use tallybook_rules::Amount;
use tallybook_wire::Network;
use tallybook_x402::TallybookChannel;
use url::Url;
use x402_chain_solana::{V1SolanaExactClient, V2SolanaExactClient};
use x402_reqwest::{ReqwestWithPayments, ReqwestWithPaymentsBuild, X402Client};

/// At most a cent a call, a dollar in each channel, five in all.
const LIMITS: [Amount; 3] = [Amount::new(10_000), Amount::new(1_000_000), Amount::new(5_000_000)];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url: Url = env::var("X402_URL")?.parse()?;
    let calls: u32 = env::var("X402_CALLS").map_or(Ok(1), |calls| calls.parse())?;
    let http = client(&url)?;
    for _ in 0..calls {
        let answer = match http.get(url.clone()).send().await {
            Ok(response) => told(response).await?,
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        println!("{answer}");
    }
    Ok(())
}

fn client(url: &Url) -> Result<ClientWithMiddleware, Box<dyn Error>> {
    let payer = Arc::new(Keypair::try_from_base58_string(&env::var("X402_PAYER")?)?);
    let rpc_url = env::var("X402_RPC_URL")?;
    let rpc = Arc::new(RpcClient::new_with_commitment(rpc_url.clone(), CommitmentConfig::confirmed()));
    let one = env::var("X402_VERSION").is_ok_and(|version| version == "1");
    if one {
        let client = X402Client::new().register(V1SolanaExactClient::new(payer, rpc));
        return Ok(reqwest::Client::new().with_payments(client).build());
    }
    if env::var("X402_SCHEME").is_ok_and(|scheme| scheme == "exact") {
        let client = X402Client::new().register(V2SolanaExactClient::new(payer, rpc));
        return Ok(reqwest::Client::new().with_payments(client).build());
    }
    let cluster = Cluster {
        network: Network::devnet(),
        genesis_hash: env::var("X402_GENESIS_HASH")?.parse()?,
        mint: env::var("X402_MINT")?.parse()?,
    };
    let [a_call, a_channel, in_all] = LIMITS;
    let policy = Policy::new(cluster, a_call, a_channel, in_all).allow_host(host(url));
    let agent = Agent::builder(payer.insecure_clone(), policy, rpc_url.parse()?, env::var("X402_STATE")?).build()?;
    let channel = TallybookChannel::new(agent);
    // The first that is registered is preferred.
    let client = X402Client::new().register(channel.clone()).register(V2SolanaExactClient::new(payer, rpc));
    Ok(reqwest::Client::new().with_payments(client).builder().with(channel.answers()).build())
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Status, receipt and body of an answer.
async fn told(response: reqwest::Response) -> Result<Value, reqwest::Error> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let receipt = header("Payment-Response").or_else(|| header("X-Payment-Response"));
    let status = response.status().as_u16();
    Ok(json!({ "status": status, "receipt": receipt, "body": response.text().await? }))
}
