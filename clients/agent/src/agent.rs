use crate::answer;
use crate::budget::BudgetReport;
use crate::builder::{AgentBuilder, system_clock};
use crate::call::Call;
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::policy::Policy;
use crate::pool::lock;
use crate::route::Route;
use crate::state::AgentState;
use http::{Method, StatusCode};
use reqwest::{Request, Response};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tallybook_rpc::{Chain, RpcEndpoint};
use tallybook_rules::Amount;
use tallybook_wire::Key;
use url::Url;

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

impl Agent {
    /// An agent that pays from `wallet` within `policy`, asks the chain at `rpc_url` and keeps its journal in
    /// `state_directory`.
    pub fn builder(wallet: Keypair, policy: Policy, rpc_url: Url, state_directory: impl Into<PathBuf>) -> AgentBuilder {
        AgentBuilder {
            wallet,
            session: None,
            policy,
            state_directory: state_directory.into(),
            budget_directory: None,
            approver: None,
            clock: Arc::new(system_clock),
            http: None,
            make_chain: Box::new(move |http| RpcEndpoint::new(http, rpc_url)),
        }
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
        self.call(request, None).await
    }

    /// As [`Self::execute`], for a call (or a whole stream) that may cost at most `limit`, in base units, where the policy
    /// would allow more: [`Breach::PriceTooHigh`](crate::Breach) otherwise.
    pub async fn execute_within(&self, request: Request, limit: Amount) -> Result<Response, AgentError> {
        self.call(request, Some(limit)).await
    }

    async fn call(&self, request: Request, limit: Option<Amount>) -> Result<Response, AgentError> {
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
        Call::new(&self.shared, request, route, offer, limit).await?.run().await
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

    /// What is tied up in this agent's channels and what was spent, together, in base units: what it adds to what the
    /// budgets bound.
    pub fn committed(&self) -> Amount {
        let channels = lock(&self.shared.channels);
        let counted = channels.values().map(|channel| lock(channel).counted().amount);
        counted.fold(Amount::ZERO, |sum, counted| sum.plus(counted).unwrap_or(sum))
    }

    /// What counts against the budgets now, of all agents that share them.
    pub async fn budget(&self) -> Result<BudgetReport, AgentError> {
        self.shared.budget.report().await
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
    pub(crate) fn of(channel: &OwnChannel) -> Self {
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
