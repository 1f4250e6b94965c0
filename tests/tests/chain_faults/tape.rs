//! What a customer and the shop say to each other, passed on and remembered.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use std::sync::{Arc, Mutex};
use tallybook_wire::{PAYMENT_RESPONSE, PAYMENT_SIGNATURE, SettleResponse, read_header};
use tokio::net::TcpListener;

/// One paid request, as it can be sent again, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) payment: HeaderValue,
    pub(crate) body: Bytes,
    pub(crate) status: StatusCode,
    /// The `PAYMENT-RESPONSE`.
    pub(crate) receipt: Option<SettleResponse>,
}

/// Stands between customers and the shop.
pub(crate) struct Tape {
    pub(crate) host: String,
    shop: String,
    turns: Arc<Mutex<Vec<Turn>>>,
    http: reqwest::Client,
}

impl Tape {
    pub(crate) async fn before(shop: String) -> Result<Self> {
        let (turns, http) = (Arc::<Mutex<Vec<Turn>>>::default(), reqwest::Client::new());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let state = (shop.clone(), Arc::clone(&turns), http.clone());
        let app = Router::new().fallback(pass_on).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { host, shop, turns, http })
    }

    /// The paid requests so far.
    pub(crate) fn turns(&self) -> Vec<Turn> {
        self.turns.lock().unwrap().clone()
    }

    /// Sends a paid request once more, byte for byte.
    pub(crate) async fn again(&self, turn: &Turn) -> Result<Turn> {
        let request = self.http.post(&self.shop).header(PAYMENT_SIGNATURE, &turn.payment).body(turn.body.clone());
        let answer = request.send().await?;
        let receipt = receipt(answer.headers());
        Ok(Turn { status: answer.status(), receipt, ..turn.clone() })
    }
}

impl Turn {
    /// The name of the transaction that the receipt says was sent.
    pub(crate) fn transaction(&self) -> Result<String> {
        let sent = match &self.receipt {
            Some(SettleResponse::Failed { transaction, .. } | SettleResponse::Settled { transaction, .. }) => {
                *transaction
            }
            None => None,
        };
        Ok(sent.context("no transaction is named")?.to_string())
    }

    pub(crate) fn reason(&self) -> String {
        match &self.receipt {
            Some(SettleResponse::Failed { reason, .. }) => reason.name().to_owned(),
            other => format!("{} with {other:?}", self.status),
        }
    }
}

fn receipt(headers: &http::HeaderMap) -> Option<SettleResponse> {
    read_header(headers.get(PAYMENT_RESPONSE)?.as_bytes()).ok()
}

type Passing = (String, Arc<Mutex<Vec<Turn>>>, reqwest::Client);

async fn pass_on(State((shop, turns, http)): State<Passing>, request: Request) -> Result<Response, StatusCode> {
    let lost = |_| StatusCode::BAD_GATEWAY;
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| StatusCode::BAD_REQUEST)?.to_bytes();
    let payment = head.headers.get(PAYMENT_SIGNATURE).cloned();
    let mut passed = http.post(&shop).body(body.clone());
    if let Some(payment) = &payment {
        passed = passed.header(PAYMENT_SIGNATURE, payment);
    }
    let answer = passed.send().await.map_err(lost)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    if let Some(payment) = payment {
        turns.lock().unwrap().push(Turn { payment, body, status, receipt: receipt(&headers) });
    }
    let mut response = Response::new(Body::from(answer.bytes().await.map_err(lost)?));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}
