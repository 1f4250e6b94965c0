//! The price tag: ours, or another scheme's beside it.

use super::around::{Open, current};
use axum_core::body::Body;
use axum_core::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tallybook_paywall::{Declined, Paywall};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    ChannelPayload, FacilitatorRequest, PAYMENT_REQUIRED, PaymentPayload, PaymentRequirements, Reason, SCHEME, header,
};
use url::Url;
use x402_axum::PaygateProtocol;
use x402_axum::paygate::{PaygateError, VerificationError};
use x402_types::proto::v2::{self, ExtensionsJson};
use x402_types::proto::{self, SupportedResponse};

/// What a call costs: by a channel, and in whatever other ways the server offers.
#[derive(Clone, Debug)]
pub struct Price {
    paywall: Paywall,
    amount: Amount,
    others: Arc<Vec<v2::PriceTag>>,
}

/// What `X402Middleware::with_dynamic_price` wants to be called back with.
type Tags = Pin<Box<dyn Future<Output = Vec<Tag>> + Send>>;

impl Price {
    pub(super) fn new(paywall: Paywall, amount: Amount) -> Self {
        Self { paywall, amount, others: Arc::default() }
    }

    /// Offers another scheme beside the channel, such as `V2SolanaExact::price_tag(..)`. Those come after it.
    #[must_use]
    pub fn or(mut self, other: v2::PriceTag) -> Self {
        Arc::make_mut(&mut self.others).push(other);
        self
    }

    /// The price of each request, for `X402Middleware::with_dynamic_price`.
    pub fn tags(self) -> impl Fn(&HeaderMap, &Uri, Option<&Url>) -> Tags + Send + Sync + 'static {
        move |_, _, _| {
            let price = self.clone();
            Box::pin(async move { price.offered().await })
        }
    }

    /// The tags that are left when no channel can be offered now are those of the others. One that was never asked for is kept
    /// in any case, or the route would be free.
    async fn offered(self) -> Vec<Tag> {
        let ours = match self.paywall.requirements(self.amount, None).await {
            Ok(requirements) => Tag::Channel(Box::new(requirements)),
            Err(declined) => Tag::Unavailable(declined.reason),
        };
        let others = self.others.iter().cloned().map(|tag| Tag::Other(Box::new(tag)));
        [ours].into_iter().chain(others).collect()
    }
}

/// One way to pay for a call.
#[derive(Clone, Debug)]
pub enum Tag {
    /// From a channel.
    Channel(Box<PaymentRequirements>),
    /// From a channel, if that could be offered now.
    Unavailable(Reason),
    /// By another scheme.
    Other(Box<v2::PriceTag>),
}

impl From<v2::PriceTag> for Tag {
    fn from(tag: v2::PriceTag) -> Self {
        Self::Other(Box::new(tag))
    }
}

impl Tag {
    /// The entry of `accepts`.
    fn entry(&self) -> Option<Value> {
        match self {
            Self::Channel(requirements) => {
                let mut requirements = requirements.clone();
                if let Some(Declined { extra, .. }) = current(Open::declined).flatten() {
                    requirements.extra.channel_state = extra.channel_state;
                    requirements.extra.voucher_state = extra.voucher_state;
                }
                serde_json::to_value(requirements).ok()
            }
            Self::Unavailable(_) => None,
            Self::Other(tag) => serde_json::to_value(&tag.requirements).ok(),
        }
    }
}

/// Refused with the reason's name, which clients of ours read.
fn refused(reason: impl Into<Reason>) -> VerificationError {
    VerificationError::VerificationFailed(reason.into().name().to_owned())
}

impl PaygateProtocol for Tag {
    type PaymentPayload = Value;

    const PAYMENT_HEADER_NAME: &'static str = <v2::PriceTag as PaygateProtocol>::PAYMENT_HEADER_NAME;

    fn make_verify_request(
        payload: Value,
        accepts: &[Self],
        resource: &v2::ResourceInfo,
    ) -> Result<proto::VerifyRequest, VerificationError> {
        if payload.pointer("/accepted/scheme").and_then(Value::as_str) != Some(SCHEME) {
            let others = accepts.iter().filter_map(|tag| match tag {
                Self::Other(tag) => Some(v2::PriceTag::clone(tag)),
                Self::Channel(_) | Self::Unavailable(_) => None,
            });
            let payload = serde_json::from_value(payload).map_err(|_| VerificationError::InvalidPaymentHeader)?;
            return v2::PriceTag::make_verify_request(payload, &others.collect::<Vec<_>>(), resource);
        }
        let payment: PaymentPayload =
            serde_json::from_value(payload).map_err(|_| refused(Rejection::MalformedPayload))?;
        if let ChannelPayload::Refund { .. } = payment.payload {
            // It is answered around the layer. Were it to come here, a call would be served for nothing.
            return Err(refused(Rejection::MalformedPayload));
        }
        let mut mismatch = Rejection::UnsupportedScheme;
        for tag in accepts {
            match tag {
                Self::Channel(offered) => match payment.accepted.answers(offered) {
                    Ok(()) => {
                        let request = FacilitatorRequest::new(payment, offered.as_ref().clone());
                        return raw(&request);
                    }
                    Err(rejection) => mismatch = rejection,
                },
                Self::Unavailable(reason) => return Err(refused(reason.clone())),
                Self::Other(_) => {}
            }
        }
        Err(refused(mismatch))
    }

    fn error_into_response(
        error: PaygateError,
        accepts: &[Self],
        resource: &v2::ResourceInfo,
        extensions: &ExtensionsJson,
    ) -> Response {
        let unavailable = accepts.iter().find_map(|tag| match tag {
            Self::Unavailable(reason) => Some(reason.clone()),
            Self::Channel(_) | Self::Other(_) => None,
        });
        let entries: Vec<Value> = accepts.iter().filter_map(Self::entry).collect();
        let declined = current(Open::declined).flatten().map(|declined| declined.reason);
        let reason = declined.or(unavailable).map(|reason| reason.name().to_owned());
        let asked = matches!(error, PaygateError::Verification(VerificationError::PaymentHeaderRequired(_)));
        let why = match error {
            // A first 402 has no error for our clients; what keeps a channel from being offered is one.
            _ if asked => reason.filter(|_| entries.is_empty()),
            PaygateError::Verification(VerificationError::VerificationFailed(why)) => reason.or(Some(why)),
            PaygateError::Verification(error) => reason.or_else(|| Some(error.to_string())),
            PaygateError::Settlement(why) => reason.or(Some(why)),
        };
        if entries.is_empty() {
            return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": why }), None);
        }
        let mut required = json!({ "x402Version": 2, "resource": resource, "accepts": entries });
        if let (Some(why), Some(members)) = (why, required.as_object_mut()) {
            members.insert("error".to_owned(), Value::String(why));
        }
        if let (false, Some(members)) = (extensions.is_empty(), required.as_object_mut()) {
            members.insert("extensions".to_owned(), extensions.clone().into());
        }
        answer(StatusCode::PAYMENT_REQUIRED, &required, header(&required).ok())
    }

    fn validate_verify_response(answer: proto::VerifyResponse) -> Result<(), VerificationError> {
        v2::PriceTag::validate_verify_response(answer)
    }

    fn enrich_with_capabilities(&mut self, capabilities: &SupportedResponse) {
        match self {
            Self::Other(tag) => tag.enrich_with_capabilities(capabilities),
            Self::Channel(_) | Self::Unavailable(_) => {}
        }
    }
}

fn raw(request: &FacilitatorRequest) -> Result<proto::VerifyRequest, VerificationError> {
    let raw = serde_json::value::to_raw_value(request).map_err(|_| refused(Rejection::MalformedPayload))?;
    Ok(raw.into())
}

/// JSON with a status, and the header of a 402.
pub(super) fn answer(status: StatusCode, json: &Value, required: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::from(json.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(required) = required {
        headers.insert(PAYMENT_REQUIRED, required);
    }
    response
}
