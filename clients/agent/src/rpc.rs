//! What an agent asks the chain, and the real form of it: five methods of Solana's JSON-RPC.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use solana_hash::Hash;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;
use tallybook_chain::Address;
use tallybook_wire::{Key, Signature};

/// The largest answer that is read from an endpoint, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why the chain could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The endpoint did not answer.
    #[error("the RPC endpoint did not answer {method}: {source}; check the URL, or try later")]
    Unreachable {
        /// What was asked.
        method: &'static str,
        /// Why.
        source: reqwest::Error,
    },
    /// The endpoint answered something else.
    #[error("the RPC endpoint answered {method} with something else than the documented JSON: use another endpoint")]
    Unreadable {
        /// What was asked.
        method: &'static str,
    },
    /// The endpoint or the chain refused.
    #[error("the chain refused {method}: {message}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// What it said, shortened.
        message: String,
    },
    /// A transaction was sent and is neither confirmed nor expired.
    #[error("the transaction {0} was sent and its outcome is not known yet: ask again")]
    Pending(Signature),
}

/// An account as the chain has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// The program that owns it.
    pub owner: Address,
    /// Its data.
    pub data: Vec<u8>,
}

/// A blockhash and until when it can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blockhash {
    /// The hash.
    pub hash: Hash,
    /// The last block height at which a transaction with it can land.
    pub last_valid_height: u64,
}

impl Blockhash {
    /// For how many blocks a blockhash can be used.
    pub const LIFETIME_BLOCKS: u64 = 150;

    /// True when a transaction that was valid up to `height` can land no more, now that this is the latest blockhash.
    pub const fn is_past(&self, height: u64) -> bool {
        self.last_valid_height > height.saturating_add(Self::LIFETIME_BLOCKS)
    }
}

/// The chain, as far as an agent needs it. All reads are at `confirmed`.
pub trait Chain: Send + Sync + 'static {
    /// The cluster's genesis hash.
    fn genesis_hash(&self) -> impl Future<Output = Result<[u8; 32], ChainError>> + Send;
    /// Accounts in the order asked for; `None` where there is none.
    fn accounts(&self, addresses: &[Address]) -> impl Future<Output = Result<Vec<Option<Account>>, ChainError>> + Send;
    /// The latest blockhash.
    fn latest_blockhash(&self) -> impl Future<Output = Result<Blockhash, ChainError>> + Send;
    /// Sends a signed transaction.
    fn send(&self, transaction: &[u8]) -> impl Future<Output = Result<(), ChainError>> + Send;
    /// Whether a transaction is confirmed: `None` unknown, `Some(Err)` landed and failed.
    fn status(
        &self,
        signature: &Signature,
    ) -> impl Future<Output = Result<Option<Result<(), String>>, ChainError>> + Send;
}

/// A JSON-RPC endpoint.
#[derive(Clone, Debug)]
pub struct RpcEndpoint {
    http: reqwest::Client,
    url: url::Url,
}

impl RpcEndpoint {
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// The endpoint at `url`, asked through `http`.
    pub const fn new(http: reqwest::Client, url: url::Url) -> Self {
        Self { http, url }
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        let unreachable = |source: reqwest::Error| ChainError::Unreachable {
            method,
            source: source.without_url(), // it may hold the operator's access key
        };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self.http.post(self.url.clone()).json(&body).timeout(Self::TIMEOUT);
        let mut response = request.send().await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(ChainError::Unreadable { method });
            }
        }
        let answer: RpcAnswer = serde_json::from_slice(&bytes).map_err(|_| ChainError::Unreadable { method })?;
        match answer {
            RpcAnswer { error: Some(error), .. } => {
                Err(ChainError::Refused { method, message: error.to_string().chars().take(500).collect() })
            }
            RpcAnswer { result: Some(result), .. } => Ok(result),
            RpcAnswer { .. } => Err(ChainError::Unreadable { method }),
        }
    }
}

#[derive(Deserialize)]
struct RpcAnswer {
    result: Option<Value>,
    error: Option<Value>,
}

impl Chain for RpcEndpoint {
    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        let method = "getGenesisHash";
        let result = self.ask(method, json!([])).await?;
        let hash = result.as_str().and_then(|text| Key::from_str(text).ok());
        hash.map(|hash| hash.0).ok_or(ChainError::Unreadable { method })
    }

    async fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<Account>>, ChainError> {
        let method = "getMultipleAccounts";
        let names: Vec<String> = addresses.iter().map(Address::to_string).collect();
        let params = json!([names, { "encoding": "base64", "commitment": "confirmed" }]);
        let result = self.ask(method, params).await?;
        let values = result.get("value").and_then(Value::as_array);
        values
            .filter(|values| values.len() == addresses.len())
            .and_then(|values| values.iter().map(account).collect())
            .ok_or(ChainError::Unreadable { method })
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        let method = "getLatestBlockhash";
        let result = self.ask(method, json!([{ "commitment": "confirmed" }])).await?;
        let text = result.pointer("/value/blockhash").and_then(Value::as_str);
        let height = result.pointer("/value/lastValidBlockHeight").and_then(Value::as_u64);
        let hash = text.and_then(|text| Key::from_str(text).ok());
        match (hash, height) {
            (Some(hash), Some(last_valid_height)) => {
                Ok(Blockhash { hash: Hash::new_from_array(hash.0), last_valid_height })
            }
            _ => Err(ChainError::Unreadable { method }),
        }
    }

    async fn send(&self, transaction: &[u8]) -> Result<(), ChainError> {
        let options = json!({ "encoding": "base64", "preflightCommitment": "confirmed" });
        let params = json!([STANDARD.encode(transaction), options]);
        self.ask("sendTransaction", params).await.map(|_| ())
    }

    async fn status(&self, signature: &Signature) -> Result<Option<Result<(), String>>, ChainError> {
        let method = "getSignatureStatuses";
        let result = self.ask(method, json!([[signature.to_string()]])).await?;
        let status = result.pointer("/value/0").ok_or(ChainError::Unreadable { method })?;
        let level = status.get("confirmationStatus").and_then(Value::as_str);
        if !matches!(level, Some("confirmed" | "finalized")) {
            return Ok(None);
        }
        match status.get("err") {
            None | Some(Value::Null) => Ok(Some(Ok(()))),
            Some(error) => Ok(Some(Err(error.to_string().chars().take(500).collect()))),
        }
    }
}

/// `Some(None)` is an account that does not exist, `None` an answer that does not fit.
fn account(value: &Value) -> Option<Option<Account>> {
    if value.is_null() {
        return Some(None);
    }
    let owner: Key = value.get("owner")?.as_str()?.parse().ok()?;
    let data = STANDARD.decode(value.pointer("/data/0")?.as_str()?).ok()?;
    Some(Some(Account { owner: owner.0.into(), data }))
}
