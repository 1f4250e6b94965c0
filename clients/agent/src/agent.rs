use crate::answer;
use crate::budget::Budget;
use crate::call::Call;
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::journal::Journal;
use crate::policy::Policy;
use crate::pool::{Pool, PoolKey, Shared, lock};
use crate::route::{Remembered, Route};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Request, Response};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_rpc::{Chain, RpcEndpoint};
use tallybook_rules::Amount;
use tallybook_rules::signing::SigningKey;
use tallybook_wire::{Key, PAYMENT_SIGNATURE, PaymentRequired, PaymentRequirements};
use tokio::sync::OnceCell;
use url::Url;
use zeroize::Zeroizing;

/// An HTTP client that pays.
///
/// A handle: clones share channels, budget and connections. Calls may run at the same time; each channel pays one at a
/// time, in the order of asking.
pub struct Agent<C = RpcEndpoint> {
    pub(crate) shared: Arc<AgentState<C>>,
}

impl<C> Clone for Agent<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C> fmt::Debug for Agent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("wallet", &self.shared.wallet.pubkey()).finish_non_exhaustive()
    }
}

/// What the handles share. No `Debug`: it holds keys.
pub(crate) struct AgentState<C> {
    pub(crate) http: reqwest::Client,
    pub(crate) chain: C,
    pub(crate) wallet: Keypair,
    pub(crate) signer: SigningKey,
    pub(crate) policy: Policy,
    pub(crate) journal: Journal,
    pub(crate) budget: Mutex<Budget>,
    pub(crate) channels: Mutex<HashMap<Key, Shared>>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    remembered: Mutex<Remembered>,
    cluster_checked: OnceCell<()>,
}

/// Makes an [`Agent`]; see [`Agent::builder`].
pub struct AgentBuilder<C = RpcEndpoint> {
    wallet: Keypair,
    session: Option<Keypair>,
    policy: Policy,
    state_directory: PathBuf,
    http: Option<reqwest::Client>,
    make_chain: Box<dyn FnOnce(reqwest::Client) -> C + Send>,
}

impl<C> fmt::Debug for AgentBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBuilder").field("wallet", &self.wallet.pubkey()).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that pays from `wallet` within `policy`, asks the chain at `rpc_url` and keeps its journal in
    /// `state_directory`.
    pub fn builder(wallet: Keypair, policy: Policy, rpc_url: Url, state_directory: impl Into<PathBuf>) -> AgentBuilder {
        AgentBuilder {
            wallet,
            session: None,
            policy,
            state_directory: state_directory.into(),
            http: None,
            make_chain: Box::new(move |http| RpcEndpoint::new(http, rpc_url)),
        }
    }
}

impl<C: Chain> AgentBuilder<C> {
    /// Signs vouchers with a key of its own, so that the wallet's key is needed for deposits only. A thief of the
    /// session key can spend what is left in open channels at their payees, and nothing else. The same key must be
    /// given again as long as its channels are open.
    #[must_use]
    pub fn session_key(mut self, key: Keypair) -> Self {
        self.session = Some(key);
        self
    }

    /// Sends through this client. It should not follow redirects: a payment is for the host that was asked.
    #[must_use]
    pub fn http(mut self, client: reqwest::Client) -> Self {
        self.http = Some(client);
        self
    }

    /// Asks another form of the chain.
    pub fn chain<D: Chain>(self, chain: D) -> AgentBuilder<D> {
        AgentBuilder {
            wallet: self.wallet,
            session: self.session,
            policy: self.policy,
            state_directory: self.state_directory,
            http: self.http,
            make_chain: Box::new(move |_| chain),
        }
    }

    /// Takes the state directory and reads the journal. [`AgentError::Locked`] when another process has it.
    pub fn build(self) -> Result<Agent<C>, AgentError> {
        let (journal, channels) = Journal::open(&self.state_directory)?;
        let http = match self.http {
            Some(http) => http,
            None => default_client()?,
        };
        let state = AgentState {
            chain: (self.make_chain)(http.clone()),
            http,
            signer: signing_key(self.session.as_ref().unwrap_or(&self.wallet)),
            wallet: self.wallet,
            policy: self.policy,
            journal,
            budget: Mutex::default(),
            channels: Mutex::default(),
            pools: Mutex::default(),
            remembered: Mutex::default(),
            cluster_checked: OnceCell::new(),
        };
        let ours = (state.wallet.pubkey().to_bytes().into(), state.signer_key());
        for mut channel in channels {
            let ended = channel.phase == Phase::Ended;
            let pays = matches!(channel.phase, Phase::Open | Phase::Opening { .. });
            if pays && (channel.parts.payer, channel.parts.signer) != ours {
                tracing::warn!(channel = %channel.id, "the channel is of another key: it pays no calls");
                channel.phase = Phase::GivenUp;
            }
            let committed = if ended { channel.charged } else { channel.deposit };
            lock(&state.budget).count(&channel.authority, committed);
            let pool = state.pool(&pool_key(&channel));
            pool.add(state.register(channel));
        }
        Ok(Agent { shared: Arc::new(state) })
    }
}

impl<C: Chain> Agent<C> {
    /// Gets `url`, and pays for it if asked to and allowed to.
    pub async fn get(&self, url: Url) -> Result<Response, AgentError> {
        self.execute(Request::new(Method::GET, url)).await
    }

    /// Sends a request, and pays for it if asked to and allowed to. What comes back is the server's answer, which need
    /// not be a success; an error means that there is none, and says whether it may have been charged.
    ///
    /// The request is sent again as it is, with the same voucher, while its outcome is unknown; a paywall answers that
    /// with the stored answer and charges once.
    pub async fn execute(&self, request: Request) -> Result<Response, AgentError> {
        let route = Route::of(&request)?;
        let offer = match self.shared.remembered(&route) {
            Some(offer) => offer,
            None => {
                let response = self.shared.send(&request, None).await?;
                if response.status() != StatusCode::PAYMENT_REQUIRED {
                    return Ok(response);
                }
                let required = answer::payment_required(response).await?;
                self.shared.learn(&route, &required)?
            }
        };
        Call::new(&self.shared, &request, route, offer).await?.run().await
    }

    /// The channels, ended ones too.
    pub fn channels(&self) -> Vec<ChannelReport> {
        let channels = lock(&self.shared.channels);
        channels.values().map(|channel| ChannelReport::of(&lock(channel))).collect()
    }

    /// What calls cost in all, in base units, as far as it is known.
    pub fn spent(&self) -> Amount {
        let reports = self.channels().into_iter().map(|channel| channel.charged);
        reports.fold(Amount::ZERO, |sum, charged| sum.plus(charged).unwrap_or(sum))
    }

    /// What is tied up in channels and what was spent, together, in base units: what the budgets bound.
    pub fn committed(&self) -> Amount {
        lock(&self.shared.budget).committed()
    }

    /// The wallet's address.
    pub fn wallet(&self) -> Key {
        self.shared.wallet.pubkey().to_bytes().into()
    }
}

/// A channel as [`Agent::channels`] shows it. Amounts in base units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelReport {
    /// Its id.
    pub id: Key,
    /// Payer, signer, book, page, slot, generation.
    pub parts: tallybook_wire::Channel,
    /// The host that it pays.
    pub host: String,
    /// What was put in.
    pub deposit: Amount,
    /// What calls cost so far, as far as their outcome was seen.
    pub charged: Amount,
    /// What it is up to.
    pub phase: Phase,
}

impl ChannelReport {
    fn of(channel: &OwnChannel) -> Self {
        Self {
            id: channel.id,
            parts: channel.parts,
            host: channel.authority.clone(),
            deposit: channel.deposit,
            charged: channel.charged,
            phase: channel.phase,
        }
    }
}

impl<C: Chain> AgentState<C> {
    /// Sends a copy of `request`, with a payment if there is one.
    pub(crate) async fn send(&self, request: &Request, payment: Option<HeaderValue>) -> Result<Response, AgentError> {
        let mut copy = request.try_clone().ok_or(AgentError::NotRepeatable)?;
        if let Some(payment) = payment {
            copy.headers_mut().insert(PAYMENT_SIGNATURE, payment);
        }
        Ok(self.http.execute(copy).await?)
    }

    /// Chooses the offer of a 402 that can be paid, and remembers it for the route.
    pub(crate) fn learn(
        &self,
        route: &Route,
        required: &PaymentRequired,
    ) -> Result<Arc<PaymentRequirements>, AgentError> {
        let mut offers = required.channel_offers();
        let Some(offer) = offers.find(|offer| self.policy.can_pay(offer)) else {
            return Err(AgentError::NoOffer {
                network: self.policy.cluster.network.to_string(),
                mint: self.policy.cluster.mint,
            });
        };
        let mut offer = offer.clone();
        // What was said about one channel is no part of the terms.
        offer.extra.channel_state = None;
        offer.extra.voucher_state = None;
        let offer = Arc::new(offer);
        lock(&self.remembered).insert(route, Arc::clone(&offer));
        Ok(offer)
    }

    fn remembered(&self, route: &Route) -> Option<Arc<PaymentRequirements>> {
        lock(&self.remembered).get(route)
    }

    /// The endpoint is of the policy's cluster; asked once.
    pub(crate) async fn check_cluster(&self) -> Result<(), AgentError> {
        let check = async || {
            let found = Key(self.chain.genesis_hash().await?);
            let pinned = self.policy.cluster.genesis_hash;
            if found == pinned { Ok(()) } else { Err(AgentError::WrongCluster { pinned, found }) }
        };
        self.cluster_checked.get_or_try_init(check).await.map(|_| ())
    }

    /// The pool of a host and book.
    pub(crate) fn pool(&self, key: &PoolKey) -> Arc<Pool> {
        let mut pools = lock(&self.pools);
        let pool = pools.entry(key.clone());
        Arc::clone(pool.or_insert_with(|| Pool::new(self.policy.channels_per_host)))
    }

    /// All pools.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        lock(&self.pools).values().cloned().collect()
    }

    /// Makes a channel of the journal known by its id.
    fn register(&self, channel: OwnChannel) -> Shared {
        let id = channel.id;
        let shared = Arc::new(Mutex::new(channel));
        lock(&self.channels).insert(id, Arc::clone(&shared));
        shared
    }

    /// Makes what is now in memory durable.
    pub(crate) async fn save(&self, channel: &Shared) -> Result<(), AgentError> {
        let snapshot = lock(channel).clone();
        self.journal.save(&snapshot).await
    }

    /// Ends a channel that cost `charged` in all: what came back is free again.
    pub(crate) async fn end(&self, channel: &Shared, charged: Amount) -> Result<(), AgentError> {
        {
            let mut channel = lock(channel);
            if channel.phase != Phase::Ended {
                lock(&self.budget).free(&channel.authority, channel.deposit.less(charged));
            }
            channel.phase = Phase::Ended;
            channel.charged = charged;
            channel.ceiling = charged;
        }
        self.save(channel).await
    }

    /// The voucher key.
    pub(crate) fn signer_key(&self) -> Key {
        self.signer.verifying_key().to_bytes().into()
    }
}

pub(crate) fn pool_key(channel: &OwnChannel) -> PoolKey {
    PoolKey { authority: channel.authority.clone(), book: channel.parts.book }
}

fn signing_key(keypair: &Keypair) -> SigningKey {
    SigningKey::from_bytes(&Zeroizing::new(*keypair.secret_bytes()))
}

fn default_client() -> Result<reqwest::Client, AgentError> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    Ok(client.connect_timeout(Duration::from_secs(10)).build()?)
}
