//! What an endpoint answers, read: no I/O, and nothing believed that does not fit the question.

use super::sight::{Account, Accounts, Blockhash};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;
use solana_hash::Hash;
use std::str::FromStr;
use tallybook_wire::Key;

/// An endpoint's word for "not there yet": the slot that was asked for has not been seen.
const MIN_CONTEXT_SLOT_NOT_REACHED: i64 = -32_016;
/// So many characters of what an endpoint says are kept.
const MAX_MESSAGE_CHARS: usize = 500;

/// Why bytes are no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NoAnswer {
    /// Not the documented JSON.
    Unreadable,
    /// The endpoint has not seen the slot that was asked for.
    Behind,
    /// What it said instead, shortened.
    Refused(String),
}

#[derive(Deserialize)]
struct RpcAnswer {
    id: Option<Value>,
    result: Option<Value>,
    error: Option<Value>,
}

/// The result in the answer of any method to the question numbered `id`.
pub(crate) fn result(bytes: &[u8], id: u64) -> Result<Value, NoAnswer> {
    match serde_json::from_slice(bytes).map_err(|_| NoAnswer::Unreadable)? {
        // The answer to another question. (One that could not be read has no id to name.)
        RpcAnswer { id: Some(answered), .. } if answered != id => Err(NoAnswer::Unreadable),
        RpcAnswer { error: Some(error), .. } => {
            if error.get("code").and_then(Value::as_i64) == Some(MIN_CONTEXT_SLOT_NOT_REACHED) {
                return Err(NoAnswer::Behind);
            }
            Err(NoAnswer::Refused(shortened(&error)))
        }
        RpcAnswer { result: Some(result), .. } => Ok(result),
        RpcAnswer { .. } => Err(NoAnswer::Unreadable),
    }
}

/// The slot at which a question was answered, where the method tells it.
pub(crate) fn slot(result: &Value) -> Option<u64> {
    result.pointer("/context/slot")?.as_u64()
}

/// `getGenesisHash`
pub(crate) fn genesis_hash(result: &Value) -> Option<[u8; 32]> {
    Key::from_str(result.as_str()?).ok().map(|hash| hash.0)
}

/// `getMultipleAccounts`: as many as were `asked` for, not before the slot `not_before`.
pub(crate) fn accounts(result: &Value, asked: usize, not_before: Option<u64>) -> Result<Accounts, NoAnswer> {
    let values = result.get("value").and_then(Value::as_array).filter(|values| values.len() == asked);
    let list = values.and_then(|values| values.iter().map(account).collect());
    let (Some(context_slot), Some(list)) = (slot(result), list) else {
        return Err(NoAnswer::Unreadable);
    };
    // An endpoint that ignores minContextSlot is behind all the same.
    if not_before.is_some_and(|wanted| context_slot < wanted) {
        return Err(NoAnswer::Behind);
    }
    Ok(Accounts { context_slot, list })
}

/// `getLatestBlockhash`
pub(crate) fn blockhash(result: &Value) -> Option<Blockhash> {
    let hash = Key::from_str(result.pointer("/value/blockhash")?.as_str()?).ok()?;
    let last_valid_height = result.pointer("/value/lastValidBlockHeight")?.as_u64()?;
    Some(Blockhash { hash: Hash::new_from_array(hash.0), last_valid_height })
}

/// `getSignatureStatuses` of one signature: `Some(None)` is one of which nothing is known, `None` an answer that does not
/// fit.
pub(crate) fn status(result: &Value) -> Option<Option<Result<(), String>>> {
    let status = result.pointer("/value/0")?;
    let level = status.get("confirmationStatus").and_then(Value::as_str);
    if !matches!(level, Some("confirmed" | "finalized")) {
        return Some(None);
    }
    Some(Some(match status.get("err") {
        None | Some(Value::Null) => Ok(()),
        Some(error) => Err(shortened(error)),
    }))
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

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(MAX_MESSAGE_CHARS).collect()
}
