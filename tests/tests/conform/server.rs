use crate::proxy::{Answer, Asked, Fault, Proxy};
use crate::{Wallet, conform, expect_broken, stage};
use anyhow::Result;
use axum::Router;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tallybook_cli::conform::report::{Outcome, Report};
use tallybook_cli::demo::Stage;
use tallybook_paywall::Paywall;
use tallybook_wire::{header, read_header};
use tokio::net::TcpListener;

/// A paid GET whose answer is another one each time.
async fn weather(paywall: Paywall) -> Result<String> {
    let served = Arc::new(AtomicU64::new(0));
    let handler =
        get(move || async move { format!("sunny, for the {}th time", served.fetch_add(1, Ordering::Relaxed)) });
    let app = Router::new().route("/weather", handler.route_layer(paywall.charge("$0.0005")?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Ok(url)
}

async fn checked(stage: &Stage, server: &str, fault: Fault, pay: bool) -> Result<Report> {
    let proxy = Proxy::before(server, fault).await?;
    let url = format!("{}/weather", proxy.url());
    let mut words = vec!["server", &url];
    let (wallet, mint) = (Wallet::at(&stage.ground).await?, stage.ground.mint.address().to_string());
    let state = wallet.file("channels");
    if pay {
        words.extend(["--pay", "--max-price", "0.001", "--deposit", "0.01", "--mint", &mint, "--state-dir", &state]);
        words.extend(wallet.options.iter().map(String::as_str));
    }
    conform(&words).await
}

fn is_paid(asked: &Asked) -> bool {
    asked.headers.contains_key("payment-signature")
}

/// What a header says.
fn said(answer: &Answer, name: &str) -> Option<Value> {
    read_header(answer.headers.get(name)?.as_bytes()).ok()
}

/// Changes what a header says.
fn spoil(answer: &mut Answer, name: &'static str, change: impl FnOnce(&mut Value)) {
    if let Some(mut value) = said(answer, name) {
        change(&mut value);
        answer.headers.insert(name, header(&value).unwrap());
    }
}

/// Why a payment was refused, as its 402 says.
fn refused_for(answer: &Answer, reason: &str) -> bool {
    said(answer, "payment-required").is_some_and(|required| required["error"] == reason)
        || answer.json["error"] == reason
}

/// Serves what was refused for this reason.
fn serves(reason: &'static str) -> Fault {
    Box::new(move |asked, answer| {
        if is_paid(asked) && refused_for(answer, reason) {
            answer.status = StatusCode::OK;
            answer.headers.remove("payment-required");
            answer.json = json!("sunny");
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn given_our_paywall_when_checked_then_everything_is_as_specified() -> Result<()> {
    let stage = stage().await?;
    let server = weather(stage.ground.paywall(&stage.facilitator())?).await?;
    let report = checked(&stage, &server, Box::new(|_, _| ()), true).await?;
    assert_eq!((report.broken_names(), report.not_done), (vec![], 0), "{report}");
    assert!(report.held > 25, "{report}");
    // Without money it is said what was left out
    let report = conform(&["server", &format!("{server}/weather")]).await?;
    assert!(report.conforms(), "{report}");
    assert_eq!(report.checks.iter().filter(|check| check.outcome == Outcome::NotDone).count(), 1, "{report}");
    // A URL that costs nothing is no paid one
    let report = conform(&["server", &format!("{}/health", stage.facilitator())]).await?;
    expect_broken(&report, &["GET without a payment", "the offer"], "free");
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_with_a_fault_when_checked_without_money_then_it_is_found() -> Result<()> {
    let stage = stage().await?;
    let server = weather(stage.ground.paywall(&stage.facilitator())?).await?;
    let faults: Vec<(&str, &str, Fault)> = vec![
        ("GET without a payment", "no header", Box::new(|_, answer| drop(answer.headers.remove("payment-required")))),
        (
            "the body of the 402",
            "another body",
            Box::new(|_, answer| {
                if answer.status == StatusCode::PAYMENT_REQUIRED {
                    answer.json["accepts"][0]["amount"] = "1".into();
                }
            }),
        ),
        (
            "the 402 is not kept by caches",
            "may be kept",
            Box::new(|_, answer| drop(answer.headers.remove("cache-control"))),
        ),
        (
            "the offer",
            "an amount as a number",
            Box::new(|_, answer| {
                spoil(answer, "payment-required", |required| required["accepts"][0]["amount"] = 500.into());
            }),
        ),
        (
            "the offer's terms",
            "no grace period",
            Box::new(|_, answer| {
                spoil(answer, "payment-required", |required| {
                    required["accepts"][0]["extra"]["withdrawDelay"] = 1.into()
                });
            }),
        ),
        (
            "a browser's preflight",
            "paywalled",
            Box::new(|asked, answer| {
                if asked.method == http::Method::OPTIONS {
                    answer.status = StatusCode::PAYMENT_REQUIRED;
                }
            }),
        ),
        (
            "a payment header that is no base64",
            "500",
            Box::new(|_, answer| {
                if answer.status == StatusCode::BAD_REQUEST {
                    answer.status = StatusCode::INTERNAL_SERVER_ERROR;
                }
            }),
        ),
        ("a payment header that is above 8,192 bytes", "served", serves("request_too_large")),
        ("a payment with x402Version 1", "served", serves("unsupported_version")),
        ("a payment with an unknown scheme", "served", serves("unsupported_scheme")),
        ("a payment with a lower price than is asked for", "served", serves("wrong_price")),
        ("a payment with another network", "served", serves("wrong_network")),
        ("a payment with another payee", "served", serves("requirements_mismatch")),
        ("a payment with a channel that there is not", "served", serves("unknown_channel")),
    ];
    for (name, fault, spoil) in faults {
        expect_broken(&checked(&stage, &server, spoil, false).await?, &[name], fault);
    }
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_with_a_fault_when_checked_with_money_then_it_is_found() -> Result<()> {
    let stage = stage().await?;
    let server = weather(stage.ground.paywall(&stage.facilitator())?).await?;
    let mut served = Vec::new();
    let faults: Vec<(&str, &str, Fault)> = vec![
        ("a first paid call", "no receipt", Box::new(|_, answer| drop(answer.headers.remove("payment-response")))),
        (
            "a first paid call",
            "a receipt above what was signed",
            Box::new(|_, answer| {
                spoil(answer, "payment-response", |receipt| receipt["extra"]["chargedAmount"] = "501".into());
            }),
        ),
        (
            "what is charged adds up",
            "adds what was not bought",
            Box::new(|_, answer| {
                spoil(answer, "payment-response", |receipt| {
                    if receipt["extra"]["channelState"]["chargedCumulativeAmount"] == "1000" {
                        receipt["extra"]["channelState"]["chargedCumulativeAmount"] = "900".into();
                    }
                });
            }),
        ),
        ("our payment, with another signature", "verifies nothing", serves("bad_signature")),
        ("our payment, with another amount than was signed", "verifies nothing", serves("bad_signature")),
        ("our payment, with another channel than was signed", "looks nothing up", serves("unknown_channel")),
        (
            "the same payment for the same request",
            "another answer",
            Box::new(move |asked, answer| {
                if is_paid(asked) && answer.status.is_success() {
                    let payment = asked.headers["payment-signature"].clone();
                    if served.contains(&payment) {
                        answer.body = "cloudy".into();
                    }
                    served.push(payment);
                }
            }),
        ),
        ("the same payment for another request", "pays twice", serves("voucher_used")),
        (
            "its correction",
            "shows no voucher",
            Box::new(|_, answer| {
                if refused_for(answer, "voucher_used") {
                    spoil(answer, "payment-required", |required| {
                        required["accepts"][0]["extra"]["voucherState"] = Value::Null;
                    });
                }
            }),
        ),
    ];
    for (name, fault, spoil) in faults {
        match checked(&stage, &server, spoil, true).await {
            Ok(report) => expect_broken(&report, &[name], fault),
            Err(error) => panic!("{fault}: {error:#}"),
        }
    }
    // And one that closes no channel, since it has no operator's key
    let book = stage.ground.book.address.to_string();
    let server = weather(Paywall::builder(stage.facilitator(), book).build()?).await?;
    let report = checked(&stage, &server, Box::new(|_, _| ()), true).await?;
    assert_eq!(report.broken_names(), ["the cooperative close"], "{report}");
    stage.shut_down().await
}
