//! A server behind a paywall, and a facilitator that does as it is told: what a real one cannot be made to do when it is
//! wanted.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book;
use tallybook_paywall::{Payment, Paywall, PaywallBuilder};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::*;

pub(crate) const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
pub(crate) const PAYEE: Key = Key([1; 32]);
pub(crate) const MINT: Key = Key([2; 32]);
pub(crate) const PAYER: Key = Key([3; 32]);
pub(crate) const CHANNEL: Key = Key([4; 32]);

pub(crate) fn book_key() -> Key {
    book(&PROGRAM_ID, &PAYEE.0.into(), &MINT.0.into(), 0).0.to_bytes().into()
}

pub(crate) fn offer() -> Offer {
    Offer {
        network: NETWORK.parse().unwrap(),
        asset: MINT,
        pay_to: PAYEE,
        max_timeout_seconds: 60.try_into().unwrap(),
        extra: Extra {
            book: book_key(),
            book_id: 0,
            page: Key([5; 32]),
            slot: 0,
            generation: 1,
            fee_payer: Key([6; 32]),
            withdraw_delay: 900,
            min_deposit: Amount::new(1_000),
            token_program: Key([7; 32]),
            decimals: 6,
            metered: false,
            recent_blockhash: None,
            channel_state: None,
            voucher_state: None,
            other: Default::default(),
        },
        free_slots: None,
        pages: None,
    }
}

/// What the scripted facilitator does next, and what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) verify: Arc<Mutex<VecDeque<Result<VerifyResponse, StatusCode>>>>,
    pub(crate) settle: Arc<Mutex<VecDeque<Result<SettleResponse, StatusCode>>>>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// The payments as they were handed on.
    pub(crate) payments: Arc<Mutex<Vec<PaymentPayload>>>,
    /// What was settled of vouchers: their cumulative amount, and the charge.
    pub(crate) charged: Arc<Mutex<Vec<(u64, u64)>>>,
    /// The slots that are free, where that is said.
    pub(crate) free_slots: Arc<Mutex<Option<u32>>>,
}

pub(crate) fn valid() -> VerifyResponse {
    VerifyResponse::Valid { payer: PAYER, extra: AnswerExtra::default() }
}

pub(crate) fn invalid(rejection: Rejection, extra: AnswerExtra) -> VerifyResponse {
    VerifyResponse::Invalid { reason: rejection.into(), payer: None, extra }
}

pub(crate) fn settled() -> SettleResponse {
    let network = NETWORK.parse().unwrap();
    SettleResponse::Settled { transaction: None, network, payer: PAYER, amount: None, extra: AnswerExtra::default() }
}

pub(crate) fn failed(rejection: Rejection) -> SettleResponse {
    let network = NETWORK.parse().unwrap();
    let reason = rejection.into();
    SettleResponse::Failed { reason, transaction: None, network, payer: None, extra: AnswerExtra::default() }
}

impl Script {
    pub(crate) fn note(&self, what: &str, request: &FacilitatorRequest) {
        let kind = match request.payment_payload.payload {
            ChannelPayload::Deposit { .. } => "deposit",
            ChannelPayload::Voucher { .. } => "voucher",
            ChannelPayload::Refund { .. } => "refund",
        };
        self.asked.lock().unwrap().push(format!("{what} {kind}"));
        self.payments.lock().unwrap().push(request.payment_payload.clone());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) async fn serve(self) -> String {
        async fn verify(State(script): State<Script>, Json(request): Json<FacilitatorRequest>) -> Response {
            script.note("verify", &request);
            answer(script.verify.lock().unwrap().pop_front().unwrap_or(Ok(valid())))
        }
        async fn settle(State(script): State<Script>, Json(request): Json<FacilitatorRequest>) -> Response {
            script.note("settle", &request);
            if let ChannelPayload::Voucher { voucher } = request.payment_payload.payload {
                let charge = request.payment_requirements.amount.get();
                script.charged.lock().unwrap().push((voucher.max_claimable_amount.get(), charge));
            }
            answer(script.settle.lock().unwrap().pop_front().unwrap_or(Ok(settled())))
        }
        async fn release(State(script): State<Script>, Json(request): Json<FacilitatorRequest>) -> Response {
            script.note("release", &request);
            Json(ReleaseResponse { released: true }).into_response()
        }
        async fn books_offer(State(script): State<Script>, Path(_): Path<String>) -> Json<Offer> {
            Json(Offer { free_slots: *script.free_slots.lock().unwrap(), ..offer() })
        }
        fn answer<T: serde::Serialize>(next: Result<T, StatusCode>) -> Response {
            next.map_or_else(IntoResponse::into_response, |message| Json(message).into_response())
        }
        let routes = Router::new()
            .route("/books/{book}/offer", get(books_offer))
            .route("/verify", post(verify))
            .route("/settle", post(settle))
            .route("/release", post(release))
            .with_state(self);
        listen(routes).await
    }
}

pub(crate) async fn listen(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// A server with one paid route that counts how often it was run.
pub(crate) struct Shop {
    pub(crate) url: String,
    runs: Arc<Mutex<u32>>,
    pub(crate) paywall: Paywall,
    _folder: tempfile::TempDir,
}

pub(crate) async fn shop(facilitator: &str, settings: impl FnOnce(PaywallBuilder) -> PaywallBuilder) -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let builder = Paywall::builder(facilitator, book_key().to_string())
        .keep_vouchers_in(folder.path().join("vouchers.jsonl"))
        .patience(Duration::from_millis(500));
    let paywall = settings(builder).build().unwrap();
    let runs = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&runs);
    let handler = async move |Extension(payment): Extension<Payment>, text: String| {
        assert_eq!(payment, Payment { payer: PAYER, channel_id: CHANNEL, amount: Amount::new(500) });
        *counter.lock().unwrap() += 1;
        match text.as_str() {
            "fail" => Err(StatusCode::INTERNAL_SERVER_ERROR),
            "panic" => panic!("as asked"),
            _ => Ok(format!("{} bytes", text.len())),
        }
    };
    let routes = Router::new().route("/count", post(handler).route_layer(paywall.charge("$0.0005").unwrap()));
    Shop { url: listen(routes).await + "/count", runs, paywall, _folder: folder }
}

pub(crate) fn voucher(amount: u64) -> Voucher {
    Voucher { channel_id: CHANNEL, max_claimable_amount: Amount::new(amount), signature: Signature([8; 64]) }
}

pub(crate) fn paying(payload: ChannelPayload) -> http::HeaderValue {
    let accepted = offer().priced(Amount::new(500), 60.try_into().unwrap());
    header(&PaymentPayload::new(accepted, payload)).unwrap()
}

impl Shop {
    pub(crate) async fn call(&self, amount: u64, text: &str) -> reqwest::Response {
        self.pay(paying(ChannelPayload::Voucher { voucher: voucher(amount) }), text).await
    }

    pub(crate) async fn pay(&self, header: http::HeaderValue, text: &str) -> reqwest::Response {
        let request = reqwest::Client::new().post(&self.url).header(PAYMENT_SIGNATURE, header);
        request.body(text.to_owned()).send().await.unwrap()
    }

    pub(crate) fn runs(&self) -> u32 {
        *self.runs.lock().unwrap()
    }
}

pub(crate) fn reason(response: &reqwest::Response) -> Option<Rejection> {
    let required = response.headers().get(PAYMENT_REQUIRED);
    if let Some(value) = required {
        return read_header::<PaymentRequired>(value.as_bytes()).unwrap().error?.rejection();
    }
    match read_header(response.headers().get(PAYMENT_RESPONSE)?.as_bytes()).unwrap() {
        SettleResponse::Failed { reason, .. } => reason.rejection(),
        SettleResponse::Settled { .. } => None,
    }
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("what was waited for did not come");
}
