//! The released program is the one that these sources make, and its IDL says what they say.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect, also in the functions they share")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use tallybook_chain::instruction::{Addition, Instructions, NewBook, NewChannel, RefundRow};
use tallybook_chain::{Address, BookView, PROGRAM_ID};
use tallybook_rules::half_aggregation::{BELOW_ROW_BYTES, BelowRow, ROW_BYTES, Row};
use tallybook_rules::{Amount, Book, Rejection, Terms};
use tallybook_tests::artifact::{root, source_hash};

#[test]
fn given_the_sources_when_hashed_then_the_artifact_was_built_from_them() {
    let recorded = fs::read_to_string(root().join("programs/tallybook/artifact/SOURCE_HASH")).unwrap();
    assert_eq!(
        recorded.trim(),
        source_hash(&root()).unwrap(),
        "the program's sources have changed: run programs/tallybook/artifact/build.sh and commit what it makes"
    );
}

#[test]
fn given_the_artifact_when_looked_at_then_it_is_a_program_of_a_size_worth_deploying() {
    let elf = fs::read(root().join("programs/tallybook/artifact/tallybook.so")).unwrap();
    assert!(elf.starts_with(b"\x7fELF"));
    assert!(elf.len() < 430_000, "{} bytes", elf.len());
}

#[test]
fn given_the_artifact_when_its_security_txt_is_read_as_the_tools_read_it_then_it_says_whom_to_tell() {
    let elf = fs::read(root().join("programs/tallybook/artifact/tallybook.so")).unwrap();
    let found = solana_security_txt::find_and_parse(&elf).unwrap();
    let repository = env!("CARGO_PKG_REPOSITORY");
    assert_eq!((found.name.as_str(), found.project_url.as_str()), ("Tallybook", repository));
    assert_eq!(found.source_code.as_deref(), Some(repository));
    assert_eq!(found.source_release.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let contacts: Vec<_> = found.contacts.iter().map(ToString::to_string).collect();
    assert_eq!(contacts, [format!("Link: {repository}/security/advisories/new")]);
    // The policy is a file of this repository.
    let policy = found.policy.strip_prefix(&format!("{repository}/blob/main/")).unwrap();
    assert!(root().join(policy).is_file(), "{policy}");
}

fn idl() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("programs/tallybook/idl/tallybook.json")).unwrap()).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn given_the_idl_when_read_then_it_lists_every_rejection_by_name_number_and_advice() {
    let idl = idl();
    assert_eq!(text(&idl, "address"), PROGRAM_ID.to_string());
    let errors = idl["errors"].as_array().unwrap();
    let listed: Vec<_> =
        errors.iter().map(|e| (e["code"].as_u64().unwrap(), text(e, "name"), text(e, "msg"))).collect();
    let names: Vec<_> = Rejection::ALL.iter().map(|rejection| format!("{rejection:?}")).collect();
    let expected: Vec<_> = Rejection::ALL
        .iter()
        .zip(&names)
        .map(|(rejection, name)| (6_000 + u64::from(rejection.code()), name.as_str(), rejection.advice()))
        .collect();
    assert_eq!(listed, expected);
}

/// One of each instruction, as the library builds them.
fn built() -> BTreeMap<&'static str, solana_instruction::Instruction> {
    let [a, b, c] = [1, 2, 3].map(|byte| Address::from([byte; 32]));
    let mut state = Book { version: Book::VERSION, leg_count: 1, ..Book::default() };
    state.legs[0].account = [9; 32];
    let book = BookView { address: a, state };
    let build = Instructions::new(PROGRAM_ID);
    let terms = Terms { grace_seconds: 900, max_idle_seconds: 0, min_deposit: Amount::new(1), open_policy: 1 };
    let new_book = NewBook {
        payee: a,
        rent_payer: b,
        mint: c,
        token_program: a,
        book_id: 0,
        genesis_hash: [0; 32],
        terms,
        operator: b,
        splits: Vec::new(),
    };
    let channel = NewChannel {
        payer: a,
        source: b,
        operator: Some(c),
        page: c,
        slot: 0,
        generation: 1,
        signer: [1; 32],
        deposit: 1,
    };
    let row = Row { slot: 0, cumulative: Amount::new(1), nonce: [0; 32] };
    let below = BelowRow { signed: row, amount: Amount::ZERO };
    let addition = Addition { funder: a, source: b, page: c, slot: 0, generation: 1, amount: 1 };
    let refund = RefundRow { slot: 0, generation: 1, keep: 0 };
    BTreeMap::from([
        ("init_book", build.init_book(&new_book)),
        ("add_page", build.add_page(&book, &a, &b, 0, 1)),
        ("open", build.open(&book, &channel)),
        ("top_up", build.top_up(&book, &addition)),
        ("claim_below", build.claim_below(&a, &[0; 32], &[below]).unwrap()),
        ("idle_close", build.idle_close(&a, &b, &c, 0, 1)),
        ("set_operator", build.set_operator(&book, &c)),
        ("close_page", build.close_page(&book, &a, &b, &c)),
        ("claim", build.claim(&a, &[0; 32], &[row]).unwrap()),
        ("payout", build.payout(&book, &a, 1)),
        ("request_close", build.request_close(&a, &b, &c, 0, 1)),
        ("withdraw", build.withdraw_to(&book, &a, 0, &b, &c)),
        ("refund", build.refund(&book, &a, &b, &[(refund, c)])),
    ])
}

#[test]
fn given_the_idl_when_compared_with_the_library_then_discriminators_and_accounts_are_the_same() {
    let (idl, built) = (idl(), built());
    let instructions = idl["instructions"].as_array().unwrap();
    assert_eq!(instructions.len(), built.len());
    for described in instructions {
        let name = text(described, "name");
        let instruction = &built[name];
        assert_eq!(described["discriminator"].as_array().unwrap(), &[Value::from(instruction.data[0])], "{name}");
        let flag = |account: &Value, key: &str| account.get(key).is_some_and(|flag| flag == &Value::Bool(true));
        let accounts = described["accounts"].as_array().unwrap();
        assert!(accounts.len() <= instruction.accounts.len(), "{name}: token accounts may follow");
        for (account, meta) in accounts.iter().zip(&instruction.accounts) {
            let says = (flag(account, "signer"), flag(account, "writable"));
            assert_eq!(says, (meta.is_signer, meta.is_writable), "{name}: {}", text(account, "name"));
            if let Some(address) = account.get("address") {
                assert_eq!(address, &Value::from(meta.pubkey.to_string()), "{name}");
            }
        }
    }
}

/// Bytes of a plain argument.
fn fixed_size(kind: &Value) -> Option<usize> {
    match kind.as_str()? {
        "u8" => Some(1),
        "u16" => Some(2),
        "u32" => Some(4),
        "u64" => Some(8),
        "pubkey" => Some(32),
        "bytes" => Some(4 + 1), // the slots of a withdrawal, of which one was built
        other => panic!("{other}"),
    }
}

#[test]
fn given_the_idl_when_its_arguments_are_measured_then_the_library_writes_as_many_bytes() {
    let (idl, built) = (idl(), built());
    let types: BTreeMap<_, _> =
        idl["types"].as_array().unwrap().iter().map(|kind| (text(kind, "name"), &kind["type"])).collect();
    for described in idl["instructions"].as_array().unwrap() {
        let name = text(described, "name");
        let size = |argument: &Value| -> usize {
            let kind = &argument["type"];
            fixed_size(kind).unwrap_or_else(|| match (kind.get("array"), kind.get("vec"), kind.get("defined")) {
                (Some(array), _, _) => usize::try_from(array[1].as_u64().unwrap()).unwrap(),
                (_, Some(_), _) if name == "init_book" => 4, // no split was built, but one row of a refund
                (_, Some(item), _) => {
                    4 + fixed_size(item).unwrap_or_else(|| {
                        let fields = types[item["defined"]["name"].as_str().unwrap()]["fields"].as_array().unwrap();
                        fields.iter().map(|field| fixed_size(&field["type"]).unwrap()).sum()
                    })
                }
                (_, _, Some(_)) if name == "claim_below" => 32 + 45, // raw bytes
                (_, _, Some(_)) => 32 + 39,
                _ => panic!("{kind}"),
            })
        };
        let arguments: usize = described["args"].as_array().unwrap().iter().map(size).sum();
        assert_eq!(built[name].data.len(), 1 + arguments, "{name}");
    }
}

#[test]
fn given_the_idl_when_the_rows_of_a_claim_are_measured_then_they_are_those_of_the_rules() {
    let idl = idl();
    let size = |name: &str| -> usize {
        let kind = idl["types"].as_array().unwrap().iter().find(|kind| text(kind, "name") == name).unwrap();
        let fields = kind["type"]["fields"].as_array().unwrap();
        let size = |kind: &Value| fixed_size(kind).or_else(|| usize::try_from(kind["array"][1].as_u64()?).ok());
        fields.iter().map(|field| size(&field["type"]).unwrap()).sum()
    };
    assert_eq!([size("ClaimRow"), size("ClaimBelowRow")], [ROW_BYTES, BELOW_ROW_BYTES]);
}

#[test]
fn given_the_idl_when_its_accounts_are_read_then_they_have_the_names_and_marks_that_the_library_looks_for() {
    let idl = idl();
    let accounts: BTreeMap<_, _> = idl["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| (text(account, "name"), account["discriminator"].clone()))
        .collect();
    let expected = BTreeMap::from([
        ("Book", Value::from(tallybook_chain::account::BOOK_DISCRIMINATOR.to_vec())),
        ("Page", Value::from(tallybook_chain::account::PAGE_DISCRIMINATOR.to_vec())),
    ]);
    assert_eq!(accounts, expected);
}
