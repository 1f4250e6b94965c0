//! The scheme `exact` beside our channels: the same facilitator, payee and token, paid on chain call by call, for clients
//! that know nothing of channels. In version 2 of x402, and in version 1 where that is switched on.

use crate::foreign::{Direct, Judge, answers};
use crate::price::Price;
use crate::respond::Refused;
use crate::sale::{Paying, Sale, Way};
use http::HeaderValue;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tallybook_rules::Rejection;
use tallybook_wire::{EXACT, Offer, ResourceInfo, read_header, v1_network, v1_requirements};

/// Whether `exact` is offered, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) enum Exact {
    /// Not at all.
    #[default]
    Off,
    /// To clients of version 2 of x402.
    V2,
    /// To those of version 1 too.
    V1,
}

impl Way {
    /// What a payment by `exact` is asked for; none where the price is not one amount, or the facilitator does not take it.
    pub(crate) async fn exact(&self, offer: &Offer) -> Option<Value> {
        let Price::Exactly(amount) = self.price else { return None };
        let fee_payer = self.shared.keeper.facilitator.exact_fee_payer(&offer.network).await?;
        let mut extra = Map::new();
        extra.insert("feePayer".to_owned(), json!(fee_payer));
        extra.insert("tokenProgram".to_owned(), json!(offer.extra.token_program));
        extra.insert("decimals".to_owned(), json!(offer.extra.decimals));
        if let Some(blockhash) = offer.extra.recent_blockhash {
            extra.insert("recentBlockhash".to_owned(), json!(blockhash));
        }
        Some(json!({
            "scheme": EXACT,
            "network": offer.network,
            "amount": amount.to_string(),
            "asset": offer.asset,
            "payTo": offer.pay_to,
            "maxTimeoutSeconds": self.shared.timeout_seconds.min(offer.max_timeout_seconds),
            "extra": extra,
        }))
    }
}

impl Sale {
    /// The payment in a header of version 2, if it answers one of our own offers by `exact`.
    pub(crate) async fn read_exact(&self, payment: &Value) -> Option<Direct> {
        for way in self.ways_by_exact() {
            let requirements = way.exact(&*way.shared.keeper.terms().await.ok()?).await;
            if let Some(requirements) = requirements.filter(|requirements| answers(payment, requirements)) {
                let judge = Judge::Own(Arc::clone(&way.shared));
                return Some(Direct::new(judge, requirements, payment.clone()));
            }
        }
        None
    }

    /// The payment in a header of version 1. It does not say which of several offers it answers, so only the first is made
    /// in that version.
    pub(crate) async fn read_v1(&self, header: &HeaderValue) -> Result<Paying, Refused> {
        let payment: Value = read_header(header.as_bytes())?;
        let member = |name: &str| payment.get(name);
        if member("x402Version").and_then(Value::as_u64) != Some(1) {
            return Err(Rejection::UnsupportedVersion.into());
        }
        for way in self.ways_by_exact() {
            let terms = way.shared.keeper.terms().await.map_err(Refused::from)?;
            let Some(requirements) = way.exact(&terms).await else { continue };
            let same = member("scheme") == requirements.get("scheme");
            let network = member("network").and_then(Value::as_str);
            if !same || network.is_none() || network != v1_network(&terms.network) {
                return Err(Rejection::UnsupportedScheme.into());
            }
            let requirements = v1_requirements(&requirements, &self.resource()).ok_or(Rejection::WrongNetwork)?;
            let judge = Judge::Own(Arc::clone(&way.shared));
            return Ok(Paying::Foreign(Box::new(Direct::new(judge, requirements, payment).of_v1())));
        }
        Err(Rejection::UnsupportedScheme.into())
    }

    fn ways_by_exact(&self) -> impl Iterator<Item = &Way> {
        let offered = self.exact_is() >= Exact::V2;
        self.ways().iter().filter(move |_| offered)
    }
}

/// The body of a 402 as clients of version 1 read it, which look at no header: the first offer by `exact` among `accepts`.
pub(crate) fn v1_body<'a>(
    accepts: impl Iterator<Item = &'a Value>,
    resource: &ResourceInfo,
    error: Option<&str>,
) -> Value {
    let mut exact = accepts.filter(|accept| accept.get("scheme").and_then(Value::as_str) == Some(EXACT));
    let first = exact.find_map(|accept| v1_requirements(accept, resource));
    json!({
        "x402Version": 1,
        "error": error.unwrap_or("X-PAYMENT header is required"),
        "accepts": first.into_iter().collect::<Vec<Value>>(),
    })
}
