use crate::builder::Paywall;
use crate::call;
use crate::respond::Body;
use bytes::Bytes;
use core::pin::Pin;
use core::task::{Context, Poll};
use http::{Request, Response};
use tallybook_rules::Amount;
use tower::{BoxError, Layer, Service};

/// Charges a price for each call of the service that it wraps. Made by [`Paywall::charge`].
#[derive(Clone, Debug)]
pub struct Charge {
    paywall: Paywall,
    price: Amount,
}

impl Charge {
    pub(crate) const fn new(paywall: Paywall, price: Amount) -> Self {
        Self { paywall, price }
    }
}

impl<S> Layer<S> for Charge {
    type Service = Charged<S>;

    fn layer(&self, inner: S) -> Charged<S> {
        Charged { inner, charge: self.clone() }
    }
}

/// A service behind the paywall. Answers unpaid requests with 402 and never lets an unpaid answer out.
#[derive(Clone, Debug)]
pub struct Charged<S> {
    inner: S,
    charge: Charge,
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
        let (shared, price) = (self.charge.paywall.shared.clone(), self.charge.price);
        Box::pin(call::serve(shared, price, inner, request))
    }
}
