//! What stands around x402-axum's layer for the time of one request: the payment that is accepted and not charged yet, and why
//! one was declined.

use super::tag::answer;
use axum_core::extract::Request;
use axum_core::response::Response;
use http::StatusCode;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tallybook_paywall::{Accepted, Declined, Paywall, Taken};
use tallybook_wire::{
    ChannelPayload, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, PaymentPayload, SettleResponse, header, read_header,
};
use tower::{Layer, Service};

/// The request under way. Dropped with it: an accepted payment that was not charged is given back by that.
#[derive(Default, Debug)]
pub(super) struct Open {
    accepted: Option<Accepted>,
    declined: Option<Declined>,
}

impl Open {
    pub(super) fn accept(&mut self, accepted: Accepted) {
        self.accepted = Some(accepted);
    }

    pub(super) fn take(&mut self) -> Option<Accepted> {
        self.accepted.take()
    }

    pub(super) fn has_accepted(&mut self) -> bool {
        self.accepted.is_some()
    }

    pub(super) fn decline(&mut self, declined: Declined) {
        self.declined = Some(declined);
    }

    pub(super) fn declined(&mut self) -> Option<Declined> {
        self.declined.clone()
    }
}

tokio::task_local! {
    static OPEN: RefCell<Open>;
}

/// Does something with the request under way; nothing without [`Channels::around`](crate::Channels::around).
pub(super) fn current<T>(with: impl FnOnce(&mut Open) -> T) -> Option<T> {
    OPEN.try_with(|open| open.try_borrow_mut().ok().map(|mut open| with(&mut open))).ok().flatten()
}

/// A layer with what x402-axum does not do around it. Made by [`Channels::around`](crate::Channels::around).
#[derive(Clone, Debug)]
pub struct Around<L> {
    paywall: Paywall,
    layer: L,
}

impl<L> Around<L> {
    pub(super) const fn new(paywall: Paywall, layer: L) -> Self {
        Self { paywall, layer }
    }
}

impl<S, L: Layer<S>> Layer<S> for Around<L> {
    type Service = WatchedService<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        WatchedService { paywall: self.paywall.clone(), inner: self.layer.layer(inner) }
    }
}

/// The service behind it.
#[derive(Clone, Debug)]
pub struct WatchedService<S> {
    paywall: Paywall,
    inner: S,
}

impl<S> Service<Request> for WatchedService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if let Some(payment) = refund(&request) {
            let paywall = self.paywall.clone();
            return Box::pin(async move { Ok(close(&paywall, payment).await) });
        }
        // What was asked whether it is ready is what is called.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(OPEN.scope(RefCell::default(), async move { inner.call(request).await }))
    }
}

/// The payment of a request that asks for a channel to be closed.
fn refund(request: &Request) -> Option<PaymentPayload> {
    let value = request.headers().get(PAYMENT_SIGNATURE)?;
    let payment: PaymentPayload = read_header(value.as_bytes()).ok()?;
    matches!(payment.payload, ChannelPayload::Refund { .. }).then_some(payment)
}

async fn close(paywall: &Paywall, payment: PaymentPayload) -> Response {
    let (price, network) = (payment.accepted.amount, payment.accepted.network.clone());
    let (status, receipt) = match paywall.take(payment, price).await {
        Ok(Taken::Closed(receipt)) => (StatusCode::OK, *receipt),
        Ok(Taken::Call(_)) => (StatusCode::BAD_REQUEST, failed(None, network)),
        Err(declined) => (StatusCode::SERVICE_UNAVAILABLE, failed(Some(declined), network)),
    };
    let json = serde_json::to_value(&receipt).unwrap_or_default();
    let mut response = answer(status, &json, None);
    if let Ok(value) = header(&receipt) {
        response.headers_mut().insert(PAYMENT_RESPONSE, value);
    }
    response
}

fn failed(declined: Option<Declined>, network: tallybook_wire::Network) -> SettleResponse {
    let (reason, extra, transaction) = match declined {
        Some(declined) => (declined.reason, declined.extra, declined.transaction),
        None => (tallybook_rules::Rejection::MalformedPayload.into(), Default::default(), None),
    };
    SettleResponse::Failed { reason, transaction, network, payer: None, extra }
}
