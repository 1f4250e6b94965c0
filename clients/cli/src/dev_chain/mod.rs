//! A whole Solana chain in this process: real JSON-RPC and WebSocket on loopback, nothing from outside.
//!
//! Reading path: [`DevChain`] (start, stop, time) → [`deploy`] (the program through the loader) → [`DevMint`] (money).

mod mint;
mod node;

pub use crate::deploy::Artifact;
pub use mint::DevMint;
pub use node::{Blocks, Ports};

use crate::deploy::Loader;
use crate::sending;
use anyhow::{Context, Result};
use node::Node;
use serde_json::json;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_request::RpcRequest;
use solana_commitment_config::CommitmentConfig;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signature::Signature;
use solana_signer::Signer;
use std::sync::Arc;

/// Deploys `artifact` with the faucet as its upgrade authority. Calls `progress` with (bytes on chain, bytes in all).
pub async fn deploy(chain: &DevChain, artifact: &Artifact, progress: impl Fn(usize, usize)) -> Result<()> {
    let loader = Loader { rpc: Arc::clone(&chain.rpc), authority: &chain.faucet, compute_price: 0 };
    loader.bring(artifact, progress).await.map(|_| ())
}

/// Lamports in a SOL.
pub const LAMPORTS_PER_SOL: u64 = 1_000_000_000;
/// What the chain's faucet key starts with: far more than any demo spends.
const FAUCET_SOL: u64 = 100_000;

/// A running local chain, with a faucet key that holds its SOL. Stops when dropped.
pub struct DevChain {
    node: Node,
    rpc: Arc<RpcClient>,
    faucet: Keypair,
    genesis_hash: [u8; 32],
}

impl DevChain {
    /// Starts a chain and waits until it answers. Fails when the ports are taken.
    pub async fn start(ports: Ports, blocks: Blocks) -> Result<Self> {
        Self::start_with(ports, blocks, true).await
    }

    /// As [`Self::start`], of a cluster that has not activated transactions of version 1.
    pub async fn start_before_v1(ports: Ports, blocks: Blocks) -> Result<Self> {
        Self::start_with(ports, blocks, false).await
    }

    async fn start_with(ports: Ports, blocks: Blocks, v1: bool) -> Result<Self> {
        let node = tokio::task::spawn_blocking(move || Node::start(ports, blocks, v1)).await??;
        let rpc = RpcClient::new_with_commitment(node.rpc_url(), CommitmentConfig::confirmed());
        let genesis_hash = rpc.get_genesis_hash().await.context("the local chain does not answer")?.to_bytes();
        let chain = Self { node, rpc: Arc::new(rpc), faucet: Keypair::new(), genesis_hash };
        let lamports = FAUCET_SOL.checked_mul(LAMPORTS_PER_SOL).context("too much SOL")?;
        chain.airdrop(&chain.faucet, lamports).await?;
        Ok(chain)
    }

    /// Where JSON-RPC is served.
    pub fn rpc_url(&self) -> String {
        self.node.rpc_url()
    }

    /// Where the WebSocket subscriptions are served.
    pub fn ws_url(&self) -> String {
        self.node.ws_url()
    }

    /// A client of the chain at commitment `confirmed`.
    pub fn rpc(&self) -> &Arc<RpcClient> {
        &self.rpc
    }

    /// The chain's identity: random at each start.
    pub const fn genesis_hash(&self) -> [u8; 32] {
        self.genesis_hash
    }

    /// The key that holds the chain's SOL and deploys programs.
    pub const fn faucet(&self) -> &Keypair {
        &self.faucet
    }

    /// Sends `instructions`, paid by the faucet and signed by `signers` too, and waits until they are confirmed.
    pub async fn send(&self, instructions: &[Instruction], signers: &[&Keypair]) -> Result<Signature> {
        sending::send(&self.rpc, instructions, &self.faucet, signers).await
    }

    /// Puts the chain's clock to `unix_seconds`, later than it is.
    pub async fn travel_to(&self, unix_seconds: i64) -> Result<()> {
        let milliseconds = unix_seconds.checked_mul(1_000).context("a time out of range")?;
        let _: serde_json::Value = self
            .rpc
            .send(RpcRequest::Custom { method: "surfnet_timeTravel" }, json!([{ "absoluteTimestamp": milliseconds }]))
            .await
            .with_context(|| format!("the local chain did not travel to {unix_seconds}"))?;
        Ok(())
    }

    /// The chain's clock in Unix seconds.
    pub async fn now(&self) -> Result<i64> {
        sending::chain_clock(&self.rpc).await
    }

    async fn airdrop(&self, to: &Keypair, lamports: u64) -> Result<()> {
        let signature = self.rpc.request_airdrop(&to.pubkey(), lamports).await?;
        sending::confirm(&self.rpc, &signature, None).await
    }
}
