//! The conformance checker, held against what it checks: our own implementation, which holds, and one with a fault put in
//! each time, which is found.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test says what it expects, and lists its faults"
)]

mod codec;
mod facilitator;
mod proxy;
mod server;

use anyhow::{Result, bail};
use clap::Parser;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::time::Duration;
use tallybook_cli::conform::ConformCommand;
use tallybook_cli::conform::report::Report;
use tallybook_cli::demo::{Ground, Pace, Stage};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::output::Output;
use tallybook_cli::progress::Progress;
use tallybook_cli::{Cli, Command, keys};
use tallybook_rules::Amount;
use tempfile::TempDir;

/// A stage that settles at once.
async fn stage() -> Result<Stage> {
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 1 };
    Stage::set(pace, "$0.0005", Progress::Silent).await
}

/// Runs `tallybook conform` with these arguments.
async fn conform(arguments: &[&str]) -> Result<Report> {
    let words = [&["tallybook", "conform"], arguments].concat();
    let Command::Conform(conform) = Cli::try_parse_from(words)?.command else { bail!("another command") };
    match conform {
        ConformCommand::Codec(codec) => codec.run(Output::Json).await,
        ConformCommand::Facilitator(facilitator) => facilitator.run(Output::Json).await,
        ConformCommand::Server(server) => server.run(Output::Json).await,
        ConformCommand::Answer(_) => bail!("it checks nothing"),
    }
}

/// A wallet with a dollar, as options name it.
struct Wallet {
    folder: TempDir,
    options: Vec<String>,
}

impl Wallet {
    async fn at(ground: &Ground) -> Result<Self> {
        let (folder, wallet) = (tempfile::tempdir()?, Keypair::new());
        let path = folder.path().join("wallet.json");
        keys::write(&path, &wallet)?;
        let owners = [wallet.pubkey()];
        ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, Amount::new(1_000_000)).await?;
        let options = ["--rpc", &ground.chain.rpc_url(), "--keypair", &path.display().to_string()];
        Ok(Self { options: options.map(str::to_owned).to_vec(), folder })
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// The whole report, where something else is broken than what was put in.
fn expect_broken(report: &Report, names: &[&str], fault: &str) {
    let broken = report.broken_names();
    for name in names {
        assert!(broken.contains(name), "{fault} is not found at {name}: {broken:?}\n{report}");
    }
    assert!(!report.conforms(), "{fault}");
}
