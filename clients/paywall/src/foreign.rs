//! Payments by other x402 schemes than ours, asked for in the same 402: verified by who knows the scheme, served, settled,
//! and only then answered. One is `exact`, which our own facilitator may know too: see [`crate::exact`].

use crate::builder::Shared;
use crate::keeper::Failure;
use crate::respond::{Body, Refused, json};
use crate::sale::Sale;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json as value};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::Rejection;
use tallybook_wire::{MAX_BODY_BYTES, PAYMENT_RESPONSE, Reason, Version, X_PAYMENT_RESPONSE};
use tower::{BoxError, Service};
use url::Url;

/// How long a facilitator of another scheme may take; it may have to wait for a chain.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a settlement whose outcome is not known is given before it is asked for once more.
const PENDING_PAUSE: Duration = Duration::from_secs(1);
/// What a facilitator says of a transaction that was sent and is not decided.
const PENDING: &str = "settlement_pending";

/// One scheme that we do not speak, by its requirements and its facilitator.
#[derive(Debug)]
pub(crate) struct Foreign {
    requirements: Value,
    facilitator: Url,
    http: reqwest::Client,
}

impl Foreign {
    /// `requirements` as they stand in `accepts`; none without scheme and network.
    pub(crate) fn new(facilitator: Url, requirements: Value) -> Result<Option<Self>, reqwest::Error> {
        let named = |name: &str| requirements.get(name).is_some_and(Value::is_string);
        if !named("scheme") || !named("network") {
            return Ok(None);
        }
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE).build()?;
        Ok(Some(Self { requirements, facilitator, http }))
    }

    pub(crate) const fn requirements(&self) -> &Value {
        &self.requirements
    }

    /// Asks the facilitator; [`Failure::Unknown`] when it does not answer.
    async fn ask(&self, path: &str, question: &Value) -> Result<Value, Failure> {
        let lost = |error: reqwest::Error| {
            tracing::warn!(facilitator = %self.facilitator, error = %error.without_url(), "no answer");
            Failure::Unknown
        };
        let mut url = self.facilitator.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(path);
        }
        let mut response = self.http.post(url).json(&question).send().await.map_err(lost)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_BODY_BYTES {
                return Err(Failure::Unknown);
            }
        }
        serde_json::from_slice(&bytes).map_err(|_| Failure::Unknown)
    }
}

/// Whether a payment answers these requirements: scheme, network, asset, payee and amount are echoed.
pub(crate) fn answers(payment: &Value, requirements: &Value) -> bool {
    let accepted = payment.get("accepted");
    let same = |name: &str| accepted.and_then(|accepted| accepted.get(name)) == requirements.get(name);
    ["scheme", "network", "asset", "payTo", "amount"].into_iter().all(same)
}

/// Who decides about a payment.
#[derive(Debug)]
pub(crate) enum Judge {
    /// The facilitator of another scheme.
    Foreign(Arc<Foreign>),
    /// Our own book's, which knows this scheme too.
    Own(Arc<Shared>),
}

/// A payment by another scheme, and what it answers.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) judge: Judge,
    /// 2, or 1.
    pub(crate) x402_version: u64,
    pub(crate) requirements: Value,
    pub(crate) payment: Value,
    /// What this settlement is called, so that it can be asked for again when its answer is lost: never the same twice.
    name: String,
}

impl Direct {
    /// Of version 2 of x402.
    pub(crate) fn new(judge: Judge, requirements: Value, payment: Value) -> Self {
        // Each state has keys of its own, so that its hash of nothing is as good as a die; nothing secret depends on it.
        let [first, second] = [RandomState::new(), RandomState::new()].map(|state| state.hash_one(()));
        let name = format!("{first:016x}{second:016x}");
        Self { judge, x402_version: Version::NUMBER, requirements, payment, name }
    }

    /// The same, of version 1.
    pub(crate) fn of_v1(self) -> Self {
        Self { x402_version: 1, ..self }
    }

    async fn ask(&self, path: &str) -> Result<Value, Failure> {
        let mut question = value!({
            "x402Version": self.x402_version, "paymentPayload": self.payment, "paymentRequirements": self.requirements,
        });
        match &self.judge {
            Judge::Foreign(foreign) => foreign.ask(path, &question).await,
            Judge::Own(shared) => {
                if let Some(question) = question.as_object_mut() {
                    question.insert("settlementId".to_owned(), value!(self.name));
                }
                shared.keeper.facilitator.ask(path, &question).await
            }
        }
    }

    /// The header of an answer, by the version in which it was paid.
    const fn receipt_header(&self) -> HeaderName {
        if self.x402_version == 1 { X_PAYMENT_RESPONSE } else { PAYMENT_RESPONSE }
    }

    /// The answer with what the facilitator said of the settlement.
    fn with_receipt(&self, mut response: Response<Body>, receipt: &Value) -> Response<Body> {
        if let Ok(value) = HeaderValue::try_from(STANDARD.encode(receipt.to_string())) {
            response.headers_mut().insert(self.receipt_header(), value);
        }
        response
    }

    /// Settles, and asks once more where the outcome was not known.
    async fn settle(&self) -> Settled {
        let first = Settled::of(self.ask("settle").await);
        if !matches!(first, Settled::Pending(_)) {
            return first;
        }
        tokio::time::sleep(PENDING_PAUSE).await;
        let second = Settled::of(self.ask("settle").await);
        // It is being settled still, for the question whose answer was lost.
        let is_under_way =
            matches!(&second, Settled::Failed(receipt) if reason_of(receipt) == Some("duplicate_settlement"));
        if is_under_way { Settled::Pending(None) } else { second }
    }
}

/// What became of a settlement.
enum Settled {
    /// Paid, by this receipt.
    Paid(Value),
    /// It may still be: nobody is to pay again.
    Pending(Option<Value>),
    /// Not paid.
    Failed(Value),
    /// Nothing was sent: the facilitator does not serve now.
    Unserved(Reason),
}

impl Settled {
    fn of(answer: Result<Value, Failure>) -> Self {
        match answer {
            Ok(receipt) if receipt.get("success") == Some(&Value::Bool(true)) => Self::Paid(receipt),
            Ok(receipt) if reason_of(&receipt) == Some(PENDING) => Self::Pending(Some(receipt)),
            Ok(receipt) => Self::Failed(receipt),
            Err(Failure::Refused(reason)) if reason == Rejection::SettlementPending.into() => Self::Pending(None),
            Err(Failure::Refused(reason)) => Self::Unserved(reason),
            Err(Failure::Unknown) => Self::Pending(None),
        }
    }
}

fn reason_of(receipt: &Value) -> Option<&str> {
    receipt.get("errorReason").and_then(Value::as_str)
}

/// Verifies, runs the handler, settles, and only then answers.
pub(crate) async fn serve<S, R>(
    sale: &Sale,
    direct: Direct,
    mut inner: S,
    mut request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    match direct.ask("verify").await {
        Ok(answer) if answer.get("isValid") == Some(&Value::Bool(true)) => {}
        Ok(answer) => return Ok(sale.refuse(why(&answer, "invalidReason")).await),
        Err(failure) => return Ok(sale.refuse(failure.into()).await),
    }
    request.extensions_mut().insert(crate::charge::Charge::fixed());
    let response = inner.call(request).await?.map(Body::stream);
    if response.status().is_client_error() || response.status().is_server_error() {
        return Ok(response);
    }
    // In a task of its own: a client that hangs up now has been served, and its payment is not left half done.
    let settling = tokio::spawn(async move {
        let settled = direct.settle().await;
        (direct, settled)
    });
    let Ok((direct, settled)) = settling.await else {
        return Ok(sale.refuse(Rejection::SettlementPending.into()).await);
    };
    Ok(match settled {
        Settled::Paid(receipt) => direct.with_receipt(response, &receipt),
        // What was sent and not decided is no reason to pay again.
        Settled::Pending(Some(receipt)) => {
            direct.with_receipt(json(StatusCode::SERVICE_UNAVAILABLE, &receipt), &receipt)
        }
        Settled::Pending(None) => sale.refuse(Rejection::SettlementPending.into()).await,
        Settled::Failed(receipt) => direct.with_receipt(sale.refuse(why(&receipt, "errorReason")).await, &receipt),
        Settled::Unserved(reason) => sale.refuse(Refused::new(reason, Default::default())).await,
    })
}

fn why(answer: &Value, member: &str) -> Refused {
    let reason = answer.get(member).and_then(Value::as_str).unwrap_or("unexpected_verify_error");
    Refused::new(Reason::from(reason.to_owned()), Default::default())
}
