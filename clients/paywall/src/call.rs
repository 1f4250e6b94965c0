//! One paid call: reserve, run, commit.

use crate::answers::{Answer, Fingerprint, Stored};
use crate::builder::Shared;
use crate::facilitator::Failure;
use crate::refund;
use crate::respond::{Body, Refused, Sale, broken_off, with_receipt};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    AnswerExtra, ChannelPayload, FacilitatorRequest, Key, PAYMENT_SIGNATURE, PaymentPayload, SettleResponse,
    VerifyResponse, Voucher, read_header,
};
use tower::{BoxError, Service};

/// How often a commit whose outcome is unknown is asked for again, after growing pauses.
const COMMIT_TRIES: u32 = 3;
/// The first of those pauses.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// Who pays for the request at hand: among its extensions, for handlers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payment {
    /// The wallet that funded the channel.
    pub payer: Key,
    /// The channel.
    pub channel_id: Key,
    /// What the call costs, in base units.
    pub amount: Amount,
}

pub(crate) async fn serve<S, B, R>(
    shared: Arc<Shared>,
    price: Amount,
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
    let sale = Sale::new(request.uri(), request.headers(), price);
    let Ok(_permit) = Arc::clone(&shared.in_flight).try_acquire_owned() else {
        return Ok(sale.refuse(&shared, Rejection::Overloaded.into(), AnswerExtra::default()).await);
    };
    let header = request.headers().get(PAYMENT_SIGNATURE).cloned();
    let payment = match read_payment(&shared, &sale, header).await {
        Ok(Some(payment)) => payment,
        Ok(None) => return Ok(sale.ask(&shared, None, AnswerExtra::default()).await),
        Err(Refused(reason, state)) => return Ok(sale.refuse(&shared, reason, *state).await),
    };
    let (request, fingerprint) = match buffered(&shared, request).await {
        Ok(buffered) => buffered,
        Err(rejection) => return Ok(sale.refuse(&shared, rejection.into(), AnswerExtra::default()).await),
    };
    let reserved = match begin(&shared, payment, fingerprint).await {
        Ok(Begun::Answered(response)) => return Ok(response),
        Ok(Begun::Reserved(reserved)) => reserved,
        Err(Refused(reason, state)) => return Ok(sale.refuse(&shared, reason, *state).await),
    };
    run(&shared, &sale, inner, request, reserved, fingerprint).await
}

/// The payment in the header, if there is one, checked against what is sold here.
async fn read_payment(
    shared: &Shared,
    sale: &Sale,
    header: Option<HeaderValue>,
) -> Result<Option<FacilitatorRequest>, Refused> {
    let Some(value) = header else { return Ok(None) };
    let payment: PaymentPayload = read_header(value.as_bytes())?;
    let terms = shared.facilitator.terms().await?;
    let requirements = terms.priced(sale.price, shared.timeout_seconds);
    payment.accepted.answers(&requirements)?;
    Ok(Some(FacilitatorRequest::new(payment, requirements)))
}

/// The request with its body in memory and its fingerprint, if the body is small and of a known size; else as it came.
async fn buffered<B>(shared: &Shared, request: Request<B>) -> Result<(Request<Body>, Option<Fingerprint>), Rejection>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if !shared.answers.fits(request.body()) {
        return Ok((request.map(Body::stream), None));
    }
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(|_| Rejection::MalformedPayload)?.to_bytes();
    let request = Request::from_parts(head, bytes);
    let fingerprint = Fingerprint::of(&request);
    Ok((request.map(Body::whole), Some(fingerprint)))
}

/// How a payment begins.
enum Begun {
    /// The handler may run.
    Reserved(Box<Reserved>),
    /// It need not: a lost answer given again, or a channel closed.
    Answered(Response<Body>),
}

async fn begin(
    shared: &Arc<Shared>,
    mut payment: FacilitatorRequest,
    fingerprint: Option<Fingerprint>,
) -> Result<Begun, Refused> {
    let voucher = *payment.payment_payload.payload.voucher();
    if let ChannelPayload::Refund { .. } = payment.payment_payload.payload {
        return refund::close(shared, payment).await.map(Begun::Answered);
    }
    if let Some(stored) = fingerprint.and_then(|fingerprint| shared.answers.of(&voucher, fingerprint)) {
        return again(shared, payment, voucher, stored).await.map(Begun::Answered);
    }
    if let ChannelPayload::Deposit { .. } = payment.payment_payload.payload {
        open(shared, &payment).await?;
        payment.payment_payload.payload = ChannelPayload::Voucher { voucher };
    }
    Ok(Begun::Reserved(Box::new(reserve(shared, payment).await?)))
}

/// Opens the channel of a deposit. That charges nothing: its voucher then pays as any other.
async fn open(shared: &Shared, payment: &FacilitatorRequest) -> Result<(), Refused> {
    match shared.facilitator.settle_on_chain(payment).await {
        Ok(SettleResponse::Settled { .. }) => Ok(()),
        Ok(SettleResponse::Failed { reason, extra, .. }) => Err(Refused(reason, Box::new(extra))),
        // It may have been sent: the same deposit again asks what became of it.
        Err(Failure::Unknown) => Err(Rejection::SettlementPending.into()),
        Err(failure) => Err(failure.into()),
    }
}

/// A reservation. Given back when dropped, unless it was committed: so that neither a handler that panics nor a client
/// that hangs up keeps its channel busy.
struct Reserved {
    shared: Arc<Shared>,
    payment: Option<FacilitatorRequest>,
    payer: Key,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(payment) = self.payment.take() else { return };
        let shared = Arc::clone(&self.shared);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Nobody waits for it; if it is lost the reservation ends by itself.
            runtime.spawn(async move { shared.facilitator.release(&payment).await });
        }
    }
}

async fn reserve(shared: &Arc<Shared>, payment: FacilitatorRequest) -> Result<Reserved, Refused> {
    let answer = shared.facilitator.verify(&payment).await;
    let mut reserved = Reserved { shared: Arc::clone(shared), payment: Some(payment), payer: Key([0; 32]) };
    match answer {
        Ok(VerifyResponse::Valid { payer, .. }) => {
            reserved.payer = payer;
            Ok(reserved)
        }
        Ok(VerifyResponse::Invalid { reason, extra, .. }) => {
            reserved.payment = None;
            Err(Refused(reason, Box::new(extra)))
        }
        // It may be reserved: dropped here, and so given back.
        Err(failure) => Err(failure.into()),
    }
}

async fn run<S, R>(
    shared: &Arc<Shared>,
    sale: &Sale,
    mut inner: S,
    mut request: Request<Body>,
    mut reserved: Box<Reserved>,
    fingerprint: Option<Fingerprint>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let Some(payment) = reserved.payment.as_ref() else {
        return Ok(sale.refuse(shared, Rejection::NoReservation.into(), AnswerExtra::default()).await);
    };
    let voucher = *payment.payment_payload.payload.voucher();
    request.extensions_mut().insert(Payment {
        payer: reserved.payer,
        channel_id: voucher.channel_id,
        amount: sale.price,
    });
    let response = inner.call(request).await?.map(Body::stream);
    if response.status().is_client_error() || response.status().is_server_error() {
        return Ok(response);
    }
    let response = match fingerprint {
        Some(fingerprint) => keep_answer(shared, voucher, fingerprint, response).await,
        None => Ok(response),
    };
    // An answer that breaks off is a handler that failed: the reservation is given back.
    let Ok(response) = response else {
        return Ok(broken_off());
    };
    let Some(payment) = reserved.payment.take() else {
        return Ok(response);
    };
    match commit(shared, payment).await {
        Ok(receipt) => {
            remember(shared, &voucher, fingerprint, &receipt);
            Ok(with_receipt(response, &receipt))
        }
        Err(Refused(reason, state)) => Ok(sale.refuse(shared, reason, *state).await),
    }
}

/// Commits in a task of its own: the handler has done its work, so a client that hangs up now has still been served, and
/// finds its answer when it asks again.
async fn commit(shared: &Arc<Shared>, payment: FacilitatorRequest) -> Result<SettleResponse, Refused> {
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move { commit_until_known(&shared, &payment).await });
    task.await.unwrap_or_else(|_| Err(Rejection::SettlementPending.into()))
}

async fn commit_until_known(shared: &Arc<Shared>, payment: &FacilitatorRequest) -> Result<SettleResponse, Refused> {
    let mut pause = COMMIT_PAUSE;
    for _ in 0..COMMIT_TRIES {
        match shared.facilitator.settle(payment).await {
            Ok(settled @ SettleResponse::Settled { .. }) => {
                keep_voucher(shared, *payment.payment_payload.payload.voucher()).await;
                return Ok(settled);
            }
            // The facilitator was started again during the call, or the handler took long: nothing is lost by reserving
            // once more.
            Ok(SettleResponse::Failed { reason, .. }) if reason == Rejection::NoReservation.into() => {
                let mut reserved = reserve(shared, payment.clone()).await?;
                reserved.payment = None;
            }
            Ok(SettleResponse::Failed { reason, extra, .. }) => return Err(Refused(reason, Box::new(extra))),
            Err(failure) => {
                tracing::warn!(reason = %failure.clone().reason().name(), "a commit's outcome is not known yet");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
    }
    Err(Rejection::SettlementPending.into())
}

/// The server's own copy. Failing to write it is told to the operator; the facilitator has the durable one.
async fn keep_voucher(shared: &Arc<Shared>, voucher: Voucher) {
    if shared.vouchers.is_none() {
        return;
    }
    let shared = Arc::clone(shared);
    let kept = tokio::task::spawn_blocking(move || shared.vouchers.as_ref().map(|vouchers| vouchers.keep(voucher)));
    if let Ok(Some(Err(error))) = kept.await {
        tracing::error!(%error, "cannot keep the newest voucher in the local file: only the facilitator has it");
    }
}

/// Keeps a small answer before its commit, so that it is not lost with a commit whose outcome is not known. An error if
/// the answer breaks off.
async fn keep_answer(
    shared: &Shared,
    voucher: Voucher,
    fingerprint: Fingerprint,
    response: Response<Body>,
) -> Result<Response<Body>, BoxError> {
    if !shared.answers.fits(response.body()) {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let answer = Arc::new(Answer::new(head, body.collect().await?.to_bytes()));
    let response = answer.response();
    shared.answers.keep(voucher, Stored { fingerprint, answer, receipt: None });
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
            let receipt = commit(shared, payment).await?;
            remember(shared, &voucher, Some(stored.fingerprint), &receipt);
            receipt
        }
    };
    Ok(with_receipt(stored.answer.response(), &receipt))
}
