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
/// Money counts against the budgets from the moment it is deposited: what is tied up in channels and what was spent
/// together never exceed them. What comes back when a channel ends is free again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub(crate) cluster: Cluster,
    pub(crate) max_price: Amount,
    pub(crate) deposit: Amount,
    pub(crate) max_deposit: Amount,
    pub(crate) budget_per_host: Amount,
    pub(crate) budget: Amount,
    pub(crate) hosts: Option<BTreeSet<String>>,
    pub(crate) payees: Option<BTreeSet<Key>>,
    pub(crate) max_grace_seconds: u32,
    pub(crate) channels_per_host: u16,
    pub(crate) attempts: u32,
    pub(crate) max_wait: Duration,
}

impl Policy {
    /// A policy that pays at most `max_price` a call, puts `deposit` into each channel and ties up or spends at most
    /// `budget` in all (and at one host). No host is allowed yet. Amounts in base units of the mint.
    pub const fn new(cluster: Cluster, max_price: Amount, deposit: Amount, budget: Amount) -> Self {
        Self {
            cluster,
            max_price,
            deposit,
            max_deposit: deposit,
            budget_per_host: budget,
            budget,
            hosts: Some(BTreeSet::new()),
            payees: None,
            max_grace_seconds: 86_400,
            channels_per_host: 1,
            attempts: 8,
            max_wait: Duration::from_secs(5),
        }
    }

    /// Allows a host, `api.example.com` (at any port) or `127.0.0.1:8402` (at this port).
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.get_or_insert_default().insert(host.into());
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

    /// The most that is tied up or spent at one host, in base units.
    #[must_use]
    pub const fn budget_per_host(mut self, amount: Amount) -> Self {
        self.budget_per_host = amount;
        self
    }

    /// The largest deposit where a book asks for more than the usual one, in base units.
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
        match &self.hosts {
            Some(hosts) if !hosts.contains(host) && !hosts.contains(authority) => {
                Err(Breach::HostNotAllowed(authority.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// True when an offer is of the pinned cluster and mint.
    pub(crate) fn can_pay(&self, offer: &PaymentRequirements) -> bool {
        offer.network == self.cluster.network && offer.asset == self.cluster.mint
    }

    /// Refuses an offer that is too dear, or to somebody else.
    pub(crate) fn check_offer(&self, offer: &PaymentRequirements) -> Result<(), Breach> {
        let (price, limit) = (offer.amount, self.max_price);
        if price > limit {
            return Err(Breach::PriceTooHigh { price, limit });
        }
        match &self.payees {
            Some(payees) if !payees.contains(&offer.pay_to) => Err(Breach::PayeeNotAllowed(offer.pay_to)),
            _ => Ok(()),
        }
    }

    /// The deposit for a channel under `terms` that is to pay `price` at least, or why not.
    pub(crate) fn deposit_for(&self, terms: &Terms, price: Amount) -> Result<Amount, Breach> {
        if terms.grace_seconds > self.max_grace_seconds {
            return Err(Breach::GraceTooLong { seconds: terms.grace_seconds, limit: self.max_grace_seconds });
        }
        let deposit = self.deposit.max(terms.min_deposit).max(price);
        if deposit > self.max_deposit.max(self.deposit) {
            return Err(Breach::DepositTooHigh { deposit, limit: self.max_deposit.max(self.deposit) });
        }
        Ok(deposit)
    }
}

/// What a policy forbids.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// A host that is not on the list.
    #[error("{0} is not an allowed host (Policy::allow_host)")]
    HostNotAllowed(String),
    /// A payee that is not on the list.
    #[error("{0} is not an allowed payee (Policy::allow_payee)")]
    PayeeNotAllowed(Key),
    /// A call that costs too much.
    #[error("the call costs {price} base units, the limit is {limit}")]
    PriceTooHigh {
        /// What it costs.
        price: Amount,
        /// What it may cost.
        limit: Amount,
    },
    /// A book that asks for too large a deposit.
    #[error("a channel there takes a deposit of {deposit} base units, the limit is {limit} (Policy::max_deposit)")]
    DepositTooHigh {
        /// What it takes.
        deposit: Amount,
        /// What it may take.
        limit: Amount,
    },
    /// One deposit too many.
    #[error(
        "a deposit of {deposit} base units exceeds the budget {scope}: {committed} of {limit} are tied up or spent; \
         close channels, or raise the budget"
    )]
    BudgetExceeded {
        /// `in all`, or `at` a host.
        scope: String,
        /// What is asked for.
        deposit: Amount,
        /// What is tied up or spent.
        committed: Amount,
        /// The budget.
        limit: Amount,
    },
    /// A grace period that is too long.
    #[error("the grace period is {seconds} seconds, the limit is {limit} (Policy::max_grace_seconds)")]
    GraceTooLong {
        /// How long it is.
        seconds: u32,
        /// How long it may be.
        limit: u32,
    },
}
