use crate::breach::Breach;
use std::collections::BTreeSet;
use std::time::Duration;
use tallybook_rules::{Amount, Terms};
use tallybook_wire::{Key, Network, PaymentRequirements};

/// The cluster and the token that an agent pays with, pinned: nothing on the wire can change them. (The program's id
/// is pinned in [`tallybook_chain::PROGRAM_ID`].)
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// As servers name it.
    pub network: Network,
    /// As the chain names itself.
    pub genesis_hash: Key,
    /// The mint, e.g. USDC.
    pub mint: Key,
}

/// What an agent may do with its owner's money.
///
/// | limit | bounds | counted from | until |
/// |---|---|---|---|
/// | `max_price`, [`max_ceiling`](Self::max_ceiling) | one call; of a stream, all of it | the offer | |
/// | `deposit`, [`max_deposit`](Self::max_deposit) | what is unspent in one channel | before a deposit is signed | |
/// | `budget`, [`budget_per_host`](Self::budget_per_host) | what is tied up in channels and what was spent, together | before a deposit is signed | what comes back when a channel ends is free again |
/// | [`budget_per_hour`](Self::budget_per_hour), [`budget_per_day`](Self::budget_per_day) | what calls may have cost in any such time | before a voucher is signed, with all that the call may cost | the real cost is known, or the time is over |
///
/// What may have been promised counts: a call whose answer was lost counts in full. All but the first two are kept on disk
/// and hold for all processes that share a [budget directory](crate::AgentBuilder::budget_directory). Near a limit by time
/// an agent can be refused up to a minute early, while another one holds what it drew ahead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub(crate) cluster: Cluster,
    pub(crate) max_price: Amount,
    pub(crate) max_ceiling: Option<Amount>,
    pub(crate) deposit: Amount,
    pub(crate) max_deposit: Amount,
    pub(crate) limits: Limits,
    pub(crate) hosts: Option<BTreeSet<String>>,
    pub(crate) denied_hosts: BTreeSet<String>,
    pub(crate) payees: Option<BTreeSet<Key>>,
    pub(crate) denied_payees: BTreeSet<Key>,
    pub(crate) approve_price_above: Option<Amount>,
    pub(crate) approve_deposit_above: Option<Amount>,
    pub(crate) approval_timeout: Duration,
    pub(crate) max_grace_seconds: u32,
    pub(crate) channels_per_host: u16,
    pub(crate) top_up: bool,
    pub(crate) own_fees: bool,
    pub(crate) close_idle_after: Option<Duration>,
    pub(crate) tend_every: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) max_wait: Duration,
}

/// The limits that all agents of an owner share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    pub(crate) budget: Amount,
    pub(crate) budget_per_host: Amount,
    pub(crate) per_hour: Option<Amount>,
    pub(crate) per_day: Option<Amount>,
}

impl Policy {
    /// A policy that pays at most `max_price` a call, puts `deposit` into each channel and ties up or spends at most
    /// `budget` in all (and at one host). No host is allowed yet. Amounts in base units of the mint.
    pub const fn new(cluster: Cluster, max_price: Amount, deposit: Amount, budget: Amount) -> Self {
        Self {
            cluster,
            max_price,
            max_ceiling: None,
            deposit,
            max_deposit: deposit,
            limits: Limits { budget, budget_per_host: budget, per_hour: None, per_day: None },
            hosts: Some(BTreeSet::new()),
            denied_hosts: BTreeSet::new(),
            payees: None,
            denied_payees: BTreeSet::new(),
            approve_price_above: None,
            approve_deposit_above: None,
            approval_timeout: Duration::from_secs(300),
            max_grace_seconds: 86_400,
            channels_per_host: 1,
            top_up: true,
            own_fees: false,
            close_idle_after: None,
            tend_every: Some(Duration::from_secs(60)),
            attempts: 8,
            max_wait: Duration::from_secs(5),
        }
    }

    /// Allows a host, `api.example.com` (at any port) or `127.0.0.1:8402` (at this port), or `*.example.com`: every host
    /// below that one.
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.get_or_insert_default().insert(host.into().to_ascii_lowercase());
        self
    }

    /// Never pays a host, written as for [`Self::allow_host`], whatever else is allowed.
    #[must_use]
    pub fn deny_host(mut self, host: impl Into<String>) -> Self {
        self.denied_hosts.insert(host.into().to_ascii_lowercase());
        self
    }

    /// Allows every host. The budgets hold all the same.
    #[must_use]
    pub fn allow_any_host(mut self) -> Self {
        self.hosts = None;
        self
    }

    /// Allows this payee, and from now on only payees that were allowed. Without it any payee is.
    #[must_use]
    pub fn allow_payee(mut self, payee: Key) -> Self {
        self.payees.get_or_insert_default().insert(payee);
        self
    }

    /// Never pays this payee, whatever else is allowed.
    #[must_use]
    pub fn deny_payee(mut self, payee: Key) -> Self {
        self.denied_payees.insert(payee);
        self
    }

    /// The largest ceiling of a call that is charged by what it uses, and the most that one stream may cost, in base
    /// units. As much as another call unless said otherwise.
    #[must_use]
    pub const fn max_ceiling(mut self, amount: Amount) -> Self {
        self.max_ceiling = Some(amount);
        self
    }

    /// The most that is tied up or spent at one host, in base units.
    #[must_use]
    pub const fn budget_per_host(mut self, amount: Amount) -> Self {
        self.limits.budget_per_host = amount;
        self
    }

    /// The most that calls may cost within an hour, any hour, in base units.
    #[must_use]
    pub const fn budget_per_hour(mut self, amount: Amount) -> Self {
        self.limits.per_hour = Some(amount);
        self
    }

    /// The most that calls may cost within 24 hours, any 24 hours, in base units.
    #[must_use]
    pub const fn budget_per_day(mut self, amount: Amount) -> Self {
        self.limits.per_day = Some(amount);
        self
    }

    /// A person is asked before a call (or a whole stream) may cost more than this, in base units. Needs
    /// [`AgentBuilder::approver`](crate::AgentBuilder::approver).
    #[must_use]
    pub const fn approve_price_above(mut self, amount: Amount) -> Self {
        self.approve_price_above = Some(amount);
        self
    }

    /// A person is asked before a deposit or a top-up above this, in base units. Needs
    /// [`AgentBuilder::approver`](crate::AgentBuilder::approver).
    #[must_use]
    pub const fn approve_deposit_above(mut self, amount: Amount) -> Self {
        self.approve_deposit_above = Some(amount);
        self
    }

    /// How long a person may take to answer. Five minutes unless said otherwise.
    #[must_use]
    pub const fn approval_timeout(mut self, time: Duration) -> Self {
        self.approval_timeout = time;
        self
    }

    /// Whether a channel whose deposit is used up gets another one of the usual size, at the sponsor's expense. Yes unless
    /// said otherwise; a new channel is opened where that is not possible.
    #[must_use]
    pub const fn top_up(mut self, yes: bool) -> Self {
        self.top_up = yes;
        self
    }

    /// Whether the wallet may pay the network's fees from its own lamports where the sponsor does not: for an opening that
    /// the sponsor refuses, and for withdrawals that are due. No unless said otherwise.
    #[must_use]
    pub const fn own_fees(mut self, yes: bool) -> Self {
        self.own_fees = yes;
        self
    }

    /// Closes channels that have paid nothing for so long. Never unless said otherwise.
    #[must_use]
    pub const fn close_idle_after(mut self, time: Duration) -> Self {
        self.close_idle_after = Some(time);
        self
    }

    /// How often an agent looks after its channels in the background, see [`Agent::tend`](crate::Agent::tend). A minute
    /// unless said otherwise; `None` is never.
    #[must_use]
    pub const fn tend_every(mut self, time: Option<Duration>) -> Self {
        self.tend_every = time;
        self
    }

    /// The most that is unspent in one channel, in base units, where a book or a price asks for more than the usual deposit.
    #[must_use]
    pub const fn max_deposit(mut self, amount: Amount) -> Self {
        self.max_deposit = amount;
        self
    }

    /// The longest grace period, in seconds: how long unspent money may take to come back from a server that does
    /// not cooperate. A day unless said otherwise.
    #[must_use]
    pub const fn max_grace_seconds(mut self, seconds: u32) -> Self {
        self.max_grace_seconds = seconds;
        self
    }

    /// How many channels are opened at one payee of a host, which is how many calls run there at a time. One unless
    /// said otherwise; further calls queue.
    #[must_use]
    pub const fn channels_per_host(mut self, channels: u16) -> Self {
        self.channels_per_host = if channels == 0 { 1 } else { channels };
        self
    }

    /// How often one call is sent at most, corrections and lost answers included. 8 unless said otherwise.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// The longest wait before one more attempt, whatever the server asks for. 5 seconds unless said otherwise.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Refuses a host that is not allowed. `authority` is `host:port`, or the host alone at its scheme's usual port.
    pub(crate) fn check_host(&self, host: &str, authority: &str) -> Result<(), Breach> {
        if is_listed(&self.denied_hosts, host, authority) {
            return Err(Breach::HostDenied(authority.to_owned()));
        }
        match &self.hosts {
            Some(hosts) if !is_listed(hosts, host, authority) => Err(Breach::HostNotAllowed(authority.to_owned())),
            _ => Ok(()),
        }
    }

    /// True when an offer is of the pinned cluster and mint.
    pub(crate) fn can_pay(&self, offer: &PaymentRequirements) -> bool {
        offer.network == self.cluster.network && offer.asset == self.cluster.mint
    }

    /// The most that a call or a stream under this offer may cost, where the call itself may cost `limit`.
    pub(crate) fn limit_for(&self, offer: &PaymentRequirements, limit: Option<Amount>) -> Amount {
        let most = if offer.extra.metered { self.max_ceiling.unwrap_or(self.max_price) } else { self.max_price };
        limit.map_or(most, |limit| limit.min(most))
    }

    /// Refuses an offer that is too dear, or to somebody else.
    pub(crate) fn check_offer(&self, offer: &PaymentRequirements, limit: Option<Amount>) -> Result<(), Breach> {
        let (price, limit) = (offer.amount, self.limit_for(offer, limit));
        if price > limit {
            return Err(Breach::PriceTooHigh { price, limit });
        }
        let allowed = self.payees.as_ref().is_none_or(|payees| payees.contains(&offer.pay_to));
        if !allowed || self.denied_payees.contains(&offer.pay_to) {
            return Err(Breach::PayeeNotAllowed(offer.pay_to));
        }
        Ok(())
    }

    /// The deposit for a channel under `terms` that is to pay `price` at least, or why not.
    pub(crate) fn deposit_for(&self, terms: &Terms, price: Amount) -> Result<Amount, Breach> {
        if terms.grace_seconds > self.max_grace_seconds {
            return Err(Breach::GraceTooLong { seconds: terms.grace_seconds, limit: self.max_grace_seconds });
        }
        let deposit = self.deposit.max(terms.min_deposit).max(price);
        let limit = self.most_unspent();
        if deposit > limit { Err(Breach::DepositTooHigh { deposit, limit }) } else { Ok(deposit) }
    }

    /// What to add to a channel in which `rest` is unspent, so that it can pay `price`, or why not.
    pub(crate) fn addition_for(&self, rest: Amount, price: Amount) -> Result<Amount, Breach> {
        let limit = self.most_unspent();
        let missing = price.less(rest);
        let usual = self.deposit.min(limit.less(rest)).max(missing);
        match rest.plus(usual) {
            Ok(unspent) if unspent <= limit => Ok(usual),
            unspent => Err(Breach::DepositTooHigh { deposit: unspent.unwrap_or(Amount::new(u64::MAX)), limit }),
        }
    }

    pub(crate) fn most_unspent(&self) -> Amount {
        self.max_deposit.max(self.deposit)
    }
}

/// A host is listed by its name, by its name and port, or by a name above it after `*.`.
fn is_listed(list: &BTreeSet<String>, host: &str, authority: &str) -> bool {
    let above = host.match_indices('.').filter_map(|(at, _)| host.get(at..));
    list.contains(host) || list.contains(authority) || above.into_iter().any(|tail| list.contains(&format!("*{tail}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_wire::Network;

    fn policy() -> Policy {
        let cluster = Cluster { network: Network::devnet(), genesis_hash: Key([0; 32]), mint: Key([1; 32]) };
        Policy::new(cluster, Amount::new(10), Amount::new(100), Amount::new(1_000))
    }

    #[test]
    fn given_lists_of_hosts_when_one_is_asked_for_then_denying_wins() {
        let policy = policy().allow_host("*.Example.com").allow_host("a.test:81").deny_host("bad.example.com");
        let check = |host: &str, authority: &str| policy.check_host(host, authority);
        assert_eq!(check("api.example.com", "api.example.com"), Ok(()));
        assert_eq!(check("x.api.example.com", "x.api.example.com:8080"), Ok(()));
        assert!(matches!(check("example.com", "example.com"), Err(Breach::HostNotAllowed(_))));
        assert!(matches!(check("badexample.com", "badexample.com"), Err(Breach::HostNotAllowed(_))));
        assert!(matches!(check("bad.example.com", "bad.example.com:1"), Err(Breach::HostDenied(_))));
        assert_eq!(check("a.test", "a.test:81"), Ok(()));
        assert!(check("a.test", "a.test:82").is_err());
        assert!(policy.clone().allow_any_host().check_host("bad.example.com", "bad.example.com").is_err());
    }

    #[test]
    fn given_a_channel_when_topped_up_then_no_more_is_unspent_in_it_than_allowed() {
        let amount = Amount::new;
        let policy = policy().max_deposit(amount(150));
        assert_eq!(policy.addition_for(amount(3), amount(10)), Ok(amount(100)));
        assert_eq!(policy.addition_for(amount(60), amount(100)), Ok(amount(90)), "not above the limit");
        assert_eq!(policy.addition_for(amount(0), amount(140)), Ok(amount(140)), "as much as the call takes");
        assert!(matches!(policy.addition_for(amount(0), amount(151)), Err(Breach::DepositTooHigh { .. })));
    }
}
