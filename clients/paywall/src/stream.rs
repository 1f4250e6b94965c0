//! A metered call: what it costs is known when its answer ends. Small answers are charged before they go out; others go
//! out while their tab is open, and the client signs on beside them.

use crate::answers::Fingerprint;
use crate::builder::Shared;
use crate::call::commit_answer;
use crate::charge::Charge;
use crate::overrides;
use crate::price::Price;
use crate::reservation::Reserved;
use crate::respond::{Body, broken_off, gone, json, with_receipt};
use crate::sale::{Paying, Sale, Way};
use crate::tab::{Ask, Tab};
use bytes::Bytes;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tallybook_rules::Rejection;
use tallybook_wire::{ChannelPayload, PAYMENT_METER, Voucher};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tower::{BoxError, Service};

/// How long a client that signs on is kept waiting; then it asks again.
const WAIT: Duration = Duration::from_secs(25);
/// How long the receipt of a stream that has ended can be fetched.
const LINGER: Duration = Duration::from_secs(60);
/// The most streams, those that have ended included; beyond them receipts are not kept.
const MAX_TABS: usize = 65_536;

/// Runs the handler on a tab.
pub(crate) async fn run<S, R>(
    sale: &Sale,
    way: Way,
    mut inner: S,
    mut request: Request<Body>,
    reserved: Reserved,
    fingerprint: Option<Fingerprint>,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let Some(voucher) = reserved.voucher().copied() else {
        return Ok(sale.refuse(Rejection::NoReservation.into()).await);
    };
    let is_stream = matches!(way.price, Price::Streamed { .. });
    let tab = Tab::open(Arc::clone(&way.shared), reserved, way.price.ceiling(), is_stream);
    let mut open = Open(Some(Arc::clone(&tab)));
    request.extensions_mut().insert(Charge::metered(Arc::clone(&tab)));
    let mut response = inner.call(request).await?.map(Body::stream);
    let said = overrides::take(response.headers_mut(), &way.shared, way.price.ceiling());
    if response.status().is_client_error() || response.status().is_server_error() {
        return Ok(response);
    }
    if let Err(refused) = tab.renew().await {
        return Ok(sale.refuse(refused.on(&way)).await);
    }
    match said {
        Ok(Some(amount)) => tab.say(amount),
        Ok(None) => {}
        Err(overrides::Senseless) => {
            tracing::error!("a handler's Settlement-Overrides says nothing that can be charged: nothing is charged");
            return Ok(broken_off());
        }
    }
    open.0 = None;
    if !way.shared.answers.fits(response.body()) {
        return Ok(Running::begin(&way.shared, tab, &voucher, response, permit));
    }
    match commit_answer(&way.shared, &tab, voucher, fingerprint, response).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(refused)) => Ok(sale.refuse(refused.on(&way)).await),
        Err(_) => {
            tab.abandon().await;
            Ok(broken_off())
        }
    }
}

/// A tab whose handler has not answered. Dropped with it when it fails, panics or loses its client: nothing is charged.
struct Open(Option<Arc<Tab>>);

impl Drop for Open {
    fn drop(&mut self) {
        let Some(tab) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { tab.abandon().await });
        }
    }
}

/// The name of a meter: nobody but the two sides knows the voucher that it is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct MeterId([u8; 16]);

impl MeterId {
    fn of(voucher: &Voucher) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tallybook:meter:v1");
        hash.update(voucher.signature.as_bytes());
        let mut id = [0; 16];
        id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        Self(id)
    }

    fn read(header: &HeaderValue) -> Option<Self> {
        let (pairs, rest) = header.as_bytes().as_chunks::<2>();
        let mut id = [0; 16];
        if pairs.len() != id.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(pairs) {
            let digits = core::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|d| d.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(id))
    }

    fn header(self) -> Option<HeaderValue> {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::try_from(hex).ok()
    }
}

/// The tabs of a paywall's streams.
#[derive(Default, Debug)]
pub(crate) struct Tabs(Mutex<HashMap<MeterId, Arc<Tab>>>);

impl Tabs {
    fn lock(&self) -> MutexGuard<'_, HashMap<MeterId, Arc<Tab>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer on its way, with its tab. What is not paid for does not go out; the end goes out once the last part is
/// committed.
struct Running {
    shared: Arc<Shared>,
    id: MeterId,
    tab: Arc<Tab>,
    state: State,
    _permit: OwnedSemaphorePermit,
}

enum State {
    Sending(Body),
    Settling(JoinHandle<bool>),
    Ended,
}

impl Running {
    fn begin(
        shared: &Arc<Shared>,
        tab: Arc<Tab>,
        voucher: &Voucher,
        response: Response<Body>,
        permit: OwnedSemaphorePermit,
    ) -> Response<Body> {
        let id = MeterId::of(voucher);
        shared.tabs.lock().insert(id, Arc::clone(&tab));
        let (mut head, body) = response.into_parts();
        if let Some(meter) = id.header() {
            head.headers.insert(PAYMENT_METER, meter);
        }
        let body = Self { shared: Arc::clone(shared), id, tab, state: State::Sending(body), _permit: permit };
        Response::from_parts(head, Body::stream(body))
    }

    /// Settles in a task of its own, so that a client that goes away meanwhile changes nothing. Says whether it was paid.
    fn settle(&self) -> Option<JoinHandle<bool>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let (shared, id, tab) = (Arc::clone(&self.shared), self.id, Arc::clone(&self.tab));
        Some(runtime.spawn(async move {
            let settled = tab.settle().await;
            if let Err(refused) = &settled {
                tracing::warn!(reason = %refused.rejection().name(), "the last part of a stream was not charged");
            }
            forget_later(shared, id);
            settled.is_ok()
        }))
    }
}

/// Keeps the receipt for a while.
fn forget_later(shared: Arc<Shared>, id: MeterId) {
    if shared.tabs.lock().len() > MAX_TABS {
        shared.tabs.lock().remove(&id);
        return;
    }
    tokio::spawn(async move {
        tokio::time::sleep(LINGER).await;
        shared.tabs.lock().remove(&id);
    });
}

impl http_body::Body for Running {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let unpaid = || Some(Err(BoxError::from(Rejection::PaymentOverdue)));
        loop {
            match &mut this.state {
                State::Sending(_) if this.tab.is_over() => {
                    drop(this.settle());
                    this.state = State::Ended;
                    return Poll::Ready(unpaid());
                }
                State::Sending(body) => match ready!(Pin::new(body).poll_frame(context)) {
                    Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Some(Err(error)) => {
                        drop(this.settle());
                        this.state = State::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => this.state = this.settle().map_or(State::Ended, State::Settling),
                },
                State::Settling(task) => {
                    let settled = ready!(Pin::new(task).poll(context)).unwrap_or(false);
                    this.state = State::Ended;
                    return Poll::Ready(if settled { None } else { unpaid() });
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Sending(body) => body.size_hint(),
            State::Settling(_) | State::Ended => SizeHint::default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let State::Sending(_) = self.state {
            drop(self.settle());
        }
    }
}

/// The client asks what a meter wants next, with the voucher that it wanted last.
pub(crate) async fn sign_on(sale: &Sale, meter: &HeaderValue, payment: Option<HeaderValue>) -> Response<Body> {
    let id = MeterId::read(meter);
    let found =
        id.and_then(|id| sale.ways().iter().find_map(|way| Some((way, way.shared.tabs.lock().get(&id).cloned()?))));
    let Some((way, tab)) = found else {
        return gone(&Rejection::NoReservation.into());
    };
    let Some(_place) = tab.waiter() else {
        return sale.refuse(Rejection::Overloaded.into()).await;
    };
    match take(sale, &tab, payment).await {
        Ok(()) => {}
        Err(Rejection::WrongCumulative) => {
            let state = tab.state_above(tab.base());
            return sale.ask_above(way, state, Some(Rejection::WrongCumulative)).await;
        }
        Err(rejection) => return sale.refuse(rejection.into()).await,
    }
    let mut asks = tab.asks();
    let asked = asks.wait_for(|ask| !matches!(ask, Ask::Nothing));
    let asked = tokio::time::timeout(WAIT, asked).await.ok().and_then(Result::ok).map(|ask| ask.clone());
    match asked {
        Some(Ask::Next(base)) => sale.ask_above(way, tab.state_above(base), None).await,
        Some(Ask::Ended(Ok(receipt))) => with_receipt(json(StatusCode::OK, &receipt), &receipt),
        Some(Ask::Ended(Err(rejection))) => sale.refuse(rejection.into()).await,
        Some(Ask::Nothing) | None => {
            let mut response = Response::new(Body::whole(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
    }
}

/// Hands the voucher over, if there is one.
async fn take(sale: &Sale, tab: &Tab, payment: Option<HeaderValue>) -> Result<(), Rejection> {
    let Some(header) = payment else { return Ok(()) };
    match sale.read(&header).await.map_err(|refused| refused.rejection())? {
        Paying::Channel(_, payment) => match payment.payment_payload.payload {
            ChannelPayload::Voucher { .. } => tab.take(payment),
            ChannelPayload::Deposit { .. } | ChannelPayload::Refund { .. } => Err(Rejection::RequirementsMismatch),
        },
        Paying::Foreign(..) => Err(Rejection::UnsupportedScheme),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_name_of_a_meter_when_it_is_written_then_it_reads_back_and_nothing_else_does() {
        let id = MeterId([0, 1, 0xab, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xff]);
        assert_eq!(MeterId::read(&id.header().unwrap()), Some(id));
        for wrong in [
            "",
            "00",
            "zz01ab090909090909090909090909ff",
            "+001ab090909090909090909090909ff",
            "0001ab090909090909090909090909ff0",
        ] {
            assert_eq!(MeterId::read(&HeaderValue::from_static(wrong)), None, "{wrong}");
        }
    }
}
