//! What every scheme has in common: its name on the wire, and the answers of a facilitator without what one scheme adds.

use crate::{Key, MAX_BODY_BYTES, decimal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tallybook_rules::{Amount, Rejection};

/// What a request to a facilitator names itself by, read without reading the rest: enough to find who takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The version of x402.
    pub x402_version: u64,
    /// The scheme of the requirements.
    pub scheme: Cow<'a, str>,
    /// The network of the requirements, as this version names it.
    pub network: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHead<'a> {
    x402_version: u64,
    #[serde(borrow)]
    payment_requirements: RawRequirements<'a>,
}

#[derive(Deserialize)]
struct RawRequirements<'a> {
    #[serde(borrow)]
    scheme: Cow<'a, str>,
    #[serde(borrow)]
    network: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// Reads the head of a request's body: [`Rejection::RequestTooLarge`] above the cap, [`Rejection::MalformedPayload`]
    /// without one. A member that stands twice is refused here as in the whole body, so that both readings are the same.
    pub fn read(json: &'a [u8]) -> Result<Self, Rejection> {
        if json.len() > MAX_BODY_BYTES {
            return Err(Rejection::RequestTooLarge);
        }
        let raw: RawHead<'a> = serde_json::from_slice(json).map_err(|_| Rejection::MalformedPayload)?;
        let RawRequirements { scheme, network } = raw.payment_requirements;
        Ok(Self { x402_version: raw.x402_version, scheme, network })
    }
}

/// One scheme on one network in one version of x402: an entry of [`SupportedResponse`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// The version of x402.
    pub x402_version: u64,
    /// The scheme's name.
    pub scheme: String,
    /// The network, as this version names it.
    pub network: String,
    /// What a resource server must know; the scheme says what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

impl Kind {
    /// The kind of this name; `extra` as the scheme writes it, and none if that is no object.
    pub fn new(x402_version: u64, scheme: &str, network: &str, extra: &impl Serialize) -> Self {
        let extra = match serde_json::to_value(extra) {
            Ok(Value::Object(extra)) => Some(extra),
            Ok(_) | Err(_) => None,
        };
        Self { x402_version, scheme: scheme.to_owned(), network: network.to_owned(), extra }
    }

    /// Whether a request that names itself so is of this kind.
    pub fn is_of(&self, head: &Head<'_>) -> bool {
        self.x402_version == head.x402_version && self.scheme == head.scheme && self.network == head.network
    }
}

/// The answer of `GET /supported`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SupportedResponse {
    /// Schemes and networks, one for each version of x402.
    pub kinds: Vec<Kind>,
    /// Extensions: none.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Who signs, by CAIP-2 pattern (`solana:*`).
    #[serde(default)]
    pub signers: BTreeMap<String, Vec<Key>>,
}

/// The answer of `POST /verify` for a payment of any scheme.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Whether it would be settled now.
    pub is_valid: bool,
    /// Why not, by a name of the scheme's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<String>,
    /// The same for people, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_message: Option<String>,
    /// Who pays, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Key>,
}

impl Verification {
    /// It holds.
    pub const fn valid(payer: Key) -> Self {
        Self { is_valid: true, invalid_reason: None, invalid_message: None, payer: Some(payer) }
    }

    /// It does not.
    pub fn invalid(reason: &str, message: &str, payer: Option<Key>) -> Self {
        Self {
            is_valid: false,
            invalid_reason: Some(reason.to_owned()),
            invalid_message: Some(message.to_owned()),
            payer,
        }
    }
}

/// The answer of `POST /settle` for a payment of any scheme.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settlement {
    /// Whether it is paid.
    pub success: bool,
    /// Why not, by a name of the scheme's; `settlement_pending` while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// The same for people, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Who pays, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Key>,
    /// The transaction that was sent; `""` for none.
    pub transaction: String,
    /// The network, as the request's version of x402 names it.
    pub network: String,
    /// What was paid, in base units.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
}
