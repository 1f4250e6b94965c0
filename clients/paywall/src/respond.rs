//! The answers that the paywall gives itself. The one place where a rejection becomes a status.

use crate::keeper::Failure;
use crate::sale::Way;
use bytes::Bytes;
use core::pin::Pin;
use core::task::{Context, Poll};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use tallybook_rules::Rejection;
use tallybook_wire::{
    AnswerExtra, Key, Network, PAYMENT_RESPONSE, Reason, Refusal, SettleResponse, Signature, X_PAYMENT_RESPONSE, header,
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) state: Box<AnswerExtra>,
    /// The book that refused it, where a route has several.
    book: Option<Key>,
    /// What was sent to the chain for it, where the outcome is not known.
    transaction: Option<Box<Signature>>,
}

impl Refused {
    pub(crate) fn new(reason: Reason, state: AnswerExtra) -> Self {
        Self { reason, state: Box::new(state), book: None, transaction: None }
    }

    /// With the name of what was sent for it.
    pub(crate) fn sent(self, transaction: Option<Signature>) -> Self {
        Self { transaction: transaction.map(Box::new), ..self }
    }

    /// The name of what was sent for it, where the outcome is not known.
    pub(crate) fn sent_transaction(&self) -> Option<Signature> {
        self.transaction.as_deref().copied()
    }

    /// Refused by this way of paying.
    pub(crate) fn on(self, way: &Way) -> Self {
        Self { book: Some(way.shared.book), ..self }
    }

    /// Whether its state is one of this way's.
    pub(crate) fn is_on(&self, way: &Way) -> bool {
        self.book.is_none_or(|book| book == way.shared.book)
    }

    /// The rejection, for handlers; one that we do not know is a facilitator that cannot serve.
    pub(crate) fn rejection(&self) -> Rejection {
        self.reason.rejection().unwrap_or(Rejection::FacilitatorUnavailable)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::new(failure.reason(), AnswerExtra::default())
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection.into(), AnswerExtra::default())
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
pub(crate) fn with_receipt(response: Response<Body>, receipt: &SettleResponse) -> Response<Body> {
    match header(receipt) {
        Ok(value) => with_header(response, value),
        Err(_) => response,
    }
}

/// The same, with a receipt that was put into words before.
pub(crate) fn with_header(mut response: Response<Body>, receipt: HeaderValue) -> Response<Body> {
    response.headers_mut().insert(PAYMENT_RESPONSE, receipt);
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
pub(crate) fn refused(why: &Refused, network: Option<&Network>) -> Option<Response<Body>> {
    let Refused { reason, transaction, .. } = why;
    let status = status(reason.rejection()?)?;
    let mut response = refusal(status, reason);
    if matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
    }
    let Some(network) = network else { return Some(response) };
    let failed = SettleResponse::Failed {
        reason: reason.clone(),
        transaction: transaction.as_deref().copied(),
        network: network.clone(),
        payer: None,
        extra: AnswerExtra::default(),
    };
    Some(with_receipt(response, &failed))
}

/// 503, whatever the reason: without an offer there is nothing to answer a request with.
pub(crate) fn unavailable(reason: &Reason) -> Response<Body> {
    refused(&Refused::new(reason.clone(), AnswerExtra::default()), None).unwrap_or_else(|| {
        let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, reason);
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
        response
    })
}

/// 410: what is asked for was there once.
pub(crate) fn gone(reason: &Reason) -> Response<Body> {
    refusal(StatusCode::GONE, reason)
}

/// 400: payments must have a name here, and this one has none, or one that is none.
pub(crate) fn unnamed() -> Response<Body> {
    let message = "Payments need a name here: put an id of 16 to 128 letters, digits, - and _ into the extension \
                   payment-identifier. Nothing was charged.";
    let error = Reason::from("payment_identifier_required".to_owned());
    json(StatusCode::BAD_REQUEST, &Refusal { error, message: message.to_owned() })
}

/// 409: the payment's name is that of another payment or request.
pub(crate) fn misnamed() -> Response<Body> {
    let message = "This payment-identifier was used with another payment or another request: take a new one, or send \
                   what was sent before to the byte. Nothing was charged.";
    let error = Reason::from("payment_identifier_conflict".to_owned());
    json(StatusCode::CONFLICT, &Refusal { error, message: message.to_owned() })
}

/// What was paid for is the payer's: no cache between may give it to others, unless its handler says so.
pub(crate) fn private(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let is_paid = headers.contains_key(PAYMENT_RESPONSE) || headers.contains_key(X_PAYMENT_RESPONSE);
    if is_paid && !headers.contains_key(CACHE_CONTROL) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    response
}

/// 408: the body of a request did not arrive in time.
pub(crate) fn too_slow() -> Response<Body> {
    let message = "The body did not arrive in time, and nothing was charged: send it at once.".to_owned();
    json(StatusCode::REQUEST_TIMEOUT, &Refusal { error: Reason::from("too_slow".to_owned()), message })
}

/// 500: the handler began an answer and did not finish it.
pub(crate) fn broken_off() -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::from_static(b"the answer broke off; nothing was charged")));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
