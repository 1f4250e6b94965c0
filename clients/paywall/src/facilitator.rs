//! The facilitator, as a resource server sees it over HTTP.

use crate::declared::bare;
use crate::keeper::Failure;
use crate::traced;
use core::fmt;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book as book_address;
use tallybook_rules::Rejection;
use tallybook_wire::{
    ChannelView, EXACT, EXTENSION_RESPONSES, ExactExtra, ExtensionResponses, FacilitatorRequest, GrowRequest,
    GrowResponse, Key, Kind, KindExtra, ListingOutcome, MAX_BODY_BYTES, Network, Offer, Refusal, ReleaseResponse,
    SCHEME, SettleResponse, SupportedResponse, VerifyResponse, Version, body, read_body, read_header,
};
use url::Url;

/// How long it is believed who pays the fee of payments by `exact`, or that nobody does.
const FEE_PAYER_STANDS: Duration = Duration::from_secs(60);
/// A deposit waits for the chain.
const DEPOSIT_PATIENCE: u32 = 10;

/// The client of one facilitator, for one book.
pub(crate) struct Facilitator {
    http: Client,
    url: Url,
    book: Key,
    decimals: u8,
    patience: Duration,
    /// The offer that was read last; its terms are good for as long as the facilitator keeps its sponsor.
    offer: RwLock<Option<Arc<Offer>>>,
    /// Why something was not listed last.
    unlisted: Mutex<Option<String>>,
    /// Who pays the fee of payments by `exact`, and when that was asked.
    exact_fee_payer: RwLock<Option<(Instant, Option<Key>)>>,
}

impl fmt::Debug for Facilitator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facilitator({}, book {})", self.url, self.book)
    }
}

impl Facilitator {
    pub(crate) fn new(
        url: Url,
        book: Key,
        decimals: u8,
        patience: Duration,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, reqwest::Error> {
        let headers: HeaderMap = authorization.map(|value| (AUTHORIZATION, value)).into_iter().collect();
        let http = Client::builder().default_headers(headers).connect_timeout(patience);
        let http = http.redirect(reqwest::redirect::Policy::none()).build()?;
        let (offer, exact_fee_payer, unlisted) = Default::default();
        Ok(Self { http, url, book, decimals, patience, offer, unlisted, exact_fee_payer })
    }

    /// A fresh offer: a free slot, and the terms.
    pub(crate) async fn offer(&self) -> Result<Arc<Offer>, Failure> {
        let offer: Offer = self.get(&["books", &self.book.to_string(), "offer"]).await?;
        self.check(&offer).map_err(|rejection| Failure::Refused(rejection.into()))?;
        let offer = Arc::new(offer);
        *self.offer.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&offer));
        Ok(offer)
    }

    /// The terms as they were read last, or fresh ones if there are none yet.
    pub(crate) async fn terms(&self) -> Result<Arc<Offer>, Failure> {
        let known = self.offer.read().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(offer) => Ok(offer),
            None => self.offer().await,
        }
    }

    /// The facilitator may not name another payee, token or book than the owner of this server has set: the book's
    /// address is made of payee and token.
    fn check(&self, offer: &Offer) -> Result<(), Rejection> {
        let (payee, mint) = (offer.pay_to.0.into(), offer.asset.0.into());
        let (address, _) = book_address(&PROGRAM_ID, &payee, &mint, offer.extra.book_id);
        let is_ours =
            offer.extra.book == self.book && address.to_bytes() == self.book.0 && offer.extra.decimals == self.decimals;
        if is_ours { Ok(()) } else { Err(Rejection::UnknownBook) }
    }

    pub(crate) async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Failure> {
        let bare = bare(request);
        self.post(&["verify"], bare.as_ref().unwrap_or(request), self.patience).await
    }

    pub(crate) async fn settle(&self, request: &FacilitatorRequest) -> Result<SettleResponse, Failure> {
        self.post(&["settle"], request, self.patience).await
    }

    /// [`Facilitator::settle`] of something that waits for the chain.
    pub(crate) async fn settle_on_chain(&self, request: &FacilitatorRequest) -> Result<SettleResponse, Failure> {
        self.post(&["settle"], request, self.patience.saturating_mul(DEPOSIT_PATIENCE)).await
    }

    /// Asks for the transaction that adds the book's next page, or hands it in; that waits for the chain.
    pub(crate) async fn grow(&self, request: &GrowRequest) -> Result<GrowResponse, Failure> {
        let path = ["books", &self.book.to_string(), "pages"];
        self.post(&path, request, self.patience.saturating_mul(DEPOSIT_PATIENCE)).await
    }

    /// Hands over vouchers of a ledger of our own.
    #[cfg(feature = "embedded")]
    pub(crate) async fn forward(
        &self,
        request: &tallybook_wire::ForwardRequest,
    ) -> Result<tallybook_wire::ForwardResponse, Failure> {
        self.post(&["vouchers"], request, self.patience).await
    }

    pub(crate) async fn release(&self, request: &FacilitatorRequest) -> Result<ReleaseResponse, Failure> {
        self.post(&["release"], request, self.patience).await
    }

    pub(crate) async fn channel(&self, id: &Key) -> Result<ChannelView, Failure> {
        self.get(&["channels", &id.to_string()]).await
    }

    /// The cluster that the facilitator serves, on the network of the offer.
    pub(crate) async fn cluster(&self, offer: &Offer) -> Result<KindExtra, Failure> {
        let supported: SupportedResponse = self.get(&["supported"]).await?;
        let is_ours = |kind: &Kind| kind.scheme == SCHEME && kind.network == offer.network.as_str();
        let extra = supported.kinds.into_iter().find(is_ours).and_then(|kind| kind.extra);
        let extra = extra.and_then(|extra| serde_json::from_value(Value::Object(extra)).ok());
        extra.ok_or_else(|| Failure::Refused(Rejection::WrongNetwork.into()))
    }

    /// Who pays the fee of payments by `exact` on this network; none where the facilitator does not take them, or does not
    /// answer.
    pub(crate) async fn exact_fee_payer(&self, network: &Network) -> Option<Key> {
        let known = *self.exact_fee_payer.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.filter(|(at, _)| at.elapsed() < FEE_PAYER_STANDS);
        if let Some((_, fee_payer)) = fresh {
            return fee_payer;
        }
        // As it was before, for want of better.
        let Ok(supported) = self.get::<SupportedResponse>(&["supported"]).await else {
            return known.and_then(|(_, fee_payer)| fee_payer);
        };
        let is_it = |kind: &Kind| {
            (kind.x402_version, kind.scheme.as_str(), kind.network.as_str())
                == (Version::NUMBER, EXACT, network.as_str())
        };
        let extra = supported.kinds.into_iter().find(is_it).and_then(|kind| kind.extra);
        let extra = extra.and_then(|extra| serde_json::from_value::<ExactExtra>(Value::Object(extra)).ok());
        let fee_payer = extra.map(|extra| extra.fee_payer);
        *self.exact_fee_payer.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), fee_payer));
        fee_payer
    }

    /// Asks about a payment of any scheme: `/verify` or `/settle`, which may wait for the chain.
    pub(crate) async fn ask(&self, path: &str, question: &Value) -> Result<Value, Failure> {
        self.post(&[path], question, self.patience.saturating_mul(DEPOSIT_PATIENCE)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.answer(self.http.get(self.at(path)).timeout(self.patience)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        request: &impl Serialize,
        patience: Duration,
    ) -> Result<T, Failure> {
        let json = body(request).map_err(|rejection| Failure::Refused(rejection.into()))?;
        let request = self.http.post(self.at(path)).headers(traced::headers()).header(CONTENT_TYPE, "application/json");
        self.answer(request.timeout(patience).body(json)).await
    }

    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Tells the operator, once for each reason, why a route that declares itself is not listed.
    fn look_at_listing(&self, response: &reqwest::Response) {
        let Some(value) = response.headers().get(EXTENSION_RESPONSES) else { return };
        let read = read_header::<ExtensionResponses>(value.as_bytes());
        let Ok(ExtensionResponses { bazaar: Some(ListingOutcome::Rejected { reason }) }) = read else { return };
        let mut last = self.unlisted.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&reason) {
            tracing::warn!(facilitator = %self.url, reason, "the facilitator does not list what was sold");
            *last = Some(reason);
        }
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let lost = |error: reqwest::Error| {
            tracing::warn!(facilitator = %self.url, error = %error.without_url(), "no answer from the facilitator");
            Failure::Unknown
        };
        let mut response = request.send().await.map_err(lost)?;
        self.look_at_listing(&response);
        let mut json = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            json.extend_from_slice(&chunk);
            if json.len() > MAX_BODY_BYTES {
                return Err(Failure::Unknown);
            }
        }
        if response.status().is_success() {
            return read_body(&json).map_err(|_| Failure::Unknown);
        }
        Err(read_body::<Refusal>(&json).map_or(Failure::Unknown, |refusal| Failure::Refused(refusal.error)))
    }
}
