#![allow(clippy::arithmetic_side_effects, reason = "a test counts far from every limit")]

use super::*;
use crate::board::Seat;
use crate::slab::CHUNK;
use proptest::prelude::*;
use std::collections::HashMap;
use tallybook_rules::signing::{SignedVoucher, SigningKey};

/// One of eight ids: the first byte tells them apart.
fn id(number: u8) -> [u8; 32] {
    let mut id = [9; 32];
    id[0] = number % 8;
    id
}

fn paid(number: u8, cumulative: u64) -> VerifiedVoucher {
    let key = SigningKey::from_bytes(&[5; 32]);
    let voucher = SignedVoucher::sign(&key, id(number), Amount::new(cumulative));
    voucher.verify(&key.verifying_key().to_bytes()).unwrap()
}

fn call(voucher: &SignedVoucher, charge: Option<u64>) -> LastCall {
    LastCall { cumulative: voucher.cumulative, signature: voucher.signature, charge: charge.map(Amount::new) }
}

prop_compose! {
    /// Any channel of one of eight ids, whether it could stand like this or not.
    fn channel()(
        number: u8, page in 0u8..3, slot: u8, generation: u32, status_byte in 0u8..=2, numbers: [u32; 6],
        times: [i64; 5], signed in 0u64..4, last in 0u8..5, charge in proptest::option::of(any::<u64>()), reserved: bool,
        in_flight: bool, rare: bool,
    ) -> Channel {
        let amount = |at: usize| Amount::new(numbers[at].into());
        let newest = match (signed, in_flight) {
            (0, _) => Newest::None,
            (1, true) => Newest::Unproven(*paid(number, signed).voucher()),
            _ => Newest::Proven(paid(number, signed)),
        };
        let other = paid(number, signed + 1);
        let signer = SigningKey::from_bytes(&[5; 32]).verifying_key().to_bytes();
        let [closing_at, last_activity, unsettled_since, leaving_since, claim_after] = times;
        Channel {
            id: id(number),
            place: Place { page: [page; 32], slot, generation },
            on_chain: Slot {
                payer: [number; 32], signer, deposit: amount(0), settled: amount(1), closing_at, last_activity, generation,
                status_byte, spare: [slot; 3],
            },
            funded: amount(2),
            final_deposit: amount(3),
            charged: amount(4),
            newest,
            last: match last {
                0 => None,
                1 => Some(call(other.voucher(), charge)),
                _ => newest.voucher().map(|newest| call(newest, charge)),
            },
            unsettled_since,
            leaving_since: if rare { leaving_since } else { 0 },
            reservation: reserved.then_some(Reservation { voucher: other, amount: amount(5), expires: last_activity }),
            in_flight,
            claim_after: if rare { claim_after } else { 0 },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_is_what_was_put(steps in proptest::collection::vec((channel(), any::<bool>()), 1..40)) {
        let (mut rows, mut model) = (Rows::default(), HashMap::new());
        for (channel, removed) in steps {
            if removed {
                prop_assert_eq!(rows.remove(&channel.id), model.remove(&channel.id));
            } else {
                rows.put(&channel);
                model.insert(channel.id, channel);
            }
            for number in 0..8 {
                prop_assert_eq!(rows.get(&id(number)), model.get(&id(number)).copied());
            }
            prop_assert_eq!(rows.len(), model.len());
            let all: HashMap<_, _> = rows.iter().map(|channel| (channel.id, channel)).collect();
            prop_assert_eq!(&all, &model);
            let unsettled: u64 = model.values().map(|channel| channel.gain().get()).sum();
            prop_assert_eq!(rows.unsettled(), Amount::new(unsettled));
            let unproven = model.values().filter(|channel| channel.unproven().is_some());
            let mut pages: Vec<_> = unproven.map(|channel| channel.place.page).collect();
            pages.sort_unstable();
            pages.dedup();
            let mut counted = rows.unproven_pages();
            counted.sort_unstable();
            prop_assert_eq!(counted, pages);
            let rare = model.values().filter(|channel| Row::of(channel, 0).1 != Rare::default()).count();
            prop_assert_eq!(rows.rares.all.len() - rows.rares.free.len(), rare);
        }
    }
}

#[test]
fn given_more_channels_than_a_chunk_when_kept_then_each_is_found_and_freed_rows_are_used_again() {
    let mut rows = Rows::default();
    let template =
        Channel::seen([0; 32], Place { page: [1; 32], slot: 0, generation: 0 }, Slot::default(), None).unwrap();
    let numbered = |number: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        Channel { id, ..template }
    };
    (0..3 * CHUNK).for_each(|number| rows.put(&numbered(number)));
    (0..CHUNK).for_each(|number| assert!(rows.remove(&numbered(number).id).is_some()));
    (0..CHUNK).for_each(|number| rows.put(&numbered(3 * CHUNK + number)));
    assert_eq!((rows.len(), rows.slab.chunks.len()), (3 * CHUNK, 3));
    assert!((CHUNK..4 * CHUNK).all(|number| rows.get(&numbered(number).id) == Some(numbered(number))));
    assert_eq!(rows.get(&numbered(0).id), None);
}

#[test]
fn given_a_channel_when_measured_then_it_takes_what_is_said_of_it() {
    assert!(size_of::<Option<Row>>() <= 272, "a row: {}", size_of::<Option<Row>>());
    assert!(size_of::<Seat>() <= 64, "its seat: {}", size_of::<Seat>());
}
