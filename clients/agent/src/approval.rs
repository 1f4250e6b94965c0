//! Asking a person.

use crate::breach::Breach;
use crate::policy::Policy;
use std::future::Future;
use std::pin::Pin;
use tallybook_rules::Amount;
use tallybook_wire::Key;

/// What a person is asked to approve. Amounts in base units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// For what.
    pub what: Asked,
    /// How much.
    pub amount: Amount,
    /// The host that is paid, with its port if that is not the usual one.
    pub host: String,
    /// The path that is asked for, without its query.
    pub path: String,
    /// Who is paid.
    pub payee: Key,
}

/// What the money is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// One call: its price, or the most that it may cost.
    Call,
    /// A stream that is about to cost more than is allowed without asking: the most that it may cost.
    Stream,
    /// A deposit into a new channel. What is not spent comes back.
    Deposit,
    /// An addition to the deposit of a channel. What is not spent comes back.
    TopUp,
}

type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Whoever is asked.
pub(crate) struct Approver(Box<dyn Fn(Ask) -> Answer + Send + Sync>);

impl Approver {
    pub(crate) fn new<F: Future<Output = bool> + Send + 'static>(
        ask: impl Fn(Ask) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(move |asked| Box::pin(ask(asked))))
    }
}

/// Asks if the policy says so. True when somebody was asked, and approved.
pub(crate) async fn approve(policy: &Policy, approver: Option<&Approver>, ask: Ask) -> Result<bool, Breach> {
    let free = match ask.what {
        Asked::Call | Asked::Stream => policy.approve_price_above,
        Asked::Deposit | Asked::TopUp => policy.approve_deposit_above,
    };
    let amount = ask.amount;
    if free.is_none_or(|free| amount <= free) {
        return Ok(false);
    }
    let Some(Approver(approver)) = approver else {
        return Err(Breach::NobodyToAsk { amount });
    };
    match tokio::time::timeout(policy.approval_timeout, approver(ask)).await {
        Ok(true) => Ok(true),
        Ok(false) => Err(Breach::NotApproved { amount }),
        Err(_) => Err(Breach::ApprovalTimedOut { amount, seconds: policy.approval_timeout.as_secs() }),
    }
}
