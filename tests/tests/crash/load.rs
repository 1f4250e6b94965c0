//! Agents that make call after call until they are told to stop.

use crate::process::{PATIENCE, POLL};
use crate::{AGENTS, DEPOSIT, PRICE};
use anyhow::{Context, Result, ensure};
use reqwest::Client;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tallybook_agent::{Agent, AgentError, Phase, receipt};
use tallybook_cli::demo::Ground;
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_rules::Amount;
use tallybook_wire::{Key, SettleResponse};

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    workers: Vec<tokio::task::JoinHandle<Result<Worker>>>,
}

/// An agent, and what it saw.
pub(crate) struct Worker {
    pub(crate) agent: Agent,
    pub(crate) channel: Key,
    /// The sum of its answered calls.
    pub(crate) answered: Amount,
    /// Calls whose answer was lost, charged or not.
    pub(crate) uncertain: u64,
    /// Calls that were refused for now, and made again.
    pub(crate) refused: u64,
}

impl Worker {
    /// Holds what a ledger has charged against what was answered: all of it, and nothing beyond the calls whose answer was
    /// lost.
    pub(crate) fn check(&self, charged: Amount) -> Result<()> {
        ensure!(charged == self.agent.spent(), "the ledger has {charged}, the agent {}", self.agent.spent());
        ensure!(charged >= self.answered, "an answered voucher was lost: {charged} of {}", self.answered);
        let unanswered = charged.minus(self.answered)?;
        ensure!(unanswered <= PRICE.times(self.uncertain)?, "charged for a call that was never made: {unanswered}");
        Ok(())
    }
}

impl Load {
    /// Agents that pay the API at `host`.
    pub(crate) async fn begin(ground: &Ground, host: &str) -> Result<Self> {
        Self::of(ground, host, AGENTS).await
    }

    /// So many of them.
    pub(crate) async fn of(ground: &Ground, host: &str, agents: usize) -> Result<Self> {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let wallets: Vec<Keypair> = (0..agents).map(|_| Keypair::new()).collect();
        let owners: Vec<_> = wallets.iter().map(Signer::pubkey).collect();
        ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, DEPOSIT).await?;
        let mut workers = Vec::new();
        for wallet in wallets {
            let policy = ground.policy(host, PRICE, DEPOSIT).max_wait(Duration::from_millis(200)).attempts(4);
            let agent = ground.agent(wallet, policy)?;
            let (url, stop, answers) = (format!("http://{host}/facts"), Arc::clone(&stop), Arc::clone(&answers));
            workers.push(tokio::spawn(work(agent, url, stop, answers)));
        }
        Ok(Self { stop, answers, workers })
    }

    /// Calls that were answered so far.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Until so many more calls were answered.
    pub(crate) async fn wait_for(&self, answers: u64) -> Result<()> {
        let (goal, began) = (self.answers() + answers, Instant::now());
        while self.answers() < goal {
            ensure!(began.elapsed() < PATIENCE, "the calls have come to a stop");
            ensure!(!self.workers.iter().any(|worker| worker.is_finished()), "an agent gave up");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(crate) async fn end(self) -> Result<Vec<Worker>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut workers = Vec::new();
        for worker in self.workers {
            workers.push(worker.await??);
        }
        Ok(workers)
    }
}

async fn work(agent: Agent, url: String, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) -> Result<Worker> {
    let client = Client::new();
    let (mut answered, mut uncertain, mut refused, mut number) = (Amount::ZERO, 0, 0, 0u64);
    loop {
        // The last call is one that is answered, so that the agent has seen where its channel stands.
        let last = stop.load(Ordering::Relaxed);
        number += 1;
        let request = client.post(&url).body(format!("call number {number}")).build()?;
        match agent.execute(request).await {
            Ok(response) => {
                if let Some(SettleResponse::Settled { extra, .. }) = receipt(response.headers()) {
                    let charged = extra.charged_amount.context("a receipt without a charge")?;
                    assert_eq!((response.status().as_u16(), charged), (200, PRICE));
                    answered = answered.plus(charged)?;
                    answers.fetch_add(1, Ordering::Relaxed);
                    if last {
                        break;
                    }
                }
            }
            Err(AgentError::ChargedWithoutAnswer { .. } | AgentError::AnswerLost { .. }) => uncertain += 1,
            Err(AgentError::Unavailable { .. } | AgentError::Http(_)) => {
                refused += 1;
                tokio::time::sleep(POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    // Two agents may be offered the same slot, as when its book has just changed hands: one of them gets it, and the opening of the
    // other comes to nothing.
    let mut channels = agent.channels();
    channels.retain(|channel| channel.phase != Phase::Ended || !channel.charged.is_zero());
    ensure!(channels.len() == 1, "an agent opened {} channels: {channels:#?}", channels.len());
    Ok(Worker { channel: channels[0].id, agent, answered, uncertain, refused })
}
