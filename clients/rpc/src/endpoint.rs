use crate::answer::{self, NoAnswer};
use crate::chain::{Chain, ChainError};
use crate::sight::{Accounts, Blockhash, Commitment, View};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tallybook_chain::Address;
use tallybook_wire::Signature;

/// The largest answer that is read from an endpoint, in bytes: 100 accounts of 10,240 bytes in base64, with room.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// The most accounts that an endpoint gives in one answer.
const MAX_ACCOUNTS: usize = 100;
/// How often something that may be asked again is asked; a transaction is sent once.
const TRIES: u32 = 5;
/// The pause before the second try; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// For how long the newest slot that was seen counts. An endpoint that named a slot far ahead by mistake is forgiven then.
const NEWEST_COUNTS: Duration = Duration::from_secs(60);

/// A JSON-RPC endpoint. Behind its URL there may be many nodes, some of them behind the others: what one of them says is
/// taken only if it is no older than what was seen before. Clones share what they have seen.
#[derive(Clone, Debug)]
pub struct RpcEndpoint {
    http: reqwest::Client,
    url: url::Url,
    asked: Arc<AtomicU64>,
    newest: Arc<Mutex<Newest>>,
}

/// The newest slots that were answered with, by commitment, and when.
#[derive(Clone, Copy, Default, Debug)]
struct Newest {
    confirmed: Option<(u64, Instant)>,
    finalized: Option<(u64, Instant)>,
}

impl RpcEndpoint {
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// The endpoint at `url`, asked through `http`.
    pub fn new(http: reqwest::Client, url: url::Url) -> Self {
        Self { http, url, asked: Arc::default(), newest: Arc::default() }
    }

    /// Asks until there is an answer that can be read and is no older than what was seen before, a few times.
    async fn read<T>(
        &self,
        method: &'static str,
        params: Value,
        read: impl Fn(&Value) -> Result<T, ChainError>,
    ) -> Result<T, ChainError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.ask(method, params.clone()).await.and_then(|answer| read(&answer)) {
                // It was understood, and said no.
                Err(error @ ChainError::Refused { .. }) => return Err(error),
                // Whoever asked has waited long enough.
                Err(ChainError::Unreachable { method, source }) if source.is_timeout() => {
                    return Err(ChainError::Unreachable { method, source });
                }
                Err(error) => tracing::debug!(%error, "asking again"),
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
        read(&self.ask(method, params).await?)
    }

    /// The slot of an answer, unless one of its commitment was seen already that is newer.
    fn slot_of(&self, method: &'static str, answer: &Value, commitment: Commitment) -> Result<u64, ChainError> {
        let slot = answer::slot(answer).ok_or(ChainError::Unreadable { method })?;
        let now = Instant::now();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = match commitment {
            Commitment::Confirmed => &mut newest.confirmed,
            Commitment::Finalized => &mut newest.finalized,
        };
        match *seen {
            Some((wanted, at)) if slot < wanted && now.saturating_duration_since(at) < NEWEST_COUNTS => {
                Err(ChainError::Behind { wanted })
            }
            _ => {
                *seen = Some((slot, now));
                Ok(slot)
            }
        }
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        let unreachable = |source: reqwest::Error| ChainError::Unreachable {
            method,
            source: source.without_url(), // it may hold the operator's access key
        };
        let wanted = params.pointer("/1/minContextSlot").and_then(Value::as_u64);
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let request = self.http.post(self.url.clone()).json(&body).timeout(Self::TIMEOUT);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status == reqwest::StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(ChainError::Busy { method, status: status.as_u16() });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(ChainError::Unreadable { method });
            }
        }
        answer::result(&bytes, id).map_err(|why| no_answer(method, wanted, why))
    }
}

impl RpcEndpoint {
    /// At most [`MAX_ACCOUNTS`].
    async fn some_accounts(&self, addresses: &[Address], view: View) -> Result<Accounts, ChainError> {
        let method = "getMultipleAccounts";
        let names: Vec<String> = addresses.iter().map(Address::to_string).collect();
        let mut options = json!({ "encoding": "base64", "commitment": view.commitment.name() });
        if let (Some(slot), Some(options)) = (view.min_context_slot, options.as_object_mut()) {
            options.insert("minContextSlot".to_owned(), slot.into());
        }
        let read = |result: &Value| {
            self.slot_of(method, result, view.commitment)?;
            answer::accounts(result, addresses.len(), view.min_context_slot)
                .map_err(|why| no_answer(method, view.min_context_slot, why))
        };
        self.read(method, json!([names, options]), read).await
    }
}

/// What a question came to that was not answered.
fn no_answer(method: &'static str, wanted: Option<u64>, why: NoAnswer) -> ChainError {
    match why {
        NoAnswer::Unreadable => ChainError::Unreadable { method },
        NoAnswer::Behind => ChainError::Behind { wanted: wanted.unwrap_or_default() },
        NoAnswer::Refused(message) => ChainError::Refused { method, message },
    }
}

impl Chain for RpcEndpoint {
    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        let method = "getGenesisHash";
        let read = |result: &Value| answer::genesis_hash(result).ok_or(ChainError::Unreadable { method });
        self.read(method, json!([]), read).await
    }

    async fn accounts(&self, addresses: &[Address], view: View) -> Result<Accounts, ChainError> {
        let mut all = Vec::with_capacity(addresses.len());
        let mut oldest = None;
        for some in addresses.chunks(MAX_ACCOUNTS) {
            let Accounts { context_slot, list } = self.some_accounts(some, view).await?;
            oldest = Some(oldest.map_or(context_slot, |oldest: u64| oldest.min(context_slot)));
            all.extend(list);
        }
        Ok(Accounts { context_slot: oldest.unwrap_or_default(), list: all })
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        let method = "getLatestBlockhash";
        let read = |result: &Value| {
            self.slot_of(method, result, Commitment::Confirmed)?;
            answer::blockhash(result).ok_or(ChainError::Unreadable { method })
        };
        self.read(method, json!([{ "commitment": "confirmed" }]), read).await
    }

    async fn send(&self, transaction: &[u8]) -> Result<(), ChainError> {
        let options = json!({ "encoding": "base64", "preflightCommitment": "confirmed" });
        let params = json!([STANDARD.encode(transaction), options]);
        self.ask("sendTransaction", params).await.map(|_| ())
    }

    async fn status(&self, signature: &Signature) -> Result<Option<Result<(), String>>, ChainError> {
        let method = "getSignatureStatuses";
        let read = |result: &Value| {
            let landed = answer::status(result).ok_or(ChainError::Unreadable { method })?;
            if landed.is_none() {
                // That it has not landed is worth as much as the node is up to date: no less than what was seen before.
                self.slot_of(method, result, Commitment::Confirmed)?;
            }
            Ok(landed)
        };
        self.read(method, json!([[signature.to_string()]]), read).await
    }
}
