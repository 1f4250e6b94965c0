//! What stands between a client and a server: it passes everything on, remembers the last payment, and cheats when it is told
//! to, as a dishonest client would.

use anyhow::Result;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Headers that payments are sent in.
const PAYMENTS: [&str; 2] = ["payment-signature", "x-payment"];
/// Bodies are small here.
const MAX_BODY: usize = 1 << 20;

/// How the proxy behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conduct {
    /// Passes on.
    Honest,
    /// Makes the client pay one base unit less than the server asks for, and says that it has accepted the whole.
    Underpays,
}

struct Shared {
    target: String,
    conduct: Conduct,
    price: u64,
    http: reqwest::Client,
    last: Mutex<Option<(HeaderName, HeaderValue)>>,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) url: String,
    shared: Arc<Shared>,
    served: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Proxy {
    /// In front of the server at `target`, which charges `price`.
    pub(crate) async fn start(target: &str, price: u64, conduct: Conduct) -> Result<Self> {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let shared = Arc::new(Shared { target: target.to_owned(), conduct, price, http, last: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let served = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("the proxy stopped: {error}");
            }
        });
        Ok(Self { url, shared, served })
    }

    /// The payment that was passed on last.
    pub(crate) fn last_payment(&self) -> Option<(HeaderName, HeaderValue)> {
        self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match pass_on(&shared, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn pass_on(shared: &Shared, request: Request) -> Result<Response> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = head.headers;
    headers.remove("host");
    headers.remove("accept-encoding");
    for name in PAYMENTS {
        if let Some(value) = headers.get_mut(name) {
            if shared.conduct == Conduct::Underpays {
                *value = pretend(value, shared.price)?;
            }
            let payment = (HeaderName::from_static(name), value.clone());
            *shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(payment);
        }
    }
    let request = shared.http.request(head.method, format!("{}{path}", shared.target)).headers(headers);
    let answer = request.body(to_bytes(body, MAX_BODY).await?).send().await?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let mut body = answer.bytes().await?.to_vec();
    headers.remove("transfer-encoding");
    if status == StatusCode::PAYMENT_REQUIRED && shared.conduct == Conduct::Underpays {
        body = ask_for_less(&mut headers, body, shared.price)?;
    }
    headers.remove("content-length");
    let mut response = Response::new(Body::from(body));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}

/// A 402 in which every price is one base unit less, in whichever place it stands.
fn ask_for_less(headers: &mut HeaderMap, body: Vec<u8>, price: u64) -> Result<Vec<u8>> {
    if let Some(value) = headers.get_mut("payment-required") {
        let mut required: Value = serde_json::from_slice(&STANDARD.decode(value.as_bytes())?)?;
        lower(&mut required, price);
        *value = HeaderValue::try_from(STANDARD.encode(required.to_string()))?;
    }
    let Ok(mut required) = serde_json::from_slice::<Value>(&body) else { return Ok(body) };
    lower(&mut required, price);
    Ok(required.to_string().into_bytes())
}

fn lower(required: &mut Value, price: u64) {
    let less = Value::from(price.saturating_sub(1).to_string());
    for accept in required["accepts"].as_array_mut().into_iter().flatten() {
        for name in ["amount", "maxAmountRequired"] {
            if let Some(amount) = accept.get_mut(name) {
                *amount = less.clone();
            }
        }
    }
}

/// The payment as if it was made for the whole price.
fn pretend(value: &HeaderValue, price: u64) -> Result<HeaderValue> {
    let mut payment: Value = serde_json::from_slice(&STANDARD.decode(value.as_bytes())?)?;
    if let Some(amount) = payment.pointer_mut("/accepted/amount") {
        *amount = Value::from(price.to_string());
    }
    Ok(HeaderValue::try_from(STANDARD.encode(payment.to_string()))?)
}
