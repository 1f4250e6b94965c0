//! What a server signs: what it offers, and what was paid for.

use serde_json::{Value, json};
use std::time::UNIX_EPOCH;
use tallybook_wire::{Key, Network, OFFER_RECEIPT, OfferTerms, PaymentRequired, Receipt, ReceiptKey};

/// The server's commitment to each way to pay.
pub(crate) fn signed_offers(required: &PaymentRequired, key: &ReceiptKey) -> Value {
    let signed = required.accepts.iter().enumerate().filter_map(|(index, accept)| {
        let terms = OfferTerms::of(&serde_json::to_value(accept).ok()?, &required.resource.url)?;
        let mut statement = serde_json::to_value(key.sign_offer(&terms)).ok()?;
        statement.as_object_mut()?.insert("acceptIndex".to_owned(), index.into());
        Some(statement)
    });
    let offers: Vec<Value> = signed.collect();
    json!({
        "info": { "offers": offers },
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": { "offers": { "type": "array", "items": { "type": "object" } } },
            "required": ["offers"],
        },
    })
}

/// A settlement's answer with the receipt of what was bought by it; none for one that failed or names no payer.
pub(crate) fn with_receipt(mut paid: Value, url: &str, key: &ReceiptKey) -> Option<Value> {
    let answer = paid.as_object_mut().filter(|answer| answer.get("success") == Some(&Value::Bool(true)))?;
    let network: Network = serde_json::from_value(answer.get("network")?.clone()).ok()?;
    let payer: Key = serde_json::from_value(answer.get("payer")?.clone()).ok()?;
    let transaction = answer.get("transaction").and_then(|signature| serde_json::from_value(signature.clone()).ok());
    let issued_at = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let receipt = Receipt::new(network, payer, url.to_owned(), transaction, issued_at);
    let statement = serde_json::to_value(key.sign_receipt(&receipt)).ok()?;
    let extensions = answer.entry("extensions").or_insert_with(|| json!({}));
    extensions.as_object_mut()?.insert(OFFER_RECEIPT.to_owned(), json!({ "info": { "receipt": statement } }));
    Some(paid)
}
