//! Calls that cost less than their ceiling, and streams that are paid as they come.

use crate::world::*;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use std::time::Duration;
use tallybook_paywall::{Charge, ChargeLayer, Paywall, Price, Rate};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::*;
use tokio::sync::mpsc;

const PART: u64 = 100;

fn paywall(facilitator: &str, folder: &tempfile::TempDir) -> Paywall {
    Paywall::builder(facilitator, book_key().to_string())
        .keep_vouchers_in(folder.path().join("vouchers.jsonl"))
        .stream_patience(Duration::from_millis(300))
        .build()
        .unwrap()
}

/// A route behind `charge`, whose handler is told by the query what to do.
async fn route(charge: ChargeLayer) -> String {
    listen(Router::new().route("/", get(handler).route_layer(charge))).await
}

/// `?cost=7`: says so and answers. `?pieces=…`: streams so many pieces of 10 base units each; anything else: pieces without
/// end, of 30 each for `?thirties`. `?one`: one piece, and nothing more.
async fn handler(charge: Charge, uri: http::Uri) -> Result<Body, StatusCode> {
    let query = uri.query().unwrap_or_default();
    if query == "silent" {
        return Ok(Body::from("silent"));
    }
    if let Some(cost) = query.strip_prefix("cost=") {
        charge.add(Amount::new(cost.parse().unwrap())).map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        return Ok(Body::from("done"));
    }
    let pieces = query.strip_prefix("pieces=").map_or(u64::MAX, |pieces| pieces.parse().unwrap());
    let (pieces, stays) = if query == "one" { (1, true) } else { (pieces, false) };
    let price = Amount::new(if query == "thirties" { 30 } else { 10 });
    let (send, pieces_out) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut meter = charge.meter(Rate::new(price, 1).unwrap());
        for _ in 0..pieces {
            if meter.count(1).await.is_err() || send.send(Ok::<_, std::io::Error>(Bytes::from("piece "))).await.is_err()
            {
                return;
            }
        }
        if stays {
            std::future::pending().await
        }
    });
    Ok(Body::new(StreamBody::new(Receiver(pieces_out))))
}

struct Receiver(mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl futures_util::Stream for Receiver {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

fn paying_for(amount: u64, cumulative: u64) -> http::HeaderValue {
    let accepted = offer().priced(Amount::new(amount), 60.try_into().unwrap());
    header(&PaymentPayload::new(accepted, ChannelPayload::Voucher { voucher: voucher(cumulative) })).unwrap()
}

async fn call(url: &str, cumulative: u64) -> reqwest::Response {
    let request = reqwest::Client::new().get(url).header(PAYMENT_SIGNATURE, paying_for(PART, cumulative));
    request.send().await.unwrap()
}

/// Asks what the meter wants, with the voucher that it wanted last.
async fn sign_on(url: &str, meter: &http::HeaderValue, cumulative: Option<u64>) -> reqwest::Response {
    let mut request = reqwest::Client::new().get(url).header(PAYMENT_METER, meter);
    if let Some(cumulative) = cumulative {
        request = request.header(PAYMENT_SIGNATURE, paying_for(PART, cumulative));
    }
    request.send().await.unwrap()
}

fn asked_above(response: &reqwest::Response) -> Option<u64> {
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let required: PaymentRequired = read_header(response.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap();
    let offer = required.channel_offers().next().unwrap();
    assert_eq!((offer.amount, offer.extra.metered), (Amount::new(PART), true));
    offer.extra.channel_state.map(|state| state.charged_cumulative_amount.get())
}

fn receipt(response: &reqwest::Response) -> SettleResponse {
    read_header(response.headers()[PAYMENT_RESPONSE].as_bytes()).unwrap()
}

fn charged(receipt: &SettleResponse) -> Option<u64> {
    match receipt {
        SettleResponse::Settled { extra, .. } => extra.charged_amount.map(Amount::get),
        SettleResponse::Failed { .. } => None,
    }
}

/// A script that says where the channel stands, as real ledgers do.
fn script() -> Script {
    let script = Script::default();
    let state = ChannelState {
        channel_id: CHANNEL,
        balance: Amount::new(9_000),
        total_claimed: Amount::ZERO,
        charged_cumulative_amount: Amount::ZERO,
    };
    let extra = AnswerExtra { channel_state: Some(state), ..AnswerExtra::default() };
    script.verify.lock().unwrap().push_back(Ok(VerifyResponse::Valid { payer: PAYER, extra }));
    script
}

#[tokio::test]
async fn given_a_ceiling_when_the_handler_says_less_then_less_is_charged_and_the_offer_says_so() {
    let (script, folder) = (Script::default(), tempfile::tempdir().unwrap());
    let paywall = paywall(&script.clone().serve().await, &folder);
    let url = route(paywall.charge_price(Price::UpTo(Amount::new(PART))).unwrap()).await;
    let unpaid = reqwest::get(format!("{url}?cost=7")).await.unwrap();
    assert_eq!(asked_above(&unpaid), None);

    let response = call(&format!("{url}?cost=7"), 100).await;
    assert_eq!((response.status(), charged(&receipt(&response))), (StatusCode::OK, Some(7)));
    // A call that cost nothing leaves its voucher to the next one, which may be the same request.
    for _ in 0..2 {
        assert_eq!(call(&format!("{url}?cost=0"), 107).await.status(), StatusCode::OK);
    }
    assert_eq!(call(&format!("{url}?silent"), 107).await.status(), StatusCode::OK);
    assert_eq!(*script.charged.lock().unwrap(), [(100, 7), (107, 0), (107, 0), (107, 100)]);
    let kept = ForwardedVoucher { voucher: voucher(107), charged: Amount::new(107) };
    assert_eq!(paywall.newest_vouchers(), [kept]);
}

#[tokio::test]
async fn given_a_ceiling_when_the_handler_wants_more_then_it_is_told_and_nothing_is_charged() {
    let (script, folder) = (Script::default(), tempfile::tempdir().unwrap());
    let paywall = paywall(&script.clone().serve().await, &folder);
    let url = route(paywall.charge_price(Price::UpTo(Amount::new(PART))).unwrap()).await;
    let response = call(&format!("{url}?cost=101"), 100).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    until(|| script.asked() == ["verify voucher", "release voucher"]).await;
}

#[tokio::test]
async fn given_a_lost_answer_of_a_metered_call_when_asked_again_then_it_comes_again_at_the_same_charge() {
    let (script, folder) = (Script::default(), tempfile::tempdir().unwrap());
    script.settle.lock().unwrap().extend(std::iter::repeat_with(|| Err(StatusCode::BAD_GATEWAY)).take(3));
    let paywall = paywall(&script.clone().serve().await, &folder);
    let url = route(paywall.charge_price(Price::UpTo(Amount::new(PART))).unwrap()).await;
    assert_eq!(call(&format!("{url}?cost=7"), 100).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(call(&format!("{url}?cost=7"), 100).await.status(), StatusCode::OK);
    let charges = script.charged.lock().unwrap().clone();
    assert!(charges.len() == 4 && charges.iter().all(|charge| *charge == (100, 7)), "{charges:?}");
}

#[tokio::test]
async fn given_a_stream_when_the_client_signs_on_then_it_goes_on_and_the_last_part_is_charged_for_what_was_used() {
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    let paywall = paywall(&script.clone().serve().await, &folder);
    let url = route(paywall.charge_price(Price::Streamed { part: Amount::new(PART) }).unwrap()).await + "?pieces=24";
    let stream = call(&url, 100).await;
    assert_eq!(stream.status(), StatusCode::OK);
    assert!(stream.headers().get(PAYMENT_RESPONSE).is_none(), "nobody knows yet what it costs");
    let meter = stream.headers()[PAYMENT_METER].clone();
    let text = tokio::spawn(stream.text());

    assert_eq!(asked_above(&sign_on(&url, &meter, None).await), Some(100), "asked before the part is used up");
    let second = sign_on(&url, &meter, Some(200)).await;
    assert_eq!(asked_above(&second), Some(200));
    let last = sign_on(&url, &meter, Some(300)).await;
    assert_eq!((last.status(), charged(&receipt(&last))), (StatusCode::OK, Some(240)));
    assert_eq!(text.await.unwrap().unwrap().matches("piece").count(), 24);
    assert_eq!(*script.charged.lock().unwrap(), [(100, 100), (200, 100), (300, 40)]);
    let kept = ForwardedVoucher { voucher: voucher(300), charged: Amount::new(240) };
    assert_eq!(paywall.newest_vouchers(), [kept]);
    // The receipt can be fetched again, should it have been lost, also with a voucher that was asked for too late.
    assert_eq!(charged(&receipt(&sign_on(&url, &meter, None).await)), Some(240));
    assert_eq!(charged(&receipt(&sign_on(&url, &meter, Some(400)).await)), Some(240));
}

#[tokio::test]
async fn given_a_stream_when_the_client_does_not_sign_on_then_it_ends_where_it_was_paid() {
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    let url = script.clone().serve().await;
    let url = route(paywall(&url, &folder).charge_price(Price::Streamed { part: Amount::new(PART) }).unwrap()).await;
    let mut stream = call(&url, 100).await;
    let meter = stream.headers()[PAYMENT_METER].clone();
    let mut got = 0;
    let broken = loop {
        match stream.chunk().await {
            Ok(Some(chunk)) => got += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "a stream that is cut short does not look whole");
    assert_eq!(got, 10 * "piece ".len());
    let end = sign_on(&url, &meter, None).await;
    assert_eq!((end.status(), charged(&receipt(&end))), (StatusCode::OK, Some(100)));
    assert_eq!(*script.charged.lock().unwrap(), [(100, 100)]);
}

#[tokio::test]
async fn given_a_piece_that_only_the_next_part_could_pay_for_when_that_does_not_come_then_it_costs_nothing() {
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    let url = script.clone().serve().await;
    let url = route(paywall(&url, &folder).charge_price(Price::Streamed { part: Amount::new(PART) }).unwrap()).await;
    let mut stream = call(&format!("{url}?thirties"), 100).await;
    let meter = stream.headers()[PAYMENT_METER].clone();
    while let Ok(Some(_)) = stream.chunk().await {}
    assert_eq!(charged(&receipt(&sign_on(&url, &meter, None).await)), Some(90));
    assert_eq!(*script.charged.lock().unwrap(), [(100, 90)]);
}

#[tokio::test]
async fn given_a_stream_when_the_client_goes_away_then_what_was_used_is_charged_and_the_channel_is_free() {
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    let url = script.clone().serve().await;
    let url = route(paywall(&url, &folder).charge_price(Price::Streamed { part: Amount::new(PART) }).unwrap()).await;
    let mut stream = call(&url, 100).await;
    let meter = stream.headers()[PAYMENT_METER].clone();
    stream.chunk().await.unwrap();
    drop(stream);
    let end = sign_on(&url, &meter, None).await;
    let cost = charged(&receipt(&end)).unwrap();
    assert!((10..=100).contains(&cost), "{cost}");
    assert_eq!(*script.charged.lock().unwrap(), [(100, cost)]);
}

#[tokio::test]
async fn given_the_next_part_is_refused_when_the_stream_turns_to_it_then_the_parts_before_it_are_charged() {
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    script.verify.lock().unwrap().push_back(Ok(invalid(Rejection::DepositExceeded, AnswerExtra::default())));
    let url = script.clone().serve().await;
    let url = route(paywall(&url, &folder).charge_price(Price::Streamed { part: Amount::new(PART) }).unwrap()).await;
    let stream = call(&url, 100).await;
    let meter = stream.headers()[PAYMENT_METER].clone();
    let text = tokio::spawn(stream.text());
    let end = sign_on(&url, &meter, Some(200)).await;
    assert!(text.await.unwrap().is_err());
    assert_eq!((end.status(), charged(&receipt(&end))), (StatusCode::OK, Some(100)));
    assert_eq!(*script.charged.lock().unwrap(), [(100, 100)]);
}

#[tokio::test]
async fn given_a_wrong_voucher_or_meter_when_signing_on_then_each_is_named_and_the_stream_is_not_touched() {
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    let paywall = paywall(&script.clone().serve().await, &folder);
    let url = route(paywall.charge_price(Price::Streamed { part: Amount::new(PART) }).unwrap()).await + "?pieces=14";
    let stream = call(&url, 100).await;
    let meter = stream.headers()[PAYMENT_METER].clone();
    let text = tokio::spawn(stream.text());
    assert_eq!(asked_above(&sign_on(&url, &meter, None).await), Some(100));
    let wrong = sign_on(&url, &meter, Some(150)).await;
    assert_eq!((asked_above(&wrong), reason(&wrong)), (Some(100), Some(Rejection::WrongCumulative)));
    let unknown = sign_on(&url, &http::HeaderValue::from_static("00112233445566778899aabbccddeeff"), None).await;
    assert_eq!(unknown.status(), StatusCode::GONE);
    let end = sign_on(&url, &meter, Some(200)).await;
    assert_eq!(charged(&receipt(&end)), Some(140));
    assert!(text.await.unwrap().is_ok());
}

#[tokio::test]
async fn given_a_ceiling_when_the_answer_is_streamed_then_it_is_charged_at_its_end_and_never_beyond() {
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    let url = script.clone().serve().await;
    let url = route(paywall(&url, &folder).charge_price(Price::UpTo(Amount::new(PART))).unwrap()).await;
    let short = call(&format!("{url}?pieces=3"), 100).await;
    let meter = short.headers()[PAYMENT_METER].clone();
    assert_eq!(short.text().await.unwrap(), "piece piece piece ");
    assert_eq!(charged(&receipt(&sign_on(&url, &meter, None).await)), Some(30));
    let long = call(&format!("{url}?pieces=30"), 130).await;
    assert_eq!(long.text().await.unwrap().matches("piece").count(), 10, "the handler ends where the ceiling is");
    assert_eq!(*script.charged.lock().unwrap(), [(100, 30), (130, 100)]);
}

#[tokio::test]
async fn given_many_who_wait_for_one_stream_when_another_comes_then_it_is_told_to_come_back() {
    // Given a stream of which nothing is to be signed yet
    let (script, folder) = (script(), tempfile::tempdir().unwrap());
    let paywall = paywall(&script.clone().serve().await, &folder);
    let url = route(paywall.charge_price(Price::Streamed { part: Amount::new(PART) }).unwrap()).await + "?one";
    let stream = call(&url, 100).await;
    let meter = stream.headers()[PAYMENT_METER].clone();
    // When more wait for it than one client can have lost on the way
    let waiting: Vec<_> = (0..12)
        .map(|_| {
            let (url, meter) = (url.clone(), meter.clone());
            tokio::spawn(async move { sign_on(&url, &meter, None).await })
        })
        .collect();
    until(|| waiting.iter().filter(|one| one.is_finished()).count() == 8).await;
    // Then the rest is told to come back, by name
    for one in waiting.into_iter().filter(tokio::task::JoinHandle::is_finished) {
        let refused = one.await.unwrap();
        assert_eq!(
            (refused.status(), refused.headers()["retry-after"].as_bytes()),
            (StatusCode::SERVICE_UNAVAILABLE, &b"1"[..])
        );
        let refusal: Refusal = read_body(&refused.bytes().await.unwrap()).unwrap();
        assert_eq!(refusal.error, Rejection::Overloaded.into());
    }
}
