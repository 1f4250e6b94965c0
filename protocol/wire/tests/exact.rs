//! What all schemes share, and `exact` in both versions of x402.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests say what they expect")]

use serde_json::{Value, json};
use tallybook_rules::Rejection;
use tallybook_wire::{
    ExactRequest, Head, Kind, MAX_BODY_BYTES, MAX_SETTLEMENT_ID_BYTES, Network, ResourceInfo, SupportedResponse,
    v1_network, v1_requirements,
};

const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

fn terms() -> Value {
    json!({
        "scheme": "exact", "network": NETWORK, "amount": "1000", "asset": "mint", "payTo": "payee",
        "maxTimeoutSeconds": 60, "extra": { "feePayer": "sponsor", "memo": "invoice" }, "more": [1, { "x": null }],
    })
}

fn request() -> Value {
    let payment = json!({ "x402Version": 2, "accepted": terms(), "payload": { "transaction": "AAAA" } });
    json!({ "x402Version": 2, "paymentPayload": payment, "paymentRequirements": terms() })
}

fn request_v1() -> Value {
    let payment = json!({
        "x402Version": 1, "scheme": "exact", "network": "solana-devnet", "payload": { "transaction": "AAAA" },
    });
    let mut terms = terms();
    terms["network"] = json!("solana-devnet");
    terms["maxAmountRequired"] = terms.as_object_mut().unwrap().remove("amount").unwrap();
    json!({ "x402Version": 1, "paymentPayload": payment, "paymentRequirements": terms })
}

#[test]
fn given_a_request_when_its_head_is_read_then_it_says_who_takes_it_and_the_whole_says_the_same() {
    for (request, version, network) in [(request(), 2, NETWORK), (request_v1(), 1, "solana-devnet")] {
        let text = request.to_string();
        let head = Head::read(text.as_bytes()).unwrap();
        assert_eq!((head.x402_version, head.scheme.as_ref(), head.network.as_ref()), (version, "exact", network));
        let whole = ExactRequest::read(text.as_bytes()).unwrap();
        assert_eq!(
            (whole.x402_version, &whole.terms.scheme, &whole.terms.network),
            (version, &"exact".into(), &network.into())
        );
        assert_eq!(whole.accepted, ("exact".to_owned(), network.to_owned()));
        assert_eq!((whole.terms.amount.as_str(), whole.transaction.as_str()), ("1000", "AAAA"));
        assert_eq!((whole.terms.fee_payer.as_deref(), whole.terms.memo.as_deref()), (Some("sponsor"), Some("invoice")));
    }
    // A name that is escaped is the same name.
    let escaped = request().to_string().replace("\"exact\"", "\"\\u0065xact\"");
    assert_eq!(Head::read(escaped.as_bytes()).unwrap().scheme, "exact");
}

#[test]
fn given_a_member_that_stands_twice_when_read_then_neither_reading_takes_it() {
    let text = request().to_string();
    let end = text.len().checked_sub(1).unwrap();
    let twice = format!("{},\"paymentRequirements\":{}}}", &text[..end], terms());
    assert_eq!(Head::read(twice.as_bytes()), Err(Rejection::MalformedPayload));
    assert_eq!(ExactRequest::read(twice.as_bytes()), Err(Rejection::MalformedPayload));
    let version = format!("{},\"x402Version\":1}}", &text[..end]);
    assert_eq!(Head::read(version.as_bytes()), Err(Rejection::MalformedPayload));
    assert_eq!(ExactRequest::read(version.as_bytes()), Err(Rejection::MalformedPayload));
}

#[test]
fn given_a_request_that_is_none_when_read_then_it_is_refused_by_name() {
    let without = |pointer: &str, name: &str| {
        let mut request = request();
        request.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        request.to_string()
    };
    for text in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        without("", "x402Version"),
        without("", "paymentRequirements"),
        without("/paymentRequirements", "scheme"),
        without("/paymentRequirements", "network"),
        request().to_string().replace("\"x402Version\":2", "\"x402Version\":\"2\""),
    ] {
        assert_eq!(Head::read(text.as_bytes()), Err(Rejection::MalformedPayload), "{text}");
        assert_eq!(ExactRequest::read(text.as_bytes()), Err(Rejection::MalformedPayload), "{text}");
    }
    let version_1_alone = without("/paymentRequirements", "amount");
    assert_eq!(ExactRequest::read(version_1_alone.as_bytes()), Err(Rejection::MalformedPayload));
    let unpaid = without("/paymentPayload/payload", "transaction");
    assert_eq!(ExactRequest::read(unpaid.as_bytes()), Err(Rejection::MalformedPayload));
    let large = " ".repeat(MAX_BODY_BYTES.checked_add(1).unwrap());
    assert_eq!(Head::read(large.as_bytes()), Err(Rejection::RequestTooLarge));
    assert_eq!(ExactRequest::read(large.as_bytes()), Err(Rejection::RequestTooLarge));
}

#[test]
fn given_a_settlement_with_a_name_when_read_then_it_is_of_bounded_length() {
    let named = |length: usize| {
        let mut request = request();
        request["settlementId"] = json!("n".repeat(length));
        ExactRequest::read(request.to_string().as_bytes())
            .map(|request| request.settlement_id.unwrap_or_default().len())
    };
    assert_eq!(named(1), Ok(1));
    assert_eq!(named(MAX_SETTLEMENT_ID_BYTES), Ok(MAX_SETTLEMENT_ID_BYTES));
    for length in [0, MAX_SETTLEMENT_ID_BYTES.checked_add(1).unwrap()] {
        assert_eq!(named(length), Err(Rejection::MalformedPayload));
    }
}

#[test]
fn given_requirements_when_written_for_version_1_then_its_clients_find_all_their_members_and_no_null() {
    let resource = ResourceInfo { url: "http://localhost/facts".into(), ..ResourceInfo::default() };
    let first = v1_requirements(&terms(), &resource).unwrap();
    let expected = json!({
        "scheme": "exact", "network": "solana-devnet", "maxAmountRequired": "1000", "asset": "mint", "payTo": "payee",
        "resource": "http://localhost/facts", "description": "", "mimeType": "", "maxTimeoutSeconds": 60,
        "extra": { "feePayer": "sponsor", "memo": "invoice" },
    });
    assert_eq!(first, expected);
    let mut elsewhere = terms();
    elsewhere["network"] = json!("solana:11111111111111111111111111111111");
    assert_eq!(v1_requirements(&elsewhere, &resource), None, "version 1 has no name for it");
    assert_eq!(v1_network(&Network::mainnet()), Some("solana"));
    assert_eq!(v1_network(&Network::devnet()), Some("solana-devnet"));
}

#[test]
fn given_the_kinds_of_any_facilitator_when_read_then_none_is_refused_and_each_is_told_by_its_head() {
    let text = json!({ "kinds": [
        { "x402Version": 2, "scheme": "exact", "network": NETWORK, "extra": { "feePayer": "sponsor" } },
        { "x402Version": 1, "scheme": "exact", "network": "base-sepolia" },
        { "x402Version": 2, "scheme": "batch-settlement", "network": "eip155:8453", "extra": null },
    ] });
    let supported: SupportedResponse = serde_json::from_value(text).unwrap();
    let text = request().to_string();
    let head = Head::read(text.as_bytes()).unwrap();
    let found: Vec<&Kind> = supported.kinds.iter().filter(|kind| kind.is_of(&head)).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found.first().and_then(|kind| kind.extra.as_ref()).unwrap()["feePayer"], "sponsor");
}
