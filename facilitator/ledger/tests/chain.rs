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
fn given_a_damaged_voucher_among_others_when_its_page_is_seen_then_it_is_named_and_its_channel_is_not_taken_up() {
    let mut world = World::new(4);
    let records = [0, 1, 2].map(|slot| {
        world.open(slot, 1_000);
        let Change::Channel(record) = world.pay(slot, 400).unwrap() else { panic!() };
        record
    });
    let other_amount = SignedVoucher { cumulative: units(401), ..records[1].voucher };
    for damaged in [
        ChannelRecord { voucher: other_amount, ..records[1] },
        ChannelRecord { signer: records[0].signer, ..records[1] },
        // Signed well, by a key that is not the channel's.
        ChannelRecord {
            signer: records[0].signer,
            voucher: SignedVoucher::sign(&world::key(0), records[1].voucher.channel_id, units(400)),
            ..records[1]
        },
        // A key that is no point, or one that anybody can sign for.
        ChannelRecord { signer: [0; 32], ..records[1] },
    ] {
        world.ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
        [records[0], damaged, records[2]].iter().for_each(|record| world.ledger.restore(*record).unwrap());
        world.chain_slot += 1;
        assert_eq!(world.observe(Finality::Confirmed).damaged, [records[1].voucher.channel_id]);
        assert_eq!((world.channel(0).charged(), world.channel(2).charged()), (units(400), units(400)));
        assert_eq!(world.ledger.channel(&world.id(1)), None);
        assert_eq!(world.pay(1, 50), Err(Rejection::UnknownChannel), "no call rests on it");
        let claimed = world.ledger.plan(world.now, &Policy { per_call: true, ..Policy::default() });
        assert_eq!(claimed.iter().map(Bundle::rows).sum::<usize>(), 2, "and no claim");
        assert_eq!(world.ledger.unmet(), 1, "what is stored stays as it is");
    }
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
