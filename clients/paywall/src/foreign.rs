//! Other x402 schemes beside ours: asked for in the same 402, verified and settled by a facilitator of theirs.

use crate::respond::{Body, Refused, json};
use crate::sale::Sale;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json as value};
use std::time::Duration;
use tallybook_rules::Rejection;
use tallybook_wire::{MAX_BODY_BYTES, PAYMENT_RESPONSE, Reason, Version};
use tower::{BoxError, Service};
use url::Url;

/// How long a facilitator of another scheme may take; it may have to wait for a chain.
const PATIENCE: Duration = Duration::from_secs(60);

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

    /// Whether a payment answers these requirements: scheme, network, asset, payee and amount are echoed.
    pub(crate) fn answers(&self, payment: &Value) -> bool {
        let accepted = payment.get("accepted");
        let same = |name: &str| accepted.and_then(|accepted| accepted.get(name)) == self.requirements.get(name);
        ["scheme", "network", "asset", "payTo", "amount"].into_iter().all(same)
    }

    /// Asks the facilitator; [`Rejection::FacilitatorUnavailable`] when it does not answer.
    async fn ask(&self, path: &str, payment: &Value) -> Result<Value, Rejection> {
        let lost = |error: reqwest::Error| {
            tracing::warn!(facilitator = %self.facilitator, error = %error.without_url(), "no answer");
            Rejection::FacilitatorUnavailable
        };
        let mut url = self.facilitator.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(path);
        }
        let question = value!({
            "x402Version": Version::NUMBER, "paymentPayload": payment, "paymentRequirements": self.requirements,
        });
        let mut response = self.http.post(url).json(&question).send().await.map_err(lost)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_BODY_BYTES {
                return Err(Rejection::FacilitatorUnavailable);
            }
        }
        serde_json::from_slice(&bytes).map_err(|_| Rejection::FacilitatorUnavailable)
    }
}

/// Verifies, runs the handler, settles, and only then answers.
pub(crate) async fn serve<S, R>(
    sale: &Sale,
    scheme: std::sync::Arc<Foreign>,
    payment: Value,
    mut inner: S,
    mut request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    match scheme.ask("verify", &payment).await {
        Ok(answer) if answer.get("isValid") == Some(&Value::Bool(true)) => {}
        Ok(answer) => return Ok(sale.refuse(why(&answer, "invalidReason")).await),
        Err(rejection) => return Ok(sale.refuse(rejection.into()).await),
    }
    request.extensions_mut().insert(crate::charge::Charge::fixed());
    let mut response = inner.call(request).await?.map(Body::stream);
    if response.status().is_client_error() || response.status().is_server_error() {
        return Ok(response);
    }
    match scheme.ask("settle", &payment).await {
        Ok(receipt) if receipt.get("success") == Some(&Value::Bool(true)) => {
            if let Some(receipt) = header(&receipt) {
                response.headers_mut().insert(PAYMENT_RESPONSE, receipt);
            }
            Ok(response)
        }
        // What was sent and not decided is no reason to pay again.
        Ok(receipt) if receipt.get("errorReason").and_then(Value::as_str) == Some("settlement_pending") => {
            let mut pending = json(StatusCode::SERVICE_UNAVAILABLE, &receipt);
            if let Some(receipt) = header(&receipt) {
                pending.headers_mut().insert(PAYMENT_RESPONSE, receipt);
            }
            Ok(pending)
        }
        Ok(receipt) => Ok(sale.refuse(why(&receipt, "errorReason")).await),
        Err(_) => Ok(sale.refuse(Rejection::SettlementPending.into()).await),
    }
}

fn header(message: &Value) -> Option<HeaderValue> {
    HeaderValue::try_from(STANDARD.encode(message.to_string())).ok()
}

fn why(answer: &Value, member: &str) -> Refused {
    let reason = answer.get(member).and_then(Value::as_str).unwrap_or("unexpected_verify_error");
    Refused::new(Reason::from(reason.to_owned()), Default::default())
}
