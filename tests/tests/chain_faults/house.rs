//! Chain, facilitator and a paid API, with a bad line between each of them and the chain.

use crate::proxy::{Proxy, until};
use anyhow::{Context, Result, bail, ensure};
use reqwest::Client;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tallybook_agent::{Agent, AgentError, Policy, receipt};
use tallybook_cli::demo::{Ground, Pace, Shop};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::progress::Progress;
use tallybook_facilitator::{Config, Facilitator};
use tallybook_rules::Amount;
use tallybook_wire::{ChannelView, Key, SettleResponse};

pub(crate) const PRICE: Amount = Amount::new(500);
pub(crate) const DEPOSIT: Amount = Amount::new(10_000);
/// What each customer's wallet holds in the beginning.
pub(crate) const FUNDS: Amount = Amount::new(1_000_000);

pub(crate) struct House {
    pub(crate) ground: Ground,
    pub(crate) facilitator: Facilitator,
    pub(crate) shop: Shop,
    /// The facilitator's line.
    pub(crate) line: Proxy,
    /// The agents' line.
    pub(crate) agents_line: Proxy,
    pub(crate) http: Client,
}

impl House {
    /// Blocks of 50 ms; what is charged is claimed after a second; a question to the node may take one.
    pub(crate) async fn open() -> Result<Self> {
        Self::open_with(|_| {}).await
    }

    /// The same, with other settings of the facilitator.
    pub(crate) async fn open_with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 1 };
        let ground = Ground::prepare(pace, Progress::Silent).await?;
        let (line, agents_line) =
            (Proxy::before(&ground.chain.rpc_url()).await?, Proxy::before(&ground.chain.rpc_url()).await?);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config::from_toml(&ground.facilitator_config(listen))?;
        config.rpc_url = line.url().to_owned();
        config.chain.timeout_seconds = 1;
        config.chain.patience_seconds = 8;
        config.limits.deposits_per_payer_per_hour = 1_000;
        change(&mut config);
        let facilitator = Facilitator::start(config).await?;
        let shop = Shop::open(&ground.paywall(&format!("http://{}", facilitator.local_addr()))?, "$0.0005", 0).await?;
        Ok(Self { ground, facilitator, shop, line, agents_line, http: Client::new() })
    }

    pub(crate) async fn close(self) -> Result<()> {
        Ok(self.facilitator.shutdown().await?)
    }

    pub(crate) fn heal(&self) {
        self.line.heal();
        self.agents_line.heal();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.facilitator.local_addr())
    }

    /// What the facilitator knows of a channel.
    pub(crate) async fn channel(&self, id: &Key) -> Result<ChannelView> {
        Ok(self.http.get(self.url(&format!("/channels/{id}"))).send().await?.error_for_status()?.json().await?)
    }

    /// What the payee was paid, by the chain itself.
    pub(crate) async fn paid(&self) -> Result<Amount> {
        self.ground.mint.held_by(&self.ground.chain, &self.ground.payee).await
    }

    /// Waits until the payee was paid this, and holds it against the whole: not a base unit more, not one lost.
    pub(crate) async fn settled(&self, charged: Amount, customers: &[&Customer]) -> Result<()> {
        until("the payee is paid", 75, async || {
            let paid = self.paid().await?;
            ensure!(paid <= charged, "{paid} was paid where {charged} was charged");
            Ok(Some(()).filter(|()| paid == charged))
        })
        .await
        .with_context(|| format!("faults: {:?}", self.line.done()))?;
        self.check_conservation(customers).await
    }

    /// The page's vault holds what its channels can still get, and what is owed.
    pub(crate) async fn check_page(&self) -> Result<()> {
        let page = self.ground.page().await?;
        let held = self.ground.mint.held_by(&self.ground.chain, &self.ground.page).await?;
        let mut rest = page.header.claimed_total.minus(self.paid().await?)?;
        for slot in &page.slots {
            rest = rest.plus(slot.deposit.less(slot.settled))?;
        }
        ensure!(held == rest, "the vault holds {held}, and owes {rest}");
        Ok(())
    }

    /// What was minted is with payee, vault and customers.
    pub(crate) async fn check_conservation(&self, customers: &[&Customer]) -> Result<()> {
        let (chain, mint) = (&self.ground.chain, &self.ground.mint);
        let mut held = self.paid().await?.plus(mint.held_by(chain, &self.ground.page).await?)?;
        for customer in customers {
            held = held.plus(customer.held(self).await?)?;
        }
        ensure!(held == mint.minted(), "{held} is left of {}", mint.minted());
        Ok(())
    }
}

/// A wallet and what pays from it.
pub(crate) struct Customer {
    pub(crate) wallet: Keypair,
    pub(crate) agent: Agent,
    state: PathBuf,
    policy: Policy,
    http: Client,
    /// What calls have cost for which an answer came.
    pub(crate) answered: Amount,
}

impl Customer {
    /// Somebody who pays up to `channels` channels with [`DEPOSIT`] each, over the agents' line.
    pub(crate) async fn arrive(house: &House, channels: u16) -> Result<Self> {
        let policy = Self::policy(house, &house.shop.host(), channels);
        Self::with(house, policy).await
    }

    /// The same, at another address than the shop's own; asks once, so that the first refusal is the last word.
    pub(crate) async fn arrive_at(house: &House, host: &str, channels: u16) -> Result<Self> {
        let policy = Self::policy(house, host, channels).attempts(1);
        Self::with(house, policy).await
    }

    fn policy(house: &House, host: &str, channels: u16) -> Policy {
        let policy = Policy::new(house.ground.cluster(), PRICE, DEPOSIT, FUNDS).allow_host(host);
        policy.channels_per_host(channels)
    }

    async fn with(house: &House, policy: Policy) -> Result<Self> {
        let wallet = Keypair::new();
        let ground = &house.ground;
        ground.mint.fund(&ground.chain, &[wallet.pubkey()], LAMPORTS_PER_SOL / 10, FUNDS).await?;
        let state = ground.agent_folder(&wallet.pubkey());
        let agent = build(&wallet, policy.clone(), house.agents_line.url(), &state)?;
        Ok(Self { wallet, agent, state, policy, http: Client::new(), answered: Amount::ZERO })
    }

    /// Ends the agent as a process that is killed, and starts one over the same journal.
    pub(crate) async fn restart(self, house: &House) -> Result<Self> {
        let Self { wallet, agent, state, policy, http, answered } = self;
        drop(agent);
        // What it did in the background may hold on to the journal for another question.
        let agent = until("the journal is free", 30, async || {
            build(&wallet, policy.clone(), house.agents_line.url(), &state).map(Some)
        });
        let agent = agent.await?;
        Ok(Self { wallet, agent, state, policy, http, answered })
    }

    pub(crate) async fn held(&self, house: &House) -> Result<Amount> {
        house.ground.mint.held_by(&house.ground.chain, &self.wallet.pubkey()).await
    }

    /// One call. An answer must be the right one and carry its receipt.
    pub(crate) async fn buy(&mut self, house: &House) -> Result<(), AgentError> {
        let response = self.ask(&house.shop.paid()).await?;
        if let Some(SettleResponse::Settled { extra, .. }) = receipt(response.headers()) {
            self.answered = self.answered.plus(extra.charged_amount.unwrap_or(PRICE)).map_err(AgentError::Amount)?;
        }
        Ok(())
    }

    /// One call of an address.
    pub(crate) async fn ask(&self, url: &str) -> Result<reqwest::Response, AgentError> {
        // No two calls are the same: the answer of one is never that of another.
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let text = format!("to pay or not to pay {}", CALLS.fetch_add(1, Ordering::Relaxed));
        self.agent.execute(self.http.post(url).body(text).build()?).await
    }

    /// Calls until one is answered; every failure on the way must say what to do.
    pub(crate) async fn buy_in_the_end(&mut self, house: &House) -> Result<u32> {
        for tries in 1..=20 {
            let before = self.answered;
            match self.buy(house).await {
                Ok(()) if self.answered > before => return Ok(tries),
                Ok(()) => {}
                Err(error) => ensure!(error.to_string().contains(':'), "says not what to do: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("twenty calls without an answer")
    }
}

fn build(wallet: &Keypair, policy: Policy, rpc: &str, state: &std::path::Path) -> Result<Agent> {
    Ok(Agent::builder(wallet.insecure_clone(), policy, rpc.parse()?, state).build()?)
}
