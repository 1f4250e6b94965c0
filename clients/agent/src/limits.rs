//! The limits of a policy, for whoever shows them.

use crate::agent::Agent;
use crate::error::AgentError;
use crate::policy::Policy;
use crate::route::Route;
use reqwest::Request;
use tallybook_rpc::Chain;
use tallybook_rules::Amount;
use tallybook_wire::Key;
use url::Url;

/// What an agent may do with its owner's money, as its [`Policy`] says. Amounts in base units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitsReport {
    /// The most that a call may cost.
    pub max_price: Amount,
    /// The most that a call whose price is a ceiling may cost, and a whole stream.
    pub max_ceiling: Amount,
    /// What goes into a channel.
    pub deposit: Amount,
    /// The most that is unspent in a channel.
    pub max_deposit: Amount,
    /// The most that is tied up in channels and spent, together.
    pub budget: Amount,
    /// The same at one host.
    pub budget_per_host: Amount,
    /// The most that calls may cost within an hour, if that is bounded.
    pub budget_per_hour: Option<Amount>,
    /// The most that calls may cost within a day, if that is bounded.
    pub budget_per_day: Option<Amount>,
    /// A person is asked before a call costs more than this.
    pub approve_price_above: Option<Amount>,
    /// A person is asked before a larger deposit.
    pub approve_deposit_above: Option<Amount>,
    /// The hosts that may be paid; nothing where any may.
    pub hosts: Option<Vec<String>>,
    /// The hosts that are never paid.
    pub denied_hosts: Vec<String>,
    /// The payees that may be paid; nothing where any may.
    pub payees: Option<Vec<Key>>,
}

impl LimitsReport {
    fn of(policy: &Policy) -> Self {
        Self {
            max_price: policy.max_price,
            max_ceiling: policy.max_ceiling.unwrap_or(policy.max_price),
            deposit: policy.deposit,
            max_deposit: policy.most_unspent(),
            budget: policy.limits.budget,
            budget_per_host: policy.limits.budget_per_host,
            budget_per_hour: policy.limits.per_hour,
            budget_per_day: policy.limits.per_day,
            approve_price_above: policy.approve_price_above,
            approve_deposit_above: policy.approve_deposit_above,
            hosts: policy.hosts.as_ref().map(|hosts| hosts.iter().cloned().collect()),
            denied_hosts: policy.denied_hosts.iter().cloned().collect(),
            payees: policy.payees.as_ref().map(|payees| payees.iter().copied().collect()),
        }
    }
}

impl<C: Chain> Agent<C> {
    /// The limits of its policy, which hold for as long as it lives.
    pub fn limits(&self) -> LimitsReport {
        LimitsReport::of(&self.shared.policy)
    }

    /// Refuses a URL whose host may not be paid: [`AgentError::NoHost`], or the policy's reason. For whoever lets others
    /// choose URLs: a request is sent unpaid before it is paid, and this says beforehand whether it could be.
    pub fn check_host(&self, url: &Url) -> Result<(), AgentError> {
        let route = Route::of(&Request::new(http::Method::GET, url.clone()))?;
        Ok(self.shared.policy.check_host(route.host(), route.authority())?)
    }
}
