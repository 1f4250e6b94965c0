//! `tallybook dev`: a local chain in the foreground, ready to use.

use crate::demo::{Ground, Keys, PRICE, Pace, Stage};
use crate::dev_chain::{Artifact, Blocks, DevChain, DevMint, LAMPORTS_PER_SOL, Ports, deploy};
use crate::keys;
use crate::output::{Output, line, print};
use crate::progress::Progress;
use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tallybook_keys::Source;
use tallybook_rules::Amount;
use tallybook_wire::Network;

/// Where the facilitator and the sample API listen with `--serve`.
const SERVE_PORTS: (u16, u16) = (8402, 8403);
/// What the wallet of an agent starts with, in whole tokens.
const AGENT_TOKENS: &str = "1000";
const AGENT_LAMPORTS: u64 = LAMPORTS_PER_SOL;

/// Arguments of `tallybook dev`.
#[derive(Parser, Debug)]
#[command(after_help = "Example: a chain, a facilitator and an API to pay\n  tallybook dev --serve")]
pub struct Dev {
    /// Port of JSON-RPC; the WebSocket is at the next one.
    #[arg(long, default_value_t = 8899)]
    port: u16,
    /// Milliseconds of a slot.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    slot_milliseconds: u64,
    /// Where the key files are written (existing ones are used again).
    #[arg(long, default_value = ".tallybook-dev")]
    keys: PathBuf,
    /// Deploy this build of the program instead of the released one.
    #[arg(long)]
    artifact: Option<PathBuf>,
    /// Also run a facilitator (port 8402) and a sample API to pay (port 8403), from a channel or by x402's `exact`.
    #[arg(long)]
    serve: bool,
}

impl Dev {
    /// Runs until Ctrl-C.
    pub async fn run(self, output: Output) -> Result<()> {
        let progress = output.progress();
        let pace = Pace { slot: Duration::from_millis(self.slot_milliseconds), settle_after_seconds: 30 };
        let ws = self.port.checked_add(1).context("--port is too large")?;
        let chain = DevChain::start(Ports::Fixed { rpc: self.port, ws }, Blocks::Every(pace.slot)).await?;
        let artifact = match &self.artifact {
            Some(elf) => Artifact::built(elf)?,
            None => Artifact::released()?,
        };
        deploy_with_progress(&chain, &artifact, progress).await?;
        let ground = Ground::on(chain, self.keys()?, pace, progress).await?;
        let agent = self.key("agent")?.pubkey();
        let tokens = Amount::parse_decimal(AGENT_TOKENS, DevMint::DECIMALS)?;
        ground.mint.fund(&ground.chain, &[agent], AGENT_LAMPORTS, tokens).await?;
        if !self.serve {
            self.report(&ground, &agent, None)?.show(output)?;
            tokio::signal::ctrl_c().await?;
            return Ok(());
        }
        let stage = Stage::on(ground, PRICE, SERVE_PORTS, progress).await?;
        self.report(&stage.ground, &agent, Some(&stage))?.show(output)?;
        tokio::signal::ctrl_c().await?;
        stage.shut_down().await
    }

    fn keys(&self) -> Result<Keys> {
        std::fs::create_dir_all(&self.keys).with_context(|| format!("cannot make {}", self.keys.display()))?;
        Ok(Keys {
            mint: self.key("mint")?,
            payee: self.key("payee")?,
            operator: self.key("operator")?,
            sponsor: self.key("sponsor")?,
        })
    }

    /// The key in the role's file; a new one if there is none yet.
    fn key(&self, role: &str) -> Result<Keypair> {
        let path = self.file(role);
        if path.exists() {
            return Ok(Source::from(path).keypair()?);
        }
        let key = Keypair::new();
        keys::write(&path, &key)?;
        Ok(key)
    }

    fn file(&self, role: &str) -> PathBuf {
        self.keys.join(format!("{role}.json"))
    }

    fn report(&self, ground: &Ground, agent: &Address, stage: Option<&Stage>) -> Result<DevReport> {
        let chain = &ground.chain;
        let genesis = bs58::encode(chain.genesis_hash()).into_string();
        let role = |role: &'static str, address: &Address| -> Result<RoleReport> {
            let key_file = std::path::absolute(self.file(role))?;
            Ok(RoleReport { role, address: address.to_string(), key_file })
        };
        Ok(DevReport {
            rpc: chain.rpc_url(),
            web_socket: chain.ws_url(),
            network: Network::devnet().to_string(),
            program: tallybook_chain::PROGRAM_ID.to_string(),
            mint: ground.mint.address().to_string(),
            book: ground.book.address.to_string(),
            page: ground.page.to_string(),
            facilitator: stage.map(Stage::facilitator),
            operator_page: stage.map(|stage| format!("{}/operator", stage.facilitator())),
            admin_token: stage.map(|stage| stage.ground.admin_token.clone()),
            paid_url: stage.map(|stage| stage.shop.paid()),
            // Channels do not outlive their chain, so each chain gets a folder.
            state_dir: std::path::absolute(self.keys.join(format!("channels-{genesis:.8}")))?,
            vouchers: stage.map(|stage| stage.ground.vouchers()),
            genesis_hash: genesis,
            roles: vec![
                role("payee", &ground.payee)?,
                role("operator", &ground.operator.pubkey())?,
                role("sponsor", &ground.sponsor)?,
                role("agent", agent)?,
            ],
        })
    }
}

/// What `tallybook dev` prints once everything runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DevReport {
    /// JSON-RPC.
    pub rpc: String,
    /// Subscriptions.
    pub web_socket: String,
    /// As offers name it.
    pub network: String,
    /// As the chain names itself.
    pub genesis_hash: String,
    /// The program.
    pub program: String,
    /// The token.
    pub mint: String,
    /// The payee's book.
    pub book: String,
    /// Its page.
    pub page: String,
    /// Where the facilitator answers, with `--serve`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facilitator: Option<String>,
    /// The operator's page, with `--serve`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_page: Option<String>,
    /// What one signs in with there, with `--serve`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<String>,
    /// What can be paid for, with `--serve`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid_url: Option<String>,
    /// The API's own file of newest vouchers, with `--serve`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vouchers: Option<PathBuf>,
    /// Where the agent's channels may be kept.
    pub state_dir: PathBuf,
    /// Who has which key.
    pub roles: Vec<RoleReport>,
}

/// Somebody with a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleReport {
    /// `payee`, `operator`, `sponsor` or `agent`.
    pub role: &'static str,
    /// The address.
    pub address: String,
    /// The key's file.
    pub key_file: PathBuf,
}

impl DevReport {
    fn show(&self, output: Output) -> Result<()> {
        if output == Output::Text {
            print(format_args!(""))?;
        }
        output.report(self)
    }

    fn write_next(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tallybook, book, rpc) = (own_name(), &self.book, &self.rpc);
        let agent = self.roles.iter().find(|role| role.role == "agent").map(|role| &role.key_file);
        let (Some(url), Some(agent)) = (&self.paid_url, agent) else {
            return writeln!(
                f,
                "\nNext, in another terminal:\n  \
                 export TALLYBOOK_RPC={rpc}\n  \
                 {tallybook} book show {book}\n  \
                 {tallybook} page show {book}\n\
                 Or start again with --serve for a facilitator and an API to pay. Ctrl-C ends the chain."
            );
        };
        writeln!(
            f,
            "\nNext, in another terminal:\n  \
             export TALLYBOOK_RPC={rpc} TALLYBOOK_MINT={mint}\n  \
             export TALLYBOOK_KEYPAIR={agent} TALLYBOOK_STATE_DIR={state}\n  \
             {tallybook} pay {url} -d 'to pay or not to pay'\n  \
             {tallybook} find words\n  \
             {tallybook} channel list\n  \
             {tallybook} vouchers export {vouchers} --book {book}\n\
             Ctrl-C ends everything.",
            vouchers = self.vouchers.as_deref().unwrap_or(Path::new("vouchers.jsonl")).display(),
            mint = self.mint,
            agent = agent.display(),
            state = self.state_dir.display(),
        )
    }
}

impl fmt::Display for DevReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "RPC", &self.rpc)?;
        line(f, "WebSocket", &self.web_socket)?;
        line(f, "network", format_args!("{}  (borrowed from devnet: a local chain has none)", self.network))?;
        line(f, "genesis", &self.genesis_hash)?;
        line(f, "program", &self.program)?;
        line(f, "mint", format_args!("{}  (6 decimals)", self.mint))?;
        line(f, "book", &self.book)?;
        line(f, "page", &self.page)?;
        for role in &self.roles {
            line(f, role.role, format_args!("{}  {}", role.address, role.key_file.display()))?;
        }
        if let Some(vouchers) = &self.vouchers {
            line(f, "vouchers", vouchers.display())?;
        }
        if let (Some(page), Some(token)) = (&self.operator_page, &self.admin_token) {
            line(f, "overview", page)?;
            line(f, "sign in with", token)?;
        }
        writeln!(f, "\nThe agent has 1 SOL and {AGENT_TOKENS} tokens; payee and sponsor have SOL for rent and fees.")?;
        self.write_next(f)
    }
}

/// How this program was called, to be copied.
fn own_name() -> String {
    std::env::args().next().unwrap_or_else(|| "tallybook".to_owned())
}

/// Deploys a program and shows how far it is.
pub async fn deploy_with_progress(chain: &DevChain, artifact: &Artifact, progress: Progress) -> Result<()> {
    let bar = progress.bytes("deploying the program");
    let began = Instant::now();
    deploy(chain, artifact, |written, of| {
        bar.set_length(u64::try_from(of).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(written).unwrap_or(u64::MAX));
    })
    .await?;
    bar.finish_and_clear();
    progress.done(format_args!(
        "program deployed through the loader: {} bytes in {} ms",
        artifact.elf.len(),
        began.elapsed().as_millis()
    ));
    Ok(())
}
