use crate::builder::Paywall;
use crate::call;
use crate::error::PaywallError;
use crate::exact::Exact;
use crate::foreign::Foreign;
use crate::named::Named;
use crate::price::Pricing;
use crate::quota::FreeQuota;
use crate::respond::Body;
use crate::traced::{self, Trace};
use bytes::Bytes;
use core::pin::Pin;
use core::task::{Context, Poll};
use http::{Request, Response};
use std::sync::Arc;
use std::time::Instant;
use tallybook_wire::{Discoverable, ResourceInfo};
use tower::{BoxError, Layer, Service};
use url::Url;

/// Charges for each call of the service that it wraps. Made by [`Paywall::charge`] and its siblings.
#[derive(Clone, Debug)]
pub struct ChargeLayer {
    pub(crate) ways: Vec<(Paywall, Pricing)>,
    pub(crate) foreign: Arc<[Arc<Foreign>]>,
    pub(crate) exact: Exact,
    pub(crate) resource: ResourceInfo,
    /// What the route says of itself to catalogues.
    pub(crate) declared: Option<Arc<Discoverable>>,
    free: Option<FreeQuota>,
    /// Payments that have a name, if they may; and whether each must.
    pub(crate) named: Option<(Arc<Named>, bool)>,
    /// Whether browsers may call it on behalf of any page.
    pub(crate) is_open_to_browsers: bool,
}

impl ChargeLayer {
    pub(crate) fn new(paywall: Paywall, pricing: Pricing) -> Self {
        Self {
            ways: vec![(paywall, pricing)],
            foreign: Arc::default(),
            exact: Exact::Off,
            resource: ResourceInfo::default(),
            declared: None,
            free: None,
            named: None,
            is_open_to_browsers: false,
        }
    }

    /// Offers another book beside this one: another token, or another facilitator. A client pays by the one that it can.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.ways.extend(other.ways);
        self.foreign = self.foreign.iter().chain(other.foreign.iter()).cloned().collect();
        self.free = self.free.or(other.free);
        self.named = self.named.or(other.named);
        self.is_open_to_browsers |= other.is_open_to_browsers;
        self.exact = self.exact.max(other.exact);
        self
    }

    /// Takes payments by the scheme `exact` too, each a transfer on chain: from any x402 client, to the same payee in the
    /// same token, through the same facilitator, which has to take them. For prices that are one amount
    /// ([`Price::Exactly`](crate::Price)); a route whose calls are metered is paid from channels alone.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = self.exact.max(Exact::V2);
        self
    }

    /// As [`ChargeLayer::exact`], and serves clients of version 1 of x402 as well: they are told what to pay by the body of
    /// the 402, which clients of version 2, who read its header, do not miss.
    #[must_use]
    pub fn exact_with_v1(mut self) -> Self {
        self.exact = Exact::V1;
        self
    }

    /// Offers another x402 scheme beside this one, by a facilitator that knows it: `requirements` stand in `accepts` as they are, and
    /// its payments are verified and settled by the x402 facilitator at this address. When no channel can be opened
    /// because the book is full, it is what is left.
    ///
    /// [`PaywallError::Facilitator`] or [`PaywallError::Requirements`] when one of them is none.
    pub fn or_scheme(mut self, facilitator: &str, requirements: serde_json::Value) -> Result<Self, PaywallError> {
        let url = Url::parse(facilitator).map_err(|_| PaywallError::Facilitator(facilitator.to_owned()))?;
        let foreign = Foreign::new(url, requirements)?.ok_or(PaywallError::Requirements)?;
        self.foreign = self.foreign.iter().cloned().chain([Arc::new(foreign)]).collect();
        Ok(self)
    }

    /// Lets some calls in unpaid; see [`FreeQuota`]. A call that comes with a payment is paid for.
    #[must_use]
    pub fn free(mut self, quota: FreeQuota) -> Self {
        self.free = Some(quota);
        self
    }

    /// Lets clients name their payments (x402, `payment-identifier`), by whatever scheme they pay: a request that is sent
    /// again with the same payment gets the stored answer and is charged once; the same name with anything else is answered
    /// with 409. As many answers are kept as [`PaywallBuilder::keep_answers`](crate::PaywallBuilder::keep_answers) says, in
    /// memory.
    #[must_use]
    pub fn name_payments(self) -> Self {
        self.naming(false)
    }

    /// As [`ChargeLayer::name_payments`], and a payment without a name is answered with 400.
    #[must_use]
    pub fn require_names(self) -> Self {
        self.naming(true)
    }

    fn naming(mut self, required: bool) -> Self {
        let (count, max_bytes) = self.ways.first().map_or((0, 0), |(paywall, _)| paywall.shared.answers.room());
        self.named = Some((Named::new(count, max_bytes), required));
        self
    }

    /// Lets pages of any origin call this route and pay for it: answers the preflights of browsers, and lets pages read
    /// what is asked for and the receipt (CORS). For rules of your own put a CORS layer outside of this one.
    #[must_use]
    pub const fn open_to_browsers(mut self) -> Self {
        self.is_open_to_browsers = true;
        self
    }

    /// Says for people what is sold here, in the 402: `"A summary of your text"`.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.resource.description = Some(description.into());
        self
    }

    /// Lets agents find this route: the 402 says how it is called and what it answers (x402, `bazaar`), and a facilitator that
    /// keeps a catalogue lists it once a call was paid for. What is listed is what this server says, whatever a client echoes;
    /// set [`PaywallBuilder::base_url`](crate::PaywallBuilder::base_url), since only public addresses are listed. Why something
    /// is not listed is logged as a warning.
    ///
    /// [`PaywallError::Declaration`] when catalogues would leave it out.
    pub fn discoverable(mut self, declared: Discoverable) -> Result<Self, PaywallError> {
        declared.check().map_err(PaywallError::Declaration)?;
        declared.describe(&mut self.resource);
        self.declared = Some(Arc::new(declared));
        Ok(self)
    }

    /// Takes one of the client's free calls, if there is a quota and it has one left.
    pub(crate) fn is_within_quota<B>(&self, request: &Request<B>) -> bool {
        let Some(quota) = &self.free else { return false };
        let mut head = Request::new(());
        *head.headers_mut() = request.headers().clone();
        *head.uri_mut() = request.uri().clone();
        *head.method_mut() = request.method().clone();
        *head.extensions_mut() = request.extensions().clone();
        quota.take(&head.into_parts().0, Instant::now())
    }
}

impl<S> Layer<S> for ChargeLayer {
    type Service = Charged<S>;

    fn layer(&self, inner: S) -> Charged<S> {
        Charged { inner, charge: Arc::new(self.clone()) }
    }
}

/// A service behind the paywall. Answers unpaid requests with 402 and never lets an unpaid answer out.
#[derive(Clone, Debug)]
pub struct Charged<S> {
    inner: S,
    charge: Arc<ChargeLayer>,
}

impl<S, B, R> Service<Request<B>> for Charged<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone takes the place of the one that is ready (see `tower::Service::call`).
        let ready = self.inner.clone();
        let inner = core::mem::replace(&mut self.inner, ready);
        let trace = Trace::of(request.headers());
        Box::pin(traced::on(trace, call::serve(Arc::clone(&self.charge), inner, request)))
    }
}
