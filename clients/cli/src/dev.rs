//! `tallybook dev`: a local chain in the foreground, ready to use.

use crate::dev_chain::{Artifact, Blocks, DevChain, DevMint, LAMPORTS_PER_SOL, Ports, deploy};
use crate::progress::Progress;
use crate::{keys, print};
use anyhow::{Context, Result};
use clap::Parser;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tallybook_rules::Amount;
use tallybook_wire::Network;

/// The keys that are made and funded, each in a file of this name.
const ROLES: [&str; 4] = ["payee", "operator", "sponsor", "agent"];

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
}

impl Dev {
    /// Runs until Ctrl-C.
    pub async fn run(self) -> Result<()> {
        let ws = self.port.checked_add(1).context("--port is too large")?;
        let ports = Ports::Fixed { rpc: self.port, ws };
        let chain = DevChain::start(ports, Blocks::Every(Duration::from_millis(self.slot_milliseconds))).await?;
        deploy_with_progress(&chain, &self.artifact()?, Progress::Shown).await?;
        std::fs::create_dir_all(&self.keys).with_context(|| format!("cannot make {}", self.keys.display()))?;
        let mint = DevMint::create(&chain, &key_in(&self.keys, "mint")?).await?;
        let mut addresses = Vec::new();
        for role in ROLES {
            addresses.push((role, key_in(&self.keys, role)?.pubkey()));
        }
        let owners: Vec<Address> = addresses.iter().map(|(_, address)| *address).collect();
        let lamports = LAMPORTS_PER_SOL.checked_mul(100).context("too much SOL")?;
        mint.fund(&chain, &owners, lamports, Amount::parse_decimal("1000", DevMint::DECIMALS)?).await?;
        self.report(&chain, &mint, &addresses)?;
        tokio::signal::ctrl_c().await?;
        Ok(())
    }

    fn artifact(&self) -> Result<Artifact> {
        match &self.artifact {
            Some(elf) => Artifact::built(elf),
            None => Artifact::released(),
        }
    }

    fn report(&self, chain: &DevChain, mint: &DevMint, addresses: &[(&str, Address)]) -> Result<()> {
        print(format_args!("RPC        {}", chain.rpc_url()))?;
        print(format_args!("WebSocket  {}", chain.ws_url()))?;
        print(format_args!(
            "network    {}  (a local chain has no CAIP-2 id of its own: it borrows devnet's)",
            Network::devnet()
        ))?;
        print(format_args!("genesis    {}", bs58::encode(chain.genesis_hash()).into_string()))?;
        print(format_args!("program    {}", tallybook_chain::PROGRAM_ID))?;
        print(format_args!("mint       {}  (6 decimals)", mint.address()))?;
        for (role, address) in addresses {
            let file = self.keys.join(format!("{role}.json"));
            print(format_args!("{role:<10} {address}  100 SOL, 1,000 tokens  {}", file.display()))?;
        }
        Ok(())
    }
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

fn key_in(folder: &Path, role: &str) -> Result<Keypair> {
    let path = folder.join(format!("{role}.json"));
    if path.exists() {
        return keys::read(&path);
    }
    let key = Keypair::new();
    keys::write(&path, &key)?;
    Ok(key)
}
