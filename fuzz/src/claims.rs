//! The data of claims, and batches of signatures that an adversary has made.
//!
//! The check is the one of `tallybook_rules::signing`, the plain form of what the program computes; that both decide alike
//! is held by tests against the program itself.

use super::input::{Input, edited};
use bytemuck::cast_slice;
use solana_address::Address;
use std::sync::OnceLock;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::instruction::Instructions;
use tallybook_rules::half_aggregation::{
    BELOW_ROW_BYTES, BelowRow, MAX_ROWS, ROW_BYTES, Row, SCALAR_BYTES, split_claim,
};
use tallybook_rules::signing::{
    SignedVoucher, SignerKey, SigningKey, VerifiedVoucher, aggregate, channel_id, halves, is_strong_signer,
    verify_aggregate, verify_all,
};
use tallybook_rules::{Amount, Rejection};

const PROGRAM: Instructions = Instructions::new(PROGRAM_ID);

/// The first byte says which.
pub(crate) fn claims(data: &[u8]) {
    let mut input = Input(data);
    match input.below(4) {
        0 => data_of_claim(input.rest()),
        1 => data_of_claim_below(input.rest()),
        2 => edited_batch(input),
        _ => any_signature(input),
    }
}

/// One whole scalar and 1 to 96 whole rows, or nothing; what is read is written as it was.
fn data_of_claim(data: &[u8]) {
    let Some((scalar, rows)) = split::<ROW_BYTES>(data) else { return };
    let rows: Vec<Row> = rows.iter().map(Row::from_bytes).collect();
    assert!(rows.iter().all(|row| row.cumulative < Amount::DEPOSIT_LIMIT));
    let written = PROGRAM.claim(&Address::default(), scalar, &rows).expect("what was read can be written");
    assert_eq!(written.data[1..], *data);
}

fn data_of_claim_below(data: &[u8]) {
    let Some((scalar, rows)) = split::<BELOW_ROW_BYTES>(data) else { return };
    let rows: Vec<BelowRow> = rows.iter().map(BelowRow::from_bytes).collect();
    for row in &rows {
        assert_eq!(row.check().is_ok(), row.amount <= row.signed.cumulative);
    }
    let written = PROGRAM.claim_below(&Address::default(), scalar, &rows).expect("what was read can be written");
    assert_eq!(written.data[1..], *data);
}

fn split<const ROW: usize>(data: &[u8]) -> Option<(&[u8; SCALAR_BYTES], &[[u8; ROW]])> {
    let rest = data.len().checked_sub(SCALAR_BYTES);
    let whole = rest.is_some_and(|rest| rest > 0 && rest % ROW == 0 && rest / ROW <= MAX_ROWS);
    match split_claim::<ROW>(data) {
        Ok(read) => {
            assert!(whole);
            Some(read)
        }
        Err(rejection) => {
            assert_eq!((whole, rejection), (false, Rejection::MalformedRows));
            None
        }
    }
}

/// Four channels of one page.
fn channels() -> &'static [(SigningKey, [u8; 32]); 4] {
    static CHANNELS: OnceLock<[(SigningKey, [u8; 32]); 4]> = OnceLock::new();
    CHANNELS.get_or_init(|| {
        [0u8, 1, 2, 3].map(|slot| {
            let key = SigningKey::from_bytes(&[slot + 1; 32]);
            let id = channel_id(&[7; 32], slot, 1, &[slot; 32], &key.verifying_key().to_bytes());
            (key, id)
        })
    })
}

/// An honest batch, and its bytes after some changes: taken only if it still says the same.
fn edited_batch(mut input: Input<'_>) {
    let count = usize::from(1 + input.below(3));
    let vouchers: Vec<VerifiedVoucher> = channels()[..count]
        .iter()
        .map(|(key, id)| {
            let voucher = SignedVoucher::sign(key, *id, Amount::new(u64::from(input.u16())));
            voucher.verify(key.verifying_key().as_bytes()).expect("an honest voucher verifies")
        })
        .collect();
    let scalar = aggregate(&vouchers).expect("honest vouchers aggregate");
    let rows = (0u8..).zip(&vouchers).map(|(slot, verified)| Row {
        slot,
        cumulative: verified.voucher().cumulative,
        nonce: *halves(&verified.voucher().signature).0,
    });
    let rows: Vec<[u8; ROW_BYTES]> = rows.map(|row| row.to_bytes().expect("below 2^48")).collect();
    let honest = [&scalar[..], cast_slice(&rows)].concat();
    let forged = edited(&honest, &mut input);
    let (scalar, rows) = split_claim::<ROW_BYTES>(&forged).expect("as long as before");
    let read: Option<Vec<_>> = rows.iter().map(|row| voucher_of(&Row::from_bytes(row))).collect();
    let taken = read.is_some_and(|rows| verify_aggregate(&rows, scalar).is_ok());
    assert_eq!(taken, forged == honest, "a batch is taken as it was signed, and in no other form");
}

/// The voucher that a row stands for, as the program rebuilds it from the slot.
fn voucher_of(row: &Row) -> Option<(SignedVoucher, [u8; 32])> {
    let (key, id) = channels().get(usize::from(row.slot))?;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&row.nonce);
    let voucher = SignedVoucher { channel_id: *id, cumulative: row.cumulative, signature };
    Some((voucher, key.verifying_key().to_bytes()))
}

/// Any key and any signature beside an honest one: accepted off chain, alone and in a group, exactly when the check on chain
/// passes it for a key that channels can be opened with; and then in every batch.
fn any_signature(mut input: Input<'_>) {
    let (key, id) = &channels()[0];
    let honest = SignedVoucher::sign(key, *id, Amount::new(5));
    let honest = honest.verify(key.verifying_key().as_bytes()).expect("an honest voucher verifies");
    let signed = SignedVoucher::sign(key, *id, Amount::new(u64::from(input.below(4))));
    let signer = edited(key.verifying_key().as_bytes(), &mut input).try_into().unwrap_or([0; 32]);
    let signature = edited(&signed.signature, &mut input).try_into().unwrap_or([0; 64]);
    let voucher = SignedVoucher { signature, ..signed };
    let collectable = verify_aggregate(&[(voucher, signer)], halves(&voucher.signature).1).is_ok();
    let verified = voucher.verify(&signer);
    assert_eq!(verified.is_ok(), is_strong_signer(&signer) && collectable, "accepted is what can be collected");
    if let Ok(key) = SignerKey::decode(&signer) {
        let honest_key = SignerKey::decode(honest.signer()).expect("an honest key");
        let group = verify_all(&[(*honest.voucher(), honest_key), (voucher, key), (*honest.voucher(), honest_key)]);
        assert_eq!(group.vouchers, [Ok(honest), verified, Ok(honest)], "whatever company it has");
    }
    let Ok(verified) = verified else { return };
    for rows in [vec![verified], vec![verified, honest], vec![honest, verified, verified]] {
        let scalar = aggregate(&rows).expect("verified vouchers aggregate");
        let plain: Vec<_> = rows.iter().map(|row| (*row.voucher(), *row.signer())).collect();
        assert_eq!(verify_aggregate(&plain, &scalar), Ok(()), "accepted off chain, and not on chain");
    }
}
