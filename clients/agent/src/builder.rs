use crate::agent::Agent;
use crate::approval::{Approver, Ask};
use crate::budget::{Budget, Clock};
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::journal::Journal;
use crate::paid::{Payments, charged_as_listed};
use crate::policy::Policy;
use crate::state::{AgentState, pool_key};
use crate::tending;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tallybook_rpc::{Chain, RpcEndpoint};
use tallybook_rules::signing::SigningKey;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

/// Makes an [`Agent`]; see [`Agent::builder`].
pub struct AgentBuilder<C = RpcEndpoint> {
    pub(crate) wallet: Keypair,
    pub(crate) session: Option<Keypair>,
    pub(crate) policy: Policy,
    pub(crate) state_directory: PathBuf,
    pub(crate) budget_directory: Option<PathBuf>,
    pub(crate) approver: Option<Approver>,
    pub(crate) clock: Clock,
    pub(crate) http: Option<reqwest::Client>,
    pub(crate) make_chain: Box<dyn FnOnce(reqwest::Client) -> C + Send>,
}

impl<C> fmt::Debug for AgentBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBuilder").field("wallet", &self.wallet.pubkey()).finish_non_exhaustive()
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

    /// Shares the budgets with every other agent that names the same directory, in this process or another one of this
    /// machine. Each agent keeps a state directory of its own. Unless said otherwise the budgets are kept in the state
    /// directory, for this agent alone.
    #[must_use]
    pub fn budget_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.budget_directory = Some(directory.into());
        self
    }

    /// Whom to ask where the policy wants a person's approval ([`Policy::approve_price_above`],
    /// [`Policy::approve_deposit_above`]). No lock is held while it is asked; a call that is given up meanwhile asks no
    /// further.
    ///
    /// ```no_run
    /// # fn example(builder: tallybook_agent::AgentBuilder) {
    /// let builder = builder.approver(|ask| async move {
    ///     println!("{:?}: {} base units to {}?", ask.what, ask.amount, ask.host);
    ///     false // wait for the owner's click here
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn approver<F: Future<Output = bool> + Send + 'static>(
        mut self,
        ask: impl Fn(Ask) -> F + Send + Sync + 'static,
    ) -> Self {
        self.approver = Some(Approver::new(ask));
        self
    }

    /// Takes the time from here, in Unix seconds, instead of the system's clock.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(now);
        self
    }

    /// Asks another form of the chain.
    pub fn chain<D: Chain>(self, chain: D) -> AgentBuilder<D> {
        AgentBuilder {
            wallet: self.wallet,
            session: self.session,
            policy: self.policy,
            state_directory: self.state_directory,
            budget_directory: self.budget_directory,
            approver: self.approver,
            clock: self.clock,
            http: self.http,
            make_chain: Box::new(move |_| chain),
        }
    }

    /// Takes the state directory and reads the journal. [`AgentError::Locked`] when another process has it.
    ///
    /// Within a Tokio runtime the agent then looks after its channels by itself ([`Policy::tend_every`]), until it is
    /// dropped or [`Agent::shutdown`].
    pub fn build(self) -> Result<Agent<C>, AgentError> {
        let (journal, channels) = Journal::open(&self.state_directory)?;
        let failed = |source| AgentError::Journal { path: self.state_directory.join("paid"), source };
        let payments = Payments::open(&self.state_directory).map_err(failed)?;
        let shared_budget = self.budget_directory.is_some();
        let directory = self.budget_directory.unwrap_or_else(|| self.state_directory.join("budget"));
        let limits = self.policy.limits;
        let clock = Arc::clone(&self.clock);
        let budget = Budget::open(&directory, journal.name().to_owned(), limits, shared_budget, clock)?;
        budget.take_over(channels.iter().map(|channel| (channel.id, channel.counted())).collect())?;
        let http = match self.http {
            Some(http) => http,
            None => default_client()?,
        };
        let state = Arc::new(AgentState {
            chain: (self.make_chain)(http.clone()),
            http,
            signer: signing_key(self.session.as_ref().unwrap_or(&self.wallet)),
            wallet: self.wallet,
            policy: self.policy,
            journal,
            payments,
            budget: Arc::new(budget),
            approver: self.approver,
            channels: Mutex::default(),
            pools: Mutex::default(),
            remembered: Mutex::default(),
            cluster_checked: OnceCell::new(),
            background: Mutex::default(),
        });
        let listed = charged_as_listed(&self.state_directory);
        for mut channel in channels {
            channel.recorded = channel.charged.max(listed.get(&channel.id).copied().unwrap_or_default());
            if channel.used_at == 0 {
                channel.used_at = (state.budget.clock)();
            }
            state.adopt_from_journal(channel);
        }
        tending::start(&state);
        Ok(Agent { shared: state })
    }
}

impl<C: Chain> AgentState<C> {
    /// Makes a channel of the journal known, and usable if its keys are ours.
    pub(crate) fn adopt_from_journal(&self, mut channel: OwnChannel) -> crate::pool::Shared {
        let ours = (self.wallet.pubkey().to_bytes().into(), self.signer_key());
        let pays = matches!(channel.phase, Phase::Open | Phase::Opening { .. });
        if pays && (channel.parts.payer, channel.parts.signer) != ours {
            tracing::warn!(channel = %channel.id, "the channel is of another key: it pays no calls");
            channel.phase = Phase::GivenUp;
        }
        let pool = self.pool(&pool_key(&channel));
        let shared = self.register(channel);
        pool.add(Arc::clone(&shared));
        shared
    }
}

/// The system's clock, in Unix seconds.
pub(crate) fn system_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn signing_key(keypair: &Keypair) -> SigningKey {
    SigningKey::from_bytes(&Zeroizing::new(*keypair.secret_bytes()))
}

fn default_client() -> Result<reqwest::Client, AgentError> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    Ok(client.connect_timeout(Duration::from_secs(10)).build()?)
}
