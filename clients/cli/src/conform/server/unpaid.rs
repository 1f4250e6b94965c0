//! What can be checked of a resource server without money.

use super::shop::{Shop, offer, reason, required};
use crate::conform::checks::{Checks, found};
use crate::conform::http::{Seen, judged, send};
use anyhow::{Context, Result};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_wire::{
    ChannelPayload, Key, MAX_HEADER_BYTES, Network, PAYMENT_REQUIRED, PaymentPayload, PaymentRequirements, read_header,
};

/// An address that nobody has.
const NOBODY: Key = Key([0xee; 32]);

/// Makes all of these checks; says whether it can be paid by channel.
pub(super) async fn look(shop: &Shop, checks: &mut Checks) -> Result<bool> {
    let seen = shop.ask().await.map_err(anyhow::Error::msg).context("the server does not answer")?;
    let expected = "402, with PAYMENT-REQUIRED";
    let is_402 = seen.status.as_u16() == 402 && required(&seen).is_some();
    checks.add("GET without a payment", "§7", expected, found(is_402, &seen));
    let header: Option<Value> = seen.headers.get(PAYMENT_REQUIRED).and_then(|value| read_header(value.as_bytes()).ok());
    let alike = header.is_some_and(|header| header == seen.json());
    checks.add("the body of the 402", "§7", "the same JSON as in the header", found(alike, &seen));
    let stored = seen.header("cache-control").is_some_and(|value| value.contains("no-store"));
    let came = format!("cache-control {:?}", seen.header("cache-control"));
    checks.add("the 402 is not kept by caches", "§7", "cache-control: no-store", found(stored, came));
    let offer = offer(&seen);
    let expected = "an entry of accepts with our scheme, whole";
    checks.add("the offer", "§7", expected, found(offer.is_some(), &seen));
    preflight(shop, checks).await;
    let Some(offer) = offer else { return Ok(false) };
    terms(&offer, checks);
    unreadable(shop, &offer, checks).await;
    mismatched(shop, &offer, checks).await;
    Ok(true)
}

/// A browser asks before it asks.
async fn preflight(shop: &Shop, checks: &mut Checks) {
    let request = shop
        .request(Method::OPTIONS)
        .header("origin", "https://page.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "payment-signature");
    let seen = send(request).await;
    let free = judged(&seen, |seen| seen.status.as_u16() != 402);
    checks.add("a browser's preflight", "§7", "anything but 402: it cannot pay", free);
}

fn terms(offer: &PaymentRequirements, checks: &mut Checks) {
    let extra = &offer.extra;
    let faults = [
        (offer.amount > Amount::MAX_DEPOSIT, "amount is more than any channel holds"),
        (!(900..=2_592_000).contains(&extra.withdraw_delay), "withdrawDelay is no grace period"),
        (extra.min_deposit.is_zero() || extra.min_deposit > Amount::MAX_DEPOSIT, "minDeposit is out of range"),
        (extra.slot >= 96, "no page has such a slot"),
        (extra.generation == 0, "no slot has the generation 0 once it is open"),
        (extra.channel_state.is_some() || extra.voucher_state.is_some(), "it is about somebody's channel"),
    ];
    let fault = faults.iter().find(|(is_fault, _)| *is_fault);
    let found = fault.map_or(Ok(()), |(_, why)| Err((*why).to_owned()));
    checks.add("the offer's terms", "§2", "within what a book may say", found);
}

/// Refused as unreadable: with a status and a name, and without the handler's answer.
fn is_refused(seen: &Seen, statuses: &[u16], name: &str) -> bool {
    statuses.contains(&seen.status.as_u16()) && reason(seen).as_deref() == Some(name)
}

/// Payments that cannot be read.
async fn unreadable(shop: &Shop, offer: &PaymentRequirements, checks: &mut Checks) {
    let large = "A".repeat(MAX_HEADER_BYTES.saturating_add(1));
    for (name, value, reason) in [
        ("no base64", "not base64!", "malformed_payload"),
        ("no JSON", "bm90IEpTT04=", "malformed_payload"),
        ("above 8,192 bytes", large.as_str(), "request_too_large"),
    ] {
        let Ok(value) = HeaderValue::from_str(value) else { continue };
        let seen = shop.present(value).await;
        let refused = judged(&seen, |seen| is_refused(seen, &[400], reason));
        checks.add(&format!("a payment header that is {name}"), "§7", format_args!("400 {reason}"), refused);
    }
    let payment = payment(offer);
    let spoilt = |pointer: &str, value: Value| {
        let mut payment = payment.clone();
        if let Some(member) = payment.pointer_mut(pointer) {
            *member = value;
        }
        payment
    };
    for (name, payment, statuses, reason) in [
        ("x402Version 1", spoilt("/x402Version", json!(1)), [400, 402], "unsupported_version"),
        ("an unknown scheme", spoilt("/accepted/scheme", json!("no-such-scheme")), [400, 402], "unsupported_scheme"),
        ("an amount that is a number", spoilt("/accepted/amount", json!(1)), [400, 400], "malformed_payload"),
        ("a payload of another type", spoilt("/payload/type", json!("gift")), [400, 400], "malformed_payload"),
        (
            "a signature that is none",
            spoilt("/payload/voucher/signature", json!("0OIl")),
            [400, 400],
            "malformed_payload",
        ),
    ] {
        let seen = shop.present_json(&payment).await;
        let refused = judged(&seen, |seen| is_refused(seen, &statuses, reason));
        checks.add(&format!("a payment with {name}"), "§7", format_args!("refused, {reason}"), refused);
    }
}

/// Payments for something else than is offered, and from a channel that there is not.
async fn mismatched(shop: &Shop, offer: &PaymentRequirements, checks: &mut Checks) {
    let elsewhere = if offer.network == Network::mainnet() { Network::devnet() } else { Network::mainnet() };
    let cheaper = PaymentRequirements { amount: offer.amount.less(Amount::new(1)), ..offer.clone() };
    let abroad = PaymentRequirements { network: elsewhere, ..offer.clone() };
    let stranger = PaymentRequirements { pay_to: NOBODY, ..offer.clone() };
    for (name, accepted, expected) in [
        ("a lower price than is asked for", &cheaper, "wrong_price"),
        ("another network", &abroad, "wrong_network"),
        ("another payee", &stranger, "requirements_mismatch"),
        ("a channel that there is not", offer, "unknown_channel"),
    ] {
        let seen = shop.present_json(&payment(accepted)).await;
        let refused = judged(&seen, |seen| is_refused(seen, &[402], expected));
        checks.add(&format!("a payment with {name}"), "§7", format_args!("402 {expected}"), refused);
    }
}

/// A payment for `accepted`, well formed, by a key that nobody uses over a channel that there is not.
fn payment(accepted: &PaymentRequirements) -> Value {
    let voucher = SignedVoucher::sign(&SigningKey::from_bytes(&[0x5a; 32]), NOBODY.0, accepted.amount);
    let payment = PaymentPayload::new(accepted.clone(), ChannelPayload::Voucher { voucher: voucher.into() });
    // A struct of texts and numbers has no way to fail.
    serde_json::to_value(payment).unwrap_or_default()
}
