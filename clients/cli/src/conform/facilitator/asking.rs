//! Questions to a facilitator, and how its answers must look.

use crate::conform::http::{Seen, client, send};
use anyhow::{Context, Result};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tallybook_rules::Amount;
use tallybook_wire::{ChannelPayload, Offer, PaymentPayload, PaymentRequirements};
use url::Url;

/// A facilitator, and what it has said of itself.
pub(super) struct Desk {
    client: Client,
    base: String,
    token: Option<String>,
    pub(super) offer: Option<Offer>,
}

impl Desk {
    pub(super) fn new(url: Url, token: Option<&str>) -> Result<Self> {
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client: client()?, base, token: token.map(str::to_owned), offer: None })
    }

    pub(super) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(super) const fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    pub(super) async fn get(&self, path: &str) -> Result<Seen, String> {
        send(self.client.get(format!("{}/{path}", self.base))).await
    }

    /// Sends this body, with the access token.
    pub(super) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Result<Seen, String> {
        let request = self.request(path, body);
        send(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// The same by a stranger.
    pub(super) async fn post_without_token(&self, path: &str, body: impl Into<reqwest::Body>) -> Result<Seen, String> {
        send(self.request(path, body)).await
    }

    fn request(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(format!("{}/{path}", self.base)).header("content-type", "application/json").body(body)
    }

    /// Asks about a payment, which answers what it is asked about.
    pub(super) async fn ask(
        &self,
        path: &str,
        asked: &PaymentRequirements,
        payload: &ChannelPayload,
    ) -> Result<Seen, String> {
        self.post(path, request(asked, asked, payload).to_string()).await
    }

    /// Commits a voucher for what the call really cost.
    pub(super) async fn commit(
        &self,
        accepted: &PaymentRequirements,
        cost: Amount,
        payload: &ChannelPayload,
    ) -> Result<Seen, String> {
        let required = PaymentRequirements { amount: cost, ..accepted.clone() };
        self.post("settle", request(accepted, &required, payload).to_string()).await
    }
}

/// The body of `/verify`, `/settle` and `/release`.
pub(super) fn request(
    accepted: &PaymentRequirements,
    required: &PaymentRequirements,
    payload: &ChannelPayload,
) -> Value {
    let payment = PaymentPayload::new(accepted.clone(), payload.clone());
    json!({ "x402Version": 2, "paymentPayload": payment, "paymentRequirements": required })
}

/// Whether a payment holds.
pub(super) fn is_valid(seen: &Seen) -> bool {
    seen.status.is_success() && seen.says("/isValid", true) && seen.json().get("payer").is_some_and(Value::is_string)
}

/// Whether a payment was refused by this name.
pub(super) fn is_invalid(seen: &Seen, reason: &str) -> bool {
    seen.status.is_success() && seen.says("/isValid", false) && seen.says("/invalidReason", reason)
}

/// Whether a payment was settled.
pub(super) fn is_settled(seen: &Seen) -> bool {
    let json = seen.json();
    let named = ["payer", "network", "transaction"].iter().all(|member| json.get(member).is_some_and(Value::is_string));
    seen.status.is_success() && seen.says("/success", true) && named
}

/// Whether a payment was not settled, for this reason.
pub(super) fn is_failed(seen: &Seen, reason: &str) -> bool {
    seen.status.is_success() && seen.says("/success", false) && seen.says("/errorReason", reason)
}

/// Whether a request was refused as such, by one of these statuses and this name.
pub(super) fn is_refused(seen: &Seen, statuses: &[u16], reason: &str) -> bool {
    statuses.contains(&seen.status.as_u16()) && seen.reason().as_deref() == Some(reason)
}

/// What a channel was charged in all, as an answer says.
pub(super) fn charged(seen: &Seen) -> Option<Amount> {
    let json = seen.json();
    let text = json.pointer("/extra/channelState/chargedCumulativeAmount")?.as_str()?;
    tallybook_wire::decimal::parse(text).ok()
}

/// An answer, or why the checks that need it cannot be made.
pub(super) fn needed(seen: Result<Seen, String>) -> Result<Seen> {
    seen.map_err(anyhow::Error::msg).context("the facilitator does not answer")
}
