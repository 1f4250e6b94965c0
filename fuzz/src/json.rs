//! x402 headers, and the JSON bodies between resource server, facilitator and agent.
//!
//! Caps are held, what does not fit is one of three named rejections, and whatever was read is written in one way only,
//! which reads back as the same.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::fmt::Debug;
use tallybook_rules::Rejection;
use tallybook_rules::signing::SignedVoucher;
use tallybook_wire::*;

/// `PAYMENT-SIGNATURE`, `PAYMENT-REQUIRED`, `PAYMENT-RESPONSE`: the first byte says which, and whether what follows is the
/// header itself or JSON to be put into one.
pub(crate) fn headers(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let value = if kind & 0x40 == 0 { rest.to_vec() } else { STANDARD.encode(rest).into_bytes() };
    match kind % 4 {
        0 => header_of::<PaymentRequired>(&value, rest, offers),
        1 => header_of::<SettleResponse>(&value, rest, |_| {}),
        _ => header_of::<PaymentPayload>(&value, rest, payment),
    }
}

/// The bodies of every route, and their answers: the first byte says which.
pub(crate) fn bodies(data: &[u8]) {
    let Some((kind, json)) = data.split_first() else { return };
    match kind % 14 {
        0 => body_of::<FacilitatorRequest>(json, request),
        1 => body_of::<ForwardRequest>(json, |_| {}),
        2 => body_of::<GrowRequest>(json, |grow| {
            assert!(grow.transaction.as_ref().is_none_or(|bytes| bytes.as_bytes().len() <= MAX_TRANSACTION_BYTES));
        }),
        3 => body_of::<VerifyResponse>(json, |_| {}),
        4 => body_of::<SettleResponse>(json, |_| {}),
        5 => body_of::<ReleaseResponse>(json, |_| {}),
        6 => body_of::<SupportedResponse>(json, |_| {}),
        7 => body_of::<Offer>(json, |_| {}),
        8 => body_of::<ForwardResponse>(json, |_| {}),
        9 => body_of::<GrowResponse>(json, |_| {}),
        10 => body_of::<ChannelView>(json, |_| {}),
        11 => body_of::<BatchList>(json, |_| {}),
        12 => body_of::<Health>(json, |_| {}),
        _ => body_of::<Refusal>(json, |refusal| assert!(refusal.error.name().chars().count() <= Reason::MAX_CHARS)),
    }
}

fn header_of<T>(value: &[u8], json: &[u8], also: impl Fn(&T))
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    match read_header::<T>(value) {
        Err(rejection) => refused(value.len() > MAX_HEADER_BYTES, rejection),
        Ok(message) => {
            assert!(value.len() <= MAX_HEADER_BYTES, "the cap is held");
            also(&message);
            same_again(&message, json);
            // What is written is never refused for its size by whoever reads it.
            match header(&message) {
                Ok(written) => assert!(written.as_bytes().len() <= MAX_HEADER_BYTES),
                Err(rejection) => assert_eq!(rejection, Rejection::RequestTooLarge),
            }
        }
    }
}

fn body_of<T>(json: &[u8], also: impl Fn(&T))
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    match read_body::<T>(json) {
        Err(rejection) => refused(json.len() > MAX_BODY_BYTES, rejection),
        Ok(message) => {
            assert!(json.len() <= MAX_BODY_BYTES, "the cap is held");
            also(&message);
            same_again(&message, json);
        }
    }
}

fn refused(too_large: bool, rejection: Rejection) {
    let named = match rejection {
        Rejection::RequestTooLarge => too_large,
        Rejection::MalformedPayload | Rejection::UnsupportedVersion | Rejection::UnsupportedScheme => !too_large,
        _ => false,
    };
    assert!(named, "{rejection:?} (too large: {too_large})");
}

fn same_again<T>(message: &T, json: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let written = body(message).expect("what was read can be written");
    if written.len() > MAX_BODY_BYTES {
        return;
    }
    let again: T = read_body(&written).expect("what is written can be read");
    // Members that are carried along unread may hold floats, of which the last digit is not kept; no amount is one.
    let floats = serde_json::from_slice(json).is_ok_and(|value: Value| has_floats(&value))
        || serde_json::from_slice(&written).is_ok_and(|value: Value| has_floats(&value));
    if !floats {
        assert_eq!(again, *message, "what is read is what was written");
        assert_eq!(body(&again).unwrap(), written, "there is one way to write it");
    }
}

fn has_floats(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_floats),
        Value::Object(members) => members.values().any(has_floats),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn offers(required: &PaymentRequired) {
    for offer in required.channel_offers() {
        assert_eq!(offer.answers(offer), Ok(()), "an offer answers itself");
    }
}

fn payment(payload: &PaymentPayload) {
    let voucher = *payload.payload.voucher();
    assert_eq!(Voucher::from(SignedVoucher::from(voucher)), voucher);
    if let ChannelPayload::Deposit { deposit, .. } = &payload.payload {
        assert!((1..=MAX_TRANSACTION_BYTES).contains(&deposit.transaction.as_bytes().len()));
    }
}

/// What may be settled was accepted: same book, same network, same payee, and never more than the ceiling.
fn request(request: &FacilitatorRequest) {
    let (accepted, required) = (&request.payment_payload.accepted, &request.payment_requirements);
    if request.check().is_ok() {
        assert_eq!(request.check_charge(), Ok(()), "the whole price is one that may be charged");
        assert_eq!(accepted.amount, required.amount);
    }
    if request.check_charge().is_ok() {
        assert!(required.amount <= accepted.amount);
        assert_eq!(
            (&accepted.network, accepted.asset, accepted.pay_to, accepted.extra.book, accepted.extra.fee_payer),
            (&required.network, required.asset, required.pay_to, required.extra.book, required.extra.fee_payer)
        );
    }
    payment(&request.payment_payload);
}
