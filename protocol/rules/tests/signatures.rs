//! A signature is accepted exactly when the equation of the specification holds for it, alone or in whatever company.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test's own small numbers, and a panic is its answer"
)]

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signature, VerifyingKey};
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha512};
use tallybook_rules::half_aggregation::{coefficient, transcript};
use tallybook_rules::signing::{Sha2, SignedVoucher, SignerKey, SigningKey, halves, verify_aggregate, verify_all};
use tallybook_rules::{Amount, Rejection};

/// A key of which the secret scalar is known, perhaps with a point of small order beside it.
#[derive(Clone, Copy, Debug)]
struct Own {
    secret: Scalar,
    public: [u8; 32],
}

impl Own {
    fn new(number: u64, torsion: usize) -> Self {
        let secret = Scalar::from(1_000 + number);
        Self { secret, public: (EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[torsion]).compress().0 }
    }

    /// Signs with a nonce that has a point of small order beside it.
    fn sign(&self, cumulative: u64, random: Scalar, torsion: usize) -> SignedVoucher {
        let nonce = (EdwardsPoint::mul_base(&random) + EIGHT_TORSION[torsion]).compress().0;
        self.sign_for(cumulative, random, nonce)
    }

    /// Signs as if `nonce` encoded this multiple of the base point.
    fn sign_for(&self, cumulative: u64, random: Scalar, nonce: [u8; 32]) -> SignedVoucher {
        let voucher = SignedVoucher { channel_id: [9; 32], cumulative: Amount::new(cumulative), signature: [0; 64] };
        let scalar = random + challenge(&voucher, &nonce, &self.public) * self.secret;
        SignedVoucher { signature: joined(&nonce, &scalar), ..voucher }
    }

    fn key(&self) -> SignerKey {
        SignerKey::decode(&self.public).unwrap()
    }
}

fn challenge(voucher: &SignedVoucher, nonce: &[u8; 32], public: &[u8; 32]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&hash(voucher, nonce, public))
}

fn hash(voucher: &SignedVoucher, nonce: &[u8; 32], public: &[u8; 32]) -> [u8; 64] {
    Sha512::digest([&nonce[..], public, &voucher.message()].concat()).into()
}

fn joined(nonce: &[u8; 32], scalar: &Scalar) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(nonce);
    signature[32..].copy_from_slice(scalar.as_bytes());
    signature
}

/// Adds to the scalar of a signature: what a forger does who has every honest one at hand.
fn moved(voucher: SignedVoucher, by: Scalar) -> SignedVoucher {
    let (nonce, scalar) = halves(&voucher.signature);
    let scalar = Scalar::from_canonical_bytes(*scalar).unwrap() + by;
    SignedVoucher { signature: joined(nonce, &scalar), ..voucher }
}

/// The equation of the specification, for a batch of one.
fn by_specification(voucher: &SignedVoucher, signer: &[u8; 32]) -> bool {
    verify_aggregate(&[(*voucher, *signer)], halves(&voucher.signature).1).is_ok()
}

fn strictly(voucher: &SignedVoucher, signer: &[u8; 32]) -> bool {
    let signature = Signature::from_bytes(&voucher.signature);
    VerifyingKey::from_bytes(signer).is_ok_and(|key| key.verify_strict(&voucher.message(), &signature).is_ok())
}

fn honest(count: u64) -> Vec<(SignedVoucher, SignerKey)> {
    let of = |number: u64| {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let key = SigningKey::from_bytes(&seed);
        let voucher = SignedVoucher::sign(&key, [7; 32], Amount::new(number));
        (voucher, SignerKey::decode(&key.verifying_key().to_bytes()).unwrap())
    };
    (0..count).map(of).collect()
}

/// Checks a group, and that each of it is answered as it is alone.
#[track_caller]
fn accepted(group: &[(SignedVoucher, SignerKey)]) -> Vec<bool> {
    let checked = verify_all(group);
    let alone: Vec<_> = group.iter().map(|(voucher, key)| voucher.verify(key.bytes())).collect();
    assert_eq!(checked.vouchers, alone, "alone and in a group");
    alone.iter().map(Result::is_ok).collect()
}

#[test]
fn given_honest_signatures_when_checked_in_groups_of_any_size_then_each_is_verified_without_a_second_look() {
    for count in (0..=5).chain([31, 32, 33, 64, 97, 200]) {
        let group = honest(count);
        let checked = verify_all(&group);
        assert!(checked.together, "{count}");
        for ((voucher, key), verified) in group.iter().zip(checked.vouchers) {
            let verified = verified.unwrap();
            assert_eq!((verified.voucher(), verified.signer()), (voucher, key.bytes()));
        }
    }
}

#[test]
fn given_a_forgery_in_any_place_when_checked_then_it_alone_is_refused() {
    for size in [2, 3, 16] {
        for at in 0..size {
            let mut group = honest(16);
            group.truncate(size);
            group[at].0.cumulative = Amount::new(1_000_000);
            let all_but_it: Vec<_> = (0..size).map(|place| place != at).collect();
            assert_eq!(accepted(&group), all_but_it);
            assert!(!verify_all(&group).together);
        }
    }
}

#[test]
fn given_what_cannot_be_read_when_checked_then_the_others_need_no_second_look() {
    let mut group = honest(4);
    // A scalar of L + its own, and a nonce that is no point.
    let scalar = halves(&group[1].0.signature).1.to_owned();
    let mut carry = 0u16;
    let order = (Scalar::ZERO - Scalar::ONE).to_bytes();
    for (at, byte) in group[1].0.signature[32..].iter_mut().enumerate() {
        let sum = u16::from(scalar[at]) + u16::from(order[at]) + u16::from(at == 0) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    let no_point = (0..=255).map(|byte| [byte; 32]).find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none());
    group[2].0.signature[..32].copy_from_slice(&no_point.unwrap());
    assert_eq!(accepted(&group), [true, false, false, true]);
    assert!(verify_all(&group).together);
}

#[test]
fn given_errors_that_cancel_when_checked_then_both_are_refused() {
    let honest = honest(2);
    let [(one, key_one), (two, key_two)] = honest.as_slice() else { unreachable!() };
    // In a plain sum; with the coefficients that a batch on chain would have; and with those of this very group before the
    // scalars were moved, or if they did not depend on them.
    let rows = [(one, key_one), (two, key_two)];
    let hashes = rows.map(|(voucher, key)| hash(voucher, halves(&voucher.signature).0, key.bytes()));
    let scalars = rows.map(|(voucher, _)| *halves(&voucher.signature).1);
    let head = [&b"tallybook:group:v1"[..], &2u16.to_le_bytes()].concat();
    let moved_since = [&head[..], &hashes[0], &scalars[0], &hashes[1], &scalars[1]].concat();
    let transcripts = [
        transcript::<Sha2>(2, &hashes.concat()),
        Sha256::digest(moved_since).into(),
        Sha256::digest([&head[..], &hashes.concat()].concat()).into(),
    ];
    let weights = transcripts.map(|transcript: [u8; 32]| {
        let seed = [&transcript[..], &1u16.to_le_bytes()].concat();
        let wide = coefficient::<Sha2>(seed.as_slice().try_into().unwrap());
        Scalar::from(u128::from_le_bytes(wide[..16].try_into().unwrap()))
    });
    for balance in weights.into_iter().chain([Scalar::ONE]) {
        let group = [(moved(*one, -balance), *key_one), (moved(*two, Scalar::ONE), *key_two)];
        assert_eq!(accepted(&group), [false, false]);
    }
}

#[test]
fn given_points_of_small_order_beside_keys_and_nonces_when_checked_then_alone_group_and_specification_agree() {
    let company = honest(3);
    let (mut only_ours, mut both) = (0, 0);
    for key_torsion in 0..8 {
        let own = Own::new(key_torsion, usize::try_from(key_torsion).unwrap());
        let mut group = company.clone();
        for (cumulative, nonce_torsion) in (1u64..).zip((0..8).cycle().take(24)) {
            let voucher = own.sign(cumulative, Scalar::from(77 + cumulative), nonce_torsion);
            assert!(by_specification(&voucher, &own.public), "only times eight counts on chain");
            match strictly(&voucher, &own.public) {
                true => both += 1,
                false => only_ours += 1,
            }
            assert_eq!(accepted(&[(voucher, own.key()), company[0]]), [true, true]);
            group.push((voucher, own.key()));
        }
        // All of them at once, in which their points of small order add up to anything.
        assert!(accepted(&group).iter().all(|accepted| *accepted));
        assert!(verify_all(&group).together);
    }
    assert!(both > 10 && only_ours > 100, "{both} strictly too, {only_ours} by the program's equation alone");
}

#[test]
fn given_nonces_of_small_order_in_any_encoding_when_checked_then_alone_group_and_specification_agree() {
    let own = Own::new(1, 0);
    let mut taken = 0;
    for nonce in odd_encodings() {
        let voucher = own.sign_for(5, Scalar::ZERO, nonce);
        let [accepted, _] = accepted(&[(voucher, own.key()), honest(1)[0]])[..] else { unreachable!() };
        assert_eq!(accepted, by_specification(&voucher, &own.public), "{nonce:02x?}");
        taken += usize::from(accepted);
        // For another's key no such nonce helps.
        let victim = honest(1)[0].1;
        for scalar in [Scalar::ZERO, Scalar::ONE] {
            let forged = SignedVoucher { signature: joined(&nonce, &scalar), ..voucher };
            assert_eq!(forged.verify_by(&victim), Err(Rejection::BadSignature));
        }
    }
    assert!(taken >= 8, "{taken}");
}

#[test]
fn given_keys_of_small_order_in_any_encoding_when_decoded_then_they_are_refused() {
    let small = odd_encodings().into_iter().filter(|bytes| {
        CompressedEdwardsY(*bytes).decompress().is_none_or(|point| point.mul_by_cofactor() == EdwardsPoint::default())
    });
    let refused = small.filter(|bytes| SignerKey::decode(bytes) == Err(Rejection::BadSignature)).count();
    assert!(refused >= 8, "{refused}");
    assert!(EIGHT_TORSION.iter().all(|point| SignerKey::decode(&point.compress().0).is_err()));
}

/// Points of small order, and all numbers from just below the field's prime on, with either sign.
fn odd_encodings() -> Vec<[u8; 32]> {
    let mut encodings: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    for low in 0xec..=0xff {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        encodings.push(bytes);
    }
    let signed = encodings.clone().into_iter().map(|mut bytes| {
        bytes[31] ^= 0x80;
        bytes
    });
    encodings.extend(signed);
    encodings
}

/// One signature of a group, and what is done to it.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Honest,
    Flipped { bit: usize },
    OtherKey,
    OtherAmount,
    MovedBy { scalar: u64 },
    Mixed { key: usize, nonce: usize },
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        4 => Just(Sent::Honest),
        1 => (0..512usize).prop_map(|bit| Sent::Flipped { bit }),
        1 => Just(Sent::OtherKey),
        1 => Just(Sent::OtherAmount),
        1 => (0..9u64).prop_map(|scalar| Sent::MovedBy { scalar }),
        2 => (0..8usize, 0..8usize).prop_map(|(key, nonce)| Sent::Mixed { key, nonce }),
    ]
}

fn apply(number: u64, sent: Sent) -> (SignedVoucher, SignerKey) {
    let (mut voucher, key) = honest(number + 1).pop().unwrap();
    match sent {
        Sent::Honest => {}
        Sent::Flipped { bit } => voucher.signature[bit / 8] ^= 1 << (bit % 8),
        Sent::OtherKey => return (voucher, honest(number + 2).pop().unwrap().1),
        Sent::OtherAmount => voucher.cumulative = Amount::new(u64::MAX),
        Sent::MovedBy { scalar } => voucher = moved(voucher, Scalar::from(scalar)),
        Sent::Mixed { key, nonce } => {
            let own = Own::new(number, key);
            return (own.sign(number, Scalar::from(5 + number), nonce), own.key());
        }
    }
    (voucher, key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_company_a_signature_has_it_is_accepted_as_by_the_specification(all in prop::collection::vec(sent(), 0..12)) {
        let group: Vec<_> = (0..).zip(all).map(|(number, sent)| apply(number, sent)).collect();
        let expected: Vec<_> = group.iter().map(|(voucher, key)| by_specification(voucher, key.bytes())).collect();
        prop_assert_eq!(accepted(&group), expected.clone());
        for ((voucher, key), ours) in group.iter().zip(expected) {
            prop_assert!(ours || !strictly(voucher, key.bytes()), "strict, and not ours");
        }
    }
}
