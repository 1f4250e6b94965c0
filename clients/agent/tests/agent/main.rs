//! The agent against a seller on a real socket and a chain in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests say what they expect"
)]
#![allow(unreachable_pub, missing_docs, reason = "a test's modules have no outside")]

mod approval;
mod budgets;
mod carried;
mod closing;
mod exits;
mod faults;
mod meter;
mod paying;
mod policy;
mod recovery;
mod seller;
mod settled;
mod streams;
mod tending;
mod topping;
mod world;

use reqwest::{Response, Url};
use seller::Seller;
use solana_keypair::Keypair;
use std::path::Path;
use std::time::Duration;
use tallybook_agent::{Agent, AgentBuilder, AgentError, Phase, Policy};
use tallybook_rules::Amount;
use world::Shared;

/// An agent, its seller, and its state directory.
struct Scene {
    agent: Agent<Shared>,
    seller: Seller,
    directory: tempfile::TempDir,
    wallet: [u8; 64],
}

fn usual(policy: Policy) -> Policy {
    policy.allow_host("127.0.0.1").max_wait(Duration::from_millis(20))
}

fn policy() -> Policy {
    usual(Policy::new(world::cluster(), Amount::new(1_000), Amount::new(10_000), Amount::new(30_000)))
}

/// No endpoint: the chain is in memory.
fn nowhere() -> Url {
    "http://127.0.0.1:9".parse().unwrap()
}

fn agent(wallet: &[u8; 64], policy: Policy, world: Shared, directory: &Path) -> Result<Agent<Shared>, AgentError> {
    let wallet = Keypair::try_from(wallet.as_slice()).unwrap();
    Agent::builder(wallet, policy, nowhere(), directory).chain(world).build()
}

impl Scene {
    async fn with(policy: Policy) -> Self {
        let wallet = Keypair::new();
        let world = Shared::new(&wallet);
        let directory = tempfile::tempdir().unwrap();
        let seller = Seller::start(world.clone()).await;
        let wallet = wallet.to_bytes();
        Self { agent: agent(&wallet, policy, world, directory.path()).unwrap(), seller, directory, wallet }
    }

    async fn usual() -> Self {
        Self::with(policy()).await
    }

    async fn get(&self, path: &str) -> Result<Response, AgentError> {
        let url = format!("{}{path}", self.seller.url).parse().unwrap();
        self.agent.get(url).await
    }

    /// Gets `/x`, and it is served.
    async fn served(&self) {
        let response = self.get("/x").await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), "paid for");
    }

    /// Stops the agent without warning and starts it again.
    fn restart(self) -> Self {
        self.rebuilt(policy(), |builder| builder)
    }

    /// Stops the agent without warning and starts another one on the same state.
    fn rebuilt(self, policy: Policy, with: impl FnOnce(AgentBuilder<Shared>) -> AgentBuilder<Shared>) -> Self {
        let Self { agent, seller, directory, wallet } = self;
        drop(agent);
        let key = Keypair::try_from(wallet.as_slice()).unwrap();
        let builder = Agent::builder(key, policy, nowhere(), directory.path()).chain(seller.world.clone());
        Self { agent: with(builder).build().unwrap(), seller, directory, wallet }
    }

    /// The same, its state directory lost.
    fn robbed(self, policy: Policy) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, ..self }.rebuilt(policy, |builder| builder)
    }

    fn open_channels(&self) -> usize {
        let channels = self.agent.channels();
        channels.iter().filter(|channel| channel.phase == Phase::Open).count()
    }

    /// The most that was ever signed, over all channels.
    fn signed(&self) -> u64 {
        let books = self.seller.books();
        books.vouchers.iter().map(|voucher| voucher.max_claimable_amount.get()).max().unwrap_or(0)
    }
}
