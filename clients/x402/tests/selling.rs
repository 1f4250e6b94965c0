//! The scheme in x402-axum, with a scripted facilitator behind it. (What it charges is tested end to end: `tests/interop`.)
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test says what it expects")]

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book;
use tallybook_paywall::Paywall;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    AnswerExtra, ChannelPayload, ChannelState, Extra, FacilitatorRequest, Key, Offer, PAYMENT_REQUIRED,
    PAYMENT_RESPONSE, PAYMENT_SIGNATURE, PaymentPayload, PaymentRequired, ReleaseResponse, SettleResponse, Signature,
    VerifyResponse, Voucher, header, read_header,
};
use tallybook_x402::Channels;
use x402_axum::X402Middleware;
use x402_chain_solana::chain::{Address, SolanaChainReference, SolanaTokenDeployment};
use x402_chain_solana::{KnownNetworkSolana, V2SolanaExact};

const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const PAYEE: Key = Key([1; 32]);
const MINT: Key = Key([2; 32]);
const CHANNEL: Key = Key([4; 32]);

fn offer() -> Offer {
    let (book, _) = book(&PROGRAM_ID, &PAYEE.0.into(), &MINT.0.into(), 0);
    Offer {
        network: NETWORK.parse().unwrap(),
        asset: MINT,
        pay_to: PAYEE,
        max_timeout_seconds: 60.try_into().unwrap(),
        extra: Extra {
            book: book.to_bytes().into(),
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
            other: serde_json::Map::new(),
        },
        free_slots: None,
        pages: None,
    }
}

/// What the facilitator was asked, and what it answers next instead of yes.
#[derive(Clone, Default)]
struct Script {
    asked: Arc<Mutex<Vec<&'static str>>>,
    refusal: Arc<Mutex<Option<VerifyResponse>>>,
}

impl Script {
    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }

    async fn facilitator(&self) -> String {
        let payer = Key([3; 32]);
        let verify = async move |State(script): State<Self>, Json(_): Json<FacilitatorRequest>| {
            script.asked.lock().unwrap().push("verify");
            let refusal = script.refusal.lock().unwrap().take();
            Json(refusal.unwrap_or(VerifyResponse::Valid { payer, extra: AnswerExtra::default() }))
        };
        let settle = async move |State(script): State<Self>, Json(_): Json<FacilitatorRequest>| {
            script.asked.lock().unwrap().push("settle");
            let (network, extra) = (NETWORK.parse().unwrap(), AnswerExtra::default());
            Json(SettleResponse::Settled { transaction: None, network, payer, amount: None, extra })
        };
        let release = async |State(script): State<Self>| {
            script.asked.lock().unwrap().push("release");
            Json(ReleaseResponse { released: true })
        };
        let supported = json!({ "kinds": [], "extensions": [], "signers": { "solana:*": [payer] } });
        let routes = Router::new()
            .route("/supported", get(async move || Json(supported)))
            .route("/books/{book}/offer", get(async || Json(offer())))
            .route("/verify", post(verify))
            .route("/settle", post(settle))
            .route("/release", post(release))
            .with_state(self.clone());
        listen(routes).await
    }
}

async fn listen(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// A shop whose every handler counts how often it ran.
struct Shop {
    url: String,
    ran: Arc<Mutex<u32>>,
    http: reqwest::Client,
}

impl Shop {
    async fn open(facilitator: &str) -> Self {
        let paywall = Paywall::builder(facilitator, offer().extra.book.to_string()).keep_no_vouchers();
        let channels =
            Channels::new(paywall.patience(Duration::from_millis(500)).build().unwrap(), facilitator).unwrap();
        let x402 = X402Middleware::from_facilitator(channels.facilitator());
        let token = SolanaTokenDeployment::new(SolanaChainReference::solana_devnet(), mint(), 6);
        let exact = V2SolanaExact::price_tag(mint(), token.parse("0.0005").unwrap());
        let price = channels.price("$0.0005").unwrap();
        let ran = Arc::new(Mutex::new(0));
        let handler = |status: StatusCode| {
            let ran = Arc::clone(&ran);
            get(async move || {
                *ran.lock().unwrap() += 1;
                status
            })
        };
        let layer = || channels.around(x402.with_dynamic_price(price.clone().tags()));
        let routes = Router::new()
            .route("/ok", handler(StatusCode::OK).layer(layer()))
            .route("/broken", handler(StatusCode::INTERNAL_SERVER_ERROR).layer(layer()))
            .route("/bare", handler(StatusCode::OK).layer(x402.with_dynamic_price(price.clone().tags())))
            .route(
                "/first",
                handler(StatusCode::OK)
                    .layer(channels.around(x402.settle_before_execution().with_dynamic_price(price.clone().tags()))),
            )
            .route(
                "/either",
                handler(StatusCode::OK).layer(channels.around(x402.with_dynamic_price(price.clone().or(exact).tags()))),
            );
        Self { url: listen(routes).await, ran, http: reqwest::Client::new() }
    }

    async fn get(&self, path: &str, payment: Option<HeaderValue>) -> reqwest::Response {
        let request = self.http.get(format!("{}{path}", self.url));
        let request = payment.into_iter().fold(request, |request, value| request.header(PAYMENT_SIGNATURE, value));
        request.send().await.unwrap()
    }

    fn ran(&self) -> u32 {
        *self.ran.lock().unwrap()
    }
}

fn mint() -> Address {
    MINT.to_string().parse().unwrap()
}

fn voucher() -> Voucher {
    Voucher { channel_id: CHANNEL, max_claimable_amount: Amount::new(500), signature: Signature([8; 64]) }
}

fn paying(amount: u64, payload: ChannelPayload) -> HeaderValue {
    header(&PaymentPayload::new(offer().priced(Amount::new(amount), 60.try_into().unwrap()), payload)).unwrap()
}

fn by_voucher() -> HeaderValue {
    paying(500, ChannelPayload::Voucher { voucher: voucher() })
}

fn asked_for(response: &reqwest::Response) -> PaymentRequired {
    read_header(response.headers().get(PAYMENT_REQUIRED).unwrap().as_bytes()).unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(condition(), "what was waited for did not come");
}

#[tokio::test]
async fn given_a_payment_when_called_then_it_is_reserved_run_and_charged() {
    let script = Script::default();
    let shop = Shop::open(&script.facilitator().await).await;
    let unpaid = shop.get("/ok", None).await;
    assert_eq!((unpaid.status(), asked_for(&unpaid).error), (StatusCode::PAYMENT_REQUIRED, None));
    for path in ["/ok", "/first"] {
        let paid = shop.get(path, Some(by_voucher())).await;
        assert_eq!(paid.status(), StatusCode::OK);
        let receipt: SettleResponse = read_header(paid.headers().get(PAYMENT_RESPONSE).unwrap().as_bytes()).unwrap();
        assert!(matches!(receipt, SettleResponse::Settled { .. }), "{receipt:?}");
    }
    assert_eq!((script.asked(), shop.ran()), (vec!["verify", "settle", "verify", "settle"], 2));
}

#[tokio::test]
async fn given_a_handler_that_fails_when_called_then_the_payment_is_given_back() {
    let script = Script::default();
    let shop = Shop::open(&script.facilitator().await).await;
    assert_eq!(shop.get("/broken", Some(by_voucher())).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    until(|| script.asked() == ["verify", "release"]).await;
}

#[tokio::test]
async fn given_a_voucher_in_the_wrong_amount_when_called_then_the_402_says_where_the_channel_stands() {
    let script = Script::default();
    let shop = Shop::open(&script.facilitator().await).await;
    let state = ChannelState {
        channel_id: CHANNEL,
        balance: Amount::new(9_000),
        total_claimed: Amount::ZERO,
        charged_cumulative_amount: Amount::new(1_000),
    };
    let extra = AnswerExtra { channel_state: Some(state), ..AnswerExtra::default() };
    let refusal = VerifyResponse::Invalid { reason: Rejection::WrongCumulative.into(), payer: None, extra };
    *script.refusal.lock().unwrap() = Some(refusal);
    let refused = shop.get("/either", Some(by_voucher())).await;
    assert_eq!((refused.status(), shop.ran()), (StatusCode::PAYMENT_REQUIRED, 0));
    let required = asked_for(&refused);
    assert_eq!(required.error, Some(Rejection::WrongCumulative.into()));
    let told = required.channel_offers().next().and_then(|offer| offer.extra.channel_state);
    assert_eq!((told, required.accepts.len()), (Some(state), 2));
    // And the next 402 of anybody else does not
    let unpaid = shop.get("/either", None).await;
    assert_eq!(asked_for(&unpaid).channel_offers().next().and_then(|offer| offer.extra.channel_state), None);
}

#[tokio::test]
async fn given_what_pays_for_nothing_when_called_then_no_handler_runs() {
    let script = Script::default();
    let shop = Shop::open(&script.facilitator().await).await;
    let refund = || paying(500, ChannelPayload::Refund { voucher: voucher(), transaction: None });
    let (cheap, nonsense) =
        (paying(499, ChannelPayload::Voucher { voucher: voucher() }), HeaderValue::from_static("nonsense"));
    // A request to close its channel, with nobody there who could sign that; less than the price; no payment at all
    assert_eq!(shop.get("/ok", Some(refund())).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    for payment in [cheap, nonsense] {
        assert_eq!(shop.get("/ok", Some(payment)).await.status(), StatusCode::PAYMENT_REQUIRED);
    }
    // And a route that is charged without `around`: nothing could give its payment back
    for payment in [refund(), by_voucher()] {
        assert_eq!(shop.get("/bare", Some(payment)).await.status(), StatusCode::PAYMENT_REQUIRED);
    }
    assert_eq!(shop.ran(), 0);
    assert!(!script.asked().contains(&"settle"), "{:?}", script.asked());
}

#[tokio::test]
async fn given_a_facilitator_that_is_down_when_called_then_nothing_is_served_free() {
    let shop = Shop::open("http://127.0.0.1:9").await;
    for payment in [None, Some(by_voucher())] {
        let answer = shop.get("/ok", payment.clone()).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"], "facilitator_unavailable");
        // By another scheme it could be paid for all the same
        let answer = shop.get("/either", payment).await;
        assert_eq!((answer.status(), asked_for(&answer).accepts.len()), (StatusCode::PAYMENT_REQUIRED, 1));
    }
    assert_eq!(shop.ran(), 0);
}
