//! Round trips, the exact shape on the wire, and that no input panics.
#![expect(clippy::unwrap_used, reason = "tests say what they expect")]

use core::num::NonZeroU32;
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::fmt::Debug;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::*;

fn key() -> impl Strategy<Value = Key> {
    any::<[u8; 32]>().prop_map(Key)
}

fn amount() -> impl Strategy<Value = Amount> {
    any::<u64>().prop_map(Amount::new)
}

fn signature() -> impl Strategy<Value = Signature> {
    any::<[u8; 32]>().prop_map(|half| {
        let mut bytes = [7; 64];
        bytes[..32].copy_from_slice(&half);
        Signature(bytes)
    })
}

fn channel_state() -> impl Strategy<Value = ChannelState> {
    (key(), amount(), amount(), amount()).prop_map(|(channel_id, balance, total_claimed, charged)| ChannelState {
        channel_id,
        balance,
        total_claimed,
        charged_cumulative_amount: charged,
    })
}

fn voucher_state() -> impl Strategy<Value = VoucherState> {
    (amount(), signature())
        .prop_map(|(signed_max_claimable, signature)| VoucherState { signed_max_claimable, signature })
}

prop_compose! {
    fn extra()(
        keys in (key(), key(), key(), key()),
        numbers: (u16, u8, u32, u32, u8),
        min_deposit in amount(),
        metered in any::<bool>(),
        recent_blockhash in proptest::option::of(key()),
        channel_state in proptest::option::of(channel_state()),
        voucher_state in proptest::option::of(voucher_state()),
        unknown: bool,
    ) -> Extra {
        let (book, page, fee_payer, token_program) = keys;
        let (book_id, slot, generation, withdraw_delay, decimals) = numbers;
        let mut other = serde_json::Map::new();
        if unknown { other.insert("memo".into(), json!({ "deep": [1, null, "x"] })); }
        Extra {
            book, book_id, page, slot, generation, fee_payer, withdraw_delay, min_deposit, token_program, decimals,
            metered, recent_blockhash, channel_state, voucher_state, other,
        }
    }
}

prop_compose! {
    fn requirements()(amount in amount(), asset in key(), pay_to in key(), seconds in 1u32.., extra in extra())
        -> PaymentRequirements {
        PaymentRequirements {
            scheme: Scheme, network: Network::devnet(), amount, asset, pay_to,
            max_timeout_seconds: NonZeroU32::new(seconds).unwrap(), extra, other: Default::default(),
        }
    }
}

fn voucher() -> impl Strategy<Value = Voucher> {
    (key(), amount(), signature()).prop_map(|(channel_id, max_claimable_amount, signature)| Voucher {
        channel_id,
        max_claimable_amount,
        signature,
    })
}

fn transaction() -> impl Strategy<Value = TransactionBytes> {
    proptest::collection::vec(any::<u8>(), 1..=MAX_TRANSACTION_BYTES)
        .prop_map(|bytes| TransactionBytes::new(bytes).unwrap())
}

fn channel() -> impl Strategy<Value = Channel> {
    (key(), key(), key(), key(), any::<u8>(), any::<u32>()).prop_map(|(payer, signer, book, page, slot, generation)| {
        Channel { payer, signer, book, page, slot, generation }
    })
}

fn payload() -> impl Strategy<Value = ChannelPayload> {
    prop_oneof![
        (channel(), voucher(), amount(), transaction()).prop_map(|(channel, voucher, amount, transaction)| {
            let deposit = Deposit { amount, transaction };
            ChannelPayload::Deposit { channel, voucher, deposit }
        }),
        voucher().prop_map(|voucher| ChannelPayload::Voucher { voucher }),
        (voucher(), proptest::option::of(transaction()))
            .prop_map(|(voucher, transaction)| ChannelPayload::Refund { voucher, transaction }),
    ]
}

fn answer_extra() -> impl Strategy<Value = AnswerExtra> {
    (
        proptest::option::of(channel_state()),
        proptest::option::of(voucher_state()),
        proptest::option::of(amount()),
        proptest::option::of(transaction()),
    )
        .prop_map(|(channel_state, voucher_state, charged_amount, transaction)| AnswerExtra {
            channel_state,
            voucher_state,
            charged_amount,
            transaction,
        })
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        proptest::sample::select(Rejection::ALL).prop_map(Reason::from),
        Just(Reason::from("insufficient_funds".to_owned())),
    ]
}

fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
    let json = body(message).unwrap();
    assert_eq!(&read_body::<T>(&json).unwrap(), message);
    let value = header(message).unwrap();
    assert_eq!(&read_header::<T>(value.as_bytes()).unwrap(), message);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_reads_back(
        requirements in requirements(), payload in payload(), extra in answer_extra(), reason in reason(),
        payer in key(), transaction in proptest::option::of(signature()), amount in proptest::option::of(amount()),
    ) {
        let required = PaymentRequired::new(
            ResourceInfo { url: "https://api.example/x".into(), ..Default::default() },
            requirements.clone(),
            Some(reason.clone()),
        );
        there_and_back(&required);
        let payment = PaymentPayload::new(requirements.clone(), payload);
        there_and_back(&payment);
        prop_assert!(FacilitatorRequest::new(payment.clone(), requirements).check().is_ok());
        there_and_back(&VerifyResponse::Valid { payer, extra: extra.clone() });
        there_and_back(&VerifyResponse::Invalid { reason: reason.clone(), payer: Some(payer), extra: extra.clone() });
        let network = Network::mainnet();
        there_and_back(&SettleResponse::Settled { transaction, network: network.clone(), payer, amount, extra: extra.clone() });
        there_and_back(&SettleResponse::Failed { transaction, network, payer: None, reason, extra });
    }

    #[test]
    fn arbitrary_bytes_are_refused_not_fatal(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in ".{0,200}") {
        for input in [bytes.as_slice(), text.as_bytes()] {
            prop_assert!(read_header::<PaymentPayload>(input).is_err());
            prop_assert!(read_body::<FacilitatorRequest>(input).is_err());
            let _ = read_body::<PaymentRequired>(input).is_ok();
            let _ = read_body::<SettleResponse>(input).is_ok();
        }
        let _ = (text.parse::<Key>().is_ok(), text.parse::<Network>().is_ok());
    }

    #[test]
    fn a_message_with_one_member_spoiled_never_panics(
        requirements in requirements(), payload in payload(), at in any::<proptest::sample::Index>(), byte: u8,
    ) {
        let mut json = body(&PaymentPayload::new(requirements, payload)).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        let _ = read_body::<PaymentPayload>(&json).is_ok();
    }

    #[test]
    fn base58_is_read_and_written_as_everybody_does(key in key(), signature in signature(), zeros in 0usize..=32, text in "[1-9A-HJ-NP-Za-km-z0OIl é]{0,90}") {
        let mut key = key;
        key.0[..zeros].fill(0);
        prop_assert_eq!(key.to_string(), bs58::encode(key.0).into_string());
        prop_assert_eq!(signature.to_string(), bs58::encode(signature.0).into_string());
        prop_assert_eq!(key.to_string().parse(), Ok(key));
        let theirs = bs58::decode(&text).into_vec().unwrap_or_default();
        prop_assert_eq!(text.parse::<Key>().ok().map(|key| key.0.to_vec()), Some(theirs.clone()).filter(|bytes| bytes.len() == 32));
        prop_assert_eq!(text.parse::<Signature>().ok().map(|key| key.0.to_vec()), Some(theirs).filter(|bytes| bytes.len() == 64));
    }

    #[test]
    fn a_channel_id_reads_in_both_spellings(key in key()) {
        let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(Key::from_base58_or_hex(&hex), Ok(key));
        prop_assert_eq!(Key::from_base58_or_hex(&key.to_string()), Ok(key));
    }
}

fn sample() -> PaymentPayload {
    let extra = json!({
        "book": "11111111111111111111111111111112", "bookId": 3, "page": "11111111111111111111111111111113", "slot": 7,
        "generation": 2, "feePayer": "11111111111111111111111111111114", "withdrawDelay": 900, "minDeposit": "1000",
        "tokenProgram": "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "decimals": 6, "recentBlockhash": null
    });
    let sample = json!({
        "x402Version": 2,
        "accepted": {
            "scheme": "@tallybook/channel", "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "amount": "500",
            "asset": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", "payTo": "11111111111111111111111111111115",
            "maxTimeoutSeconds": 60, "extra": extra
        },
        "payload": { "type": "voucher", "voucher": {
            "channelId": "11111111111111111111111111111116", "maxClaimableAmount": "1500",
            "signature": Signature([9; 64]).to_string()
        } },
        "somethingNew": { "tolerated": true }
    });
    serde_json::from_value(sample).unwrap()
}

#[test]
fn the_documented_json_is_what_is_read_and_written() {
    let payment = sample();
    assert_eq!(payment.accepted.amount, Amount::new(500));
    assert_eq!(payment.accepted.extra.min_deposit, Amount::new(1_000));
    assert_eq!(payment.payload.voucher().max_claimable_amount, Amount::new(1_500));
    let json = serde_json::to_value(&payment).unwrap();
    assert_eq!(json["payload"]["type"], "voucher");
    assert_eq!(json["payload"]["voucher"]["maxClaimableAmount"], "1500");
    assert_eq!(json["accepted"]["extra"]["withdrawDelay"], 900);
    assert_eq!(json["accepted"]["scheme"], SCHEME);
}

#[test]
fn every_spoiled_member_has_its_rejection() {
    let good = serde_json::to_value(sample()).unwrap();
    for (pointer, value, rejection) in [
        ("/x402Version", json!(1), Rejection::UnsupportedVersion),
        ("/accepted/scheme", json!("exact"), Rejection::UnsupportedScheme),
        ("/accepted/amount", json!(500), Rejection::MalformedPayload),
        ("/accepted/amount", json!("0500"), Rejection::MalformedPayload),
        ("/accepted/amount", json!("+5"), Rejection::MalformedPayload),
        ("/accepted/amount", json!(""), Rejection::MalformedPayload),
        ("/accepted/amount", json!("18446744073709551616"), Rejection::MalformedPayload),
        ("/accepted/maxTimeoutSeconds", json!(0), Rejection::MalformedPayload),
        ("/accepted/network", json!("eip155:1"), Rejection::MalformedPayload),
        ("/accepted/payTo", json!("1"), Rejection::MalformedPayload),
        ("/accepted/payTo", json!("1".repeat(33)), Rejection::MalformedPayload),
        ("/accepted/extra/slot", json!(256), Rejection::MalformedPayload),
        ("/payload/type", json!("gift"), Rejection::MalformedPayload),
        ("/payload/voucher/signature", json!("l0O"), Rejection::MalformedPayload),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let json = serde_json::to_vec(&bad).unwrap();
        assert_eq!(read_body::<PaymentPayload>(&json), Err(rejection), "{pointer}");
    }
}

#[test]
fn base58_at_its_ends_is_read() {
    for byte in [0, 255] {
        assert_eq!(Key([byte; 32]).to_string().parse(), Ok(Key([byte; 32])));
        assert_eq!(Signature([byte; 64]).to_string().parse(), Ok(Signature([byte; 64])));
    }
    // One above the largest: 33 bytes.
    assert_eq!("JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFH".parse::<Key>(), Err(Rejection::MalformedPayload));
}

#[test]
fn a_payload_is_read_whatever_the_order_of_its_members_and_wants_those_of_its_type() {
    let voucher = serde_json::to_string(sample().payload.voucher()).unwrap();
    let read = |text: String| read_body::<ChannelPayload>(text.as_bytes());
    assert_eq!(read(format!(r#"{{"voucher":{voucher},"later":[1],"type":"voucher"}}"#)), Ok(sample().payload));
    let refund = ChannelPayload::Refund { voucher: *sample().payload.voucher(), transaction: None };
    assert_eq!(read(format!(r#"{{"voucher":{voucher},"transaction":null,"type":"refund"}}"#)), Ok(refund));
    for lacking in [
        format!(r#"{{"type":"deposit","voucher":{voucher}}}"#),
        format!(r#"{{"voucher":{voucher}}}"#),
        r#"{"type":"voucher"}"#.to_owned(),
        format!(r#"{{"type":"voucher","voucher":{voucher},"voucher":{voucher}}}"#),
    ] {
        assert_eq!(read(lacking.clone()), Err(Rejection::MalformedPayload), "{lacking}");
    }
}

#[test]
fn caps_are_named() {
    assert_eq!(read_header::<PaymentPayload>(&[b'A'; MAX_HEADER_BYTES + 1]), Err(Rejection::RequestTooLarge));
    assert_eq!(read_body::<PaymentPayload>(&[b' '; MAX_BODY_BYTES + 1]), Err(Rejection::RequestTooLarge));
    assert_eq!(TransactionBytes::new(vec![0; MAX_TRANSACTION_BYTES + 1]), Err(Rejection::RequestTooLarge));
    let mut payment = sample();
    payment.accepted.other.insert("big".into(), Value::String("x".repeat(8_192)));
    assert_eq!(header(&payment), Err(Rejection::RequestTooLarge));
}

#[test]
fn a_deposit_fits_its_header() {
    // Given the largest transaction and every optional member
    let mut payment = sample();
    payment.payload = ChannelPayload::Deposit {
        channel: Channel {
            payer: Key([255; 32]),
            signer: Key([255; 32]),
            book: Key([255; 32]),
            page: Key([255; 32]),
            slot: 95,
            generation: u32::MAX,
        },
        voucher: *sample().payload.voucher(),
        deposit: Deposit {
            amount: Amount::new(u64::MAX),
            transaction: TransactionBytes::new(vec![255; MAX_TRANSACTION_BYTES]).unwrap(),
        },
    };
    // Then the header is well below its cap
    assert!(header(&payment).unwrap().len() < 6_000);
}

#[test]
fn offers_of_other_schemes_are_skipped_and_kept() {
    let ours = serde_json::to_value(sample().accepted).unwrap();
    let foreign = json!({ "scheme": "exact", "network": "eip155:8453", "amount": 17 });
    let json = json!({
        "x402Version": 2, "error": "something_of_theirs", "resource": { "url": "https://a.example" },
        "accepts": [foreign, ours, null]
    });
    let required: PaymentRequired = read_body(&serde_json::to_vec(&json).unwrap()).unwrap();
    assert_eq!(required.channel_offers().collect::<Vec<_>>(), [&sample().accepted]);
    assert_eq!(required.accepts[0], Accept::Foreign(foreign));
    assert_eq!(required.error.as_ref().unwrap().rejection(), None);
    there_and_back(&required);
}

#[test]
fn an_echo_may_differ_in_hints_only() {
    let offered = sample().accepted;
    let mut echo = offered.clone();
    echo.extra.slot = 1;
    echo.extra.recent_blockhash = Some(Key([1; 32]));
    assert_eq!(echo.answers(&offered), Ok(()));
    type Spoil = fn(&mut PaymentRequirements);
    let spoiled: [(Spoil, Rejection); 6] = [
        (|r| r.amount = Amount::ZERO, Rejection::WrongPrice),
        (|r| r.pay_to = Key([1; 32]), Rejection::RequirementsMismatch),
        (|r| r.asset = Key([1; 32]), Rejection::RequirementsMismatch),
        (|r| r.extra.book = Key([1; 32]), Rejection::RequirementsMismatch),
        (|r| r.extra.fee_payer = Key([1; 32]), Rejection::RequirementsMismatch),
        (|r| r.network = Network::mainnet(), Rejection::WrongNetwork),
    ];
    for (spoil, rejection) in spoiled {
        let mut echo = offered.clone();
        spoil(&mut echo);
        assert_eq!(echo.answers(&offered), Err(rejection));
    }
}

#[test]
fn answers_without_their_members_are_refused() {
    for json in
        [r#"{"isValid":true}"#, r#"{"isValid":false}"#, r#"{"isValid":false,"payer":null,"invalidReason":null}"#]
    {
        assert_eq!(read_body::<VerifyResponse>(json.as_bytes()), Err(Rejection::MalformedPayload));
    }
    let failed = r#"{"success":false,"errorReason":"settlement_pending","transaction":"","amount":"","network":"solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"}"#;
    let failed: SettleResponse = read_body(failed.as_bytes()).unwrap();
    assert!(
        matches!(failed, SettleResponse::Failed { reason, .. } if reason.rejection() == Some(Rejection::SettlementPending))
    );
}

#[test]
fn a_cluster_is_named_by_its_genesis_hash() {
    let mainnet: Key = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d".parse().unwrap();
    assert_eq!(Network::of_genesis(&mainnet.0), Network::mainnet());
    let devnet: Key = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG".parse().unwrap();
    assert_eq!(Network::of_genesis(&devnet.0), Network::devnet());
}
