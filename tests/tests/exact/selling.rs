//! A route behind our paywall, bought by clients that know nothing of channels.

use crate::house::House;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response as Answer};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tallybook_cli::demo::Shop;
use tallybook_tests::exact::{Buyer, Purchase};

fn decode(response: &Response, header: &str) -> Result<Value> {
    let value = response.headers().get(header).with_context(|| format!("no {header}"))?;
    Ok(serde_json::from_slice(&STANDARD.decode(value)?)?)
}

/// The route, asked without a payment: the 402's header, and its body.
async fn asked(house: &House, shop: &Shop) -> Result<(Value, Value)> {
    let response = house.http.post(shop.paid()).body("to pay or not to pay").send().await?;
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let required = decode(&response, "payment-required")?;
    Ok((required, response.json().await?))
}

async fn buy(house: &House, shop: &Shop, header: &str, payment: &Value) -> Result<Response> {
    let request = house.http.post(shop.paid()).header(header, STANDARD.encode(payment.to_string()));
    Ok(request.body("to pay or not to pay").send().await?)
}

async fn shop(house: &House) -> Result<Shop> {
    Shop::open(&house.ground.paywall(&house.url())?, "$0.0005", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_paid_route_when_clients_of_each_version_buy_then_they_are_served_once_for_each_payment() -> Result<()>
{
    let house = House::open().await?;
    let shop = shop(&house).await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let (required, body) = asked(&house, &shop).await?;
    assert_eq!(
        (&required["accepts"][0]["scheme"], &required["x402Version"]),
        (&json!("@tallybook/channel"), &json!(2))
    );
    let exact = &required["accepts"][1];
    assert_eq!((&exact["scheme"], &exact["amount"]), (&json!("exact"), &json!("500")));
    assert_eq!(exact["extra"]["feePayer"], json!(house.ground.sponsor.to_string()));
    let first = &body["accepts"][0];
    assert_eq!((&body["x402Version"], &first["network"]), (&json!(1), &json!("solana-devnet")));
    assert_eq!((&first["maxAmountRequired"], &first["resource"]), (&json!("500"), &json!(shop.paid())));

    let purchase = house.purchase(500);
    let transaction = buyer.sign(&house.ground, &purchase).await?;
    let mut payment = purchase.request(&transaction)?["paymentPayload"].clone();
    payment["accepted"] = exact.clone();
    let response = buy(&house, &shop, "payment-signature", &payment).await?;
    assert_eq!(response.status(), StatusCode::OK);
    let receipt = decode(&response, "payment-response")?;
    assert_eq!((&receipt["success"], &receipt["network"]), (&json!(true), &exact["network"]));
    assert_eq!(house.paid().await?, 500);
    let again = buy(&house, &shop, "payment-signature", &payment).await?;
    assert_eq!(again.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(decode(&again, "payment-required")?["error"], "duplicate_settlement");

    let purchase = house.purchase(500);
    let payment = purchase.request_v1(&buyer.sign(&house.ground, &purchase).await?)?["paymentPayload"].clone();
    let response = buy(&house, &shop, "x-payment", &payment).await?;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "private");
    let receipt = decode(&response, "x-payment-response")?;
    assert_eq!((&receipt["success"], &receipt["network"]), (&json!(true), &json!("solana-devnet")));
    assert_eq!((house.paid().await?, buyer.holds(&house.ground).await?), (1_000, 9_000));
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_bad_payment_by_exact_when_it_comes_then_its_status_and_reason_are_the_reference_s() -> Result<()> {
    let house = House::open().await?;
    let shop = shop(&house).await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let pay = async |change: &dyn Fn(&mut Purchase), spoil: &dyn Fn(&mut Value)| -> Result<(u16, Value)> {
        let (required, _) = asked(&house, &shop).await?;
        let mut purchase = house.purchase(500);
        change(&mut purchase);
        let transaction = buyer.sign(&house.ground, &purchase).await?;
        let mut payment = purchase.request(&transaction)?["paymentPayload"].clone();
        payment["accepted"] = required["accepts"][1].clone();
        spoil(&mut payment);
        let response = buy(&house, &shop, "payment-signature", &payment).await?;
        let status = response.status().as_u16();
        let header = decode(&response, "payment-required").unwrap_or_default();
        Ok((status, header["error"].clone()))
    };
    let cheaper = pay(&|purchase| purchase.amount = 499, &|_| {}).await?;
    assert_eq!(cheaper, (402, json!("invalid_exact_svm_payload_amount_mismatch")));
    let elsewhere = pay(&|purchase| purchase.pay_to = house.ground.sponsor, &|_| {}).await?;
    assert_eq!(elsewhere, (402, json!("invalid_exact_svm_payload_recipient_mismatch")));
    let own_terms = pay(&|purchase| purchase.amount = 1, &|payment| payment["accepted"]["amount"] = json!("1")).await?;
    assert_eq!(own_terms, (402, json!("unsupported_scheme")), "the client does not say what it costs");
    let version = pay(&|_| {}, &|payment| payment["x402Version"] = json!(9)).await?;
    assert_eq!(version.0, 400);
    for header in ["payment-signature", "x-payment"] {
        let garbage = house.http.post(shop.paid()).header(header, "not base64!").send().await?;
        assert_eq!(garbage.status(), StatusCode::BAD_REQUEST, "{header}");
    }
    let no_version = buy(&house, &shop, "x-payment", &json!({ "scheme": "exact" })).await?;
    assert_eq!(no_version.status(), StatusCode::BAD_REQUEST);
    assert_eq!((house.paid().await?, buyer.holds(&house.ground).await?), (0, 10_000));
    house.close().await
}

/// In front of the facilitator: passes everything on, and loses as many answers to `/settle`.
async fn forgetful(facilitator: String, lost: u32) -> Result<String> {
    let (left, http) = (Arc::new(AtomicU32::new(lost)), reqwest::Client::new());
    let pass = move |method: Method, uri: Uri, body: Bytes| {
        let (left, request) = (Arc::clone(&left), http.request(method, format!("{facilitator}{uri}")).body(body));
        async move {
            let answer = request.send().await.unwrap();
            let (status, bytes) = (answer.status(), answer.bytes().await.unwrap());
            let loses = uri.path() == "/settle"
                && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            let answer: Answer = if loses {
                (StatusCode::BAD_GATEWAY, "<html>We are sorry.</html>").into_response()
            } else {
                (status, bytes).into_response()
            };
            answer
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(pass)).await });
    Ok(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_settlement_whose_answer_is_lost_when_it_is_asked_for_again_then_the_client_is_served_what_it_paid_for()
-> Result<()> {
    let house = House::open().await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let shop = Shop::open(&house.ground.paywall(&forgetful(house.url(), 1).await?)?, "$0.0005", 0).await?;
    let (required, _) = asked(&house, &shop).await?;
    let purchase = house.purchase(500);
    let mut payment = purchase.request(&buyer.sign(&house.ground, &purchase).await?)?["paymentPayload"].clone();
    payment["accepted"] = required["accepts"][1].clone();
    assert_eq!(buy(&house, &shop, "payment-signature", &payment).await?.status(), StatusCode::OK);
    assert_eq!(buy(&house, &shop, "payment-signature", &payment).await?.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!((house.paid().await?, buyer.holds(&house.ground).await?), (500, 9_500));
    // Both answers are lost: it is not known here, and nobody is told to pay again.
    let shop = Shop::open(&house.ground.paywall(&forgetful(house.url(), 2).await?)?, "$0.0005", 0).await?;
    let purchase = house.purchase(500);
    let mut payment = purchase.request(&buyer.sign(&house.ground, &purchase).await?)?["paymentPayload"].clone();
    payment["accepted"] = required["accepts"][1].clone();
    let unknown = buy(&house, &shop, "payment-signature", &payment).await?;
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(decode(&unknown, "payment-response")?["errorReason"], "settlement_pending");
    house.close().await
}
