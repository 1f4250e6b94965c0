//! The engine against the reference of `tallybook_rules::signing`, on the host's curve and hashes.

use super::*;
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tallybook_rules::Amount;
use tallybook_rules::signing::{
    SignedVoucher, SigningKey, VerifiedVoucher, aggregate, halves, is_strong_signer, verify_aggregate,
};
use tallybook_rules::voucher::channel_id;

const DOMAIN: [u8; 32] = [7; 32];

/// A page of channels, one signer each, and a voucher for every channel.
struct Batch {
    slots: Vec<Slot>,
    vouchers: Vec<VerifiedVoucher>,
    rows: Vec<[u8; ROW_BYTES]>,
}

impl Batch {
    fn of(count: u8, random: &mut StdRng) -> Self {
        let mut batch = Self { slots: Vec::new(), vouchers: Vec::new(), rows: Vec::new() };
        for at in 0..count {
            let key = SigningKey::from_bytes(&random.random());
            let slot = Slot {
                payer: random.random(),
                signer: key.verifying_key().to_bytes(),
                generation: random.next_u32(),
                ..Slot::default()
            };
            let channel = channel_id::<Runtime>(&DOMAIN, at, slot.generation, &slot.payer, &slot.signer);
            let cumulative = Amount::new(random.next_u64() >> 16);
            let voucher = SignedVoucher::sign(&key, channel, cumulative);
            let nonce = *halves(&voucher.signature).0;
            batch.rows.push(Row { slot: at, cumulative, nonce }.to_bytes().unwrap());
            batch.vouchers.push(voucher.verify(&slot.signer).unwrap());
            batch.slots.push(slot);
        }
        batch
    }

    fn scalar(&self) -> [u8; 32] {
        aggregate(&self.vouchers).unwrap()
    }

    fn check(&self, scalar: &[u8; 32]) -> Result<(), Rejection> {
        check_batch(&DOMAIN, &self.slots, scalar, &self.rows)
    }
}

#[test]
fn honest_batches_of_every_size_pass_as_by_the_reference() {
    let mut random = StdRng::seed_from_u64(1);
    for count in (1..=24).chain([95, 96]) {
        let batch = Batch::of(count, &mut random);
        let scalar = batch.scalar();
        let reference: Vec<_> = batch.vouchers.iter().map(|v| (*v.voucher(), *v.signer())).collect();
        assert_eq!(verify_aggregate(&reference, &scalar), Ok(()));
        assert_eq!(batch.check(&scalar), Ok(()), "{count} rows");
    }
}

#[test]
fn any_flipped_bit_of_scalar_or_row_is_refused() {
    let mut random = StdRng::seed_from_u64(2);
    let honest = Batch::of(5, &mut random);
    let scalar = honest.scalar();
    for bit in 0..256 {
        let mut forged = scalar;
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(honest.check(&forged).is_err(), "bit {bit} of the scalar");
    }
    for bit in 0..ROW_BYTES * 8 {
        let mut batch = Batch { slots: honest.slots.clone(), vouchers: Vec::new(), rows: honest.rows.clone() };
        batch.rows[3][bit / 8] ^= 1 << (bit % 8);
        assert!(batch.check(&scalar).is_err(), "bit {bit} of row 3");
    }
}

#[test]
fn a_row_of_another_slot_generation_payer_signer_or_page_is_refused() {
    let mut random = StdRng::seed_from_u64(3);
    let batch = Batch::of(3, &mut random);
    let scalar = batch.scalar();
    let changes: [fn(&mut Slot); 3] = [|s| s.generation ^= 1, |s| s.payer[31] ^= 1, |s| s.signer = [0x58; 32]];
    for change in changes {
        let mut slots = batch.slots.clone();
        change(&mut slots[1]);
        assert!(check_batch(&DOMAIN, &slots, &scalar, &batch.rows).is_err());
    }
    assert_eq!(check_batch(&[8; 32], &batch.slots, &scalar, &batch.rows), Err(Rejection::SignatureMismatch));
    let mut swapped = batch.rows.clone();
    swapped.swap(0, 2);
    assert_eq!(check_batch(&DOMAIN, &batch.slots, &scalar, &swapped), Err(Rejection::SignatureMismatch));
    assert_eq!(check_batch(&DOMAIN, &batch.slots, &scalar, &batch.rows[..2]), Err(Rejection::SignatureMismatch));
    assert_eq!(check_batch(&DOMAIN, &batch.slots[..2], &scalar, &batch.rows), Err(Rejection::NoSuchSlot));
}

#[test]
fn scalars_are_canonical_below_the_order_only() {
    let order: [u8; 32] = cast(ORDER);
    let mut below = order;
    below[0] -= 1;
    assert_eq!(canonical(&below), Ok([ORDER[0] - 1, ORDER[1], ORDER[2], ORDER[3]]));
    assert_eq!(canonical(&[0; 32]), Ok([0; 4]));
    for (byte, more) in [(0, 0), (0, 1), (8, 1), (16, 1), (31, 1), (31, 0xe0)] {
        let mut scalar = order;
        scalar[byte] += more;
        assert_eq!(canonical(&scalar), Err(Rejection::ScalarNotCanonical), "{scalar:02x?}");
    }
}

#[test]
fn signers_are_weak_exactly_where_the_rules_say_so() {
    let mut random = StdRng::seed_from_u64(4);
    let mut keys: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    // every y from p − 19 to 2^255 − 1, with both signs: among them all encodings of y that are not canonical
    for low in 0..=0xff {
        for sign in [0x7f, 0xff] {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (low, sign);
            keys.push(key);
            keys.push(core::array::from_fn(|at| {
                if at == 0 {
                    low
                } else if at == 31 {
                    sign & 0x80
                } else {
                    0
                }
            }));
        }
    }
    for _ in 0..2_000 {
        keys.push(random.random());
        let strong = SigningKey::from_bytes(&random.random()).verifying_key().to_bytes();
        keys.push(strong);
        let mixed = CompressedEdwardsY(strong).decompress().unwrap() + EIGHT_TORSION[random.random_range(1..8)];
        keys.push(mixed.compress().0);
    }
    let weak = keys.iter().filter(|key| check_signer(key).is_err()).count();
    assert!(weak > 1_000 && weak < keys.len() - 4_000, "both kinds are there");
    for key in keys {
        assert_eq!(check_signer(&key).is_ok(), is_strong_signer(&key), "{key:02x?}");
    }
}
