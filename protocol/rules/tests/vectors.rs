//! The golden vectors, made by an independent implementation in another language.

#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::as_conversions,
    reason = "a test"
)]

use serde_json::Value;
use tallybook_rules::Amount;
use tallybook_rules::Rejection;
use tallybook_rules::half_aggregation::{BelowRow, Row};
use tallybook_rules::signing::{
    SignedVoucher, SigningKey, VerifiedVoucher, aggregate, channel_id, halves, page_domain, verify_aggregate,
};

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let text = value.as_str().unwrap();
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

fn batches() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/vectors.json")).unwrap();
    vectors["batches"].as_array().unwrap().clone()
}

/// Signs the claims of a batch anew and compares every byte on the way.
fn vouchers(batch: &Value) -> Vec<VerifiedVoucher> {
    let domain = page_domain(&bytes(&batch["program_id"]), &bytes(&batch["genesis_hash"]), &bytes(&batch["page"]));
    assert_eq!(domain, bytes(&batch["page_domain"]));
    let claims = batch["claims"].as_array().unwrap();
    claims
        .iter()
        .map(|claim| {
            let slot = u8::try_from(claim["slot"].as_u64().unwrap()).unwrap();
            let generation = u32::try_from(claim["generation"].as_u64().unwrap()).unwrap();
            let signer = bytes(&claim["signer"]);
            let id = channel_id(&domain, slot, generation, &bytes(&claim["payer"]), &signer);
            assert_eq!(id, bytes(&claim["channel_id"]));
            let key = SigningKey::from_bytes(&bytes(&claim["signer_seed"]));
            let voucher = SignedVoucher::sign(&key, id, Amount::new(claim["cumulative"].as_u64().unwrap()));
            assert_eq!(voucher.message(), bytes(&claim["message"]));
            assert_eq!(voucher.signature, bytes(&claim["signature"]));
            voucher.verify(&signer).unwrap()
        })
        .collect()
}

fn rows(vouchers: &[VerifiedVoucher]) -> Vec<(SignedVoucher, [u8; 32])> {
    vouchers.iter().map(|voucher| (*voucher.voucher(), *voucher.signer())).collect()
}

#[test]
fn given_the_golden_batches_when_aggregated_then_every_byte_is_the_same() {
    let batches = batches();
    assert_eq!(batches.iter().map(|batch| batch["n"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 23]);
    for batch in &batches {
        let vouchers = vouchers(batch);
        let scalar = aggregate(&vouchers).unwrap();
        assert_eq!(scalar, bytes(&batch["s_agg"]));
        assert_eq!(verify_aggregate(&rows(&vouchers), &scalar), Ok(()));
    }
}

#[test]
fn given_one_voucher_when_aggregated_then_the_scalar_is_the_signatures_own() {
    let vouchers = vouchers(&batches()[0]);
    assert_eq!(aggregate(&vouchers).unwrap(), *halves(&vouchers[0].voucher().signature).1);
}

#[test]
fn given_a_batch_when_anything_is_changed_then_the_check_fails() {
    let vouchers = vouchers(&batches()[2]);
    let scalar = aggregate(&vouchers).unwrap();
    let good = rows(&vouchers);
    let mut forgeries = Vec::new();
    for row in 0..3 {
        let mut nonce = good.clone();
        nonce[row].0.signature[0] ^= 1;
        let mut amount = good.clone();
        amount[row].0.cumulative = Amount::new(amount[row].0.cumulative.get() + 1);
        let mut channel = good.clone();
        channel[row].0.channel_id[31] ^= 0x80;
        let mut signer = good.clone();
        signer[row].1 = good[(row + 1) % 3].1;
        let mut dropped = good.clone();
        dropped.remove(row);
        let mut permuted = good.clone();
        permuted.swap(row, (row + 1) % 3);
        forgeries.extend([nonce, amount, channel, signer, dropped, permuted]);
    }
    for forged in forgeries {
        assert!(verify_aggregate(&forged, &scalar).is_err());
    }
    for bit in 0..256 {
        let mut forged = scalar;
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_aggregate(&good, &forged).is_err(), "bit {bit} of the scalar");
    }
}

#[test]
fn given_a_row_when_written_and_read_then_it_is_the_same() {
    let row = Row { slot: 95, cumulative: Amount::MAX_DEPOSIT, nonce: [7; 32] };
    assert_eq!(Row::from_bytes(&row.to_bytes().unwrap()), row);
    assert!(Row { cumulative: Amount::DEPOSIT_LIMIT, ..row }.to_bytes().is_err());
    // What stands beside an amount is not of it.
    for (slot, nonce) in [(0xff, [0; 32]), (0, [0xff; 32])] {
        let row = Row { slot, cumulative: Amount::new(0x0102_0304_0506), nonce };
        assert_eq!(Row::from_bytes(&row.to_bytes().unwrap()), row);
        let below = BelowRow { signed: row, amount: Amount::ZERO };
        assert_eq!(BelowRow::from_bytes(&below.to_bytes().unwrap()), below);
        let below = BelowRow { signed: Row { cumulative: Amount::ZERO, ..row }, amount: Amount::MAX_DEPOSIT };
        assert_eq!(BelowRow::from_bytes(&below.to_bytes().unwrap()), below);
    }
}

#[test]
fn given_a_row_below_its_ceiling_when_written_and_read_then_it_is_the_same_and_never_above() {
    let signed = Row { slot: 3, cumulative: Amount::new(0x0102_0304_0506), nonce: [9; 32] };
    let row = BelowRow { signed, amount: Amount::new(0x0102_0304_0505) };
    let bytes = row.to_bytes().unwrap();
    assert_eq!(bytes[..13], [3, 6, 5, 4, 3, 2, 1, 5, 5, 4, 3, 2, 1]);
    assert_eq!((BelowRow::from_bytes(&bytes), row.check()), (row, Ok(())));
    assert_eq!(BelowRow { amount: signed.cumulative, ..row }.check(), Ok(()));
    let above = BelowRow { amount: Amount::new(0x0102_0304_0507), ..row };
    assert_eq!(BelowRow::from_bytes(&above.to_bytes().unwrap()), above);
    assert_eq!(above.check(), Err(Rejection::AmountAboveSigned));
}
