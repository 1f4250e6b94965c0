//! What the chain shows: openings, claims of others, closings, ends, restarts, offers.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod world;

use tallybook_ledger::{
    Bundle, Change, ChannelRecord, Event, Finality, Held, Ledger, Observed, PageSeen, Place, Policy, Room, Settings,
    verify_stored,
};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, PageHeader, Rejection, Slot};
use world::{BOOK, PAGE, World, units};

#[test]
fn given_a_page_when_observed_then_openings_closings_and_ends_are_told_once() {
    let mut world = World::new(2);
    let id = world.open_unseen(0, 1_000);
    assert!(matches!(world.see()[..], [Event::Opened { channel_id, .. }] if channel_id == id));
    assert_eq!(world.see(), []);
    world.pay(0, 400).unwrap();
    world.request_close(0);
    let closing = Event::Closing { channel_id: id, closing_at: world.now + 900, unsettled: units(400) };
    assert_eq!(world.see(), [closing]);
    assert_eq!(world.see(), []);
    world.now += 900;
    let now = world.now;
    world.page().withdraw(0, now).unwrap();
    let over = Event::Over { channel_id: id, unsettled: units(400), refunded: false };
    assert_eq!(world.see(), [over]);
    assert_eq!(world.ledger.channel(&id), None);
    assert_eq!(world.see_final(), [Change::Over { channel_id: id }]);
    assert_eq!(world.see_final(), []);
}

#[test]
fn given_a_page_that_is_forgotten_when_what_was_written_is_taken_up_again_then_it_is_as_it_was() {
    let mut world = World::new(3);
    let (paid, unpaid) = (world.open(0, 1_000), world.open(1, 1_000));
    world.pay(0, 400).unwrap();
    let before = world.ledger.channel(&paid).unwrap();
    let record = before.record().unwrap();
    let mut forgotten = world.ledger.forget(&[PAGE]);
    forgotten.sort_unstable();
    let mut both = [paid, unpaid];
    both.sort_unstable();
    assert_eq!(forgotten, both);
    assert!(world.ledger.is_empty() && world.ledger.pages().next().is_none());
    assert_eq!((world.ledger.unsettled(), world.ledger.unmet()), (Amount::ZERO, 0));
    assert_eq!(world.ledger.room(&BOOK, world.now), Room::default());
    world.ledger.check().unwrap();
    assert!(world.ledger.plan(i64::MAX, &Policy::default()).is_empty());
    // What is stored and was not met is forgotten, too.
    world.ledger.restore(record).unwrap();
    world.ledger.forget(&[PAGE]);
    assert_eq!(world.ledger.unmet(), 0);

    world.ledger.restore(record).unwrap();
    world.see();
    world.see_final();
    assert_eq!(world.ledger.prove_all(), [[0u8; 32]; 0]);
    let after = world.ledger.channel(&paid).unwrap();
    assert_eq!((after.record(), after.on_chain()), (before.record(), before.on_chain()));
    world.ledger.check().unwrap();
    world.pay(0, 600).unwrap();
}

#[test]
fn given_a_reopened_slot_when_observed_then_the_old_channel_ends_and_the_new_one_begins() {
    let mut world = World::new(1);
    let old = world.open(0, 1_000);
    world.page().refund(0, 1, Amount::ZERO).unwrap();
    let new = world.open_unseen(0, 500);
    let events = world.see();
    assert!(matches!(
        events[..],
        [Event::Over { channel_id, .. }, Event::Opened { channel_id: opened, .. }] if channel_id == old && opened == new
    ));
    assert_eq!(world.pay(0, 500).map(|_| ()), Ok(()));
}

#[test]
fn given_an_older_sight_when_observed_then_it_changes_nothing() {
    let mut world = World::new(1);
    let before = world.slots.clone();
    world.open(0, 1_000);
    let seen = PageSeen { address: PAGE, chain_slot: world.chain_slot - 1, header: &world.header, slots: &before };
    assert_eq!(world.ledger.observe(&seen, Finality::Confirmed, world.now), Ok(Default::default()));
    assert_eq!(world.channel(0).deposit(), units(1_000));
}

#[test]
fn given_a_page_that_no_program_wrote_when_observed_then_it_is_refused() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    let mut slots = world.slots.clone();
    slots[0].settled = units(1_001);
    let other = PageHeader { page_domain: [3; 32], ..world.header };
    for (header, slots) in [(world.header, slots), (other, world.slots.clone()), (world.header, vec![])] {
        let seen = PageSeen { address: PAGE, chain_slot: 100, header: &header, slots: &slots };
        let observed = world.ledger.observe(&seen, Finality::Confirmed, world.now);
        assert_eq!(observed, Err(Rejection::InvariantBroken));
    }
    assert_eq!(world.channel(0).settled(), Amount::ZERO);
}

#[test]
fn given_a_voucher_of_a_failed_call_when_somebody_claims_it_then_the_next_voucher_starts_above() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay(0, 100).unwrap();
    let now = world.now;
    world.page().claim(0, units(250), now).unwrap();
    world.see();
    let channel = world.channel(0);
    assert_eq!((channel.settled(), channel.charged(), channel.gain()), (units(250), units(250), Amount::ZERO));
    world.pay(0, 50).unwrap();
    assert_eq!(world.channel(0).gain(), units(50));
}

#[test]
fn given_a_strangers_claim_when_a_fork_undoes_it_then_the_page_is_read_on_and_the_vouchers_here_count() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay(0, 100).unwrap();
    let (now, before) = (world.now, (world.header, world.slots.clone()));
    world.page().claim(0, units(250), now).unwrap();
    world.see();
    assert_eq!(world.channel(0).charged(), units(250));
    (world.header, world.slots) = before;
    world.see();
    let channel = world.channel(0);
    assert_eq!((channel.settled(), channel.charged(), channel.gain()), (Amount::ZERO, units(100), units(100)));
    world.pay(0, 50).unwrap();
    assert_eq!(world.channel(0).gain(), units(150));
}

#[test]
fn given_stored_records_when_a_new_ledger_observes_then_it_goes_on_where_the_old_one_was() {
    let mut world = World::new(2);
    world.open(0, 1_000);
    let Change::Channel(record) = world.pay(0, 400).unwrap() else { panic!() };
    let before = world.channel(0);
    world.ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
    world.ledger.restore(record).unwrap();
    assert_eq!(world.ledger.unmet(), 1);
    world.see();
    assert_eq!(world.ledger.unmet(), 0);
    assert_eq!(world.channel(0), before);
}

#[test]
fn given_a_record_of_more_than_was_signed_when_restored_then_it_is_refused() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    let Change::Channel(record) = world.pay(0, 400).unwrap() else { panic!() };
    let overcharged = ChannelRecord { charged: units(401), ..record };
    assert_eq!(world.ledger.restore(overcharged), Err(Rejection::InvariantBroken));
}

#[test]
fn given_a_stored_voucher_when_its_page_is_seen_then_nothing_rests_on_it_before_it_is_proven() {
    let mut world = World::new(2);
    for slot in [0, 1] {
        world.open(slot, 1_000);
    }
    let Change::Channel(record) = world.pay(0, 400).unwrap() else { panic!() };
    let (before, id) = (world.channel(0), world.id(0));
    world.ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
    world.ledger.restore(record).unwrap();
    assert_eq!(world.ledger.stored_place(&id), Some(record.place));
    world.see_unproven();
    let channel = world.channel(0);
    assert_eq!((channel.charged(), channel.signed(), channel.gain()), (units(400), units(400), units(400)));
    assert_eq!((channel.newest(), channel.record()), (None, Some(record)), "shown to nobody, and kept");

    let (now, next) = (world.now, world.voucher(0, 500));
    let refusals = [
        world.ledger.reserve(next, units(100), now, now + 60).map(|_| ()),
        world.ledger.foresee(&next, units(100), units(1), now).map(|_| ()),
        world.ledger.commit(&record.voucher, units(400), now).map(|_| ()),
        world.ledger.adopt(next, units(500), now).map(|_| ()),
        world.ledger.leave(world.voucher(0, 400), now).map(|_| ()),
    ];
    for refused in refusals {
        let refused = refused.unwrap_err();
        assert_eq!(refused.rejection, Rejection::Overloaded);
        assert!(refused.channel.is_some_and(|channel| channel.unproven().is_some()), "and why");
    }
    assert_eq!(world.channel(0), channel, "nothing has changed");
    let at_once = Policy { per_call: true, ..Policy::default() };
    assert_eq!(world.ledger.plan(world.now, &at_once), [], "and nothing is claimed");
    assert_eq!(world.ledger.check(), Ok(()));
    world.pay(1, 100).expect("another channel of the page is like any other");

    let stored = world.ledger.unproven();
    assert_eq!(stored.iter().map(|stored| *stored.voucher()).collect::<Vec<_>>(), [record.voucher]);
    world.ledger.prove(&world.voucher(0, 401));
    assert_eq!(world.channel(0), channel, "by no other voucher");
    let proofs = verify_stored(&stored);
    assert_eq!((proofs.proven.len(), proofs.damaged.len()), (1, 0));
    proofs.proven.iter().for_each(|voucher| world.ledger.prove(voucher));
    assert_eq!(world.channel(0), before);
    assert!(!world.ledger.has_unproven() && world.ledger.unproven().is_empty());
    assert_eq!(world.ledger.plan(world.now, &at_once).iter().map(Bundle::rows).sum::<usize>(), 2);
    assert_eq!(world.ledger.check(), Ok(()));
    world.pay(0, 100).unwrap();
}

#[test]
fn given_a_channel_that_ends_before_it_is_proven_when_a_fork_brings_it_back_then_it_is_still_to_be_proven() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    let Change::Channel(record) = world.pay(0, 400).unwrap() else { panic!() };
    world.ledger = Ledger::new(Settings::default());
    world.ledger.restore(record).unwrap();
    world.see_unproven();
    let open = world.slots.clone();
    world.page().refund(0, 1, Amount::ZERO).unwrap();
    world.see_unproven();
    assert!(!world.ledger.has_unproven());
    world.slots = open;
    world.see_unproven();
    assert_eq!(world.ledger.unproven().len(), 1);
    assert_eq!(world.ledger.prove_all(), [[0; 32]; 0]);
    assert_eq!(world.channel(0).newest(), Some(&record.voucher));
}

#[test]
fn given_a_damaged_voucher_among_others_when_its_page_is_seen_then_it_is_named_and_nothing_rests_on_it() {
    let mut world = World::new(4);
    let records = [0, 1, 2].map(|slot| {
        world.open(slot, 1_000);
        let Change::Channel(record) = world.pay(slot, 400).unwrap() else { panic!() };
        record
    });
    let other_amount = SignedVoucher { cumulative: units(401), ..records[1].voucher };
    let of_another = SignedVoucher::sign(&world::key(0), records[1].voucher.channel_id, units(400));
    // The third is named when the page is seen: the chain shows another signer. The others when they are verified.
    for (damaged, is_met) in [
        (ChannelRecord { voucher: other_amount, ..records[1] }, true),
        // Signed well, by a key that is not the channel's.
        (ChannelRecord { voucher: of_another, ..records[1] }, true),
        (ChannelRecord { signer: records[0].signer, voucher: of_another, ..records[1] }, false),
    ] {
        world.ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
        [records[0], damaged, records[2]].iter().for_each(|record| world.ledger.restore(*record).unwrap());
        world.chain_slot += 1;
        let named = [world.observe(Finality::Confirmed).damaged, world.ledger.prove_all()].concat();
        assert_eq!(named, [records[1].voucher.channel_id]);
        assert_eq!((world.channel(0).charged(), world.channel(2).charged()), (units(400), units(400)));
        let refusal = if is_met { Rejection::Overloaded } else { Rejection::UnknownChannel };
        assert_eq!(world.ledger.channel(&world.id(1)).is_some(), is_met);
        let (voucher, now) = (world.voucher(1, 450), world.now);
        let refused = world.ledger.reserve(voucher, units(50), now, now + 60).unwrap_err();
        assert_eq!(refused.rejection, refusal, "no call rests on it");
        let claimed = world.ledger.plan(world.now, &Policy { per_call: true, ..Policy::default() });
        assert_eq!(claimed.iter().map(Bundle::rows).sum::<usize>(), 2, "and no claim");
        assert_eq!(world.ledger.unmet(), usize::from(!is_met), "what is stored stays as it is");
    }
}

#[test]
fn given_records_of_many_pages_when_one_page_is_final_then_only_its_own_end_with_it() {
    let mut world = World::new(2);
    let records = [0, 1].map(|slot| {
        world.open(slot, 1_000);
        let Change::Channel(record) = world.pay(slot, 400).unwrap() else { panic!() };
        record
    });
    // The second says to be of another page.
    let elsewhere = Place { page: [9; 32], ..records[1].place };
    world.ledger = Ledger::new(Settings::default());
    world.ledger.restore(records[0]).unwrap();
    world.ledger.restore(records[1]).unwrap();
    world.ledger.restore(ChannelRecord { place: elsewhere, ..records[1] }).unwrap();
    let id = world.id(0);
    for slot in [0, 1] {
        world.page().refund(slot, 1, Amount::ZERO).unwrap();
    }
    world.see();
    assert_eq!(world.see_final(), [Change::Over { channel_id: id }]);
    assert_eq!(world.ledger.unmet(), 1);
}

#[test]
fn given_a_restart_when_the_chain_lags_behind_a_channel_then_its_voucher_is_not_given_up() {
    let mut world = World::new(1);
    let lagging = world.slots.clone();
    world.open(0, 1_000);
    let Change::Channel(record) = world.pay(0, 400).unwrap() else { panic!() };
    let current = std::mem::replace(&mut world.slots, lagging);
    world.ledger = Ledger::new(Settings::default());
    world.ledger.restore(record).unwrap();
    world.see();
    assert_eq!(world.see_final(), [], "generation 0 says nothing about generation 1");
    world.slots = current;
    world.see();
    assert_eq!(world.channel(0).charged(), units(400));
}

#[test]
fn given_a_freed_slot_that_comes_back_when_observed_then_the_voucher_is_still_there() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay(0, 400).unwrap();
    let open = world.slots.clone();
    world.page().refund(0, 1, Amount::ZERO).unwrap();
    world.see();
    world.slots = open;
    world.see();
    assert_eq!(world.channel(0).charged(), units(400), "a fork had freed it");
}

#[test]
fn given_a_page_that_was_closed_when_a_finalized_look_shows_it_no_more_then_nothing_is_offered_in_it() {
    let mut world = World::new(2);
    world.open(0, 1_000);
    world.pay(0, 400).unwrap();
    assert_eq!(world.ledger.room(&BOOK, world.now), Room { pages: 1, slots: 2, free_slots: 1 });
    let (seen_at, id) = (world.chain_slot, world.id(0));
    let mut look = |shown: &[[u8; 32]], at: u64| world.ledger.drop_closed(&[BOOK], shown, at);
    assert_eq!(look(&[], seen_at), Observed::default(), "seen at that very slot: not final yet");
    assert_eq!(look(&[PAGE], seen_at + 1), Observed::default(), "it stands");
    let observed = look(&[], seen_at + 1);
    assert_eq!(observed.changes, [Change::Over { channel_id: id }]);
    assert!(matches!(observed.events[..], [Event::Over { channel_id, .. }] if channel_id == id));
    assert_eq!(world.ledger.offer(&BOOK, world.now), Err(Rejection::UnknownBook));
    assert_eq!(world.ledger.room(&BOOK, world.now), Room::default());
}

#[test]
fn given_free_slots_when_offered_then_they_rotate_and_held_ones_are_left_out() {
    let mut world = World::new(3);
    world.open(1, 10);
    let mut offered = |now: i64| world.ledger.offer(&BOOK, now).map(|place| place.slot);
    assert_eq!([offered(1), offered(2), offered(3), offered(3)], [Ok(0), Ok(2), Ok(0), Ok(2)]);
    let place = Place { page: PAGE, slot: 0, generation: 1 };
    let mut hold = |place: &Place, id: u8, now: i64| world.ledger.hold(place, [id; 32], now + 60, now);
    assert_eq!(hold(&place, 1, 10), Ok(Held::Free));
    assert_eq!(hold(&place, 1, 20), Ok(Held::Free), "the same channel again");
    assert_eq!(hold(&place, 2, 21), Err(Rejection::SlotTaken));
    assert_eq!(hold(&Place { slot: 1, ..place }, 2, 21), Err(Rejection::SlotTaken), "a channel stands in it");
    assert_eq!(hold(&Place { slot: 3, ..place }, 2, 21), Err(Rejection::NoSuchSlot));
    assert_eq!(hold(&Place { page: [0; 32], ..place }, 2, 21), Err(Rejection::UnknownPage));
    assert_eq!(hold(&Place { slot: 2, generation: 2, ..place }, 2, 21), Err(Rejection::WrongGeneration));
    assert_eq!(hold(&Place { slot: 2, ..place }, 2, 21), Ok(Held::Free));
    assert_eq!(hold(&place, 4, 22), Err(Rejection::BookFull));
    world.ledger.unhold(&place, &[9; 32]);
    assert_eq!(world.ledger.hold(&place, [4; 32], 82, 22), Err(Rejection::BookFull), "not the holder");
    assert!(world.ledger.offer(&BOOK, 22).is_ok(), "who has a channel needs an offer also when the book is full");
    assert_eq!(world.ledger.offer(&[0; 32], 22), Err(Rejection::UnknownBook));
    world.ledger.unhold(&place, &[1; 32]);
    assert_eq!(world.ledger.offer(&BOOK, 22), Ok(place));
    assert_eq!(world.ledger.offer(&BOOK, 81).map(|place| place.slot), Ok(2), "a hold ends by itself");
}

#[test]
fn given_a_deposit_that_has_landed_when_held_again_then_the_channel_is_open() {
    let mut world = World::new(1);
    let id = world.open(0, 1_000);
    let place = *world.channel(0).place();
    assert_eq!(world.ledger.hold(&place, id, 60, 1), Ok(Held::Open));
}

#[test]
fn given_a_slot_whose_generations_are_used_up_when_offered_then_it_is_left_out() {
    let mut world = World::new(1);
    world.slots[0] = Slot { generation: u32::MAX, ..Slot::default() };
    world.see();
    assert_eq!(world.ledger.offer(&BOOK, 1), Err(Rejection::BookFull));
}
