//! One paid call.

use crate::world::*;
use axum::Router;
use axum::routing::get;
use http::StatusCode;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book;
use tallybook_paywall::Paywall;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::*;

#[tokio::test]
async fn given_no_payment_when_called_then_402_says_how_to_pay_and_nothing_runs() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let response = reqwest::Client::new().post(&shop.url).body("hello").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let header: PaymentRequired = read_header(response.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap();
    let body: PaymentRequired = read_body(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(header, body);
    assert_eq!(body.channel_offers().next().unwrap().amount, Amount::new(500));
    assert_eq!((shop.runs(), script.asked()), (0, vec![]));
}

#[tokio::test]
async fn given_a_voucher_when_called_then_it_is_reserved_run_committed_and_kept_before_the_answer() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let response = shop.call(500, "hello").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(matches!(read_header(response.headers()[PAYMENT_RESPONSE].as_bytes()), Ok(SettleResponse::Settled { .. })));
    assert_eq!(response.text().await.unwrap(), "5 bytes");
    assert_eq!(script.asked(), ["verify voucher", "settle voucher"]);
    let kept = ForwardedVoucher { voucher: voucher(500), charged: Amount::new(500) };
    assert_eq!(shop.paywall.newest_vouchers(), [kept]);
}

#[tokio::test]
async fn given_a_deposit_when_called_then_the_channel_is_opened_and_its_voucher_pays() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let channel = Channel { payer: PAYER, signer: PAYER, book: book_key(), page: Key([5; 32]), slot: 0, generation: 1 };
    let deposit = Deposit { amount: Amount::new(9_000), transaction: TransactionBytes::new(vec![1]).unwrap() };
    let payload = ChannelPayload::Deposit { channel, voucher: voucher(500), deposit };
    assert_eq!(shop.pay(paying(payload), "hello").await.status(), StatusCode::OK);
    assert_eq!(script.asked(), ["settle deposit", "verify voucher", "settle voucher"]);
}

#[tokio::test]
async fn given_a_handler_that_fails_or_panics_when_called_then_the_voucher_is_released_and_not_charged() {
    for text in ["fail", "panic"] {
        let script = Script::default();
        let shop = shop(&script.clone().serve().await, |builder| builder).await;
        let request = reqwest::Client::new().post(&shop.url).body(text);
        let header = paying(ChannelPayload::Voucher { voucher: voucher(500) });
        let response = request.header(PAYMENT_SIGNATURE, header).send().await;
        if let Ok(response) = response {
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert!(response.headers().get(PAYMENT_RESPONSE).is_none());
        }
        until(|| script.asked() == ["verify voucher", "release voucher"]).await;
        assert_eq!(shop.paywall.newest_vouchers(), []);
    }
}

#[tokio::test]
async fn given_an_answer_that_was_lost_when_the_same_is_asked_again_then_it_comes_again_and_runs_once() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    shop.call(500, "hello").await;
    let again = shop.call(500, "hello").await;
    assert_eq!(again.status(), StatusCode::OK);
    assert!(again.headers().get(PAYMENT_RESPONSE).is_some());
    assert_eq!((again.text().await.unwrap().as_str(), shop.runs()), ("5 bytes", 1));
    // The same voucher for something else is not looked up: the facilitator says what it is.
    script.verify.lock().unwrap().push_back(Ok(invalid(Rejection::VoucherUsed, AnswerExtra::default())));
    let other = shop.call(500, "something else").await;
    assert_eq!((other.status(), reason(&other)), (StatusCode::PAYMENT_REQUIRED, Some(Rejection::VoucherUsed)));
    assert_eq!(shop.runs(), 1);
}

#[tokio::test]
async fn given_a_commit_whose_outcome_is_unknown_when_asked_again_then_the_answer_comes_once_it_is_known() {
    let script = Script::default();
    script.settle.lock().unwrap().extend(std::iter::repeat_with(|| Err(StatusCode::BAD_GATEWAY)).take(3));
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let pending = shop.call(500, "hello").await;
    assert_eq!(pending.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reason(&pending), Some(Rejection::SettlementPending));
    assert!(pending.headers().get(http::header::RETRY_AFTER).is_some());
    assert_eq!(shop.call(500, "hello").await.status(), StatusCode::OK);
    assert_eq!(shop.runs(), 1, "the handler ran twice for one payment");
}

#[tokio::test]
async fn given_a_reservation_that_the_facilitator_forgot_when_committed_then_it_is_reserved_once_more() {
    let script = Script::default();
    script.settle.lock().unwrap().push_back(Ok(failed(Rejection::NoReservation)));
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    assert_eq!(shop.call(500, "hello").await.status(), StatusCode::OK);
    assert_eq!(script.asked(), ["verify voucher", "settle voucher", "verify voucher", "settle voucher"]);
}

#[tokio::test]
async fn given_a_commit_that_is_refused_then_the_answer_does_not_go_out() {
    let script = Script::default();
    script.settle.lock().unwrap().push_back(Ok(failed(Rejection::DepositExceeded)));
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let response = shop.call(500, "hello").await;
    assert_eq!(
        (response.status(), reason(&response)),
        (StatusCode::PAYMENT_REQUIRED, Some(Rejection::DepositExceeded))
    );
    assert!(!response.text().await.unwrap().contains("5 bytes"));
}

#[tokio::test]
async fn given_refusals_of_each_kind_then_each_has_its_status_and_says_where_the_channel_stands() {
    let state = ChannelState {
        channel_id: CHANNEL,
        balance: Amount::new(9_000),
        total_claimed: Amount::ZERO,
        charged_cumulative_amount: Amount::new(1_500),
    };
    let extra = AnswerExtra { channel_state: Some(state), ..AnswerExtra::default() };
    for (rejection, status) in [
        (Rejection::WrongCumulative, StatusCode::PAYMENT_REQUIRED),
        (Rejection::ChannelClosing, StatusCode::PAYMENT_REQUIRED),
        (Rejection::ChannelBusy, StatusCode::CONFLICT),
        (Rejection::QuotaExceeded, StatusCode::TOO_MANY_REQUESTS),
        (Rejection::Draining, StatusCode::SERVICE_UNAVAILABLE),
        (Rejection::ChainUnavailable, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let script = Script::default();
        script.verify.lock().unwrap().push_back(Ok(invalid(rejection, extra.clone())));
        let shop = shop(&script.clone().serve().await, |builder| builder).await;
        let response = shop.call(500, "hello").await;
        assert_eq!((response.status(), reason(&response)), (status, Some(rejection)));
        if status == StatusCode::PAYMENT_REQUIRED {
            let told: PaymentRequired = read_header(response.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap();
            assert_eq!(told.channel_offers().next().unwrap().extra.channel_state, Some(state));
        } else {
            assert!(response.headers().get(http::header::RETRY_AFTER).is_some());
        }
        assert_eq!((shop.runs(), script.asked()), (0, vec!["verify voucher".to_owned()]));
    }
}

#[tokio::test]
async fn given_bad_headers_when_called_then_each_is_named_and_the_facilitator_is_not_troubled() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let mut cheaper = offer().priced(Amount::new(499), 60.try_into().unwrap());
    let payload = ChannelPayload::Voucher { voucher: voucher(499) };
    let wrong_price = header(&PaymentPayload::new(cheaper.clone(), payload.clone())).unwrap();
    cheaper.pay_to = Key([9; 32]);
    let wrong_payee = header(&PaymentPayload::new(cheaper, payload)).unwrap();
    for (value, status, rejection) in [
        ("not base64".parse().unwrap(), 400, "malformed_payload"),
        ("e30=".parse().unwrap(), 400, "malformed_payload"),
        ("A".repeat(MAX_HEADER_BYTES + 4).parse().unwrap(), 400, "request_too_large"),
        (wrong_price, 402, "wrong_price"),
        (wrong_payee, 402, "requirements_mismatch"),
    ] {
        let response = shop.pay(value, "hello").await;
        assert_eq!(response.status().as_u16(), status, "{rejection}");
        assert!(response.text().await.unwrap().contains(rejection), "{rejection}");
    }
    assert_eq!((shop.runs(), script.asked()), (0, vec![]));
}

#[tokio::test]
async fn given_a_facilitator_that_is_down_or_lies_then_503_and_nothing_runs() {
    let shop_without = shop("http://127.0.0.1:9", |builder| builder).await;
    let response = shop_without.call(500, "hello").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.text().await.unwrap().contains("facilitator_unavailable"));

    let script = Script::default();
    let url = script.clone().serve().await;
    let other = book(&PROGRAM_ID, &[77; 32].into(), &MINT.0.into(), 0).0.to_bytes();
    let elsewhere = Paywall::builder(url, Key(other).to_string()).keep_no_vouchers().build().unwrap();
    let routes = Router::new().route("/", get(async || "free").route_layer(elsewhere.charge("$1").unwrap()));
    let response = reqwest::get(listen(routes).await).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "an offer for another payee's book is passed on");
}

#[tokio::test]
async fn given_more_requests_than_are_taken_then_the_others_are_refused_at_once() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder.max_in_flight(0)).await;
    let response = shop.call(500, "hello").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.text().await.unwrap().contains("overloaded"));
    assert_eq!(shop.runs(), 0);
}

#[tokio::test]
async fn given_a_client_that_sends_its_body_slowly_when_it_takes_too_long_then_it_gives_its_place_up() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // Given a place for one call, taken by a client that promises a body and does not send it
    let script = Script::default();
    let patience = std::time::Duration::from_millis(200);
    let shop = shop(&script.clone().serve().await, |builder| builder.max_in_flight(1).body_patience(patience)).await;
    let address = shop.url.trim_start_matches("http://").trim_end_matches("/count").to_owned();
    let mut slow = tokio::net::TcpStream::connect(&address).await.unwrap();
    let payment = paying(ChannelPayload::Voucher { voucher: voucher(500) });
    let head = format!(
        "POST /count HTTP/1.1\r\nhost: {address}\r\ncontent-length: 5\r\n{PAYMENT_SIGNATURE}: {}\r\nconnection: close\r\n\r\nhel",
        payment.to_str().unwrap()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // When its time is over, then it is told so, and nothing was asked for it
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too_slow"), "{answer}");
    assert_eq!((shop.runs(), script.asked()), (0, vec![]));
    // And its place is free
    assert_eq!(shop.call(500, "hello").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn given_a_deposit_whose_outcome_is_unknown_when_answered_then_its_transaction_is_named() {
    let (script, sent) = (Script::default(), Signature([9; 64]));
    let pending = SettleResponse::Failed {
        reason: Rejection::SettlementPending.into(),
        transaction: Some(sent),
        network: NETWORK.parse().unwrap(),
        payer: None,
        extra: AnswerExtra::default(),
    };
    script.settle.lock().unwrap().push_back(Ok(pending));
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let channel = Channel { payer: PAYER, signer: PAYER, book: book_key(), page: Key([5; 32]), slot: 0, generation: 1 };
    let deposit = Deposit { amount: Amount::new(9_000), transaction: TransactionBytes::new(vec![1]).unwrap() };
    let response = shop.pay(paying(ChannelPayload::Deposit { channel, voucher: voucher(500), deposit }), "hello").await;
    assert_eq!(
        (response.status(), response.headers()["retry-after"].as_bytes()),
        (StatusCode::SERVICE_UNAVAILABLE, &b"1"[..])
    );
    let SettleResponse::Failed { reason, transaction, .. } =
        read_header(response.headers()[PAYMENT_RESPONSE].as_bytes()).unwrap()
    else {
        panic!("it was not settled")
    };
    assert_eq!((reason, transaction), (Rejection::SettlementPending.into(), Some(sent)));
}
