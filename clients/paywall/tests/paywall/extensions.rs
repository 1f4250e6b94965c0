//! What x402 has beyond its core: names of payments, signed offers and receipts, a handler's word on the cost, browsers.

use crate::world::*;
use axum::Router;
use axum::routing::{any, get};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tallybook_paywall::{ChargeLayer, Paywall, PaywallBuilder, ReceiptKey};
use tallybook_rules::signing::SigningKey;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::*;

const NAME: &str = "pay_7d5d747be160e280";

async fn paywall(script: &Script, settings: impl FnOnce(PaywallBuilder) -> PaywallBuilder) -> Paywall {
    let builder = Paywall::builder(script.clone().serve().await, book_key().to_string()).keep_no_vouchers();
    settings(builder).build().unwrap()
}

/// A route that answers with how often it ran, after as many milliseconds as its query says.
async fn counting(charge: ChargeLayer) -> String {
    let runs = Arc::new(AtomicU32::new(0));
    let handler = async move |uri: http::Uri, body: String| {
        let millis = uri.query().and_then(|query| query.parse().ok()).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        match body.as_str() {
            "fail" => Err(StatusCode::BAD_GATEWAY),
            _ => Ok((runs.fetch_add(1, Ordering::Relaxed) + 1).to_string()),
        }
    };
    listen(Router::new().route("/", any(handler).layer(charge))).await
}

/// A payment of 500 by a voucher over `cumulative`, under a name.
fn named(cumulative: u64, name: Option<&str>) -> http::HeaderValue {
    let signature = Signature([u8::try_from(cumulative / 100).unwrap(); 64]);
    named_payload(ChannelPayload::Voucher { voucher: Voucher { signature, ..voucher(cumulative) } }, name)
}

fn named_payload(payload: ChannelPayload, name: Option<&str>) -> http::HeaderValue {
    let accepted = offer().priced(Amount::new(500), 60.try_into().unwrap());
    let mut payment = PaymentPayload::new(accepted, payload);
    let info = name.map_or(json!({"required": false}), |name| json!({"required": false, "id": name}));
    payment.extensions = Some(Map::from_iter([(PAYMENT_IDENTIFIER.to_owned(), json!({ "info": info }))]));
    header(&payment).unwrap()
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

async fn post(url: &str, payment: http::HeaderValue, body: &str) -> Answer {
    let request = reqwest::Client::new().post(url).header(PAYMENT_SIGNATURE, payment).body(body.to_owned());
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

#[tokio::test]
async fn given_a_name_when_the_same_comes_again_then_it_has_its_answer_and_anything_else_is_a_conflict() {
    let script = Script::default();
    let url = counting(paywall(&script, |b| b).await.charge("$0.0005").unwrap().name_payments()).await;
    let first = post(&url, named(500, Some(NAME)), "a").await;
    assert_eq!((first.status, first.text.as_str()), (200, "1"));
    // The facilitator would refuse it by now: it is not even asked.
    script.verify.lock().unwrap().push_back(Ok(invalid(Rejection::VoucherUsed, AnswerExtra::default())));
    let again = post(&url, named(500, Some(NAME)), "a").await;
    assert_eq!((again.status, again.text.as_str()), (200, "1"));
    assert_eq!(again.headers[PAYMENT_RESPONSE], first.headers[PAYMENT_RESPONSE]);
    assert_eq!(script.asked(), ["verify voucher", "settle voucher"]);
    for (payment, body) in [(named(1_000, Some(NAME)), "a"), (named(500, Some(NAME)), "b")] {
        let conflict = post(&url, payment, body).await;
        assert_eq!(conflict.status, 409);
        assert!(conflict.text.contains("payment_identifier_conflict"), "{}", conflict.text);
    }
    assert_eq!(script.asked().len(), 2, "nobody was asked about them");
}

#[tokio::test]
async fn given_a_named_deposit_when_its_voucher_comes_again_without_it_then_it_has_the_answer() {
    let script = Script::default();
    let url = counting(paywall(&script, |b| b).await.charge("$0.0005").unwrap().name_payments()).await;
    let channel = Channel { payer: PAYER, signer: PAYER, book: book_key(), page: Key([5; 32]), slot: 0, generation: 1 };
    let deposit = Deposit { amount: Amount::new(9_000), transaction: TransactionBytes::new(vec![1]).unwrap() };
    let opening = ChannelPayload::Deposit { channel, voucher: voucher(500), deposit };
    assert_eq!(post(&url, named_payload(opening, Some(NAME)), "a").await.text, "1");
    let voucher = ChannelPayload::Voucher { voucher: voucher(500) };
    let again = post(&url, named_payload(voucher, Some(NAME)), "a").await;
    assert_eq!((again.status, again.text.as_str()), (200, "1"));
    assert_eq!(script.asked(), ["settle deposit", "verify voucher", "settle voucher"]);
}

#[tokio::test]
async fn given_a_route_that_requires_names_when_a_client_leaves_then_it_needs_none() {
    let script = Script::default();
    let url = counting(paywall(&script, |b| b).await.charge("$0.0005").unwrap().require_names()).await;
    let leaves = paying(ChannelPayload::Refund { voucher: voucher(500), transaction: None });
    let answer = post(&url, leaves, "").await;
    assert_eq!(answer.status, 403, "only the operator, who has no key here, can close: {}", answer.text);
}

#[tokio::test]
async fn given_a_named_payment_at_work_when_it_comes_again_then_it_waits_and_the_handler_runs_once() {
    let script = Script::default();
    let url = counting(paywall(&script, |b| b).await.charge("$0.0005").unwrap().name_payments()).await + "/?200";
    let (one, two) = tokio::join!(post(&url, named(500, Some(NAME)), "a"), post(&url, named(500, Some(NAME)), "a"));
    assert_eq!((one.text.as_str(), two.text.as_str()), ("1", "1"));
    assert_eq!(script.asked(), ["verify voucher", "settle voucher"]);
}

#[tokio::test]
async fn given_a_named_payment_that_came_to_nothing_when_it_comes_again_then_it_is_done() {
    let script = Script::default();
    let url = counting(paywall(&script, |b| b).await.charge("$0.0005").unwrap().name_payments()).await;
    assert_eq!(post(&url, named(500, Some(NAME)), "fail").await.status, 502);
    assert_eq!(post(&url, named(500, Some(NAME)), "well").await.text, "1");
}

#[tokio::test]
async fn given_a_route_that_requires_names_when_there_is_none_then_nothing_is_charged_and_the_402_says_so() {
    let script = Script::default();
    let url = counting(paywall(&script, |b| b).await.charge("$0.0005").unwrap().require_names()).await;
    let response = reqwest::get(&url).await.unwrap();
    let required: PaymentRequired = read_header(response.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap();
    let declaration = &required.extensions.unwrap()[PAYMENT_IDENTIFIER];
    assert_eq!(declaration["info"]["required"], json!(true));
    for payment in
        [named(500, None), named(500, Some("short")), paying(ChannelPayload::Voucher { voucher: voucher(500) })]
    {
        let refused = post(&url, payment, "a").await;
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains("payment_identifier_required"), "{}", refused.text);
    }
    assert_eq!(script.asked(), Vec::<String>::new());
    assert_eq!(post(&url, named(500, Some(NAME)), "a").await.status, 200);
}

#[tokio::test]
async fn given_a_key_when_a_call_is_asked_for_and_paid_then_the_offer_and_the_receipt_are_signed_by_it() {
    let script = Script::default();
    let key = ReceiptKey::new(SigningKey::from_bytes(&[9; 32]));
    let public = key.public();
    let settings = |b: PaywallBuilder| b.sign_receipts(key).base_url("https://api.example.com/v1/");
    let url = counting(paywall(&script, settings).await.charge("$0.0005").unwrap()).await + "/?0";
    let response = reqwest::get(&url).await.unwrap();
    let required: PaymentRequired = read_header(response.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap();
    assert_eq!(required.resource.url, "https://api.example.com/v1/?0");
    let offers = &required.extensions.as_ref().unwrap()[OFFER_RECEIPT]["info"]["offers"];
    let statement: Statement = serde_json::from_value(offers[0].clone()).unwrap();
    let stated = statement.offer().unwrap();
    let accept = serde_json::to_value(&required.accepts[0]).unwrap();
    assert_eq!(stated.what, OfferTerms::of(&accept, &required.resource.url).unwrap());
    assert_eq!((stated.by, offers[0]["acceptIndex"].as_u64()), (public, Some(0)));
    let paid = post(&url, paying(ChannelPayload::Voucher { voucher: voucher(500) }), "a").await;
    let answer: Value = read_header(paid.headers[PAYMENT_RESPONSE].as_bytes()).unwrap();
    let receipt = answer["extensions"][OFFER_RECEIPT]["info"]["receipt"].clone();
    let receipt = serde_json::from_value::<Statement>(receipt).unwrap().receipt().unwrap();
    assert_eq!((receipt.by, receipt.what.payer), (public, PAYER));
    assert_eq!(receipt.what.resource_url, required.resource.url);
    // Who does not read extensions reads what was there before.
    assert!(matches!(read_header(paid.headers[PAYMENT_RESPONSE].as_bytes()), Ok(SettleResponse::Settled { .. })));
    script.settle.lock().unwrap().push_back(Ok(failed(Rejection::VoucherUsed)));
    let refused = post(&url, paying(ChannelPayload::Voucher { voucher: voucher(1_000) }), "a").await;
    let answer = refused.headers.get(PAYMENT_RESPONSE).map(|value| read_header::<Value>(value.as_bytes()).unwrap());
    assert!(answer.is_none_or(|answer| answer.get("extensions").is_none()), "no receipt for what was not paid");
}

#[tokio::test]
async fn given_a_handler_that_says_the_cost_by_a_header_when_called_then_that_is_charged_and_not_shown() {
    let script = Script::default();
    let handler = async |uri: http::Uri| {
        let amount = uri.query().unwrap_or_default().replace("pc", "%").replace("usd", "$");
        let said = json!({ "amount": amount }).to_string();
        ([("settlement-overrides", said)], "done")
    };
    let charge = paywall(&script, |b| b).await.charge_up_to("$0.0005").unwrap();
    let url = listen(Router::new().route("/", get(handler).route_layer(charge))).await;
    for (said, charge) in [("120", 120), ("50pc", 250), ("usd0.0004", 400), ("0", 0)] {
        let payment = paying(ChannelPayload::Voucher { voucher: voucher(500) });
        let request = reqwest::Client::new().get(format!("{url}/?{said}")).header(PAYMENT_SIGNATURE, payment);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{said}");
        assert!(!response.headers().contains_key("settlement-overrides"));
        assert_eq!(script.charged.lock().unwrap().pop(), Some((500, charge)), "{said}");
    }
    for senseless in ["501", "-1", "much"] {
        let payment = paying(ChannelPayload::Voucher { voucher: voucher(500) });
        let request = reqwest::Client::new().get(format!("{url}/?{senseless}")).header(PAYMENT_SIGNATURE, payment);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{senseless}");
        assert!(!response.headers().contains_key("settlement-overrides"));
    }
    assert_eq!(script.charged.lock().unwrap().pop(), None, "nothing was charged");
}

#[tokio::test]
async fn given_a_fixed_price_when_the_handler_says_a_cost_by_a_header_then_it_has_no_effect_and_is_not_shown() {
    let script = Script::default();
    let handler = async || ([("settlement-overrides", r#"{"amount":"1"}"#)], "done");
    let charge = paywall(&script, |b| b).await.charge("$0.0005").unwrap();
    let url = listen(Router::new().route("/", get(handler).route_layer(charge))).await;
    let payment = paying(ChannelPayload::Voucher { voucher: voucher(500) });
    let response = reqwest::Client::new().get(&url).header(PAYMENT_SIGNATURE, payment).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("settlement-overrides"));
    assert_eq!(script.charged.lock().unwrap().pop(), Some((500, 500)));
}

#[tokio::test]
async fn given_a_browser_when_it_asks_first_then_it_is_never_answered_with_402_and_may_read_the_receipt() {
    let script = Script::default();
    let paywall = paywall(&script, |b| b).await;
    let preflight = async |url: &str| {
        let request = reqwest::Client::new().request(Method::OPTIONS, url).header("origin", "https://page.example");
        let request = request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "access-control-expose-headers,payment-signature");
        request.send().await.unwrap()
    };
    let open = counting(paywall.charge("$0.0005").unwrap().open_to_browsers()).await;
    let answer = preflight(&open).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert_eq!(answer.headers()["access-control-allow-methods"], "POST");
    assert_eq!(answer.headers()["access-control-allow-headers"], "access-control-expose-headers,payment-signature");
    let asked = reqwest::get(&open).await.unwrap();
    assert_eq!(asked.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(asked.headers()["access-control-allow-origin"], "*");
    let paid = post(&open, paying(ChannelPayload::Voucher { voucher: voucher(500) }), "a").await;
    assert!(paid.headers["access-control-expose-headers"].to_str().unwrap().contains("payment-response"));
    // A closed route says nothing of other origins, and does not run its handler for nothing either.
    let closed = counting(paywall.charge("$0.0005").unwrap()).await;
    let answer = preflight(&closed).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert_eq!(answer.text().await.unwrap(), "");
    let no_preflight = reqwest::Client::new().request(Method::OPTIONS, &closed).send().await.unwrap();
    assert_eq!(no_preflight.status(), StatusCode::PAYMENT_REQUIRED);
}

#[tokio::test]
async fn given_a_paid_answer_when_it_passes_caches_then_it_is_the_payers_alone() {
    let script = Script::default();
    let url = counting(paywall(&script, |b| b).await.charge("$0.0005").unwrap()).await;
    let paid = post(&url, paying(ChannelPayload::Voucher { voucher: voucher(500) }), "a").await;
    assert_eq!(paid.headers["cache-control"], "private");
    assert_eq!(reqwest::get(&url).await.unwrap().headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn given_a_handler_slower_than_its_reservation_when_the_voucher_paid_for_another_call_then_it_is_not_answered() {
    let script = Script::default();
    let paywall = paywall(&script, |b| b.timeout_seconds(NonZeroU32::MIN)).await;
    for charge in [paywall.charge("$0.0005").unwrap(), paywall.charge_up_to("$0.0005").unwrap()] {
        script.asked.lock().unwrap().clear();
        let url = counting(charge).await + "/?1100";
        let used = invalid(Rejection::VoucherUsed, AnswerExtra::default());
        script.verify.lock().unwrap().extend([Ok(valid()), Ok(used)]);
        let late = post(&url, paying(ChannelPayload::Voucher { voucher: voucher(500) }), "a").await;
        assert_eq!(late.status, 402);
        assert!(!script.asked().contains(&"settle voucher".to_owned()), "{:?}", script.asked());
        // Nor later, for the same payment.
        script.verify.lock().unwrap().push_back(Ok(invalid(Rejection::VoucherUsed, AnswerExtra::default())));
        assert_eq!(post(&url, paying(ChannelPayload::Voucher { voucher: voucher(500) }), "a").await.status, 402);
    }
}
