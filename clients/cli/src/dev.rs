//! `tallybook dev`: a local chain in the foreground, ready to use.

use crate::demo::{Ground, Keys, PRICE, Pace, Stage};
use crate::dev_chain::{Artifact, Blocks, DevChain, DevMint, LAMPORTS_PER_SOL, Ports, deploy};
use crate::progress::Progress;
use crate::{keys, print};
use anyhow::{Context, Result};
use clap::Parser;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tallybook_rules::Amount;
use tallybook_wire::Network;

/// Where the facilitator and the sample API listen with `--serve`.
const SERVE_PORTS: (u16, u16) = (8402, 8403);
/// What the wallet of an agent starts with, in whole tokens.
const AGENT_TOKENS: &str = "1000";
const AGENT_LAMPORTS: u64 = LAMPORTS_PER_SOL;

/// Arguments of `tallybook dev`.
#[derive(Parser, Debug)]
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
    /// Also run a facilitator (port 8402) and a sample API to pay (port 8403).
    #[arg(long)]
    serve: bool,
}

impl Dev {
    /// Runs until Ctrl-C.
    pub async fn run(self) -> Result<()> {
        let progress = Progress::Shown;
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
        self.report(&ground, &agent)?;
        if !self.serve {
            self.next_with_chain(&ground)?;
            tokio::signal::ctrl_c().await?;
            return Ok(());
        }
        let stage = Stage::on(ground, PRICE, SERVE_PORTS, progress).await?;
        self.next_with_api(&stage)?;
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
            return keys::read(&path);
        }
        let key = Keypair::new();
        keys::write(&path, &key)?;
        Ok(key)
    }

    fn file(&self, role: &str) -> PathBuf {
        self.keys.join(format!("{role}.json"))
    }

    fn report(&self, ground: &Ground, agent: &Address) -> Result<()> {
        let chain = &ground.chain;
        print(format_args!("\nRPC        {}", chain.rpc_url()))?;
        print(format_args!("WebSocket  {}", chain.ws_url()))?;
        print(format_args!("network    {}  (borrowed from devnet: a local chain has none)", Network::devnet()))?;
        print(format_args!("genesis    {}", bs58::encode(chain.genesis_hash()).into_string()))?;
        print(format_args!("program    {}", tallybook_chain::PROGRAM_ID))?;
        print(format_args!("mint       {}  (6 decimals)", ground.mint.address()))?;
        print(format_args!("book       {}", ground.book.address))?;
        print(format_args!("page       {}", ground.page))?;
        for (role, address) in [
            ("payee", &ground.payee),
            ("operator", &ground.operator.pubkey()),
            ("sponsor", &ground.sponsor),
            ("agent", agent),
        ] {
            print(format_args!("{role:<10} {address}  {}", self.file(role).display()))?;
        }
        print(format_args!(
            "\nThe agent has 1 SOL and {AGENT_TOKENS} tokens; payee and sponsor have SOL for rent and fees."
        ))
    }

    fn next_with_chain(&self, ground: &Ground) -> Result<()> {
        print(format_args!(
            "\nNext, in another terminal:\n  \
             export TALLYBOOK_RPC={rpc}\n  \
             {tallybook} book show {book}\n  \
             {tallybook} page show {book}\n\
             Or start again with --serve for a facilitator and an API to pay. Ctrl-C ends the chain.",
            rpc = ground.chain.rpc_url(),
            tallybook = own_name(),
            book = ground.book.address
        ))
    }

    fn next_with_api(&self, stage: &Stage) -> Result<()> {
        // Channels do not outlive their chain, so each chain gets a folder.
        let genesis = bs58::encode(stage.ground.chain.genesis_hash()).into_string();
        print(format_args!(
            "\nNext, in another terminal:\n  \
             export TALLYBOOK_RPC={rpc} TALLYBOOK_MINT={mint}\n  \
             export TALLYBOOK_KEYPAIR={agent} TALLYBOOK_STATE_DIR={state}\n  \
             {tallybook} pay {url} -d 'to pay or not to pay'\n  \
             {tallybook} channel list\n\
             Ctrl-C ends everything.",
            rpc = stage.ground.chain.rpc_url(),
            url = stage.shop.paid(),
            mint = stage.ground.mint.address(),
            agent = self.file("agent").display(),
            state = self.keys.join(format!("channels-{genesis:.8}")).display(),
            tallybook = own_name(),
        ))
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
