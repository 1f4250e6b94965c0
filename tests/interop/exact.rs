//! `exact`: every client against every server, in both versions of x402.

use crate::matrix::Matrix;
use crate::parties::{Client, EXACT_CLIENTS, Protocol, Server};
use crate::process::{Program, Said, Serving};
use crate::proxy::{Conduct, Proxy};
use crate::town::{Held, PRICE, Town, until};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_rules::Amount;

/// Calls that a client makes.
const CALLS: u64 = 2;

/// A receipt, in either version of x402.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    success: bool,
    transaction: String,
    network: String,
    payer: Option<String>,
}

/// Runs every cell, and writes down how it went.
pub(crate) async fn fill(town: &Town, matrix: &mut Matrix) -> Result<()> {
    let settings = town.server_settings();
    let mut running: Vec<(&'static str, Serving)> = Vec::new();
    for (name, program) in [
        ("@x402/express", Program::Node("server-express.mjs")),
        ("x402-express", Program::Node("server-express-v1.mjs")),
        ("x402 (FastAPI)", Program::Python("server_fastapi.py")),
        ("x402-axum", Program::Rust("sell")),
    ] {
        running.push((name, program.serve(&settings).await?));
    }
    let mut servers: Vec<Server> = Vec::new();
    for version in [Protocol::V2, Protocol::V1] {
        servers.push(Server { name: "tallybook-paywall", url: town.paywall("/exact"), version, speaks_both: true });
    }
    for (name, serving) in &running {
        for version in [Protocol::V2, Protocol::V1] {
            let route = match (version, *name) {
                (Protocol::V2, "@x402/express" | "x402 (FastAPI)" | "x402-axum") => "/exact",
                (Protocol::V1, "x402-express" | "x402-axum") => "/v1/exact",
                _ => continue,
            };
            servers.push(Server { name, url: format!("{}{route}", serving.url), version, speaks_both: false });
        }
    }
    for server in &servers {
        for client in EXACT_CLIENTS.iter().filter(|client| client.version == server.version) {
            let scheme = format!("exact, x402 v{}", client.version.number());
            if client.version == Protocol::V1 && client.knows_both && server.speaks_both {
                matrix.elsewhere(&scheme, client.name, server.name);
                continue;
            }
            matrix.note(&scheme, client.name, server.name, cell(town, client, server).await);
        }
    }
    Ok(())
}

/// One client against one server: unpaid, paid, replayed, underpaid.
async fn cell(town: &Town, client: &Client, server: &Server) -> Result<()> {
    let wallet = town.wallet().await?;
    let began = town.held(&wallet).await?;

    // Unpaid: nothing is served
    ensure!(town.unpaid(&server.url).await? == 402, "it is served unpaid");

    // Paid: every call is served once, and moves exactly its price; the sponsor pays exactly the fees
    let (proxy, said) = calls(town, client, server, &wallet, Conduct::Honest, CALLS).await?;
    let mut fees = 0u64;
    for one in &said {
        fees = fees.saturating_add(served(town, one, &wallet).await?);
    }
    ensure!(said.len() == usize::try_from(CALLS)?, "{} answers to {CALLS} calls", said.len());
    let spent = Amount::new(PRICE).times(CALLS)?;
    let expected = Held {
        payer: began.payer.minus(spent)?,
        payee: began.payee.plus(spent)?,
        sponsor_lamports: began.sponsor_lamports.saturating_sub(fees),
        ..began
    };
    let paid = settled(town, &wallet, &expected).await?;
    ensure!(paid == expected, "{paid:?} is held instead of {expected:?}");

    // Replayed: the same payment buys nothing more
    let (name, value) = proxy.last_payment().context("no payment went through")?;
    ensure!(name == client.version.header(), "it paid in `{name}`, of another version");
    let replayed = town.http.get(&server.url).header(name, value).send().await?.status();
    ensure!(!replayed.is_success(), "a payment that was settled is served again");

    // Underpaid: by one base unit
    let (_, said) = calls(town, client, server, &wallet, Conduct::Underpays, 1).await?;
    let refused = said.iter().all(|one| one.status == Some(402) || one.error.is_some());
    ensure!(refused, "it is served for less: {said:?}");
    let after = town.held(&wallet).await?;
    ensure!(after == expected, "{after:?} is held after what was refused, instead of {expected:?}");
    Ok(())
}

async fn calls(
    town: &Town,
    client: &Client,
    server: &Server,
    wallet: &Keypair,
    conduct: Conduct,
    count: u64,
) -> Result<(Proxy, Vec<Said>)> {
    let (origin, path) = split(&server.url)?;
    let proxy = Proxy::start(origin, PRICE, conduct).await?;
    let mut settings = town.client_settings(wallet, &format!("{}{path}", proxy.url));
    settings.push(("X402_SCHEME", "exact".to_owned()));
    settings.push(("X402_VERSION", client.version.number().to_string()));
    settings.push(("X402_CALLS", count.to_string()));
    let said = client.program.run(&settings).await?;
    Ok((proxy, said))
}

/// Checks an answer that was paid for, and says what its transaction has cost.
async fn served(town: &Town, said: &Said, wallet: &Keypair) -> Result<u64> {
    ensure!(said.status == Some(200) && said.body.as_deref() == Some("sunny"), "not served: {said:?}");
    let receipt = said.receipt.as_ref().context("no receipt")?;
    let receipt: Receipt = serde_json::from_slice(&STANDARD.decode(receipt)?)?;
    ensure!(receipt.success && !receipt.network.is_empty(), "{receipt:?}");
    ensure!(receipt.payer.as_deref() == Some(wallet.pubkey().to_string().as_str()), "{receipt:?}");
    town.fee(&receipt.transaction).await
}

/// What is held, once it is what is expected; or after a while, what is held then.
async fn settled(town: &Town, wallet: &Keypair, expected: &Held) -> Result<Held> {
    let mut last = town.held(wallet).await?;
    let reached = until("the balances are right", async || {
        last = town.held(wallet).await?;
        Ok(Some(last).filter(|held| held == expected))
    });
    Ok(tokio::time::timeout(std::time::Duration::from_secs(5), reached).await.unwrap_or(Ok(last)).unwrap_or(last))
}

/// Origin and path of a URL.
pub(crate) fn split(url: &str) -> Result<(&str, &str)> {
    let at = url.match_indices('/').nth(2).context("a URL without a path")?.0;
    Ok(url.split_at(at))
}
