//! Forgers who know all there is to know: every key but the victim's, every coefficient of their batch, and every point of
//! the curve that is not quite one. Each is tried against the released program.
//!
//! Where the program takes or refuses something unusual, it does what `verify_aggregate` does, which is the equation of the
//! specification written plainly.

use crate::vouchers::Batch;
use crate::world::{Channel, TALLYBOOK, World, assert_rejected};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha512};
use solana_signer::Signer;
use tallybook_ledger::{Bundle, Finality, Ledger, PageSeen, Policy, Settings};
use tallybook_rules::half_aggregation::{Row, coefficient, transcript};
use tallybook_rules::signing::{Sha2, SignedVoucher, SignerKey, SigningKey, channel_id, verify_aggregate, verify_all};
use tallybook_rules::voucher::voucher_bytes;
use tallybook_rules::{Amount, Rejection};

const DEPOSIT: u64 = 10_000;
/// What the forger wants out of the victim's channel.
const PRIZE: u64 = 9_000;

/// A channel whose key is a scalar of the forger's choice, perhaps with a point of small order beside it.
struct Own {
    slot: u8,
    secret: Scalar,
    public: [u8; 32],
    id: [u8; 32],
}

/// What stands in a row, and whose key it is checked with.
type Signed = (Row, [u8; 32], [u8; 32]);

/// Opens a channel with any key as its signer.
fn open_for(world: &mut World, slot: u8, signer: [u8; 32]) -> [u8; 32] {
    let (mut new, payer, _) = world.opening(slot, DEPOSIT);
    new.signer = signer;
    let instruction = TALLYBOOK.open(&world.book_view(), &new);
    world.send(&[instruction], &[&payer]).unwrap();
    channel_id(&world.page_view().header.page_domain, slot, new.generation, payer.pubkey().as_array(), &signer)
}

fn own(world: &mut World, slot: u8, secret: Scalar, beside: EdwardsPoint) -> Own {
    let public = (EdwardsPoint::mul_base(&secret) + beside).compress().0;
    Own { slot, secret, public, id: open_for(world, slot, public) }
}

fn challenge(nonce: &[u8; 32], public: &[u8; 32], id: &[u8; 32], cumulative: u64) -> Scalar {
    let message = voucher_bytes(id, Amount::new(cumulative));
    Scalar::from_bytes_mod_order_wide(&Sha512::digest([&nonce[..], public, &message].concat()).into())
}

impl Own {
    /// Signs with this nonce, and a point of small order beside it.
    fn sign(&self, cumulative: u64, random: Scalar, beside: EdwardsPoint) -> (Scalar, Signed) {
        let nonce = (EdwardsPoint::mul_base(&random) + beside).compress().0;
        self.sign_for(cumulative, random, nonce)
    }

    /// Signs as if `nonce` were the encoding of this multiple of the base point.
    fn sign_for(&self, cumulative: u64, random: Scalar, nonce: [u8; 32]) -> (Scalar, Signed) {
        let scalar = random + challenge(&nonce, &self.public, &self.id, cumulative) * self.secret;
        (scalar, (row(self.slot, cumulative, nonce), self.id, self.public))
    }
}

impl Own {
    /// The voucher as it would be sent.
    fn voucher(&self, cumulative: u64, nonce: &[u8; 32], scalar: &Scalar) -> SignedVoucher {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(nonce);
        signature[32..].copy_from_slice(scalar.as_bytes());
        SignedVoucher { channel_id: self.id, cumulative: Amount::new(cumulative), signature }
    }
}

fn row(slot: u8, cumulative: u64, nonce: [u8; 32]) -> Row {
    Row { slot, cumulative: Amount::new(cumulative), nonce }
}

fn point(bytes: &[u8; 32]) -> EdwardsPoint {
    CompressedEdwardsY(*bytes).decompress().unwrap()
}

/// The coefficients of these rows, as anybody can compute them.
fn coefficients(rows: &[Signed]) -> Vec<Scalar> {
    let hashes: Vec<u8> = rows
        .iter()
        .flat_map(|(row, id, public)| {
            let message = voucher_bytes(id, row.cumulative);
            Sha512::digest([&row.nonce[..], public, &message].concat()).to_vec()
        })
        .collect();
    let count = u16::try_from(rows.len()).unwrap();
    let transcript = transcript::<Sha2>(count, &hashes);
    let weigh = |at: u16| {
        let mut seed = [0; 34];
        seed[..32].copy_from_slice(&transcript);
        seed[32..].copy_from_slice(&at.to_le_bytes());
        let wide = coefficient::<Sha2>(&seed);
        Scalar::from(u128::from_le_bytes(wide[..16].try_into().unwrap()))
    };
    (0..count).map(|at| if at == 0 { Scalar::ONE } else { weigh(at) }).collect()
}

/// The plain equation of the specification.
fn reference(rows: &[Signed], scalar: &[u8; 32]) -> Result<(), Rejection> {
    let plain: Vec<_> = rows
        .iter()
        .map(|(row, id, public)| {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&row.nonce);
            (SignedVoucher { channel_id: *id, cumulative: row.cumulative, signature }, *public)
        })
        .collect();
    verify_aggregate(&plain, scalar)
}

/// Claims rows with a scalar, and holds the program's word against the reference's.
#[track_caller]
fn try_claim(world: &mut World, rows: &[Signed], scalar: [u8; 32]) -> Result<(), Rejection> {
    let expected = reference(rows, &scalar);
    let batch = Batch { scalar, rows: rows.iter().map(|(row, ..)| *row).collect() };
    let sent = world.claim(&batch);
    match expected {
        Ok(()) => drop(sent.expect("the specification's equation holds")),
        Err(rejection) => assert_rejected(sent, rejection),
    }
    expected
}

/// A victim in slot 0 with an honest voucher over little, and what the forger knows of it.
fn victim() -> (World, Channel, [u8; 32]) {
    let (world, mut channels) = World::with_channels(1, DEPOSIT);
    let victim = channels.remove(0);
    let public = victim.signer.verifying_key().to_bytes();
    (world, victim, public)
}

#[track_caller]
fn assert_untouched(world: &World) {
    assert_eq!(world.page_view().slots[0].settled, Amount::ZERO, "the victim's channel is settled by a forgery");
}

#[test]
fn given_rogue_keys_made_of_the_victims_when_claimed_together_then_they_do_not_cancel_it() {
    let (mut world, victim, public) = victim();
    let key = point(&public);
    let x = Scalar::from(77u64);
    // −A, x·B − A, and A itself: what cancels or doubles the victim's key in a scheme whose challenges forget the key.
    for (slot, rogue) in (1u8..).zip([-key, EdwardsPoint::mul_base(&x) - key, key]) {
        let rogue = rogue.compress().0;
        let id = open_for(&mut world, slot, rogue);
        for seed in 0..4u64 {
            let [r, q] = [Scalar::from(1_000 + seed), Scalar::from(2_000 + seed)];
            let nonces = [r, q].map(|r| EdwardsPoint::mul_base(&r).compress().0);
            let rows = [(row(0, PRIZE, nonces[0]), victim.id, public), (row(slot, PRIZE, nonces[1]), id, rogue)];
            let z = coefficients(&rows)[1];
            let k = challenge(&nonces[1], &rogue, &id, PRIZE);
            // What the sum would be if the two keys had cancelled, with each set of weights.
            for scalar in [r + z * q, r + q, r + z * (q + k * x), r + q + k * x, z * k * x] {
                let forged = try_claim(&mut world, &rows, scalar.to_bytes());
                assert_eq!(forged, Err(Rejection::SignatureMismatch));
            }
        }
    }
    assert_untouched(&world);
}

#[test]
fn given_nonces_chosen_after_all_else_when_claimed_then_the_challenges_have_changed_with_them() {
    let (mut world, victim, public) = victim();
    let helper = own(&mut world, 1, Scalar::from(5u64), EdwardsPoint::default());
    let key = point(&public);
    let mut nonce = EdwardsPoint::mul_base(&Scalar::from(9u64)).compress().0;
    for round in 0..6u64 {
        // R = t·B − k·A would make up for the missing signature, were k not of R itself. Each round takes the challenge of
        // the round before.
        let t = Scalar::from(100 + round);
        let k = challenge(&nonce, &public, &victim.id, PRIZE);
        nonce = (EdwardsPoint::mul_base(&t) - k * key).compress().0;
        let forged = (row(0, PRIZE, nonce), victim.id, public);
        assert_eq!(try_claim(&mut world, &[forged], t.to_bytes()), Err(Rejection::SignatureMismatch));

        // The forger's own row comes last and makes up for the victim's, with the weights of the row before it was chosen.
        let (s, honest) = helper.sign(50, Scalar::from(3 + round), EdwardsPoint::default());
        let weights = coefficients(&[forged, honest]);
        let missing = point(&nonce) + challenge(&nonce, &public, &victim.id, PRIZE) * key - EdwardsPoint::mul_base(&t);
        let made_up = (point(&honest.0.nonce) - weights[1].invert() * missing).compress().0;
        let last = (row(1, 50, made_up), helper.id, helper.public);
        for order in [[forged, last], [last, forged]] {
            for scalar in [t + weights[1] * s, t + s, s, t] {
                let claimed = try_claim(&mut world, &order, scalar.to_bytes());
                assert_eq!(claimed, Err(Rejection::SignatureMismatch));
            }
        }
    }
    assert_untouched(&world);
}

#[test]
fn given_errors_that_cancel_under_the_weights_of_before_when_claimed_then_the_weights_are_others() {
    let (mut world, victim, public) = victim();
    let helper = own(&mut world, 1, Scalar::from(5u64), EdwardsPoint::default());
    let honest = crate::vouchers::voucher(&victim, 40).1;
    let nonce = honest.voucher().signature[..32].try_into().unwrap();
    let s0 = Scalar::from_canonical_bytes(honest.voucher().signature[32..].try_into().unwrap()).unwrap();
    let (s1, second) = helper.sign(50, Scalar::from(3u64), EdwardsPoint::default());
    let rows = [(row(0, 40, nonce), victim.id, public), second];
    let z = coefficients(&rows)[1];
    for error in 1..4u64 {
        // Equal and opposite errors in the two nonces, weighed so that the old sum does not change.
        let error = EdwardsPoint::mul_base(&Scalar::from(error));
        let mut moved = rows;
        moved[0].0.nonce = (point(&nonce) + z * error).compress().0;
        moved[1].0.nonce = (point(&second.0.nonce) - error).compress().0;
        assert_eq!(try_claim(&mut world, &moved, (s0 + z * s1).to_bytes()), Err(Rejection::SignatureMismatch));
        // Small combinations of what is known, with the prize in place of what was signed.
        let mut prize = rows;
        prize[0].0.cumulative = Amount::new(PRIZE);
        let new = coefficients(&prize)[1];
        for a in 0..3u64 {
            for b in 0..3u64 {
                let scalar = Scalar::from(a) * s0 + Scalar::from(b) * new * s1;
                assert_eq!(try_claim(&mut world, &prize, scalar.to_bytes()), Err(Rejection::SignatureMismatch));
            }
        }
    }
    assert_untouched(&world);
    assert_eq!(try_claim(&mut world, &rows, (s0 + z * s1).to_bytes()), Ok(()), "as they were signed");
}

/// 2^252 + 27742317777372353535851937790883648493 and its neighbours, little-endian.
fn edge_scalars() -> Vec<([u8; 32], bool)> {
    let below = (-Scalar::ONE).to_bytes();
    let plus = |amount: u8| {
        let mut bytes = below;
        bytes[0] += amount;
        bytes
    };
    let mut power = [0; 32];
    power[31] = 0x10;
    let mut top = power;
    top[31] = 0x80;
    vec![
        ([0; 32], true),
        (Scalar::ONE.to_bytes(), true),
        (power, true), // 2^252, which is below the order
        (below, true), // L − 1
        (plus(1), false),
        (plus(2), false),
        (top, false),
        ([0xff; 32], false),
    ]
}

#[test]
fn given_scalars_at_every_edge_when_claimed_then_those_from_the_order_on_are_refused_as_such() {
    let (mut world, victim, public) = victim();
    let helper = own(&mut world, 1, Scalar::from(5u64), EdwardsPoint::default());
    let honest = crate::vouchers::voucher(&victim, 40).1;
    let nonce = honest.voucher().signature[..32].try_into().unwrap();
    let one = [(row(0, 40, nonce), victim.id, public)];
    let two = [one[0], helper.sign(50, Scalar::from(3u64), EdwardsPoint::default()).1];
    for (scalar, is_canonical) in edge_scalars() {
        let expected = if is_canonical { Rejection::SignatureMismatch } else { Rejection::ScalarNotCanonical };
        for rows in [&one[..], &two[..]] {
            assert_eq!(try_claim(&mut world, rows, scalar), Err(expected), "{scalar:02x?}");
        }
    }
    // A signature that holds, with the order added to its scalar: the same number, in a second spelling.
    let (scalar, signed) = helper.sign(60, Scalar::from(11u64), EdwardsPoint::default());
    let (order, mut carry) = (edge_scalars()[4].0, 0u16);
    let above: [u8; 32] = std::array::from_fn(|at| {
        let sum = u16::from(scalar.to_bytes()[at]) + u16::from(order[at]) + carry;
        carry = sum >> 8;
        u8::try_from(sum & 0xff).unwrap()
    });
    assert_eq!(try_claim(&mut world, &[signed], above), Err(Rejection::ScalarNotCanonical));
    assert_eq!(try_claim(&mut world, &[signed], scalar.to_bytes()), Ok(()));
    assert_untouched(&world);
}

/// Encodings of nonces that are nearly none: small order, both signs, and numbers from the field's prime on.
fn edge_points() -> Vec<[u8; 32]> {
    let mut points: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    // p − 1, p, p + 1, … 2^255 − 1: 19 of them from the prime on, each with either sign bit.
    for low in 0xec..=0xff {
        let mut bytes = [0xff; 32];
        bytes[0] = low;
        bytes[31] = 0x7f;
        points.push(bytes);
    }
    let negative: Vec<[u8; 32]> = points
        .iter()
        .map(|bytes| {
            let mut bytes = *bytes;
            bytes[31] ^= 0x80;
            bytes
        })
        .collect();
    points.extend(negative);
    points
}

#[test]
fn given_every_odd_encoding_of_a_nonce_when_its_own_signer_uses_it_then_program_and_specification_agree() {
    let (mut world, victim, public) = victim();
    let helper = own(&mut world, 1, Scalar::from(5u64), EdwardsPoint::default());
    let (mut taken, mut refused) = (0, 0);
    for (cumulative, nonce) in (100u64..).zip(edge_points()) {
        // With a nonce of small order the scalar is k·a: it gives its signer's key away, and nothing else.
        let (scalar, signed) = helper.sign_for(cumulative, Scalar::ZERO, nonce);
        let claimed = try_claim(&mut world, &[signed], scalar.to_bytes()).is_ok();
        if claimed {
            taken += 1
        } else {
            refused += 1
        }
        // Off chain it is accepted exactly when the program takes it, alone and in company.
        let voucher = helper.voucher(cumulative, &nonce, &scalar);
        assert_eq!(voucher.verify(&helper.public).is_ok(), claimed);
        assert_eq!(in_company(&voucher, &helper.public), claimed);
        // For a key that the forger does not have, no such nonce helps.
        let forged = (row(0, PRIZE, nonce), victim.id, public);
        for scalar in [Scalar::ZERO, scalar] {
            let claimed = try_claim(&mut world, &[forged], scalar.to_bytes());
            assert_eq!(claimed, Err(Rejection::SignatureMismatch));
            let voucher = SignedVoucher { channel_id: victim.id, ..helper.voucher(PRIZE, &nonce, &scalar) };
            assert_eq!(voucher.verify(&public), Err(Rejection::BadSignature));
            assert!(!in_company(&voucher, &public));
        }
    }
    assert!(taken > 8 && refused > 8, "{taken} taken, {refused} refused");
    assert_untouched(&world);
}

#[test]
fn given_keys_and_nonces_of_mixed_order_when_the_ledger_accepts_them_then_the_program_settles_them() {
    let mut ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
    let policy = Policy { per_call: true, ..Policy::default() };
    let (mut world, _, _) = victim();
    let mixed: Vec<Own> = (1..8u8)
        .map(|at| own(&mut world, at, Scalar::from(50 + u64::from(at)), EIGHT_TORSION[usize::from(at)]))
        .collect();
    let (mut strict, mut strange) = (0, 0);
    for (cumulative, torsion) in (1u64..).map(|call| call * 10).zip(EIGHT_TORSION.iter().cycle().take(24)) {
        let mut group = Vec::new();
        for channel in &mixed {
            let (scalar, signed) = channel.sign(cumulative, Scalar::from(7_000 + cumulative), *torsion);
            let voucher = channel.voucher(cumulative, &signed.0.nonce, &scalar);
            // Without the cofactor the torsion would have to cancel exactly, which depends on the challenge.
            let k = challenge(&signed.0.nonce, &channel.public, &channel.id, cumulative);
            let rest = k * (point(&channel.public) - EdwardsPoint::mul_base(&channel.secret)) + torsion;
            assert_eq!(is_strict(&voucher, &channel.public), rest.is_identity());
            if rest.is_identity() {
                strict += 1
            } else {
                strange += 1
            }
            assert!(in_company(&voucher, &channel.public));
            group.push((voucher, SignerKey::decode(&channel.public).unwrap()));
        }
        let verified: Vec<_> = verify_all(&group).vouchers.into_iter().map(Result::unwrap).collect();
        let alone: Vec<_> = group.iter().map(|(voucher, key)| voucher.verify(key.bytes()).unwrap()).collect();
        assert_eq!(verified, alone);
        let view = world.page_view();
        let seen = PageSeen { address: [7; 32], chain_slot: cumulative, header: &view.header, slots: &view.slots };
        ledger.observe(&seen, Finality::Confirmed, world.now()).unwrap();
        for voucher in verified {
            ledger.reserve(voucher, Amount::new(10), world.now(), world.now() + 60).unwrap();
            ledger.commit(voucher.voucher(), Amount::new(10), world.now()).unwrap();
        }
        // Each alone and all in one batch, in turn.
        let policy = Policy { rows_per_batch: if cumulative % 20 == 0 { 1 } else { 23 }, ..policy };
        for batch in ledger.plan(world.now(), &policy).into_iter().flat_map(Bundle::into_batches) {
            let rows = batch.rows().iter().map(|row| (row.slot, row.voucher));
            world.claim(&Batch::from_signed(rows)).expect("what the ledger accepts the program settles");
        }
        let slots = world.page_view().slots;
        assert!(mixed.iter().all(|channel| slots[usize::from(channel.slot)].settled.get() == cumulative));
    }
    println!("{} vouchers of mixed order accepted and settled, {strict} of them strict too", strict + strange);
    assert!(strict > 10 && strange > 100, "{strict} strict, {strange} not");
}

/// Whether a voucher is accepted among honest ones, which are in any case.
fn in_company(voucher: &SignedVoucher, signer: &[u8; 32]) -> bool {
    let honest = |number: u8| {
        let key = SigningKey::from_bytes(&[number; 32]);
        let key_of = SignerKey::decode(&key.verifying_key().to_bytes()).unwrap();
        (SignedVoucher::sign(&key, [number; 32], Amount::new(1)), key_of)
    };
    let group = [honest(1), (*voucher, SignerKey::decode(signer).unwrap()), honest(2)];
    let [before, it, after] = verify_all(&group).vouchers[..] else { unreachable!() };
    assert!(before.is_ok() && after.is_ok());
    it.is_ok()
}

fn is_strict(voucher: &SignedVoucher, signer: &[u8; 32]) -> bool {
    let signature = Signature::from_bytes(&voucher.signature);
    VerifyingKey::from_bytes(signer).unwrap().verify_strict(&voucher.message(), &signature).is_ok()
}
