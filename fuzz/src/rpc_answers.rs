//! What a JSON-RPC endpoint answers. An endpoint may lie, be behind, or be no endpoint at all.

#[path = "../../clients/rpc/src/answer.rs"]
mod answer;
#[path = "../../clients/rpc/src/sight.rs"]
#[allow(dead_code, unreachable_pub, rustdoc::broken_intra_doc_links)]
mod sight;

use answer::NoAnswer;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

/// The longest word of an endpoint that is kept.
const MAX_MESSAGE_CHARS: usize = 500;

/// The first byte says how many accounts were asked for, the second not before which slot; the rest is the answer.
pub(crate) fn rpc_answers(data: &[u8]) {
    let [asked, not_before, bytes @ ..] = data else { return };
    let result = match answer::result(bytes, 1) {
        Ok(result) => result,
        Err(NoAnswer::Refused(message)) => return assert!(message.chars().count() <= MAX_MESSAGE_CHARS),
        Err(NoAnswer::Unreadable | NoAnswer::Behind) => return,
    };
    let (asked, not_before) = (usize::from(asked % 4), u64::from(*not_before));
    if let Ok(read) = answer::accounts(&result, asked, Some(not_before)) {
        assert_eq!(read.list.len(), asked, "as many as were asked for, in their order");
        assert!(read.context_slot >= not_before, "never older than what was asked for");
        let list = read.list.iter().map(|account| {
            account.as_ref().map(|account| {
                json!({ "owner": account.owner.to_string(), "lamports": account.lamports, "data": [STANDARD.encode(&account.data), "base64"] })
            })
        });
        let written = json!({ "context": { "slot": read.context_slot }, "value": list.collect::<Vec<_>>() });
        assert_eq!(answer::accounts(&written, asked, Some(not_before)).as_ref(), Ok(&read));
        let older = answer::accounts(&written, asked, read.context_slot.checked_add(1));
        assert!(read.context_slot == u64::MAX || older == Err(NoAnswer::Behind));
    }
    if let Some(hash) = answer::genesis_hash(&result) {
        assert_eq!(result.as_str(), Some(tallybook_wire::Key(hash).to_string().as_str()));
    }
    if let Some(read) = answer::blockhash(&result) {
        let written =
            json!({ "value": { "blockhash": read.hash.to_string(), "lastValidBlockHeight": read.last_valid_height } });
        assert_eq!(answer::blockhash(&written), Some(read));
    }
    if let Some(Some(landed)) = answer::status(&result) {
        let level = result.pointer("/value/0/confirmationStatus").and_then(|level| level.as_str());
        assert!(matches!(level, Some("confirmed" | "finalized")), "nothing less has landed");
        let error = result.pointer("/value/0/err").filter(|error| !error.is_null());
        assert_eq!(landed.is_err(), error.is_some(), "what failed is not taken for done");
    }
}
