//! The line to a node: one question, one answer, to that question, of bounded size.
//!
//! What the usual sender does not do: it would read an answer of any size into memory, take the answer to another question
//! for its own, and show the endpoint's URL, which may hold an access key, in its errors.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_client::RpcClientConfig;
use solana_client::rpc_sender::{RpcSender, RpcTransportStats};
use solana_rpc_client_api::client_error::reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use solana_rpc_client_api::client_error::reqwest::{self, Client, Response, StatusCode};
use solana_rpc_client_api::client_error::{Error, ErrorKind};
use solana_rpc_client_api::config::CommitmentConfig;
use solana_rpc_client_api::request::{RpcError, RpcRequest, RpcResponseErrorData};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The largest answer that is read, in bytes: 100 accounts of 10,240 bytes in base64, with room.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// How often a node that is asked too often is asked again within one question.
const TRIES_WHEN_LIMITED: u32 = 3;
/// What a node that names no time is given.
const PAUSE_WHEN_LIMITED: Duration = Duration::from_millis(500);

/// A node's word for a transaction that has failed when it was tried before it was passed on; what it did is told with it.
const PREFLIGHT_FAILURE: i64 = -32_002;

/// A client of the node at `url` whose answers are of bounded size and are the answers to its questions, and whose errors do
/// not show the URL. An answer has to be there, whole, within `timeout`.
pub fn rpc_client(url: &str, timeout: Duration, commitment: CommitmentConfig) -> RpcClient {
    RpcClient::new_sender(Line::new(url, timeout), RpcClientConfig::with_commitment(commitment))
}

/// Asks one node over HTTP.
pub(crate) struct Line {
    http: Client,
    url: String,
    asked: AtomicU64,
}

impl Line {
    /// Every answer has to be there, whole, within `timeout`.
    pub(crate) fn new(url: &str, timeout: Duration) -> Self {
        // A client of the usual kind cannot fail to be made, and one that could would be made without the limit.
        let http = Client::builder().timeout(timeout).build().unwrap_or_default();
        Self { http, url: url.to_owned(), asked: AtomicU64::new(0) }
    }

    /// The head of an answer. Where the node is asked too often it is asked again when it says; who waits for it has a limit
    /// around the whole.
    async fn ask(&self, question: &str) -> Result<Response, Error> {
        for _ in 1..TRIES_WHEN_LIMITED {
            let response = self.ask_once(question).await?;
            if response.status() != StatusCode::TOO_MANY_REQUESTS {
                return Ok(response);
            }
            let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            tokio::time::sleep(after.map_or(PAUSE_WHEN_LIMITED, Duration::from_secs)).await;
        }
        self.ask_once(question).await
    }

    async fn ask_once(&self, question: &str) -> Result<Response, Error> {
        let request = self.http.post(&self.url).header(CONTENT_TYPE, "application/json").body(question.to_owned());
        request.send().await.map_err(unreachable)
    }
}

#[async_trait]
impl RpcSender for Line {
    async fn send(&self, request: RpcRequest, params: Value) -> Result<Value, Error> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let question = request.build_request_json(id, params).to_string();
        let response = self.ask(&question).await?.error_for_status().map_err(unreachable)?;
        let answer: Answer = serde_json::from_slice(&whole(response).await?)?;
        match answer {
            Answer { id: Some(answered), .. } if answered != id => unusable("the answer to another question"),
            Answer { error: Some(Refusal { code, message, data }), .. } => {
                let simulated = serde_json::from_value(data).ok().filter(|_| code == PREFLIGHT_FAILURE);
                let data = simulated
                    .map_or(RpcResponseErrorData::Empty, RpcResponseErrorData::SendTransactionPreflightFailure);
                Err(RpcError::RpcResponseError { code, message, data }.into())
            }
            Answer { id: Some(_), result, .. } => Ok(result),
            Answer { .. } => unusable("an answer without an id"),
        }
    }

    fn get_transport_stats(&self) -> RpcTransportStats {
        RpcTransportStats::default()
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

/// What a node answers. One that could not read the question has no id to name.
#[derive(Deserialize)]
struct Answer {
    id: Option<u64>,
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

/// The body, up to its cap.
async fn whole(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if bytes.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
            return unusable("an answer that is larger than any");
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn unreachable(error: reqwest::Error) -> Error {
    error.without_url().into()
}

fn unusable<T>(what: &str) -> Result<T, Error> {
    Err(ErrorKind::Custom(format!("the node gave {what}")).into())
}
