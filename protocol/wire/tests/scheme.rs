//! The scheme's documents say what the code says: their examples are read by its types and written as they stand, and their list
//! of refusals is the code's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what it expects")]

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use tallybook_rules::signing::{SignedVoucher, channel_id, page_domain};
use tallybook_rules::{Class, Rejection};
use tallybook_wire::{PaymentPayload, PaymentRequirements, SettleResponse, VerifyResponse};

const DOCUMENT: &str = include_str!("../../scheme/scheme_channel_svm.md");
const VECTORS: &str = include_str!("../../../tests/vectors/vectors.json");

/// The examples, by the type that stands beside `json`.
fn examples() -> Vec<(&'static str, Value)> {
    let mut examples: Vec<(&str, Value)> = Vec::new();
    for block in DOCUMENT.split("```json ").skip(1) {
        let (kind, rest) = block.split_once('\n').unwrap();
        let (json, _) = rest.split_once("```").unwrap();
        examples.push((kind, serde_json::from_str(json).unwrap_or_else(|error| panic!("{kind}: {error}\n{json}"))));
    }
    let of = |kind: &str| examples.iter().find(|(named, _)| *named == kind).unwrap().1.clone();
    let (requirements, voucher) = (of("PaymentRequirements"), of("PaymentPayload")["payload"]["voucher"].clone());
    examples.into_iter().map(|(kind, example)| (kind, spelled_out(example, &requirements, &voucher))).collect()
}

/// What an example leaves out because another one has it.
fn spelled_out(mut example: Value, requirements: &Value, voucher: &Value) -> Value {
    if example.get("accepted").is_some() {
        example["accepted"] = requirements.clone();
    }
    for pointer in ["/payload/voucher/channelId", "/payload/voucher/signature", "/voucherState/signature"] {
        if let Some(left_out) = example.pointer_mut(pointer).filter(|value| **value == "…") {
            *left_out = voucher[pointer.rsplit('/').next().unwrap()].clone();
        }
    }
    example
}

fn read_and_written<T: DeserializeOwned + Serialize>(example: &Value) -> Value {
    let read: T = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{error}\n{example:#}"));
    serde_json::to_value(read).unwrap()
}

#[test]
fn given_the_documents_examples_when_read_and_written_then_they_are_as_they_stand() {
    let mut seen = BTreeMap::new();
    for (kind, example) in examples() {
        *seen.entry(kind).or_insert(0) += 1;
        let written = match kind {
            "PaymentRequirements" => read_and_written::<PaymentRequirements>(&example),
            "PaymentPayload" => read_and_written::<PaymentPayload>(&example),
            "VerifyResponse" => read_and_written::<VerifyResponse>(&example),
            "SettleResponse" => read_and_written::<SettleResponse>(&example),
            "Extra" => {
                // Within the requirements, beside what they have.
                let (_, mut requirements) = examples().into_iter().next().unwrap();
                let extra = requirements["extra"].as_object_mut().unwrap();
                extra.extend(example.as_object().unwrap().clone());
                assert_eq!(read_and_written::<PaymentRequirements>(&requirements), requirements);
                continue;
            }
            other => panic!("an example of a kind that nobody reads: {other}"),
        };
        assert_eq!(written, example, "{kind}");
    }
    let kinds = ["Extra", "PaymentPayload", "PaymentRequirements", "SettleResponse", "VerifyResponse"];
    assert_eq!(seen, BTreeMap::from_iter(kinds.into_iter().zip([1, 3, 1, 1, 1])));
}

#[test]
fn given_the_voucher_of_the_example_when_checked_then_it_is_the_vectors_and_its_signature_holds() {
    let payment = examples().into_iter().find(|(kind, _)| *kind == "PaymentPayload").unwrap().1;
    let payment: PaymentPayload = serde_json::from_value(payment).unwrap();
    let voucher: SignedVoucher = (*payment.payload.voucher()).into();
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let (batch, claim) = (&vectors["batches"][0], &vectors["batches"][0]["claims"][0]);
    let hex = |value: &Value| -> [u8; 32] {
        let digits = value.as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
        core::array::from_fn(byte)
    };
    let domain = page_domain(&hex(&batch["program_id"]), &hex(&batch["genesis_hash"]), &hex(&batch["page"]));
    let (payer, signer) = (hex(&claim["payer"]), hex(&claim["signer"]));
    assert_eq!(voucher.channel_id, channel_id(&domain, 0, 1, &payer, &signer));
    assert!(voucher.verify(&signer).is_ok());
}

#[test]
fn given_the_documents_list_of_refusals_when_read_then_it_is_the_codes() {
    let (_, section) = DOCUMENT.split_once("## Names of refusals").unwrap();
    let (section, _) = section.split_once("## Appendix").unwrap();
    let listed: Vec<&str> = section.lines().filter(|line| line.contains("| `")).collect();
    let expected: Vec<String> = Rejection::ALL
        .iter()
        .map(|rejection| {
            let again = if rejection.class() == Class::Transient { "yes" } else { "no" };
            format!("| {} | `{}` | {again} |", rejection.code(), rejection.name())
        })
        .collect();
    assert_eq!(listed, expected);
}
