//! What a call would cost, asked without paying.

use crate::agent::Agent;
use crate::answer;
use crate::breach::Breach;
use crate::error::AgentError;
use crate::pool::lock;
use crate::route::Route;
use crate::state::AgentState;
use http::StatusCode;
use reqwest::Request;
use std::sync::Arc;
use tallybook_rpc::Chain;
use tallybook_rules::{Amount, Terms};
use tallybook_wire::{PaymentRequired, PaymentRequirements};

/// What a server asks for a call, and whether this agent would pay it as things stand. Nothing is held: the price may change,
/// and others may use the budget up. Amounts in base units.
#[derive(Debug)]
pub struct CallQuote {
    /// The status of the answer to the unpaid request: 402 where it has to be paid for. Any other was its answer.
    pub status: StatusCode,
    /// What the 402 says.
    pub required: Option<PaymentRequired>,
    /// The offer among it that this agent would take.
    pub offer: Option<PaymentRequirements>,
    /// What would have to be deposited first; nothing where an open channel has enough left.
    pub deposit: Option<Amount>,
    /// A person would be asked first.
    pub asks: bool,
    /// Why the agent would not pay it.
    pub objection: Option<AgentError>,
}

impl<C: Chain> Agent<C> {
    /// Asks what a request costs, by sending it without a payment. A request that costs nothing has its effect by that.
    pub async fn quote(&self, request: &Request) -> Result<CallQuote, AgentError> {
        let route = Route::of(request)?;
        let response = self.shared.send(request, None).await?;
        let status = response.status();
        let mut quote = CallQuote { status, required: None, offer: None, deposit: None, asks: false, objection: None };
        if status != StatusCode::PAYMENT_REQUIRED {
            return Ok(quote);
        }
        let required = answer::payment_required(response).await?;
        match self.shared.learn(&route, &required) {
            Ok(offer) => {
                quote.objection = self.shared.weigh(&route, &offer, &mut quote).await.err();
                quote.offer = Some(Arc::unwrap_or_clone(offer));
            }
            Err(error) => quote.objection = Some(error),
        }
        quote.required = Some(required);
        Ok(quote)
    }
}

impl<C: Chain> AgentState<C> {
    /// Whether the limits allow a call under this offer now.
    async fn weigh(&self, route: &Route, offer: &PaymentRequirements, quote: &mut CallQuote) -> Result<(), AgentError> {
        let (policy, price) = (&self.policy, offer.amount);
        policy.check_host(route.host(), route.authority())?;
        policy.check_offer(offer, None)?;
        quote.asks = policy.approve_price_above.is_some_and(|free| price > free);
        let counted = self.budget.report().await?;
        for (period, spent, limit) in
            [("hour", counted.last_hour, policy.limits.per_hour), ("day", counted.last_day, policy.limits.per_day)]
        {
            if let Some(limit) = limit.filter(|limit| limit.less(spent) < price) {
                return Err(Breach::RateExceeded { period, price, spent, limit }.into());
            }
        }
        if self.has_room(route, offer) {
            return Ok(());
        }
        let terms = Terms {
            grace_seconds: offer.extra.withdraw_delay,
            max_idle_seconds: 0,
            min_deposit: offer.extra.min_deposit,
            open_policy: 0,
        };
        let deposit = policy.deposit_for(&terms, price)?;
        quote.deposit = Some(deposit);
        quote.asks |= policy.approve_deposit_above.is_some_and(|free| deposit > free);
        let at_host = counted.by_host.get(route.authority()).copied().unwrap_or_default();
        let limits = policy.limits;
        for (scope, committed, limit) in [
            (format!("at {}", route.authority()), at_host, limits.budget_per_host),
            ("in all".to_owned(), counted.committed, limits.budget),
        ] {
            if limit.less(committed) < deposit {
                return Err(Breach::BudgetExceeded { scope, deposit, committed, limit }.into());
            }
        }
        Ok(())
    }

    /// Whether an open channel at this payee of the host can pay it.
    fn has_room(&self, route: &Route, offer: &PaymentRequirements) -> bool {
        lock(&self.channels).values().any(|channel| {
            let channel = lock(channel);
            let is_there = channel.authority == route.authority() && channel.parts.book == offer.extra.book;
            is_there && channel.next_cumulative(offer.amount).is_some()
        })
    }
}
