//! The agent behind `tallybook pay` and `tallybook channel`: whose money, on which cluster, within which limits.

use crate::connection::{self, KeyFile, NoAnswer, Rpc};
use crate::output::Told;
use crate::terminal;
use anyhow::{Context, Result, bail};
use clap::Args;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_signer::Signer;
use std::path::PathBuf;
use tallybook_agent::{Agent, AgentBuilder, AgentError, Cluster, Policy};
use tallybook_rules::Amount;
use tallybook_wire::{Key, Network};
use url::Url;

/// Clusters by their CAIP-2 id, and USDC there.
const USDC: [(&str, &str); 2] = [
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
];

/// What people call a token, where that is known here.
pub(crate) fn symbol(mint: &Address) -> Option<&'static str> {
    let mint = mint.to_string();
    USDC.iter().any(|(_, usdc)| *usdc == mint).then_some("USDC")
}

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
    /// Pay at most this for a call, or for a whole stream.
    #[arg(long, default_value = "0.01", value_name = "AMOUNT")]
    pub max_price: String,
    /// Put this into a new channel, and add as much when it is used up.
    #[arg(long, default_value = "1", value_name = "AMOUNT")]
    pub deposit: String,
    /// Never tie up or spend more than this in all.
    #[arg(long, default_value = "5", value_name = "AMOUNT")]
    pub budget: String,
    /// Never tie up or spend more than this at one host [default: the budget].
    #[arg(long, value_name = "AMOUNT")]
    pub budget_per_host: Option<String>,
    /// Never spend more than this within an hour.
    #[arg(long, value_name = "AMOUNT")]
    pub budget_per_hour: Option<String>,
    /// Never spend more than this within a day.
    #[arg(long, value_name = "AMOUNT")]
    pub budget_per_day: Option<String>,
    /// Ask a person before a call costs more than this: at the terminal, or with `mcp` through the client.
    #[arg(long, value_name = "AMOUNT")]
    pub ask_above: Option<String>,
    /// Pay only this payee; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub payee: Vec<Key>,
    /// The longest grace period to agree to, in seconds: how long the rest may take to come back without the server.
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
    pub max_grace_seconds: u32,
    /// Open a channel at the wallet's expense where the server's sponsor does not.
    #[arg(long)]
    pub own_fees: bool,
    /// Share the budgets with all wallets that name this folder [default: the wallet's own].
    #[arg(long, env = "TALLYBOOK_BUDGET_DIR", hide_env_values = true, value_name = "FOLDER")]
    pub budget_dir: Option<PathBuf>,
}

/// A wallet in use.
pub struct OpenWallet {
    /// What pays.
    pub agent: Agent,
    /// The token that it pays with.
    pub mint: Address,
    /// Decimals of the token.
    pub decimals: u8,
    /// The cluster.
    pub genesis_hash: [u8; 32],
}

/// A wallet about to be used.
pub struct Prepared {
    /// Makes what pays.
    pub builder: AgentBuilder,
    /// Where its channels are kept.
    pub state: PathBuf,
    /// The chain that it asks.
    pub rpc: Url,
    /// The token that it pays with.
    pub mint: Address,
    /// Decimals of the token.
    pub decimals: u8,
    /// The cluster.
    pub genesis_hash: [u8; 32],
}

impl OpenWallet {
    /// An error of the agent, in this wallet's tokens.
    pub const fn told(&self, error: AgentError) -> Told {
        Told::new(error, self.decimals)
    }
}

impl Limits {
    fn policy(&self, cluster: Cluster, decimals: u8) -> Result<Policy> {
        let amount =
            |text: &str, name: &str| Amount::parse_decimal(text, decimals).with_context(|| format!("--{name} {text}"));
        let optional = |text: &Option<String>, name| text.as_deref().map(|text| amount(text, name)).transpose();
        let mut policy = Policy::new(
            cluster,
            amount(&self.max_price, "max-price")?,
            amount(&self.deposit, "deposit")?,
            amount(&self.budget, "budget")?,
        );
        if let Some(limit) = optional(&self.budget_per_host, "budget-per-host")? {
            policy = policy.budget_per_host(limit);
        }
        if let Some(limit) = optional(&self.budget_per_hour, "budget-per-hour")? {
            policy = policy.budget_per_hour(limit);
        }
        if let Some(limit) = optional(&self.budget_per_day, "budget-per-day")? {
            policy = policy.budget_per_day(limit);
        }
        if let Some(limit) = optional(&self.ask_above, "ask-above")? {
            policy = policy.approve_price_above(limit);
        }
        for payee in &self.payee {
            policy = policy.allow_payee(*payee);
        }
        Ok(policy.max_grace_seconds(self.max_grace_seconds).own_fees(self.own_fees))
    }
}

impl Wallet {
    /// An agent that may pay `host` within `limits`; without limits it opens nothing.
    pub async fn open(&self, limits: Option<&Limits>, host: Option<&str>) -> Result<OpenWallet> {
        // A command ends long before there is something to look after.
        let prepared = self.prepare(limits, |policy| {
            let policy = policy.tend_every(None);
            host.into_iter().fold(policy, Policy::allow_host)
        });
        let Prepared { mut builder, mint, decimals, genesis_hash, .. } = prepared.await?;
        if terminal::is_there() {
            builder = builder.approver(move |ask| terminal::approve(ask, decimals));
        }
        Ok(OpenWallet { agent: builder.build()?, mint, decimals, genesis_hash })
    }

    /// An agent that is not built yet, within `limits` and what `shape` makes of them.
    pub async fn prepare(&self, limits: Option<&Limits>, shape: impl FnOnce(Policy) -> Policy) -> Result<Prepared> {
        let wallet = self.key.read()?;
        let rpc = self.rpc.client();
        let (cluster, decimals) = self.cluster(&rpc).await?;
        let (mint, genesis_hash) = (Address::from(cluster.mint.0), cluster.genesis_hash.0);
        let policy = match limits {
            Some(limits) => limits.policy(cluster, decimals)?,
            None => Policy::new(cluster, Amount::ZERO, Amount::ZERO, Amount::ZERO).max_grace_seconds(u32::MAX),
        };
        let url: Url = self.rpc.rpc.parse().ok().context("--rpc is no URL")?;
        let state = self.state_folder(&Key(wallet.pubkey().to_bytes()))?;
        let mut builder = Agent::builder(wallet, shape(policy), url.clone(), &state);
        if let Some(folder) = limits.and_then(|limits| limits.budget_dir.as_ref()) {
            builder = builder.budget_directory(folder);
        }
        Ok(Prepared { builder, state, rpc: url, mint, decimals, genesis_hash })
    }

    /// Where the wallet's channels are kept: a folder for each, since agents do not share channels.
    pub fn state_folder(&self, wallet: &Key) -> Result<PathBuf> {
        let state = match &self.state_dir {
            Some(directory) => directory.clone(),
            None => home()?.join(".local/share/tallybook"),
        };
        Ok(state.join(wallet.to_string()))
    }

    /// The key that pays.
    pub const fn key(&self) -> &KeyFile {
        &self.key
    }

    /// The chain that it asks.
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// The token that it pays with, and its decimals.
    pub async fn token(&self, rpc: &RpcClient) -> Result<(Key, u8)> {
        let (cluster, decimals) = self.cluster(rpc).await?;
        Ok((cluster.mint, decimals))
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

    #[test]
    fn only_tokens_that_are_known_have_a_symbol() {
        for (_, usdc) in USDC {
            assert_eq!(symbol(&usdc.parse().unwrap()), Some("USDC"));
        }
        assert_eq!(symbol(&Address::from([2; 32])), None);
    }
}
