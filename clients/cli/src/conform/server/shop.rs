//! A URL that costs something, and the two forms of what it says about payments.

use crate::conform::http::{Seen, client, send};
use anyhow::Result;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tallybook_wire::{
    PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, PaymentRequired, PaymentRequirements, SettleResponse,
    header, read_header,
};
use url::Url;

/// A paid GET.
pub(super) struct Shop {
    client: Client,
    pub(super) url: Url,
}

impl Shop {
    pub(super) fn new(url: Url) -> Result<Self> {
        Ok(Self { client: client()?, url })
    }

    pub(super) fn request(&self, method: Method) -> RequestBuilder {
        self.client.request(method, self.url.clone())
    }

    /// Asks without paying.
    pub(super) async fn ask(&self) -> Result<Seen, String> {
        send(self.request(Method::GET)).await
    }

    /// Asks with this in `PAYMENT-SIGNATURE`.
    pub(super) async fn present(&self, payment: HeaderValue) -> Result<Seen, String> {
        send(self.request(Method::GET).header(PAYMENT_SIGNATURE, payment)).await
    }

    /// The same with a payment as JSON.
    pub(super) async fn present_json(&self, payment: &Value) -> Result<Seen, String> {
        let value = header(payment).map_err(|rejection| rejection.to_string())?;
        self.present(value).await
    }

    /// The same payment for something else: another query.
    pub(super) async fn present_elsewhere(&self, payment: HeaderValue) -> Result<Seen, String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("conform", "another-request");
        send(self.client.get(url).header(PAYMENT_SIGNATURE, payment)).await
    }
}

/// The 402 in an answer's header.
pub(super) fn required(seen: &Seen) -> Option<PaymentRequired> {
    read_header(seen.headers.get(PAYMENT_REQUIRED)?.as_bytes()).ok()
}

/// The first of our offers in it.
pub(super) fn offer(seen: &Seen) -> Option<PaymentRequirements> {
    required(seen)?.channel_offers().next().cloned()
}

/// The receipt in an answer's header.
pub(super) fn receipt(seen: &Seen) -> Option<SettleResponse> {
    read_header(seen.headers.get(PAYMENT_RESPONSE)?.as_bytes()).ok()
}

/// The name of the reason why a payment was not taken, wherever it stands.
pub(super) fn reason(seen: &Seen) -> Option<String> {
    let named = required(seen).and_then(|required| required.error).map(|reason| reason.name().to_owned());
    named.or_else(|| seen.reason())
}
