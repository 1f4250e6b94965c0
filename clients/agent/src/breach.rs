use tallybook_rules::Amount;
use tallybook_wire::Key;

/// What a policy forbids. Amounts in base units.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// A host that is not on the list.
    #[error("{0} is not an allowed host (Policy::allow_host)")]
    HostNotAllowed(String),
    /// A host that is on the list of those that are never paid.
    #[error("{0} is never paid (Policy::deny_host)")]
    HostDenied(String),
    /// A payee that is not on the list, or on that of those who are never paid.
    #[error("{0} is not an allowed payee (Policy::allow_payee, Policy::deny_payee)")]
    PayeeNotAllowed(Key),
    /// A call that costs too much.
    #[error("the call costs {price} base units, the limit is {limit}")]
    PriceTooHigh {
        /// What it costs, or may cost.
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
    /// Too much for an hour or a day.
    #[error(
        "a call at {price} base units exceeds the budget of one {period}: {spent} of {limit} may be spent already; wait, \
         or raise the budget"
    )]
    RateExceeded {
        /// `hour` or `day`.
        period: &'static str,
        /// What the call may cost.
        price: Amount,
        /// What calls of that time may have cost.
        spent: Amount,
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
    /// A person would have to approve it, and none is asked.
    #[error("{amount} base units need a person's approval, and there is nobody to ask (AgentBuilder::approver)")]
    NobodyToAsk {
        /// How much.
        amount: Amount,
    },
    /// A person did not approve it.
    #[error("{amount} base units were not approved by the person who was asked")]
    NotApproved {
        /// How much.
        amount: Amount,
    },
    /// A person was asked and did not answer in time.
    #[error("nobody approved {amount} base units within {seconds} seconds (Policy::approval_timeout)")]
    ApprovalTimedOut {
        /// How much.
        amount: Amount,
        /// How long was waited.
        seconds: u64,
    },
}
