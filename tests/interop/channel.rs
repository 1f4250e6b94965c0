//! `@tallybook/channel`: through the tools of others, with our plug-ins in them.

use crate::exact::split;
use crate::matrix::Matrix;
use crate::process::{Program, Said, Serving};
use crate::proxy::{Conduct, Proxy};
use crate::town::{FUNDS, PRICE, Town, until};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::path::Path;
use tallybook_agent::{Agent, receipt};
use tallybook_rules::Amount;
use tallybook_wire::{Key, SettleResponse};

/// What the scheme is called in the matrix.
const SCHEME: &str = "@tallybook/channel";

/// A client that pays by channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    /// Our own agent, in this process.
    Agent,
    /// A third party's, with our plug-in.
    Process(Program),
}

/// A server that is paid by channel.
struct Server {
    name: &'static str,
    origin: String,
    _serving: Option<Serving>,
}

/// Runs every cell, and writes down how it went.
pub(crate) async fn fill(town: &Town, matrix: &mut Matrix) -> Result<()> {
    let mut servers = vec![Server { name: "tallybook-paywall", origin: town.paywall(""), _serving: None }];
    for (name, program) in [
        ("x402-axum + tallybook-x402", Program::Rust("sell")),
        ("@x402/express + @tallybook/x402", Program::Node("server-channel.mjs")),
    ] {
        let serving = program.serve(&town.server_settings()).await?;
        servers.push(Server { name, origin: serving.url.clone(), _serving: Some(serving) });
    }
    let clients = [
        ("tallybook-agent", Client::Agent),
        ("x402-reqwest + tallybook-x402", Client::Process(Program::Rust("pay"))),
        ("@x402/fetch + @tallybook/x402", Client::Process(Program::Node("client-channel.mjs"))),
    ];
    for server in &servers {
        for (name, client) in clients {
            matrix.note(SCHEME, name, server.name, cell(town, client, server).await);
        }
    }
    Ok(())
}

/// One client against one server: unpaid, paid, with a handler that fails, replayed, and with a record that is behind.
async fn cell(town: &Town, client: Client, server: &Server) -> Result<()> {
    let wallet = town.wallet().await?;
    let began = town.held(&wallet).await?;
    let route = format!("{}/channel", server.origin);
    ensure!(town.unpaid(&route).await? == 402, "it is served unpaid");

    // When it is paid for, then a channel is open that holds the deposit, and each call costs its price
    let proxy = Proxy::start(&server.origin, PRICE, Conduct::Honest).await?;
    let paid = client.calls(town, &wallet, &format!("{}/channel", proxy.url), 3, None).await?;
    let channel = charged(&paid, PRICE.saturating_mul(3))?;
    let view = town.channel(&channel).await?;
    ensure!((view.charged.get(), view.deposit) == (1_500, FUNDS), "{view:?}");

    // When a handler fails, then nothing is charged, and the channel is free at once
    let failed = client.calls(town, &wallet, &format!("{}/broken", proxy.url), 1, None).await?;
    ensure!(failed.iter().all(|one| one.status == Some(500)), "{failed:?}");
    let state = town.ground.agent_folder(&wallet.pubkey());
    let copy = tempfile::tempdir()?;
    copy_files(&state, copy.path())?;
    let paid = client.calls(town, &wallet, &format!("{}/channel", proxy.url), 2, None).await?;
    charged(&paid, 2_500)?;

    // When its payment is sent again, then nothing more is charged
    let (name, value) = proxy.last_payment().context("no payment went through")?;
    town.http.get(&route).header(name, value).send().await?;
    ensure!(town.channel(&channel).await?.charged.get() == 2_500, "a payment counts twice");

    // When it goes on from a record that is behind, then it is corrected, and pays once
    let paid = client.calls(town, &wallet, &format!("{}/channel", proxy.url), 1, Some(copy.path())).await?;
    charged(&paid, 3_000)?;

    // Then all of that is settled on chain, to the base unit, and nobody else has paid anything
    let payee = began.payee.plus(Amount::new(3_000))?;
    let held = until("the payee has it on chain", async || {
        Ok(Some(town.held(&wallet).await?).filter(|held| held.payee == payee))
    });
    let held = held.await?;
    ensure!(held.payer.is_zero() && held.payer_lamports == 0 && held.sponsor == began.sponsor, "{held:?}");
    let slot = *town.ground.page().await?.slot(view.channel.slot)?;
    ensure!((slot.deposit, slot.settled.get()) == (FUNDS, 3_000), "{slot:?}");

    // When the payer leaves, with the server's help, then what is unspent is back at once
    let closed = agent(town, &wallet, &proxy.url, copy.path())?;
    let returned = closed.close(channel).await?.returned;
    closed.shutdown().await?;
    let unspent = FUNDS.minus(Amount::new(3_000))?;
    let held = town.held(&wallet).await?;
    ensure!((returned, held.payer, held.payer_lamports) == (unspent, unspent, 0), "{returned} is back, and {held:?}");
    Ok(())
}

impl Client {
    /// Makes calls, from the usual state or another one.
    async fn calls(
        self,
        town: &Town,
        wallet: &Keypair,
        url: &str,
        count: u32,
        state: Option<&Path>,
    ) -> Result<Vec<Said>> {
        let mut settings = town.client_settings(wallet, url);
        settings.push(("X402_CALLS", count.to_string()));
        if let Some(state) = state {
            settings.retain(|(name, _)| *name != "X402_STATE");
            settings.push(("X402_STATE", state.display().to_string()));
        }
        match self {
            Self::Process(program) => program.run(&settings).await,
            Self::Agent => {
                let usual = town.ground.agent_folder(&wallet.pubkey());
                let agent = agent(town, wallet, split(url)?.0, state.unwrap_or(&usual))?;
                let said = ours(&agent, url, count).await?;
                agent.shutdown().await?;
                Ok(said)
            }
        }
    }
}

/// Our own agent, on a state directory.
fn agent(town: &Town, wallet: &Keypair, origin: &str, state: &Path) -> Result<Agent> {
    let policy = town.ground.policy(origin.trim_start_matches("http://"), Amount::new(10_000), FUNDS);
    let rpc = town.ground.chain.rpc_url().parse()?;
    Ok(Agent::builder(wallet.insecure_clone(), policy, rpc, state).build()?)
}

/// Calls by it.
async fn ours(agent: &Agent, url: &str, count: u32) -> Result<Vec<Said>> {
    let mut said = Vec::new();
    for _ in 0..count {
        let response = agent.get(url.parse()?).await?;
        let receipt = response.headers().get("payment-response").map(|value| value.to_str().map(str::to_owned));
        let (status, receipt) = (Some(response.status().as_u16()), receipt.transpose()?);
        said.push(Said { status, receipt, body: Some(response.text().await?), error: None });
    }
    Ok(said)
}

/// All were served, and the last receipt says that the channel was charged so much in all.
fn charged(said: &[Said], total: u64) -> Result<Key> {
    for one in said {
        ensure!(one.status == Some(200) && one.body.as_deref() == Some("sunny"), "not served: {one:?}");
    }
    let last = said.last().and_then(|one| one.receipt.as_ref()).context("no receipt")?;
    let headers = [(http::HeaderName::from_static("payment-response"), http::HeaderValue::try_from(last)?)];
    let Some(SettleResponse::Settled { extra, .. }) = receipt(&headers.into_iter().collect()) else {
        anyhow::bail!("{:?} is no receipt", STANDARD.decode(last).map(String::from_utf8));
    };
    let state = extra.channel_state.context("a receipt without the channel's state")?;
    ensure!(state.charged_cumulative_amount.get() == total, "{state:?} instead of {total}");
    Ok(state.channel_id)
}

/// Copies the files of a state directory, as a backup would.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
