//! The agent behind `tallybook pay` and `tallybook channel`: whose money, on which cluster, within which limits.

use crate::connection::{self, KeyFile, NoAnswer, Rpc};
use crate::output::Told;
use anyhow::{Context, Result, bail};
use clap::Args;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_signer::Signer;
use std::path::PathBuf;
use tallybook_agent::{Agent, AgentError, Cluster, Policy};
use tallybook_rules::Amount;
use tallybook_wire::{Key, Network};

/// Clusters by their CAIP-2 id, and USDC there.
const USDC: [(&str, &str); 2] = [
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
];

/// The options that name a wallet.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Wallet")]
pub struct Wallet {
    #[command(flatten)]
    rpc: Rpc,
    #[command(flatten)]
    key: KeyFile,
    /// The token to pay with [default: USDC on mainnet and devnet].
    #[arg(long, env = "TALLYBOOK_MINT", hide_env_values = true, value_name = "ADDRESS")]
    mint: Option<Address>,
    /// Where the channels are kept between calls [default: ~/.local/share/tallybook].
    #[arg(long, env = "TALLYBOOK_STATE_DIR", hide_env_values = true, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

/// The options that limit what may be spent. In whole tokens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits, in whole tokens")]
pub struct Limits {
    /// Pay at most this for a call.
    #[arg(long, default_value = "0.01", value_name = "AMOUNT")]
    pub max_price: String,
    /// Put this into a new channel.
    #[arg(long, default_value = "1", value_name = "AMOUNT")]
    pub deposit: String,
    /// Never tie up or spend more than this in all.
    #[arg(long, default_value = "5", value_name = "AMOUNT")]
    pub budget: String,
}

/// A wallet in use.
pub struct OpenWallet {
    /// What pays.
    pub agent: Agent,
    /// Decimals of the token.
    pub decimals: u8,
}

impl OpenWallet {
    /// An error of the agent, in this wallet's tokens.
    pub const fn told(&self, error: AgentError) -> Told {
        Told::new(error, self.decimals)
    }
}

impl Wallet {
    /// An agent that may pay `host` within `limits`; without limits it opens nothing.
    pub async fn open(&self, limits: Option<&Limits>, host: Option<&str>) -> Result<OpenWallet> {
        let wallet = self.key.read()?;
        let rpc = self.rpc.client();
        let (cluster, decimals) = self.cluster(&rpc).await?;
        let amount = |text: Option<&String>, name: &str| match text {
            Some(text) => Amount::parse_decimal(text, decimals).with_context(|| format!("--{name} {text}")),
            None => Ok(Amount::ZERO),
        };
        let mut policy = Policy::new(
            cluster,
            amount(limits.map(|limits| &limits.max_price), "max-price")?,
            amount(limits.map(|limits| &limits.deposit), "deposit")?,
            amount(limits.map(|limits| &limits.budget), "budget")?,
        );
        if let Some(host) = host {
            policy = policy.allow_host(host);
        }
        let state = match &self.state_dir {
            Some(directory) => directory.clone(),
            None => home()?.join(".local/share/tallybook"),
        };
        // One journal per wallet: an agent does not share its channels.
        let state = state.join(wallet.pubkey().to_string());
        let url = self.rpc.rpc.parse().ok().context("--rpc is no URL")?;
        let agent = Agent::builder(wallet, policy, url, state).build()?;
        Ok(OpenWallet { agent, decimals })
    }

    /// The chain that it asks.
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// What the endpoint's chain is, and the token's decimals there.
    async fn cluster(&self, rpc: &RpcClient) -> Result<(Cluster, u8)> {
        let genesis_hash = rpc.get_genesis_hash().await.context(NoAnswer)?.to_bytes();
        let network = network(&self.rpc, &genesis_hash);
        let mint = match (self.mint, USDC.iter().find(|(id, _)| *id == network.as_str())) {
            (Some(mint), _) => mint,
            (None, Some((_, usdc))) if !self.rpc.is_local() => usdc.parse()?,
            (None, _) => bail!("name the token with --mint: only mainnet and devnet have a USDC that is known here"),
        };
        let (_, decimals) = connection::mint(rpc, &mint).await?;
        let cluster = Cluster { network, genesis_hash: Key(genesis_hash), mint: Key(mint.to_bytes()) };
        Ok((cluster, decimals))
    }
}

/// The cluster's id; a local chain announces devnet's, having none of its own.
fn network(rpc: &Rpc, genesis_hash: &[u8; 32]) -> Network {
    if rpc.is_local() { Network::devnet() } else { Network::of_genesis(genesis_hash) }
}

fn home() -> Result<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).context("HOME is not set: name a --state-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_clusters_are_those_of_the_wire() {
        assert_eq!(USDC[0].0, Network::mainnet().as_str());
        assert_eq!(USDC[1].0, Network::devnet().as_str());
    }
}
