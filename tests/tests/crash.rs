//! A facilitator that is killed in the middle of load, again and again: nothing that it answered for is lost, and it
//! settles the rest.
//!
//! The real binary in a process of its own, killed with SIGKILL; agents, paywall and chain live on in this one.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test says what it expects, and counts"
)]

use anyhow::{Context, Result, bail, ensure};
use reqwest::Client;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tallybook_agent::{Agent, AgentError, receipt};
use tallybook_cli::demo::{Ground, Pace, Shop};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::progress::Progress;
use tallybook_rules::Amount;
use tallybook_wire::{ChannelView, Key, SettleResponse};

const KILLS: u32 = 20;
const AGENTS: usize = 8;
const PRICE: Amount = Amount::new(500);
const DEPOSIT: Amount = Amount::new(5_000_000);
/// Answers that must have come since the last start before the next kill.
const ANSWERS_BETWEEN: u64 = 150;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_no_voucher_that_was_answered_for() -> Result<()> {
    // Given agents under way at a paid API whose facilitator is a process of its own
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 1 };
    let ground = Ground::prepare(pace, Progress::Silent).await?;
    let mut facilitator = Process::start(&ground).await?;
    let shop = Shop::open(&ground.paywall(&facilitator.url())?, "$0.0005", 0).await?;
    let load = Load::begin(&ground, &shop).await?;

    // When it is killed twenty times in the middle of their calls, and started again
    for _ in 0..KILLS {
        load.wait_for(ANSWERS_BETWEEN).await?;
        facilitator.kill_and_restart().await?;
    }
    load.wait_for(ANSWERS_BETWEEN).await?;
    let agents = load.end().await?;

    // Then every answer that an agent got is in the ledger, and nothing beyond what was signed
    let mut due = Amount::ZERO;
    for one in &agents {
        let channel = facilitator.channel(&one.channel).await?;
        assert_eq!(channel.charged, one.agent.spent(), "ledger and agent disagree");
        assert!(channel.charged >= one.answered, "an answered voucher was lost");
        assert!(channel.charged <= channel.signed && channel.signed <= channel.deposit);
        // What was charged without an answer is what an agent was told of, or could not know.
        let unanswered = channel.charged.minus(one.answered)?;
        assert!(unanswered <= PRICE.times(one.uncertain)?, "charged for a call that was never made");
        due = due.plus(channel.charged)?;
    }
    // And all of it is settled: on every channel, and in the payee's account
    for one in &agents {
        facilitator.settled(&one.channel).await?;
    }
    let page = ground.page().await?;
    for one in &agents {
        let parts = one.agent.channels()[0].parts;
        assert_eq!(page.slot(parts.slot)?.settled, one.agent.spent());
    }
    let held = ground.mint.held_by(&ground.chain, &ground.payee).await?;
    assert_eq!(held, due, "the payee has every claimable voucher's worth");
    // And everybody can leave with the rest
    for one in &agents {
        let closed = one.agent.close(one.channel).await?;
        assert_eq!(closed.returned, DEPOSIT.minus(one.agent.spent())?);
    }
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.page).await?, Amount::ZERO);
    Ok(())
}

/// The facilitator's process.
struct Process {
    config: PathBuf,
    address: SocketAddr,
    child: Child,
    http: Client,
}

impl Process {
    async fn start(ground: &Ground) -> Result<Self> {
        // A port that is free now, and stays the same over all restarts.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = ground.folder().join("facilitator.toml");
        std::fs::write(&config, ground.facilitator_config(address))?;
        let child = spawn(&config)?;
        let mut process = Self { config, address, child, http: Client::new() };
        process.healthy().await?;
        Ok(process)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `Child::kill` is SIGKILL: no drain, no flush, no goodbye.
    async fn kill_and_restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.config)?;
        self.healthy().await
    }

    async fn healthy(&mut self) -> Result<()> {
        let (url, began) = (format!("{}/health", self.url()), Instant::now());
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("the facilitator ended by itself: {status}");
            }
            if self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("the facilitator does not come up")
    }

    async fn channel(&self, id: &Key) -> Result<ChannelView> {
        let url = format!("{}/channels/{id}", self.url());
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }

    async fn settled(&self, id: &Key) -> Result<()> {
        let began = Instant::now();
        loop {
            let channel = self.channel(id).await?;
            if channel.settled == channel.charged {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{id} is not settled: {channel:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(config: &Path) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facilitator-to-kill"));
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().context("cannot start the facilitator")
}

/// Agents that make call after call until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    workers: Vec<tokio::task::JoinHandle<Result<Worker>>>,
}

/// An agent, and what it saw.
struct Worker {
    agent: Agent,
    channel: Key,
    /// The sum of its answered calls.
    answered: Amount,
    /// Calls whose answer was lost, charged or not.
    uncertain: u64,
}

impl Load {
    async fn begin(ground: &Ground, shop: &Shop) -> Result<Self> {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let wallets: Vec<Keypair> = (0..AGENTS).map(|_| Keypair::new()).collect();
        let owners: Vec<_> = wallets.iter().map(Signer::pubkey).collect();
        ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, DEPOSIT).await?;
        let mut workers = Vec::new();
        for wallet in wallets {
            let policy = ground.policy(&shop.host(), PRICE, DEPOSIT).max_wait(Duration::from_millis(200)).attempts(4);
            let agent = ground.agent(wallet, policy)?;
            let (url, stop, answers) = (shop.paid(), Arc::clone(&stop), Arc::clone(&answers));
            workers.push(tokio::spawn(work(agent, url, stop, answers)));
        }
        Ok(Self { stop, answers, workers })
    }

    /// Until so many more calls were answered.
    async fn wait_for(&self, answers: u64) -> Result<()> {
        let (goal, began) = (self.answers.load(Ordering::Relaxed) + answers, Instant::now());
        while self.answers.load(Ordering::Relaxed) < goal {
            ensure!(began.elapsed() < PATIENCE, "the calls have come to a stop");
            ensure!(!self.workers.iter().any(|worker| worker.is_finished()), "an agent gave up");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn end(self) -> Result<Vec<Worker>> {
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
    let (mut answered, mut uncertain, mut number) = (Amount::ZERO, 0, 0u64);
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
            Err(AgentError::Unavailable { .. } | AgentError::Http(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let channels = agent.channels();
    ensure!(channels.len() == 1, "an agent opened {} channels", channels.len());
    Ok(Worker { channel: channels[0].id, agent, answered, uncertain })
}
