use crate::{SCHEME, Version};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tallybook_rules::Rejection;

/// Server to client, with 402: what is asked for. Holds a [`crate::PaymentRequired`].
pub const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// Client to server: the payment. Holds a [`crate::PaymentPayload`].
pub const PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// Server to client: what was settled. Holds a [`crate::SettleResponse`].
pub const PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("payment-response");
/// The name of a stream's meter, 32 hexadecimal digits. Server to client: this answer is paid for as it comes. Client to
/// server, with the method and URL of the call and no body: what the meter asks for next, and the voucher for it.
pub const PAYMENT_METER: HeaderName = HeaderName::from_static("payment-meter");
/// The largest value of such a header, in bytes of base64.
pub const MAX_HEADER_BYTES: usize = 8_192;
/// The largest JSON body, in bytes.
pub const MAX_BODY_BYTES: usize = 65_536;

/// Reads a header: padded base64 of JSON. [`Rejection::RequestTooLarge`] above the cap, else as [`read_body`].
pub fn read_header<T: DeserializeOwned>(value: &[u8]) -> Result<T, Rejection> {
    if value.len() > MAX_HEADER_BYTES {
        return Err(Rejection::RequestTooLarge);
    }
    read_body(&STANDARD.decode(value).map_err(|_| Rejection::MalformedPayload)?)
}

/// Writes a header. [`Rejection::RequestTooLarge`] when it would be refused by its reader.
pub fn header<T: Serialize>(message: &T) -> Result<HeaderValue, Rejection> {
    let value = STANDARD.encode(body(message)?);
    if value.len() > MAX_HEADER_BYTES {
        return Err(Rejection::RequestTooLarge);
    }
    HeaderValue::from_maybe_shared(value.into_bytes()).map_err(|_| Rejection::MalformedPayload)
}

/// Reads JSON. [`Rejection::RequestTooLarge`] above the cap; what does not fit the type is
/// [`Rejection::UnsupportedVersion`] or [`Rejection::UnsupportedScheme`] if that is why, else
/// [`Rejection::MalformedPayload`].
pub fn read_body<T: DeserializeOwned>(json: &[u8]) -> Result<T, Rejection> {
    if json.len() > MAX_BODY_BYTES {
        return Err(Rejection::RequestTooLarge);
    }
    serde_json::from_slice(json).map_err(|_| why_unreadable(json))
}

/// Writes JSON.
pub fn body<T: Serialize>(message: &T) -> Result<Vec<u8>, Rejection> {
    serde_json::to_vec(message).map_err(|_| Rejection::MalformedPayload)
}

/// Looks a second time at what did not parse, so that only failures pay for a precise answer.
fn why_unreadable(json: &[u8]) -> Rejection {
    let Ok(message) = serde_json::from_slice::<Value>(json) else {
        return Rejection::MalformedPayload;
    };
    let places = [Some(&message), message.get("paymentPayload")];
    let version = places.iter().flatten().find_map(|place| place.get("x402Version"));
    if version.is_some_and(|version| version.as_u64() != Some(Version::NUMBER)) {
        return Rejection::UnsupportedVersion;
    }
    let requirements =
        places.iter().flatten().map(|place| place.get("accepted")).chain([message.get("paymentRequirements")]);
    let mut schemes = requirements.flatten().filter_map(|place| place.get("scheme"));
    if schemes.any(|scheme| scheme.as_str() != Some(SCHEME)) {
        return Rejection::UnsupportedScheme;
    }
    Rejection::MalformedPayload
}
