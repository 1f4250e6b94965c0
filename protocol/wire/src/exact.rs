//! The scheme `exact` on Solana as it stands on the wire, in version 2 of x402 and in version 1: one request for both.
//!
//! What the scheme's own checks have a name for is kept as text here, so that it is refused by that name and not as a
//! body that cannot be read.

use crate::{MAX_BODY_BYTES, Network};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tallybook_rules::Rejection;

/// The name of the scheme, in both versions.
pub const EXACT: &str = "exact";
/// The longest name of a settlement, in bytes.
pub const MAX_SETTLEMENT_ID_BYTES: usize = 128;
/// Client to server, version 1: the payment.
pub const X_PAYMENT: http::HeaderName = http::HeaderName::from_static("x-payment");
/// Server to client, version 1: what was settled.
pub const X_PAYMENT_RESPONSE: http::HeaderName = http::HeaderName::from_static("x-payment-response");

/// What a facilitator is asked about a payment by `exact`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExactRequest {
    /// 1 or 2.
    pub x402_version: u64,
    /// The scheme and the network that the client has accepted.
    pub accepted: (String, String),
    /// The client's transaction in base64, as it came.
    pub transaction: String,
    /// What the resource server asked for.
    pub terms: ExactTerms,
    /// A name that the resource server has made up for this one settlement, if it has: who settles the same payment again
    /// under the same name is told the same again, because its first answer may be lost. Never the client's.
    pub settlement_id: Option<String>,
}

/// What a resource server asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExactTerms {
    /// The scheme.
    pub scheme: String,
    /// The network, as the version names it.
    pub network: String,
    /// The price in base units: `amount` in version 2, `maxAmountRequired` in version 1.
    pub amount: String,
    /// The mint.
    pub asset: String,
    /// The payee.
    pub pay_to: String,
    /// Who pays the network's fee; none where it is no text.
    pub fee_payer: Option<String>,
    /// What the memo has to say, if the server wants one.
    pub memo: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest {
    x402_version: u64,
    payment_payload: RawPayload,
    payment_requirements: RawTerms,
    settlement_id: Option<String>,
}

#[derive(Deserialize)]
struct RawPayload {
    scheme: Option<String>,
    network: Option<String>,
    accepted: Option<RawAccepted>,
    payload: RawTransaction,
}

#[derive(Deserialize)]
struct RawAccepted {
    scheme: String,
    network: String,
}

#[derive(Deserialize)]
struct RawTransaction {
    transaction: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTerms {
    scheme: String,
    network: String,
    amount: Option<String>,
    max_amount_required: Option<String>,
    asset: String,
    pay_to: String,
    extra: Option<Map<String, Value>>,
}

impl ExactRequest {
    /// Reads the body of `/verify` or `/settle`: [`Rejection::RequestTooLarge`] above the cap,
    /// [`Rejection::MalformedPayload`] without the members of its version.
    pub fn read(body: &[u8]) -> Result<Self, Rejection> {
        if body.len() > MAX_BODY_BYTES {
            return Err(Rejection::RequestTooLarge);
        }
        let raw: RawRequest = serde_json::from_slice(body).map_err(|_| Rejection::MalformedPayload)?;
        let RawPayload { scheme, network, accepted, payload } = raw.payment_payload;
        let terms = raw.payment_requirements;
        let (accepted, amount) = match raw.x402_version {
            1 => (scheme.zip(network), terms.max_amount_required),
            _ => (accepted.map(|accepted| (accepted.scheme, accepted.network)), terms.amount),
        };
        let (accepted, amount) = accepted.zip(amount).ok_or(Rejection::MalformedPayload)?;
        if raw.settlement_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_SETTLEMENT_ID_BYTES) {
            return Err(Rejection::MalformedPayload);
        }
        let text = |name: &str| terms.extra.as_ref()?.get(name)?.as_str().map(str::to_owned);
        Ok(Self {
            x402_version: raw.x402_version,
            accepted,
            transaction: payload.transaction,
            settlement_id: raw.settlement_id,
            terms: ExactTerms {
                fee_payer: text("feePayer"),
                // As the reference takes it: an empty memo asks for none.
                memo: text("memo").filter(|memo| !memo.is_empty()),
                scheme: terms.scheme,
                network: terms.network,
                amount,
                asset: terms.asset,
                pay_to: terms.pay_to,
            },
        })
    }
}

/// `extra` of an `exact` kind in `/supported`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExactExtra {
    /// The sponsor: who pays the network's fees.
    pub fee_payer: crate::Key,
}

/// What version 1 calls a Solana network, if it has a name for it.
pub fn v1_network(network: &Network) -> Option<&'static str> {
    const NAMES: [(&str, &str); 3] = [
        ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana"),
        ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "solana-devnet"),
        ("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "solana-testnet"),
    ];
    NAMES.into_iter().find(|(id, _)| *id == network.as_str()).map(|(_, name)| name)
}

/// Requirements of version 2 as an entry of version 1's `accepts`; none where version 1 has no name for the network, or
/// where a member is missing. What is not known is left out: clients of that version take no `null`.
pub fn v1_requirements(requirements: &Value, resource: &crate::ResourceInfo) -> Option<Value> {
    let network: Network = requirements.get("network")?.as_str()?.parse().ok()?;
    let member = |name: &str| requirements.get(name).cloned();
    Some(json!({
        "scheme": member("scheme")?,
        "network": v1_network(&network)?,
        "maxAmountRequired": member("amount")?,
        "asset": member("asset")?,
        "payTo": member("payTo")?,
        "resource": resource.url,
        "description": resource.description.clone().unwrap_or_default(),
        "mimeType": resource.mime_type.clone().unwrap_or_default(),
        "maxTimeoutSeconds": member("maxTimeoutSeconds")?,
        "extra": member("extra").unwrap_or_else(|| json!({})),
    }))
}
