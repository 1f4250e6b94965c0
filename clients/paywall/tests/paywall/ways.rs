//! Prices that depend on the request, free quotas, and several ways to pay side by side.

use crate::world::*;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book;
use tallybook_paywall::{ChargeLayer, FreeQuota, Paywall, Price};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::*;

async fn route(charge: ChargeLayer) -> String {
    let served = get(async || "served").route_layer(charge);
    listen(Router::new().route("/", served.clone()).route("/{*path}", served)).await
}

async fn required(url: &str) -> PaymentRequired {
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    read_header(response.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap()
}

#[tokio::test]
async fn given_a_price_by_request_when_called_then_each_pays_its_own_and_what_is_free_is_not_asked_for() {
    let script = Script::default();
    let paywall =
        Paywall::builder(script.clone().serve().await, book_key().to_string()).keep_no_vouchers().build().unwrap();
    let url = route(paywall.charge_by(|request| match request.uri.path() {
        "/free" => Price::Free,
        path => Price::Exactly(Amount::new(100).times(path.len().try_into().unwrap()).unwrap()),
    }))
    .await;
    assert_eq!(reqwest::get(format!("{url}/free")).await.unwrap().text().await.unwrap(), "served");
    assert_eq!(script.asked(), Vec::<String>::new());
    let offer = |required: PaymentRequired| required.channel_offers().next().unwrap().amount;
    assert_eq!(offer(required(&format!("{url}/four")).await), Amount::new(500));
    assert_eq!(offer(required(&format!("{url}/eleven")).await), Amount::new(700));
    let pay = |path: &str| {
        let header = paying(ChannelPayload::Voucher { voucher: voucher(500) });
        reqwest::Client::new().get(format!("{url}{path}")).header(PAYMENT_SIGNATURE, header).send()
    };
    assert_eq!(reason(&pay("/eleven").await.unwrap()), Some(Rejection::WrongPrice));
    assert_eq!(pay("/four").await.unwrap().text().await.unwrap(), "served");
}

#[tokio::test]
async fn given_a_free_quota_when_it_is_used_up_then_payment_is_asked_for() {
    let script = Script::default();
    let paywall =
        Paywall::builder(script.clone().serve().await, book_key().to_string()).keep_no_vouchers().build().unwrap();
    let who = |request: &http::request::Parts| Some(request.headers.get("x-key")?.to_str().ok()?.to_owned());
    let charge = paywall.charge("$0.0005").unwrap().free(FreeQuota::new(2, Duration::from_secs(3_600), who));
    let url = route(charge).await + "/";
    let call = |key: &'static str| reqwest::Client::new().get(&url).header("x-key", key).send();
    let mut statuses = Vec::new();
    for key in ["a", "a", "b", "a"] {
        statuses.push(call(key).await.unwrap().status().as_u16());
    }
    statuses.push(reqwest::get(&url).await.unwrap().status().as_u16());
    assert_eq!(statuses, [200, 200, 200, 402, 402]);
    assert_eq!(script.asked(), Vec::<String>::new());
    // Who pays is charged, and keeps the free call that is left.
    let paid = paying(ChannelPayload::Voucher { voucher: voucher(500) });
    let paid = reqwest::Client::new().get(&url).header("x-key", "b").header(PAYMENT_SIGNATURE, paid).send();
    assert!(paid.await.unwrap().headers().contains_key(PAYMENT_RESPONSE));
    assert_eq!(call("b").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn given_two_books_when_asked_then_both_are_offered_and_each_payment_goes_to_its_own() {
    let (first, second) = (Script::default(), Script::default());
    let one = Paywall::builder(first.clone().serve().await, book_key().to_string()).keep_no_vouchers().build().unwrap();
    // The second facilitator serves the same payee under another mint.
    let mint = Key([22; 32]);
    let other = Key(book(&PROGRAM_ID, &PAYEE.0.into(), &mint.0.into(), 0).0.to_bytes());
    let their_offer = Offer { asset: mint, extra: Extra { book: other, ..offer().extra }, ..offer() };
    let answer = their_offer.clone();
    let routes = Router::new().route("/books/{book}/offer", get(async move || Json(answer))).fallback_service(
        Router::new().route("/verify", post(verify_ok)).route("/settle", post(settle_ok)).with_state(second.clone()),
    );
    let two = Paywall::builder(listen(routes).await, other.to_string()).keep_no_vouchers().build().unwrap();
    let url = route(one.charge("$0.0005").unwrap().or(two.charge("$0.0006").unwrap())).await + "/";
    let offers: Vec<_> = required(&url).await.channel_offers().map(|offer| (offer.extra.book, offer.amount)).collect();
    assert_eq!(offers, [(book_key(), Amount::new(500)), (other, Amount::new(600))]);
    let accepted = their_offer.priced(Amount::new(600), 60.try_into().unwrap());
    let payment = PaymentPayload::new(accepted, ChannelPayload::Voucher { voucher: voucher(600) });
    let response = reqwest::Client::new().get(&url).header(PAYMENT_SIGNATURE, header(&payment).unwrap());
    assert_eq!(response.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(
        (first.asked(), second.asked()),
        (vec![], vec!["verify voucher".to_owned(), "settle voucher".to_owned()])
    );
}

async fn verify_ok(State(script): State<Script>, Json(request): Json<FacilitatorRequest>) -> Json<VerifyResponse> {
    script.note("verify", &request);
    Json(valid())
}

async fn settle_ok(State(script): State<Script>, Json(request): Json<FacilitatorRequest>) -> Json<SettleResponse> {
    script.note("settle", &request);
    Json(settled())
}

/// The facilitator of another scheme: what it was asked, and what it says next.
#[derive(Clone, Default)]
struct Exact {
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    settles: Arc<Mutex<Option<Value>>>,
}

impl Exact {
    async fn serve(self) -> String {
        async fn verify(State(exact): State<Exact>, Json(body): Json<Value>) -> Json<Value> {
            let is_valid = body["paymentPayload"]["payload"]["transaction"] == "good";
            exact.asked.lock().unwrap().push(("verify".to_owned(), body));
            Json(json!({ "isValid": is_valid, "invalidReason": (!is_valid).then_some("invalid_exact_svm_payload") }))
        }
        async fn settle(State(exact): State<Exact>, Json(body): Json<Value>) -> Json<Value> {
            exact.asked.lock().unwrap().push(("settle".to_owned(), body));
            let settled = json!({ "success": true, "transaction": "abc", "network": NETWORK, "payer": "somebody" });
            Json(exact.settles.lock().unwrap().clone().unwrap_or(settled))
        }
        listen(Router::new().route("/verify", post(verify)).route("/settle", post(settle)).with_state(self)).await
    }
}

fn requirements() -> Value {
    json!({
        "scheme": "exact", "network": NETWORK, "amount": "1000", "asset": MINT, "payTo": PAYEE,
        "maxTimeoutSeconds": 60, "extra": { "feePayer": Key([6; 32]) },
    })
}

fn exactly(transaction: &str, requirements: &Value) -> String {
    let payment = json!({ "x402Version": 2, "accepted": requirements, "payload": { "transaction": transaction } });
    STANDARD.encode(payment.to_string())
}

#[tokio::test]
async fn given_another_scheme_beside_ours_when_paid_by_it_then_its_facilitator_decides_and_ours_is_not_asked() {
    let (script, exact) = (Script::default(), Exact::default());
    let paywall =
        Paywall::builder(script.clone().serve().await, book_key().to_string()).keep_no_vouchers().build().unwrap();
    let charge = paywall.charge("$0.0005").unwrap().or_scheme(&exact.clone().serve().await, requirements()).unwrap();
    let url = route(charge).await + "/";
    let accepts = required(&url).await.accepts;
    assert!(matches!(&accepts[..], [Accept::Channel(_), Accept::Foreign(exact)] if *exact == requirements()));

    let pay = |payment: String| reqwest::Client::new().get(&url).header(PAYMENT_SIGNATURE, payment).send();
    let response = pay(exactly("good", &requirements())).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let receipt = STANDARD.decode(&response.headers()[PAYMENT_RESPONSE]).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&receipt).unwrap()["transaction"], "abc");
    let asked: Vec<String> = exact.asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!((asked, script.asked()), (vec!["verify".to_owned(), "settle".to_owned()], vec![]));

    let bad = pay(exactly("bad", &requirements())).await.unwrap();
    assert_eq!(bad.status(), StatusCode::PAYMENT_REQUIRED);
    assert!(bad.text().await.unwrap().contains("invalid_exact_svm_payload"));
    let mut cheaper = requirements();
    cheaper["amount"] = json!("1");
    let cheap = pay(exactly("good", &cheaper)).await.unwrap();
    assert_eq!(reason(&cheap), Some(Rejection::UnsupportedScheme), "another price than was asked for");
    *exact.settles.lock().unwrap() = Some(json!({ "success": false, "errorReason": "settlement_pending",
        "transaction": "abc", "network": NETWORK }));
    assert_eq!(pay(exactly("good", &requirements())).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn given_a_full_book_when_asked_then_the_answer_says_so_and_offers_the_other_scheme() {
    let (script, exact) = (Script::default(), Exact::default());
    *script.free_slots.lock().unwrap() = Some(0);
    let paywall =
        Paywall::builder(script.clone().serve().await, book_key().to_string()).keep_no_vouchers().build().unwrap();
    let charge = paywall.charge("$0.0005").unwrap().or_scheme(&exact.serve().await, requirements()).unwrap();
    let full = required(&(route(charge).await + "/")).await;
    assert_eq!(full.error.as_ref().and_then(Reason::rejection), Some(Rejection::BookFull));
    assert!(full.message.unwrap().contains("All slots of this book are taken"));
    assert!(full.accepts.iter().any(|accept| matches!(accept, Accept::Foreign(_))));
}
