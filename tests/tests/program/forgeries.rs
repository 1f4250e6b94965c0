//! Claiming: what is refused, and the one malleability that the protocol allows.

use crate::vouchers::Batch;
use crate::world::{Channel, World, assert_rejected, key};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest, Sha512};
use solana_instruction::Instruction;
use tallybook_rules::half_aggregation::Row;
use tallybook_rules::signing::page_domain;
use tallybook_rules::voucher::voucher_bytes;
use tallybook_rules::{Amount, Rejection};

const ROWS: u8 = 8;
const DEPOSIT: u64 = 10_000;

/// A world of eight channels with a free ninth slot, and an honest batch of them.
fn honest() -> (World, Vec<Channel>, Batch) {
    let (world, channels) = {
        let mut world = World::with(crate::world::Setup { capacity: 9, ..Default::default() });
        let channels: Vec<_> = (0..ROWS).map(|slot| world.open(slot, DEPOSIT)).collect();
        (world, channels)
    };
    let vouchers: Vec<_> = channels.iter().map(|channel| (channel, 5_000 + u64::from(channel.slot))).collect();
    let batch = Batch::of(&vouchers);
    (world, channels, batch)
}

#[test]
fn given_an_honest_batch_when_anything_in_it_is_changed_then_it_is_refused() {
    let (mut world, channels, honest) = honest();
    let cases: [(&str, fn(&mut Batch)); 12] = [
        ("a bit of the first nonce point", |batch| batch.rows[0].nonce[0] ^= 1),
        ("a bit of the last nonce point", |batch| batch.rows[7].nonce[31] ^= 0x80),
        ("a bit of the scalar", |batch| batch.scalar[3] ^= 1),
        ("the top bits of the scalar", |batch| batch.scalar[31] ^= 0x08),
        ("an amount, by one more", |batch| batch.rows[3].cumulative = Amount::new(5_004)),
        ("an amount, by one less", |batch| batch.rows[3].cumulative = Amount::new(5_002)),
        ("an amount, to nothing", |batch| batch.rows[3].cumulative = Amount::ZERO),
        ("two slots", |batch| (batch.rows[2].slot, batch.rows[5].slot) = (5, 2)),
        ("the order of two rows", |batch| batch.rows.swap(2, 5)),
        ("two nonce points", |batch| {
            let [a, b] = [batch.rows[1].nonce, batch.rows[2].nonce];
            (batch.rows[1].nonce, batch.rows[2].nonce) = (b, a);
        }),
        ("the number of rows, by one less", |batch| batch.rows.truncate(7)),
        ("the number of rows, by one twice", |batch| batch.rows.push(batch.rows[7])),
    ];
    for (what, change) in cases {
        let mut forged = honest.clone();
        change(&mut forged);
        let sent = world.claim(&forged);
        assert!(sent.is_err(), "changed: {what}");
        assert_rejected(sent, Rejection::SignatureMismatch);
    }
    world.claim(&honest).expect("unchanged");
    let mut permuted: Vec<_> = channels.iter().map(|channel| (channel, 6_000)).collect();
    permuted.swap(2, 5);
    world.claim(&Batch::of(&permuted)).expect("another order, aggregated anew");
}

#[test]
fn given_forged_vouchers_that_cancel_out_in_a_plain_sum_when_claimed_then_they_are_refused() {
    // Without coefficients, (s_0 + d) and (s_1 − d) would pass; likewise a row of the forger's own making.
    let (mut world, channels, _) = honest();
    let one = Batch::of(&[(&channels[0], 1_000)]);
    let other = Batch::of(&[(&channels[1], 1_000)]);
    let [a, b] = [&one, &other].map(|batch| Scalar::from_canonical_bytes(batch.scalar).unwrap());
    let sum = Batch { scalar: (a + b).to_bytes(), rows: vec![one.rows[0], other.rows[0]] };
    assert_rejected(world.claim(&sum), Rejection::SignatureMismatch);
}

#[test]
fn given_rows_of_slots_that_are_not_there_when_claimed_then_they_are_refused_by_their_name() {
    let (mut world, _, honest) = honest();
    for (slot, rejection) in [(8, Rejection::SlotFree), (9, Rejection::NoSuchSlot), (255, Rejection::NoSuchSlot)] {
        let mut forged = honest.clone();
        forged.rows[3].slot = slot;
        assert_rejected(world.claim(&forged), rejection);
    }
}

#[test]
fn given_a_scalar_from_the_group_order_on_when_claimed_then_it_is_refused() {
    let (mut world, _, honest) = honest();
    let order: [u8; 32] = {
        let mut bytes = (-Scalar::ONE).to_bytes();
        bytes[0] += 1;
        bytes
    };
    let mut carry = 0;
    let plus_order: [u8; 32] = std::array::from_fn(|at| {
        let sum = u16::from(honest.scalar[at]) + u16::from(order[at]) + carry;
        carry = sum >> 8;
        u8::try_from(sum & 0xff).unwrap()
    });
    for scalar in [order, plus_order, [0xff; 32]] {
        let forged = Batch { scalar, ..honest.clone() };
        assert_rejected(world.claim(&forged), Rejection::ScalarNotCanonical);
    }
    let zero = Batch { scalar: [0; 32], ..honest };
    assert_rejected(world.claim(&zero), Rejection::SignatureMismatch);
}

#[test]
fn given_data_that_is_no_scalar_and_whole_rows_when_claimed_then_it_is_refused() {
    let (mut world, _, honest) = honest();
    let good = honest.instruction(&world.page);
    let with = |data: Vec<u8>| Instruction { data, ..good.clone() };
    let (whole, row) = (good.data.clone(), &good.data[33..33 + 39]);
    let too_many = [&whole[..33], &row.repeat(97)].concat();
    let cases = [
        with(whole[..1].to_vec()),
        with(whole[..20].to_vec()),
        with(whole[..33].to_vec()),
        with(whole[..whole.len() - 1].to_vec()),
        with([&whole[..], &[0]].concat()),
    ];
    for instruction in cases {
        world.refuses(instruction, &[], Rejection::MalformedRows);
    }
    // 97 rows do not fit a transaction, so the limit of 96 is held by the rules' own tests.
    assert!(too_many.len() > 1_232);
}

#[test]
fn given_nonce_points_that_are_no_points_or_of_small_order_when_claimed_then_they_are_refused() {
    let (mut world, channels, honest) = honest();
    let mut nonces: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    nonces.extend([[0xff; 32], crate::world::no_point()]);
    for nonce in nonces {
        let mut forged = honest.clone();
        forged.rows[4].nonce = nonce;
        assert_rejected(world.claim(&forged), Rejection::SignatureMismatch);
        for scalar in [[0; 32], honest.scalar] {
            let row = Row { slot: 0, cumulative: Amount::new(1_000), nonce };
            let alone = Batch { scalar, rows: vec![row] };
            assert_rejected(world.claim(&alone), Rejection::SignatureMismatch);
        }
    }
    world.claim(&Batch::of(&[(&channels[0], 1_000)])).unwrap();
}

#[test]
fn given_a_voucher_of_another_key_page_cluster_or_program_when_claimed_then_it_is_refused() {
    let (mut world, mut channels, _) = honest();
    let header = world.page_view().header;
    let (program, genesis, page) =
        (tallybook_chain::PROGRAM_ID.to_bytes(), crate::world::GENESIS, world.page.to_bytes());
    let id = channels[0].id;
    for domain in [
        page_domain(&[1; 32], &genesis, &page),
        page_domain(&program, &[2; 32], &page),
        page_domain(&program, &genesis, &[3; 32]),
    ] {
        assert_ne!(domain, header.page_domain);
        let slot = world.page_view().slots[0];
        channels[0].id = tallybook_rules::signing::channel_id(&domain, 0, 1, &slot.payer, &slot.signer);
        assert_rejected(world.claim(&Batch::of(&[(&channels[0], 1_000)])), Rejection::SignatureMismatch);
    }
    channels[0].id = id;
    channels[0].signer = ed25519_dalek::SigningKey::from_bytes(key("thief").secret_bytes());
    assert_rejected(world.claim(&Batch::of(&[(&channels[0], 1_000)])), Rejection::SignatureMismatch);
}

/// A voucher whose signer added a point of small order to its nonce point, which only the signer can do.
fn with_torsion(channel: &Channel, cumulative: u64, torsion: &EdwardsPoint) -> ([u8; 32], Row) {
    let hash: [u8; 64] = Sha512::digest(channel.signer.to_bytes()).into();
    let secret = Scalar::from_bytes_mod_order(clamp_integer(hash[..32].try_into().unwrap()));
    let public = channel.signer.verifying_key().to_bytes();
    let message = voucher_bytes(&channel.id, Amount::new(cumulative));
    let random = Scalar::from_bytes_mod_order_wide(&Sha512::digest([&hash[32..], &message[..]].concat()).into());
    let nonce = (EdwardsPoint::mul_base(&random) + torsion).compress().0;
    let challenge = Sha512::digest([&nonce[..], &public, &message].concat()).into();
    let scalar = random + Scalar::from_bytes_mod_order_wide(&challenge) * secret;
    let row = Row { slot: channel.slot, cumulative: Amount::new(cumulative), nonce };
    (scalar.to_bytes(), row)
}

#[test]
fn given_a_nonce_point_with_torsion_by_its_own_signer_when_claimed_then_the_cofactored_check_takes_it() {
    let (mut world, channels, _) = honest();
    for (at, torsion) in EIGHT_TORSION.iter().enumerate() {
        let cumulative = 2_000 + u64::try_from(at).unwrap();
        let (scalar, row) = with_torsion(&channels[0], cumulative, torsion);
        let mut flipped = scalar;
        flipped[1] ^= 1;
        let forged = Batch { scalar: flipped, rows: vec![row] };
        assert_rejected(world.claim(&forged), Rejection::SignatureMismatch);
        world.claim(&Batch { scalar, rows: vec![row] }).expect("8 · (…) is the identity");
        assert_eq!(world.page_view().slots[0].settled.get(), cumulative);
    }
}
