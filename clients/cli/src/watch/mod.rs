//! `tallybook watch`: a watchtower. It holds vouchers for others, and claims what they are worth when a channel closes and
//! nobody else does. It needs no key of theirs and no trust: the program pays what is claimed to the payee, whoever claims.
//!
//! Reading path: `sources` (the vouchers) → [`Watch`] (a look every few seconds) → `round` (what is closing, claimed in time).

mod round;
mod sources;

pub use round::{Claimed, Look};

use crate::connection::{KeyFile, Rpc};
use crate::output::{Output, print, say};
use crate::settle::{CHAIN_TIMEOUT, compute_price};
use anyhow::{Context, Result, ensure};
use clap::Args;
use round::Round;
use solana_address::Address;
use sources::Sources;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::Amount;
use tallybook_settler::{FeePolicy, RpcChain, Settings, Settler};

/// Arguments of `tallybook watch`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: for all who put their exports into a folder; one look, as from cron\n  \
    tallybook watch /var/lib/watchtower --keypair fees.json --heartbeat /run/watchtower.json\n  \
    tallybook watch export.jsonl --keypair fees.json --once\n\n\
    Whom it watches for writes `tallybook vouchers export` to a file there, and replaces it as often as the newest vouchers\n\
    are worth it: what was signed since the last export is not protected. Channels that are open are left to whoever\n\
    settles them; what was signed and not charged is left to the payer.")]
pub struct Watch {
    #[command(flatten)]
    rpc: Rpc,
    /// Whose SOL pays the fees: 5,000 lamports a claim, and what is bid for compute.
    #[command(flatten)]
    fee_payer: KeyFile,
    /// Files of vouchers (exports, or paywalls' files), and folders of such files named *.jsonl.
    #[arg(required = true, value_name = "PATH")]
    from: Vec<PathBuf>,
    /// A book whose channels the vouchers may be of, where they do not say it themselves; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    book: Vec<Address>,
    /// How often to look, in seconds. The shortest grace period is 900.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=300))]
    every: u32,
    /// How long to leave a closing channel to its facilitator before stepping in, in seconds; never more than half of the
    /// grace period.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u32,
    /// Leave alone what a channel would gain less of than this, in base units of its own token.
    #[arg(long, value_name = "AMOUNT", default_value = "1")]
    min_gain: u64,
    /// What to bid for compute: auto (the median of recent blocks, 1,000 to 50,000), off, or micro-lamports a unit.
    #[arg(long, value_name = "PRICE", default_value = "auto", value_parser = compute_price)]
    compute_price: FeePolicy,
    /// Write what the last look saw to this file, for a monitor: a file that grows old is a watchtower that is blind.
    #[arg(long, value_name = "FILE")]
    heartbeat: Option<PathBuf>,
    /// Look once, claim what is closing, and end: with an error if anything could not be claimed.
    #[arg(long)]
    once: bool,
}

impl Watch {
    /// Looks again and again until it is told to stop.
    pub async fn run(self, output: Output) -> Result<()> {
        let settings = Settings { fees: self.compute_price, make_tables: false, ..Settings::default() };
        let settler = Settler::new(RpcChain::new(&self.rpc.rpc, CHAIN_TIMEOUT), self.fee_payer.read()?, settings);
        let round = Round {
            rpc: Arc::new(self.rpc.client()),
            settler: Arc::new(settler),
            books: self.book.clone(),
            patience: i64::from(self.patience),
            min_gain: Amount::new(self.min_gain),
        };
        let mut sources = Sources::new(self.from.clone());
        sources.look();
        let mut look = self.look(&round, &mut sources, output).await?;
        if self.once {
            output.report(&look)?;
            ensure!(look.failed == 0, "{} closing channels could not be claimed: run this again", look.failed);
            return Ok(());
        }
        output.hint(format_args!("{look}"));
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            tokio::select! {
                stopped = &mut stop => return Ok(stopped?),
                () = tokio::time::sleep(Duration::from_secs(self.every.into())) => {}
            }
            sources.look();
            match self.look(&round, &mut sources, output).await {
                Ok(seen) if seen.is_like(&look) => {}
                Ok(seen) => {
                    output.hint(format_args!("{seen}"));
                    look = seen;
                }
                // The chain may be away for a while; the grace period is long.
                Err(error) => say(format_args!("this look failed, the next is in {} s: {error:#}", self.every)),
            }
        }
    }

    async fn look(&self, round: &Round, sources: &mut Sources, output: Output) -> Result<Look> {
        let tell = |claimed: &Claimed| match output {
            Output::Text => say(format_args!("{claimed}")),
            // Standard output may be closed; the watch goes on.
            Output::Json if !self.once => {
                drop(serde_json::to_string(claimed).map(|json| print(format_args!("{json}"))))
            }
            Output::Json => {}
        };
        let look = round.look(&sources.newest, &tell).await?;
        if let Some(path) = &self.heartbeat {
            replace(path, &serde_json::to_vec(&look)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(look)
    }
}

/// Writes a file whole: whoever reads it sees the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}
