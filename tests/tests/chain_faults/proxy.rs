//! A node behind a bad line: passes on what it is asked, and does to it what a plan says.

use crate::fault::{Fault, Plan};
use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Answers that are remembered of one question.
const PAST: usize = 64;
/// For how many questions a transaction is shown as confirmed that is gone afterwards.
const SHOWN: u32 = 3;
/// A reordered question waits for the next one so long at most.
const OVERTAKEN_WITHIN: Duration = Duration::from_millis(200);
/// What is added to an oversized answer.
const OVERSIZE: usize = 48 << 20;

/// The proxy. Ends when dropped.
pub(crate) struct Proxy {
    url: String,
    node: Arc<Node>,
    task: JoinHandle<()>,
}

/// The node as it looks through the proxy.
struct Node {
    upstream: String,
    http: reqwest::Client,
    plan: Mutex<Plan>,
    past: Mutex<HashMap<String, VecDeque<(Instant, Value)>>>,
    /// Until when accounts are shown as they were then, and nothing since has landed.
    rolled_back: Mutex<Option<(Instant, Instant)>>,
    /// Transactions that never were, by signature, with the questions for which they are still shown.
    ghosts: Mutex<HashMap<String, u32>>,
    passed: Notify,
    /// Faults that were done, by method and kind.
    done: Mutex<BTreeMap<String, u32>>,
}

/// The connection ends here.
#[derive(Debug)]
struct CutOff;

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut off")
    }
}

impl std::error::Error for CutOff {}

impl Proxy {
    /// In front of the node at `upstream`, with nothing going wrong.
    pub(crate) async fn before(upstream: &str) -> Result<Self> {
        let node = Arc::new(Node {
            upstream: upstream.to_owned(),
            http: reqwest::Client::new(),
            plan: Mutex::new(Box::new(|_| None)),
            past: Mutex::default(),
            rolled_back: Mutex::default(),
            ghosts: Mutex::default(),
            passed: Notify::new(),
            done: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(serve(listener, Arc::clone(&node)));
        Ok(Self { url, node, task })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on this happens.
    pub(crate) fn suffer(&self, plan: Plan) {
        *self.node.plan.lock().unwrap() = plan;
    }

    /// From now on nothing goes wrong, and nothing that went wrong is kept up.
    pub(crate) fn heal(&self) {
        self.suffer(Box::new(|_| None));
        self.node.ghosts.lock().unwrap().clear();
        *self.node.rolled_back.lock().unwrap() = None;
    }

    /// Takes the last `back` of the chain's history away for `lasts`: confirmed blocks are gone, and then they are back.
    pub(crate) fn roll_back(&self, back: Duration, lasts: Duration) {
        let now = Instant::now();
        *self.node.rolled_back.lock().unwrap() = Some((now - back, now + lasts));
    }

    /// The faults that were done, by method and kind.
    pub(crate) fn done(&self) -> BTreeMap<String, u32> {
        self.node.done.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, node: Arc<Node>) {
    while let Ok((connection, _)) = listener.accept().await {
        let node = Arc::clone(&node);
        let service = service_fn(move |request| answer(Arc::clone(&node), request));
        let http = hyper::server::conn::http1::Builder::new();
        // It ends with an error whenever the plan says so.
        tokio::spawn(async move { drop(http.serve_connection(TokioIo::new(connection), service).await) });
    }
}

async fn answer(node: Arc<Node>, request: Request<Incoming>) -> Result<Response<Body>, CutOff> {
    let body = request.into_body().collect().await.map_err(|_| CutOff)?.to_bytes();
    let question: Value = serde_json::from_slice(&body).map_err(|_| CutOff)?;
    let method = question["method"].as_str().unwrap_or_default().to_owned();
    let fault = (node.plan.lock().unwrap())(&method);
    let Some(fault) = fault else {
        return node.pass(&question).await.map(whole);
    };
    let kind = format!("{method}: {fault:?}");
    *node.done.lock().unwrap().entry(kind).or_default() += 1;
    node.spoil(&question, fault).await
}

impl Node {
    async fn spoil(&self, question: &Value, fault: Fault) -> Result<Response<Body>, CutOff> {
        match fault {
            Fault::LostRequest => Err(CutOff),
            Fault::LostAnswer => self.pass(question).await.and(Err(CutOff)),
            Fault::Delayed(time) => {
                tokio::time::sleep(time).await;
                self.pass(question).await.map(whole)
            }
            Fault::Duplicated => {
                let (first, second) = tokio::join!(self.pass(question), self.pass(question));
                first.and(second).map(whole)
            }
            Fault::Reordered => {
                drop(tokio::time::timeout(OVERTAKEN_WITHIN, self.passed.notified()).await);
                self.pass(question).await.map(whole)
            }
            Fault::TooMany => Ok(status(StatusCode::TOO_MANY_REQUESTS)),
            Fault::Broken => Ok(status(StatusCode::BAD_GATEWAY)),
            Fault::Garbage => Ok(Response::new(Body::from("<html>We are sorry, and will be back soon.</html>"))),
            Fault::Truncated => self.pass(question).await.map(half),
            Fault::Oversized => self.pass(question).await.map(|answer| with(answer, "padding", "x".repeat(OVERSIZE))),
            Fault::Endless => Ok(endless()),
            Fault::WrongId => self.pass(question).await.map(|answer| with(answer, "id", "somebody else's")),
            Fault::Empty => Ok(whole(json!({ "jsonrpc": "2.0", "id": question["id"], "result": null }))),
            Fault::Stale => self.stale(question).await.map(whole),
            Fault::SaysNotFound => self.pass(question).await.map(|answer| whole(all_statuses(answer, |_| Value::Null))),
            Fault::SaysLanded => self.pass(question).await.map(|answer| whole(all_statuses(answer, landed))),
            Fault::Dropped => Ok(whole(taken(question)?)),
            Fault::ConfirmedThenGone => {
                let taken = taken(question)?;
                let name = taken["result"].as_str().unwrap_or_default().to_owned();
                self.ghosts.lock().unwrap().insert(name, SHOWN);
                Ok(whole(taken))
            }
            Fault::BlockhashExpired => self.expired(question).await.map(whole),
        }
    }

    /// The node's answer, as it looks where history is taken back.
    async fn pass(&self, question: &Value) -> Result<Value, CutOff> {
        let sent = self.http.post(&self.upstream).json(question).send().await.map_err(|_| CutOff)?;
        let mut answer: Value = sent.json().await.map_err(|_| CutOff)?;
        self.passed.notify_waiters();
        let now = Instant::now();
        let rolled_back = self.rolled_back.lock().unwrap().filter(|(_, until)| now < *until);
        let method = question["method"].as_str().unwrap_or_default();
        let key = format!("{method}{}", question["params"]);
        let mut past = self.past.lock().unwrap();
        let past = past.entry(key).or_default();
        match (method, rolled_back) {
            ("getMultipleAccounts", Some((then, _))) => {
                // Another fork has the slot of now, and what the accounts were before.
                if let Some((_, before)) = past.iter().rev().find(|(at, _)| *at <= then) {
                    answer["result"]["value"] = before["result"]["value"].clone();
                }
                return Ok(answer);
            }
            ("getSignatureStatuses", Some(_)) => return Ok(all_statuses(answer, |_| Value::Null)),
            ("getSignatureStatuses", None) => answer = self.with_ghosts(question, answer),
            _ => {}
        }
        past.push_back((now, answer.clone()));
        if past.len() > PAST {
            past.pop_front();
        }
        Ok(answer)
    }

    fn with_ghosts(&self, question: &Value, mut answer: Value) -> Value {
        let mut ghosts = self.ghosts.lock().unwrap();
        let slot = answer["result"]["context"]["slot"].clone();
        let names = question["params"][0].as_array().cloned().unwrap_or_default();
        for (at, name) in names.iter().filter_map(Value::as_str).enumerate() {
            if let Some(left) = ghosts.get_mut(name).filter(|left| **left > 0) {
                *left -= 1;
                answer["result"]["value"][at] = landed(&slot);
            }
        }
        answer
    }

    /// The oldest answer that is remembered of the question.
    async fn stale(&self, question: &Value) -> Result<Value, CutOff> {
        let fresh = self.pass(question).await?;
        let key = format!("{}{}", question["method"].as_str().unwrap_or_default(), question["params"]);
        let past = self.past.lock().unwrap();
        let oldest = past.get(&key).and_then(|past| past.front()).map(|(_, answer)| answer.clone());
        let mut answer = oldest.unwrap_or(fresh);
        answer["id"] = question["id"].clone();
        Ok(answer)
    }

    /// What a node says that does not know the blockhash.
    async fn expired(&self, question: &Value) -> Result<Value, CutOff> {
        let id = question["id"].clone();
        if question["method"] == "sendTransaction" {
            let message = "Transaction simulation failed: Blockhash not found";
            return Ok(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32_002, "message": message } }));
        }
        let mut answer = self.pass(question).await?;
        let context = answer["result"]["context"].take();
        let value = json!({ "err": "BlockhashNotFound", "logs": [], "accounts": null, "unitsConsumed": 0 });
        Ok(json!({ "jsonrpc": "2.0", "id": id, "result": { "context": context, "value": value } }))
    }
}

/// A node's word that it took a transaction: the transaction's name.
fn taken(question: &Value) -> Result<Value, CutOff> {
    let bytes = question["params"][0].as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or(CutOff)?;
    let name = bytes.get(1..65).map(|bytes| bs58::encode(bytes).into_string()).ok_or(CutOff)?;
    Ok(json!({ "jsonrpc": "2.0", "id": question["id"], "result": name }))
}

/// The answer with each status made of the slot of the answer.
fn all_statuses(mut answer: Value, status: impl Fn(&Value) -> Value) -> Value {
    let slot = answer["result"]["context"]["slot"].clone();
    if let Some(values) = answer["result"]["value"].as_array_mut() {
        values
            .iter_mut()
            .filter(|value| value.is_null() || status(&slot).is_null())
            .for_each(|one| *one = status(&slot));
    }
    answer
}

fn landed(slot: &Value) -> Value {
    json!({ "slot": slot, "confirmations": 5, "err": null, "status": { "Ok": null }, "confirmationStatus": "confirmed" })
}

fn whole(answer: Value) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn with(mut answer: Value, key: &str, value: impl Into<Value>) -> Response<Body> {
    answer[key] = value.into();
    whole(answer)
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from("later, please"));
    *response.status_mut() = status;
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

/// The first half of an answer whose head promises the whole.
fn half(answer: Value) -> Response<Body> {
    let text = answer.to_string();
    let mut bytes = Bytes::from(text.clone());
    bytes.truncate(text.len() / 2);
    let mut response = Response::new(Body::from_stream(stream::iter([Ok::<_, Infallible>(bytes)])));
    response.headers_mut().insert(header::CONTENT_LENGTH, text.len().into());
    response
}

fn endless() -> Response<Body> {
    let chunk = Bytes::from_static(&[b' '; 1 << 16]);
    Response::new(Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()))))
}

/// Waits until `ask` says that it is so, for at most `seconds`.
pub(crate) async fn until<T>(what: &str, seconds: u64, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < Duration::from_secs(seconds) {
        match ask().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("it was never so")))
        .with_context(|| format!("waited {seconds} s: {what}"))
}
