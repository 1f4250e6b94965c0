//! Somebody with a wallet at a stage, and waiting for what must come.

use anyhow::{Context, Result, bail};
use reqwest::{Client, Response};
use serde_json::Value;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::time::Duration;
use tallybook_agent::{Agent, ChannelReport, receipt};
use tallybook_cli::demo::{Ground, Pace, Stage};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::progress::Progress;
use tallybook_rules::Amount;
use tallybook_wire::{AnswerExtra, SettleResponse};

pub(crate) const PRICE: Amount = Amount::new(500);
pub(crate) const TEXT: &str = "to pay or not to pay";

/// A stage that settles at once: blocks of 50 ms, claims after a second.
pub(crate) async fn stage() -> Result<Stage> {
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 1 };
    Stage::set(pace, "$0.0005", Progress::Silent).await
}

/// An agent, its wallet, and what it was given.
pub(crate) struct Customer {
    pub(crate) wallet: Keypair,
    pub(crate) agent: Agent,
    pub(crate) funds: Amount,
    pub(crate) client: Client,
}

impl Customer {
    /// With a dollar in its wallet, of which `deposit` goes into its channel.
    pub(crate) async fn arrive(stage: &Stage, deposit: Amount) -> Result<Self> {
        let (wallet, funds) = (Keypair::new(), Amount::new(1_000_000));
        let ground = &stage.ground;
        let owners = [wallet.pubkey()];
        ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, funds).await?;
        let policy = ground.policy(&stage.shop.host(), PRICE, deposit);
        Ok(Self { agent: ground.agent(wallet.insecure_clone(), policy)?, wallet, funds, client: Client::new() })
    }

    /// Sends a text to the paid route, whatever comes back.
    pub(crate) async fn ask(&self, stage: &Stage) -> Result<Response> {
        let request = self.client.post(stage.shop.paid()).body(TEXT).build()?;
        Ok(self.agent.execute(request).await?)
    }

    /// A paid call that is answered and charged; says what the receipt says.
    pub(crate) async fn buy(&self, stage: &Stage) -> Result<AnswerExtra> {
        let response = self.ask(stage).await?;
        let status = response.status();
        let receipt = receipt(response.headers());
        let facts: Value = response.json().await?;
        assert_eq!(facts["words"], 6, "{facts}");
        match receipt {
            Some(SettleResponse::Settled { extra, .. }) => Ok(extra),
            other => bail!("{status} with {other:?}"),
        }
    }

    /// Its one channel.
    pub(crate) fn channel(&self) -> Result<ChannelReport> {
        self.agent.channels().into_iter().next().context("no channel")
    }

    /// What its wallet holds.
    pub(crate) async fn held(&self, ground: &Ground) -> Result<Amount> {
        ground.mint.held_by(&ground.chain, &self.wallet.pubkey()).await
    }
}

/// Asks again and again until there is something, for half a minute at most.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    for _ in 0..600 {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("waited half a minute in vain: {what}")
}
