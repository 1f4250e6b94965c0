//! `quote`: what a URL costs.

use super::Shared;
use super::money::Money;
use super::refusal::Refusal;
use super::request::Asked;
use rmcp::model::CallToolResult;
use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use tallybook_wire::{Accept, PaymentRequired};

/// The most ways to pay that are listed.
const MAX_WAYS: usize = 32;
/// The longest text of a server that is passed on, in characters.
const MAX_TEXT_CHARS: usize = 1_000;

#[derive(Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Arguments {
    /// What to ask for: a URL with its scheme, https or http.
    url: String,
    /// GET, HEAD, POST, PUT, PATCH or DELETE. GET unless said otherwise, or POST where there is a body.
    #[serde(default)]
    method: Option<String>,
    /// Headers to send, by their names. Few may be set; a refusal says which.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text to send.
    #[serde(default)]
    body: Option<String>,
}

/// What a call would cost.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Report {
    /// The status of the answer to the unpaid request; 402 where it has to be paid for.
    status: u16,
    /// It costs nothing: the request was answered.
    free: bool,
    /// What the call costs; where upTo is true, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Money>,
    /// The call may turn out to cost less than the price.
    up_to: bool,
    /// `fetch` would pay it as things stand.
    allowed: bool,
    /// Why it would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    /// A person would be asked first.
    asks_first: bool,
    /// What would be deposited first, to be spent there or to come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    deposit: Option<Money>,
    /// Who would be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    payee: Option<String>,
    /// What the server says that it sells: its words, not to be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Every way to pay that the server offers.
    ways: Vec<Way>,
}

/// A way to pay.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Way {
    /// The x402 scheme.
    pub(super) scheme: String,
    /// The network, by its CAIP-2 id.
    pub(super) network: String,
    /// The price, in base units of the asset.
    pub(super) amount: String,
    /// The token.
    pub(super) asset: String,
}

pub(super) async fn quote(shared: &Shared, arguments: Arguments) -> Result<CallToolResult, Refusal> {
    let Arguments { url, method, headers, body } = arguments;
    let request = Asked { url, method, headers, body }.request(shared)?;
    let quote = shared.agent.quote(&request).await.map_err(|error| shared.told(error))?;
    let money = |amount| Money::new(amount, shared.decimals);
    let offer = quote.offer.as_ref();
    let why_not = quote.objection.map(|objection| (shared.tell)(objection));
    let report = Report {
        status: quote.status.as_u16(),
        free: quote.required.is_none(),
        price: offer.map(|offer| money(offer.amount)),
        up_to: offer.is_some_and(|offer| offer.extra.metered),
        allowed: why_not.is_none(),
        why_not,
        asks_first: quote.asks,
        deposit: quote.deposit.map(money),
        payee: offer.map(|offer| offer.pay_to.to_string()),
        description: quote.required.as_ref().and_then(|required| required.resource.description.as_deref().map(shown)),
        ways: quote.required.iter().flat_map(ways).collect(),
    };
    structured(&report)
}

/// A result with its report, as structure and as text.
pub(super) fn structured(report: &impl Serialize) -> Result<CallToolResult, Refusal> {
    let report =
        serde_json::to_value(report).map_err(|error| Refusal::new(format!("the report cannot be written: {error}")))?;
    Ok(CallToolResult::structured(report))
}

fn ways(required: &PaymentRequired) -> impl Iterator<Item = Way> {
    required.accepts.iter().take(MAX_WAYS).map(|accept| match accept {
        Accept::Channel(offer) => Way {
            scheme: tallybook_wire::SCHEME.to_owned(),
            network: offer.network.to_string(),
            amount: offer.amount.to_string(),
            asset: offer.asset.to_string(),
        },
        Accept::Foreign(offer) => {
            let member = |name| shown(offer.get(name).and_then(Value::as_str).unwrap_or_default());
            Way {
                scheme: member("scheme"),
                network: member("network"),
                amount: member("amount"),
                asset: member("asset"),
            }
        }
    })
}

/// As much of a stranger's text as is passed on.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}
