//! One paid call: reserve, run, commit.

use crate::answers::{Answer, Fingerprint, Stored};
use crate::browser;
use crate::builder::Shared;
use crate::charge::Charge;
use crate::keeper::Failure;
use crate::layer::ChargeLayer;
use crate::named::{Bound, Entered, Ticket};
use crate::reservation::{Reserved, commit, reserve};
use crate::respond::{
    Body, Refused, broken_off, json, misnamed, private, too_slow, unnamed, with_header, with_receipt,
};
use crate::sale::{Paying, Sale, Way};
use crate::tab::Tab;
use crate::{foreign, overrides, refund, stream};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    ChannelPayload, FacilitatorRequest, Key, PAYMENT_METER, PAYMENT_SIGNATURE, SettleResponse, Voucher, header,
};
use tokio::sync::OwnedSemaphorePermit;
use tower::{BoxError, Service};

/// Who pays for the request at hand: among its extensions, for handlers. A request that a free quota pays for has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payment {
    /// The wallet that funded the channel.
    pub payer: Key,
    /// The channel.
    pub channel_id: Key,
    /// What the call costs, in base units; where it is metered, at most.
    pub amount: Amount,
}

pub(crate) async fn serve<S, B, R>(
    charge: Arc<ChargeLayer>,
    inner: S,
    request: Request<B>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let open = charge.is_open_to_browsers;
    let (head, body) = request.into_parts();
    if let Some(answer) = browser::preflight(open, &head) {
        return Ok(answer);
    }
    let mut response = charged(charge, inner, Request::from_parts(head, body)).await?;
    if open {
        browser::allow(response.headers_mut());
    }
    Ok(response)
}

async fn charged<S, B, R>(
    charge: Arc<ChargeLayer>,
    mut inner: S,
    request: Request<B>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let sale = Sale::new(&charge, &head);
    let payment = head.headers.get(PAYMENT_SIGNATURE).cloned();
    if let Some(meter) = head.headers.get(PAYMENT_METER) {
        return Ok(sale.sign(Box::pin(stream::sign_on(&sale, meter, payment)).await));
    }
    let mut request = Request::from_parts(head, body);
    if sale.is_free() || (payment.is_none() && sale.v1_payment().is_none() && charge.is_within_quota(&request)) {
        request.extensions_mut().insert(Charge::fixed());
        return Ok(inner.call(request.map(Body::stream)).await?.map(Body::stream));
    }
    let Some(permit) = sale.permit() else {
        return Ok(sale.refuse(Rejection::Overloaded.into()).await);
    };
    let first = sale.v1_payment().cloned();
    let read = match (&payment, &first) {
        (Some(header), _) => sale.read(header).await,
        (None, Some(header)) => sale.read_v1(header).await,
        (None, None) => return Ok(Box::pin(sale.ask(None)).await),
    };
    let Some(header) = payment.or(first) else { return Ok(Box::pin(sale.ask(None)).await) };
    let paying = match read {
        Ok(paying) => paying,
        Err(refused) => return Ok(sale.refuse(refused).await),
    };
    let (request, fingerprint) = match buffered(&sale, &paying, request).await {
        Ok(buffered) => buffered,
        Err(Some(rejection)) => return Ok(sale.refuse(rejection.into()).await),
        Err(None) => return Ok(too_slow()),
    };
    let (head, body) = request.into_parts();
    let ticket = match enter(&charge, &paying, &header, &head, fingerprint).await {
        Ok(ticket) => ticket,
        Err(answer) => return Ok(answer),
    };
    let response = pay(&sale, paying, inner, Request::from_parts(head, body), fingerprint, permit).await?;
    let response = private(sale.sign(response));
    match ticket {
        Some(ticket) => Ok(ticket.keep(response).await.unwrap_or_else(|_| broken_off())),
        None => Ok(response),
    }
}

/// Pays in the way that the client has chosen.
async fn pay<S, R>(
    sale: &Sale,
    paying: Paying,
    inner: S,
    request: Request<Body>,
    fingerprint: Option<Fingerprint>,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let (way, payment) = match paying {
        Paying::Channel(way, payment) => (way, payment),
        Paying::Foreign(direct) => return Box::pin(foreign::serve(sale, *direct, inner, request)).await,
    };
    let reserved = match begin(&way.shared, payment, fingerprint).await {
        Ok(Begun::Answered(response)) => return Ok(response),
        Ok(Begun::Closed(receipt)) => return Ok(with_receipt(json(StatusCode::OK, &receipt), &receipt)),
        Ok(Begun::Reserved(reserved)) => *reserved,
        Err(refused) => return Ok(sale.refuse(refused.on(&way)).await),
    };
    let request = with_payment(request, &way, &reserved);
    if way.price.is_metered() {
        return Box::pin(stream::run(sale, way, inner, request, reserved, fingerprint, permit)).await;
    }
    run(sale, &way, inner, request, reserved, fingerprint).await
}

/// Looks a payment's name up, if payments may have names here, before anybody is asked about it. None goes on without one,
/// as does whoever leaves; an error is the answer. By channel the payment is its voucher: the same one may come again
/// without the deposit that it came with first, or in answer to a newer 402.
async fn enter(
    charge: &ChargeLayer,
    paying: &Paying,
    payment: &HeaderValue,
    request: &Parts,
    fingerprint: Option<Fingerprint>,
) -> Result<Option<Ticket>, Response<Body>> {
    let Some((named, required)) = &charge.named else { return Ok(None) };
    let payment = match paying {
        Paying::Channel(_, payment) => match &payment.payment_payload.payload {
            ChannelPayload::Refund { .. } => return Ok(None),
            ChannelPayload::Deposit { voucher, .. } | ChannelPayload::Voucher { voucher } => {
                voucher.signature.as_bytes().as_slice()
            }
        },
        Paying::Foreign(..) => payment.as_bytes(),
    };
    match paying.name() {
        Ok(Some(name)) => match named.enter(&name, Bound::to(payment, request, fingerprint)).await {
            Entered::New(ticket) => Ok(Some(ticket)),
            Entered::Again(answer) => Err(answer.response()),
            Entered::Conflict => Err(misnamed()),
        },
        Ok(None) if !required => Ok(None),
        Ok(None) | Err(_) => Err(unnamed()),
    }
}

/// Tells the handler who pays.
fn with_payment(mut request: Request<Body>, way: &Way, reserved: &Reserved) -> Request<Body> {
    if let Some(voucher) = reserved.voucher() {
        let (payer, channel_id, amount) = (reserved.payer, voucher.channel_id, way.price.ceiling());
        request.extensions_mut().insert(Payment { payer, channel_id, amount });
    }
    request
}

/// The request with its body in memory and its fingerprint, if the body is small and of a known size; else as it came. An
/// error without a rejection is a body that does not arrive in time: whoever sends it slowly would keep others out.
async fn buffered<B>(
    sale: &Sale,
    paying: &Paying,
    request: Request<B>,
) -> Result<(Request<Body>, Option<Fingerprint>), Option<Rejection>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let way = match paying {
        Paying::Channel(way, _) => Some(way),
        Paying::Foreign(..) => sale.ways().first(),
    };
    let Some(way) = way.filter(|way| way.shared.answers.fits(request.body())) else {
        return Ok((request.map(Body::stream), None));
    };
    let (head, body) = request.into_parts();
    let collected = tokio::time::timeout(way.shared.body_patience, body.collect()).await.map_err(|_| None)?;
    let bytes = collected.map_err(|_| Some(Rejection::MalformedPayload))?.to_bytes();
    let request = Request::from_parts(head, bytes);
    let fingerprint = Fingerprint::of(&request, way.price.ceiling());
    Ok((request.map(Body::whole), Some(fingerprint)))
}

/// How a payment begins.
pub(crate) enum Begun {
    /// The handler may run.
    Reserved(Box<Reserved>),
    /// It need not: a lost answer given again.
    Answered(Response<Body>),
    /// Nor here: a channel was closed.
    Closed(Box<SettleResponse>),
}

pub(crate) async fn begin(
    shared: &Arc<Shared>,
    mut payment: Box<FacilitatorRequest>,
    fingerprint: Option<Fingerprint>,
) -> Result<Begun, Refused> {
    let voucher = *payment.payment_payload.payload.voucher();
    if let ChannelPayload::Refund { .. } = payment.payment_payload.payload {
        return Box::pin(refund::close(shared, payment)).await.map(|receipt| Begun::Closed(Box::new(receipt)));
    }
    if let Some(stored) = fingerprint.and_then(|fingerprint| shared.answers.of(&voucher, fingerprint)) {
        return Box::pin(again(shared, payment, voucher, stored)).await.map(Begun::Answered);
    }
    if let ChannelPayload::Deposit { .. } = payment.payment_payload.payload {
        fund(shared, &payment).await?;
        payment.payment_payload.payload = ChannelPayload::Voucher { voucher };
    }
    Ok(Begun::Reserved(Box::new(reserve(shared, payment).await?)))
}

/// Opens or tops up the channel of a deposit. That charges nothing: its voucher then pays as any other.
async fn fund(shared: &Shared, payment: &FacilitatorRequest) -> Result<(), Refused> {
    match shared.keeper.fund(payment).await {
        Ok(SettleResponse::Settled { .. }) => Ok(()),
        Ok(SettleResponse::Failed { reason, transaction, extra, .. }) => {
            Err(Refused::new(reason, extra).sent(transaction))
        }
        // It may have been sent: the same deposit again asks what became of it.
        Err(Failure::Unknown) => Err(Rejection::SettlementPending.into()),
        Err(failure) => Err(failure.into()),
    }
}

/// A call of a fixed price.
async fn run<S, R>(
    sale: &Sale,
    way: &Way,
    mut inner: S,
    mut request: Request<Body>,
    mut reserved: Reserved,
    fingerprint: Option<Fingerprint>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let Some(voucher) = reserved.voucher().copied() else {
        return Ok(sale.refuse(Rejection::NoReservation.into()).await);
    };
    request.extensions_mut().insert(Charge::fixed());
    let mut response = inner.call(request).await?.map(Body::stream);
    overrides::drop_unread(response.headers_mut());
    if response.status().is_client_error() || response.status().is_server_error() {
        return Ok(response);
    }
    if let Err(refused) = reserved.renew().await {
        return Ok(sale.refuse(refused.on(way)).await);
    }
    let charge = way.price.ceiling();
    let response = match fingerprint {
        Some(fingerprint) => keep_answer(&way.shared, voucher, fingerprint, charge, response).await,
        None => Ok(response),
    };
    // An answer that breaks off is a handler that failed: the reservation is given back.
    let Ok(response) = response else {
        return Ok(broken_off());
    };
    let Some(payment) = reserved.take() else {
        return Ok(response);
    };
    match commit(&way.shared, payment, charge).await {
        Ok(receipt) => Ok(receipted(&way.shared, &voucher, fingerprint, response, &receipt)),
        Err(refused) => Ok(sale.refuse(refused.on(way)).await),
    }
}

/// Charges a small answer of a metered call before it goes out. The outer error is of an answer that breaks off.
pub(crate) async fn commit_answer(
    shared: &Shared,
    tab: &Tab,
    voucher: Voucher,
    fingerprint: Option<Fingerprint>,
    response: Response<Body>,
) -> Result<Result<Response<Body>, Refused>, BoxError> {
    tab.close();
    let charge = tab.charge();
    // A call that cost nothing leaves its voucher to the next one, which may be the same request.
    let fingerprint = fingerprint.filter(|_| !charge.is_zero());
    let response = match fingerprint {
        Some(fingerprint) => keep_answer(shared, voucher, fingerprint, charge, response).await?,
        None => response,
    };
    Ok(tab.settle().await.map(|receipt| receipted(shared, &voucher, fingerprint, response, &receipt)))
}

/// Keeps a small answer before its commit, so that it is not lost with a commit whose outcome is not known. An error if
/// the answer breaks off.
pub(crate) async fn keep_answer(
    shared: &Shared,
    voucher: Voucher,
    fingerprint: Fingerprint,
    charge: Amount,
    response: Response<Body>,
) -> Result<Response<Body>, BoxError> {
    if !shared.answers.fits(response.body()) {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let answer = Arc::new(Answer::new(head, body.collect().await?.to_bytes()));
    let response = answer.response();
    shared.answers.keep(voucher, Stored { fingerprint, answer, charge, receipt: None });
    Ok(response)
}

/// Adds the receipt to an answer, and to the same where it is kept.
fn receipted(
    shared: &Shared,
    voucher: &Voucher,
    fingerprint: Option<Fingerprint>,
    response: Response<Body>,
    receipt: &SettleResponse,
) -> Response<Body> {
    let Ok(receipt) = header(receipt) else { return response };
    if let Some(fingerprint) = fingerprint {
        shared.answers.paid(voucher, fingerprint, &receipt);
    }
    with_header(response, receipt)
}

/// The same voucher with the same request: its answer again, once it is known to be paid. Never a second payment.
async fn again(
    shared: &Arc<Shared>,
    mut payment: Box<FacilitatorRequest>,
    voucher: Voucher,
    stored: Stored,
) -> Result<Response<Body>, Refused> {
    let response = stored.answer.response();
    if let Some(receipt) = stored.receipt {
        return Ok(with_header(response, receipt));
    }
    payment.payment_payload.payload = ChannelPayload::Voucher { voucher };
    let receipt = commit(shared, payment, stored.charge).await?;
    Ok(receipted(shared, &voucher, Some(stored.fingerprint), response, &receipt))
}
