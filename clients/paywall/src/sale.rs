//! What a request is asked to pay, in every way that its route offers.

use crate::builder::Shared;
use crate::exact::{Exact, v1_body};
use crate::foreign::{Direct, Judge, answers};
use crate::keeper::Failure;
use crate::layer::ChargeLayer;
use crate::price::Price;
use crate::respond::{Body, Refused, json, refused, unavailable};
use crate::statements::{signed_offers, with_receipt};
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;
use tallybook_rules::Rejection;
use tallybook_wire::{
    Accept, AnswerExtra, BAZAAR, ChannelState, FacilitatorRequest, OFFER_RECEIPT, Offer, PAYMENT_IDENTIFIER,
    PAYMENT_REQUIRED, PAYMENT_RESPONSE, PaymentIdentifier, PaymentPayload, PaymentRequired, PaymentRequirements,
    Reason, ReceiptKey, ResourceInfo, X_PAYMENT, header, read_header,
};
use tokio::sync::OwnedSemaphorePermit;

/// One of our own ways to pay for a call: a paywall's book, at a price.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) shared: Arc<Shared>,
    pub(crate) price: Price,
}

impl Way {
    pub(crate) fn required(&self, offer: &Offer) -> PaymentRequirements {
        let mut requirements = offer.priced(self.price.ceiling(), self.shared.timeout_seconds);
        requirements.extra.metered = self.price.is_metered();
        requirements
    }
}

/// What is sold, by a URL that is no address of HTTP, `mcp://tool/weather`. Put it among a request's extensions where another
/// transport carries x402 to a [`ChargeLayer`]: what is asked for, and signed, then names this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceUrl(pub Arc<str>);

/// How a client pays.
pub(crate) enum Paying {
    /// From a channel.
    Channel(Way, Box<FacilitatorRequest>),
    /// By another scheme.
    Foreign(Box<Direct>),
}

impl Paying {
    /// The payment's name, if it has one; [`Rejection::MalformedPayload`] for one that is none.
    pub(crate) fn name(&self) -> Result<Option<PaymentIdentifier>, Rejection> {
        PaymentIdentifier::read(match self {
            Self::Channel(_, request) => request.payment_payload.extensions.as_ref(),
            Self::Foreign(direct) => direct.payment.get("extensions").and_then(Value::as_object),
        })
    }
}

/// What is sold, and how it can be paid. What only a 402 says is put into words when one is made: most calls are paid.
#[derive(Clone, Debug)]
pub(crate) struct Sale {
    charge: Arc<ChargeLayer>,
    ways: Vec<Way>,
    method: Method,
    host: Option<HeaderValue>,
    path: Option<PathAndQuery>,
    /// Its URL, where that is no address of HTTP.
    named: Option<ResourceUrl>,
    /// The payment of a client of version 1, where those are served.
    v1_payment: Option<HeaderValue>,
}

impl Sale {
    pub(crate) fn new(charge: &Arc<ChargeLayer>, request: &Parts) -> Self {
        let ways = charge
            .ways
            .iter()
            .map(|(paywall, pricing)| Way { shared: Arc::clone(&paywall.shared), price: pricing.of(request) });
        Self {
            ways: ways.collect(),
            charge: Arc::clone(charge),
            method: request.method.clone(),
            host: request.headers.get(HOST).cloned(),
            path: request.uri.path_and_query().cloned(),
            named: request.extensions.get().cloned(),
            v1_payment: request.headers.get(X_PAYMENT).filter(|_| charge.exact == Exact::V1).cloned(),
        }
    }

    /// Whether `exact` is offered.
    pub(crate) fn exact_is(&self) -> Exact {
        self.charge.exact
    }

    /// The payment of a client of version 1, where those are served.
    pub(crate) const fn v1_payment(&self) -> Option<&HeaderValue> {
        self.v1_payment.as_ref()
    }

    /// Where clients find the server, if that is told.
    pub(crate) fn base_url(&self) -> Option<String> {
        self.ways.first().and_then(|way| way.shared.base_url.clone())
    }

    /// What is sold, by its URL.
    pub(crate) fn resource(&self) -> ResourceInfo {
        if let Some(ResourceUrl(url)) = &self.named {
            return ResourceInfo { url: url.to_string(), ..self.charge.resource.clone() };
        }
        let path = self.path.as_ref().map_or("/", PathAndQuery::as_str);
        let base = self.base_url();
        let host = || Some(format!("http://{}", self.host.as_ref()?.to_str().ok()?));
        let url = format!("{}{path}", base.or_else(host).unwrap_or_default());
        ResourceInfo { url, ..self.charge.resource.clone() }
    }

    /// The key that signs offers and receipts, if they are signed.
    fn receipts(&self) -> Option<&ReceiptKey> {
        self.ways.iter().find_map(|way| way.shared.receipts.as_ref())
    }

    /// Adds a signed receipt to an answer that was paid for, if receipts are signed here.
    pub(crate) fn sign(&self, mut response: Response<Body>) -> Response<Body> {
        let signed = self.receipts().and_then(|key| {
            let paid: Value = read_header(response.headers().get(PAYMENT_RESPONSE)?.as_bytes()).ok()?;
            header(&with_receipt(paid, &self.resource().url, key)?).ok()
        });
        if let Some(value) = signed {
            response.headers_mut().insert(PAYMENT_RESPONSE, value);
        }
        response
    }

    pub(crate) fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// True when the request costs nothing, in whichever way it would be paid.
    pub(crate) fn is_free(&self) -> bool {
        self.ways.iter().any(|way| way.price.is_free())
    }

    /// A place among the requests at work.
    pub(crate) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let way = self.ways.first()?;
        Arc::clone(&way.shared.in_flight).try_acquire_owned().ok()
    }

    /// The payment in the header, checked against what is sold here.
    pub(crate) async fn read(&self, value: &HeaderValue) -> Result<Paying, Refused> {
        let mut payment: PaymentPayload = match read_header(value.as_bytes()) {
            Ok(payment) => payment,
            Err(Rejection::UnsupportedScheme) => return self.read_foreign(value).await,
            Err(rejection) => return Err(rejection.into()),
        };
        let book = payment.accepted.extra.book;
        let way = self.ways.iter().find(|way| way.shared.book == book).or(self.ways.first());
        let way = way.ok_or(Rejection::UnknownBook)?;
        let requirements = way.required(&*way.shared.keeper.terms().await.map_err(Refused::from)?);
        payment.accepted.answers(&requirements).map_err(|rejection| Refused::from(rejection).on(way))?;
        self.declare(&mut payment);
        Ok(Paying::Channel(way.clone(), Box::new(FacilitatorRequest::new(payment, requirements))))
    }

    async fn read_foreign(&self, value: &HeaderValue) -> Result<Paying, Refused> {
        let mut payment: Value = read_header(value.as_bytes())?;
        self.declare_in(&mut payment);
        if let Some(direct) = self.read_exact(&payment).await {
            return Ok(Paying::Foreign(Box::new(direct)));
        }
        let found = self.charge.foreign.iter().find(|scheme| answers(&payment, scheme.requirements()));
        let scheme = found.ok_or(Rejection::UnsupportedScheme)?;
        let requirements = scheme.requirements().clone();
        Ok(Paying::Foreign(Box::new(Direct::new(Judge::Foreign(Arc::clone(scheme)), requirements, payment))))
    }

    /// 402: asks for payment, with the reason why the last one was not taken and where its channel stands; or says that
    /// nothing can be sold now. A way that has no room now is left out, and named where it was the reason.
    pub(crate) async fn ask(&self, refused: Option<Refused>) -> Response<Body> {
        let (mut accepts, mut exactly, mut failed, mut full) = (Vec::new(), Vec::new(), None::<Failure>, None);
        for way in &self.ways {
            match way.shared.keeper.offer().await {
                Ok(offer) => {
                    way.shared.grow_if_needed(&offer);
                    if offer.free_slots == Some(0) {
                        // Who has a channel in it pays on; who has none is told, and may pay otherwise.
                        full = Some(Rejection::BookFull.into());
                    }
                    let state =
                        refused.as_ref().filter(|refused| refused.is_on(way)).map(|refused| refused.state.as_ref());
                    accepts.push(Accept::Channel(Box::new(with_state(way.required(&offer), state))));
                    if self.exact_is() >= Exact::V2 {
                        exactly.extend(way.exact(&offer).await.map(Accept::Foreign));
                    }
                }
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        accepts.append(&mut exactly);
        accepts.extend(self.charge.foreign.iter().map(|scheme| Accept::Foreign(scheme.requirements().clone())));
        let failed = failed.map(|failure| failure.reason()).or(full);
        match failed {
            Some(reason) if accepts.is_empty() => unavailable(&reason),
            failed => self.required(accepts, refused.map(|refused| refused.reason).or(failed)),
        }
    }

    /// 402 for the next part of a stream.
    pub(crate) async fn ask_above(
        &self,
        way: &Way,
        state: Option<ChannelState>,
        error: Option<Rejection>,
    ) -> Response<Body> {
        match way.shared.keeper.terms().await {
            Ok(terms) => {
                let state = AnswerExtra { channel_state: state, ..AnswerExtra::default() };
                let requirements = with_state(way.required(&terms), Some(&state));
                self.required(vec![Accept::Channel(Box::new(requirements))], error.map(Reason::from))
            }
            Err(failure) => unavailable(&failure.reason()),
        }
    }

    /// Tells why a payment was not taken, as its reason asks for: by a status of its own, or with a new 402.
    pub(crate) async fn refuse(&self, why: Refused) -> Response<Body> {
        let network = match self.ways.first() {
            Some(way) => way.shared.keeper.terms().await.ok().map(|offer| offer.network.clone()),
            None => None,
        };
        match refused(&why, network.as_ref()) {
            Some(response) => response,
            None => Box::pin(self.ask(Some(why))).await,
        }
    }

    fn required(&self, accepts: Vec<Accept>, error: Option<Reason>) -> Response<Body> {
        let mut required = PaymentRequired::any_of(self.resource(), accepts, error);
        required.extensions = self.extensions(&required);
        let mut response = if self.exact_is() == Exact::V1 {
            let foreign = required.accepts.iter().filter_map(|accept| match accept {
                Accept::Foreign(value) => Some(value),
                Accept::Channel(_) => None,
            });
            let error = required.error.as_ref().map(Reason::name);
            json(StatusCode::PAYMENT_REQUIRED, &v1_body(foreign, &required.resource, error))
        } else {
            json(StatusCode::PAYMENT_REQUIRED, &required)
        };
        if let Ok(value) = header(&required) {
            response.headers_mut().insert(PAYMENT_REQUIRED, value);
        }
        response
    }
}

impl Sale {
    /// What the route says of itself, for this request.
    pub(crate) fn declaration(&self) -> Option<Value> {
        let path = self.path.as_ref().map_or("/", PathAndQuery::path);
        self.charge.declared.as_ref()?.extension(self.method.as_str(), path)
    }

    /// What a 402 says beyond x402's core.
    fn extensions(&self, required: &PaymentRequired) -> Option<Map<String, Value>> {
        let mut extensions = Map::new();
        if let Some((_, must_be_named)) = &self.charge.named {
            let declaration = PaymentIdentifier::declaration(*must_be_named);
            extensions.insert(PAYMENT_IDENTIFIER.to_owned(), declaration);
        }
        if let Some(declaration) = self.declaration() {
            extensions.insert(BAZAAR.to_owned(), declaration);
        }
        if let Some(key) = self.receipts() {
            extensions.insert(OFFER_RECEIPT.to_owned(), signed_offers(required, key));
        }
        Some(extensions).filter(|extensions| !extensions.is_empty())
    }
}

pub(crate) fn with_state(mut requirements: PaymentRequirements, state: Option<&AnswerExtra>) -> PaymentRequirements {
    requirements.extra.channel_state = state.and_then(|state| state.channel_state);
    requirements.extra.voucher_state = state.and_then(|state| state.voucher_state);
    requirements
}
