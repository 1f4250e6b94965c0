//! Asking an HTTP service, and reading whatever it answers.

use super::report::shortened;
use anyhow::Result;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// As much of a body is read, in bytes.
const MAX_BODY_BYTES: usize = 4 << 20;
/// How long an answer may take: a facilitator waits for the chain.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A client that follows nothing and keeps nothing.
pub(super) fn client() -> Result<Client> {
    Ok(Client::builder().redirect(Policy::none()).timeout(PATIENCE).build()?)
}

/// Sends a request; why there is no answer, where there is none.
pub(super) async fn send(request: RequestBuilder) -> Result<Seen, String> {
    // Without the URL, which may carry a secret.
    let lost = |error: reqwest::Error| format!("no answer: {:#}", anyhow::Error::from(error.without_url()));
    let mut response = request.send().await.map_err(lost)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY_BYTES {
            return Err(format!("{status} with a body above {MAX_BODY_BYTES} bytes"));
        }
    }
    Ok(Seen { status, headers, body })
}

impl Seen {
    /// The body as JSON; `null` where it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The name of a reason in the body, wherever the answer's kind has it.
    pub(super) fn reason(&self) -> Option<String> {
        let json = self.json();
        let name = ["error", "invalidReason", "errorReason"].iter().find_map(|member| json.get(member)?.as_str());
        name.map(str::to_owned)
    }

    /// A header, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok())
    }

    /// Whether a member of the body, by its JSON pointer, is this.
    pub(super) fn says(&self, pointer: &str, value: impl Into<Value>) -> bool {
        self.json().pointer(pointer) == Some(&value.into())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), shortened(&String::from_utf8_lossy(&self.body)))
    }
}

/// Nothing where an answer is as it must be, else what it is.
pub(super) fn judged(seen: &Result<Seen, String>, holds: impl FnOnce(&Seen) -> bool) -> Result<(), String> {
    match seen {
        Ok(seen) if holds(seen) => Ok(()),
        Ok(seen) => Err(seen.to_string()),
        Err(lost) => Err(lost.clone()),
    }
}
