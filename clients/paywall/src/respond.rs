//! The answers that the paywall gives itself. The one place where a rejection becomes a status.

use crate::builder::Shared;
use crate::facilitator::Failure;
use bytes::Bytes;
use core::pin::Pin;
use core::task::{Context, Poll};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    AnswerExtra, Network, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PaymentRequired, Reason, Refusal, ResourceInfo,
    SettleResponse, header,
};
use tower::BoxError;

/// The body of requests and answers behind the paywall.
#[derive(Debug)]
pub struct Body(UnsyncBoxBody<Bytes, BoxError>);

impl Body {
    /// A body that may come in pieces.
    pub(crate) fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(UnsyncBoxBody::new(body.map_err(Into::into)))
    }

    /// A body that is there.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::stream(Full::new(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A payment that was refused: why, and where the channel stands.
pub(crate) struct Refused(pub(crate) Reason, pub(crate) Box<AnswerExtra>);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure.reason(), Box::default())
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.into(), Box::default())
    }
}

/// What a client should wait before it asks again, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// JSON with a status.
pub(crate) fn json(status: StatusCode, message: &impl Serialize) -> Response<Body> {
    let json = serde_json::to_vec(message).unwrap_or_default();
    let mut response = Response::new(Body::whole(Bytes::from(json)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A status with the reason as its body.
fn refusal(status: StatusCode, reason: &Reason) -> Response<Body> {
    json(status, &Refusal { error: reason.clone(), message: reason.advice().to_owned() })
}

/// Adds the receipt of a paid call.
pub(crate) fn with_receipt(mut response: Response<Body>, receipt: &SettleResponse) -> Response<Body> {
    if let Ok(value) = header(receipt) {
        response.headers_mut().insert(PAYMENT_RESPONSE, value);
    }
    response
}

/// The status of a refusal that another payment would not mend; `None` where a 402 says how to pay instead.
fn status(rejection: Rejection) -> Option<StatusCode> {
    use Rejection as R;
    const TABLE: &[(StatusCode, &[R])] = &[
        (StatusCode::BAD_REQUEST, &[R::RequestTooLarge, R::MalformedPayload, R::UnsupportedVersion]),
        (StatusCode::FORBIDDEN, &[R::OperatorMustSign]),
        (StatusCode::CONFLICT, &[R::ChannelBusy]),
        (StatusCode::TOO_MANY_REQUESTS, &[R::QuotaExceeded]),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            &[
                R::SettlementPending,
                R::Overloaded,
                R::Draining,
                R::ChainUnavailable,
                R::StoreUnavailable,
                R::FacilitatorUnavailable,
                R::BookFull,
            ],
        ),
    ];
    TABLE.iter().find(|(_, rejections)| rejections.contains(&rejection)).map(|(status, _)| *status)
}

/// Refuses with a status of its own and the reason in body and `PAYMENT-RESPONSE`, if that is how this one is told.
pub(crate) fn refused(reason: &Reason, network: Option<&Network>) -> Option<Response<Body>> {
    let status = status(reason.rejection()?)?;
    let mut response = refusal(status, reason);
    if matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
    }
    let Some(network) = network else { return Some(response) };
    let failed = SettleResponse::Failed {
        reason: reason.clone(),
        transaction: None,
        network: network.clone(),
        payer: None,
        extra: AnswerExtra::default(),
    };
    Some(with_receipt(response, &failed))
}

/// What a 402 is about.
#[derive(Clone, Debug)]
pub(crate) struct Sale {
    pub(crate) resource: ResourceInfo,
    pub(crate) price: Amount,
}

impl Sale {
    pub(crate) fn new(uri: &Uri, headers: &HeaderMap, price: Amount) -> Self {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let url = host.map_or_else(|| path.to_owned(), |host| format!("http://{host}{path}"));
        Self { resource: ResourceInfo { url, ..ResourceInfo::default() }, price }
    }

    /// 402: asks for payment, with the reason why the last one was not taken and where its channel stands; or says that
    /// nothing can be sold now.
    pub(crate) async fn ask(&self, shared: &Shared, error: Option<Reason>, state: AnswerExtra) -> Response<Body> {
        let offer = match shared.facilitator.offer().await {
            Ok(offer) => offer,
            Err(failure) => return unavailable(&failure.reason()),
        };
        let mut requirements = offer.priced(self.price, shared.timeout_seconds);
        requirements.extra.channel_state = state.channel_state;
        requirements.extra.voucher_state = state.voucher_state;
        let required = PaymentRequired::new(self.resource.clone(), requirements, error);
        let mut response = json(StatusCode::PAYMENT_REQUIRED, &required);
        if let Ok(value) = header(&required) {
            response.headers_mut().insert(PAYMENT_REQUIRED, value);
        }
        response
    }

    /// Tells why a payment was not taken, as its reason asks for: by a status of its own, or with a new 402.
    pub(crate) async fn refuse(&self, shared: &Shared, reason: Reason, state: AnswerExtra) -> Response<Body> {
        let network = shared.facilitator.terms().await.ok().map(|offer| offer.network.clone());
        match refused(&reason, network.as_ref()) {
            Some(response) => response,
            None => self.ask(shared, Some(reason), state).await,
        }
    }
}

/// 503, whatever the reason: without an offer there is nothing to answer a request with.
fn unavailable(reason: &Reason) -> Response<Body> {
    refused(reason, None).unwrap_or_else(|| {
        let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, reason);
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
        response
    })
}

/// 500: the handler began an answer and did not finish it.
pub(crate) fn broken_off() -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::from_static(b"the answer broke off; nothing was charged")));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
