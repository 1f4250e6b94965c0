//! One paid call: reserve, run, commit.

use crate::answers::{Answer, Fingerprint, Stored};
use crate::builder::Shared;
use crate::charge::Charge;
use crate::keeper::Failure;
use crate::layer::ChargeLayer;
use crate::respond::{Body, Refused, broken_off, json, too_slow, with_receipt};
use crate::sale::{Paying, Sale, Way};
use crate::tab::Tab;
use crate::{foreign, refund, stream};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    ChannelPayload, ChannelState, FacilitatorRequest, ForwardedVoucher, Key, PAYMENT_METER, PAYMENT_SIGNATURE,
    SettleResponse, VerifyResponse, Voucher,
};
use tower::{BoxError, Service};

/// How often a commit whose outcome is unknown is asked for again, after growing pauses.
const COMMIT_TRIES: u32 = 3;
/// The first of those pauses.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

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
        return Ok(stream::sign_on(&sale, meter, payment).await);
    }
    let mut request = Request::from_parts(head, body);
    if sale.is_free() || (payment.is_none() && charge.is_within_quota(&request)) {
        request.extensions_mut().insert(Charge::fixed());
        return Ok(inner.call(request.map(Body::stream)).await?.map(Body::stream));
    }
    let Some(permit) = sale.permit() else {
        return Ok(sale.refuse(Rejection::Overloaded.into()).await);
    };
    let (way, payment) = match sale.read(payment).await {
        Ok(Some(Paying::Channel(way, payment))) => (way, payment),
        Ok(Some(Paying::Foreign(scheme, payment))) => {
            return foreign::serve(&sale, scheme, *payment, inner, request.map(Body::stream)).await;
        }
        Ok(None) => return Ok(sale.ask(None).await),
        Err(refused) => return Ok(sale.refuse(refused).await),
    };
    let (request, fingerprint) = match buffered(&way, request).await {
        Ok(buffered) => buffered,
        Err(Some(rejection)) => return Ok(sale.refuse(rejection.into()).await),
        Err(None) => return Ok(too_slow()),
    };
    let reserved = match begin(&way.shared, *payment, fingerprint).await {
        Ok(Begun::Answered(response)) => return Ok(response),
        Ok(Begun::Closed(receipt)) => return Ok(with_receipt(json(StatusCode::OK, &receipt), &receipt)),
        Ok(Begun::Reserved(reserved)) => *reserved,
        Err(refused) => return Ok(sale.refuse(refused.on(&way)).await),
    };
    let request = with_payment(request, &way, &reserved);
    if way.price.is_metered() {
        return stream::run(sale, way, inner, request, reserved, fingerprint, permit).await;
    }
    run(&sale, &way, inner, request, reserved, fingerprint).await
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
async fn buffered<B>(way: &Way, request: Request<B>) -> Result<(Request<Body>, Option<Fingerprint>), Option<Rejection>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if !way.shared.answers.fits(request.body()) {
        return Ok((request.map(Body::stream), None));
    }
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
    Closed(SettleResponse),
}

pub(crate) async fn begin(
    shared: &Arc<Shared>,
    mut payment: FacilitatorRequest,
    fingerprint: Option<Fingerprint>,
) -> Result<Begun, Refused> {
    let voucher = *payment.payment_payload.payload.voucher();
    if let ChannelPayload::Refund { .. } = payment.payment_payload.payload {
        return refund::close(shared, payment).await.map(Begun::Closed);
    }
    if let Some(stored) = fingerprint.and_then(|fingerprint| shared.answers.of(&voucher, fingerprint)) {
        return again(shared, payment, voucher, stored).await.map(Begun::Answered);
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

/// A reservation. Given back when dropped, unless it was taken to be committed: so that neither a handler that panics nor
/// a client that hangs up keeps its channel busy.
#[derive(Debug)]
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    payment: Option<FacilitatorRequest>,
    /// Who pays.
    pub(crate) payer: Key,
    /// Where the channel stands, if that was said.
    pub(crate) state: Option<ChannelState>,
}

impl Reserved {
    /// The voucher that pays.
    pub(crate) fn voucher(&self) -> Option<&Voucher> {
        self.payment.as_ref().map(|payment| payment.payment_payload.payload.voucher())
    }

    /// Takes the payment out, to be committed.
    pub(crate) const fn take(&mut self) -> Option<FacilitatorRequest> {
        self.payment.take()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(payment) = self.payment.take() else { return };
        let shared = Arc::clone(&self.shared);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Nobody waits for it; if it is lost the reservation ends by itself.
            runtime.spawn(async move { shared.keeper.release(&payment).await });
        }
    }
}

pub(crate) async fn reserve(shared: &Arc<Shared>, payment: FacilitatorRequest) -> Result<Reserved, Refused> {
    let answer = shared.keeper.reserve(&payment).await;
    let mut reserved =
        Reserved { shared: Arc::clone(shared), payment: Some(payment), payer: Key([0; 32]), state: None };
    match answer {
        Ok(VerifyResponse::Valid { payer, extra }) => {
            reserved.payer = payer;
            reserved.state = extra.channel_state;
            Ok(reserved)
        }
        Ok(VerifyResponse::Invalid { reason, extra, .. }) => {
            reserved.payment = None;
            Err(Refused::new(reason, extra))
        }
        // It may be reserved: dropped here, and so given back.
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
    let response = inner.call(request).await?.map(Body::stream);
    if response.status().is_client_error() || response.status().is_server_error() {
        return Ok(response);
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
        Ok(receipt) => {
            remember(&way.shared, &voucher, fingerprint, &receipt);
            Ok(with_receipt(response, &receipt))
        }
        Err(refused) => Ok(sale.refuse(refused.on(way)).await),
    }
}

/// Commits `charge`, at most what was reserved, in a task of its own: the handler has done its work, so a client that
/// hangs up now has still been served, and finds its answer when it asks again.
pub(crate) async fn commit(
    shared: &Arc<Shared>,
    payment: FacilitatorRequest,
    charge: Amount,
) -> Result<SettleResponse, Refused> {
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move { commit_until_known(&shared, payment, charge).await });
    task.await.unwrap_or_else(|_| Err(Rejection::SettlementPending.into()))
}

async fn commit_until_known(
    shared: &Arc<Shared>,
    mut payment: FacilitatorRequest,
    charge: Amount,
) -> Result<SettleResponse, Refused> {
    let ceiling = core::mem::replace(&mut payment.payment_requirements.amount, charge);
    let mut pause = COMMIT_PAUSE;
    for _ in 0..COMMIT_TRIES {
        match shared.keeper.commit(&payment).await {
            Ok(settled @ SettleResponse::Settled { .. }) => {
                keep_voucher(shared, *payment.payment_payload.payload.voucher(), ceiling.less(charge)).await;
                return Ok(settled);
            }
            // The ledger was started again during the call, or the handler took long: nothing is lost by reserving
            // once more.
            Ok(SettleResponse::Failed { reason, .. }) if reason == Rejection::NoReservation.into() => {
                let mut again = payment.clone();
                again.payment_requirements.amount = ceiling;
                reserve(shared, again).await?.take();
            }
            Ok(SettleResponse::Failed { reason, extra, .. }) => return Err(Refused::new(reason, extra)),
            Err(failure) => {
                tracing::warn!(reason = %failure.reason().name(), "a commit's outcome is not known yet");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
    }
    Err(Rejection::SettlementPending.into())
}

/// The server's own copy of a voucher of which `unused` base units were not charged. Failing to write it is told to the operator; the facilitator has the durable one.
async fn keep_voucher(shared: &Arc<Shared>, voucher: Voucher, unused: Amount) {
    if shared.vouchers.is_none() {
        return;
    }
    let kept = ForwardedVoucher { voucher, charged: voucher.max_claimable_amount.less(unused) };
    let shared = Arc::clone(shared);
    let kept = tokio::task::spawn_blocking(move || shared.vouchers.as_ref().map(|vouchers| vouchers.keep(kept)));
    if let Ok(Some(Err(error))) = kept.await {
        tracing::error!(%error, "cannot keep the newest voucher in the local file: only the facilitator has it");
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
    Ok(tab.settle().await.map(|receipt| {
        remember(shared, &voucher, fingerprint, &receipt);
        with_receipt(response, &receipt)
    }))
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

fn remember(shared: &Shared, voucher: &Voucher, fingerprint: Option<Fingerprint>, receipt: &SettleResponse) {
    if let Some(stored) = fingerprint.and_then(|fingerprint| shared.answers.of(voucher, fingerprint)) {
        shared.answers.keep(*voucher, Stored { receipt: Some(receipt.clone()), ..stored });
    }
}

/// The same voucher with the same request: its answer again, once it is known to be paid. Never a second payment.
async fn again(
    shared: &Arc<Shared>,
    mut payment: FacilitatorRequest,
    voucher: Voucher,
    stored: Stored,
) -> Result<Response<Body>, Refused> {
    let receipt = match stored.receipt {
        Some(receipt) => receipt,
        None => {
            payment.payment_payload.payload = ChannelPayload::Voucher { voucher };
            let receipt = commit(shared, payment, stored.charge).await?;
            remember(shared, &voucher, Some(stored.fingerprint), &receipt);
            receipt
        }
    };
    Ok(with_receipt(stored.answer.response(), &receipt))
}
