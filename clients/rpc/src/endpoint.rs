use crate::chain::{Account, Accounts, Blockhash, Chain, ChainError, View};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use solana_hash::Hash;
use std::str::FromStr;
use std::time::Duration;
use tallybook_chain::Address;
use tallybook_wire::{Key, Signature};

/// The largest answer that is read from an endpoint, in bytes: 100 accounts of 10,240 bytes in base64, with room.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// The most accounts that an endpoint gives in one answer.
const MAX_ACCOUNTS: usize = 100;
/// An endpoint's word for "not there yet": the slot that was asked for has not been seen.
const MIN_CONTEXT_SLOT_NOT_REACHED: i64 = -32_016;

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
        let wanted = params.pointer("/1/minContextSlot").and_then(Value::as_u64);
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
                if error.get("code").and_then(Value::as_i64) == Some(MIN_CONTEXT_SLOT_NOT_REACHED) {
                    return Err(ChainError::Behind { wanted: wanted.unwrap_or_default() });
                }
                Err(ChainError::Refused { method, message: error.to_string().chars().take(500).collect() })
            }
            RpcAnswer { result: Some(result), .. } => Ok(result),
            RpcAnswer { .. } => Err(ChainError::Unreadable { method }),
        }
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
        let result = self.ask(method, json!([names, options])).await?;
        let slot = result.pointer("/context/slot").and_then(Value::as_u64);
        let values = result.get("value").and_then(Value::as_array);
        let list = values
            .filter(|values| values.len() == addresses.len())
            .and_then(|values| values.iter().map(account).collect());
        let (Some(context_slot), Some(list)) = (slot, list) else {
            return Err(ChainError::Unreadable { method });
        };
        // An endpoint that ignores minContextSlot is behind all the same.
        match view.min_context_slot {
            Some(wanted) if context_slot < wanted => Err(ChainError::Behind { wanted }),
            _ => Ok(Accounts { context_slot, list }),
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
    let lamports = value.get("lamports")?.as_u64()?;
    Some(Some(Account { owner: owner.0.into(), lamports, data }))
}
