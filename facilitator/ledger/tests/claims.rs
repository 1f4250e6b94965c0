//! Which claims are due, and in which batches.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod town;
mod world;

use tallybook_ledger::{Batch, Bundle, Capacity, ClaimRow, Load, PageMoney, Policy};
use tallybook_rules::{Amount, Rejection};
use town::Town;
use world::{GRACE, PAGE, World, units};

/// Nothing is due but by what a test sets.
fn never() -> Policy {
    Policy {
        rows_per_batch: 3,
        rows_per_batch_below: 2,
        capacity: Capacity::ONE_PAGE,
        due_amount: Amount::MAX_DEPOSIT,
        due_age_seconds: i64::MAX,
        due_rows: usize::MAX,
        per_call: false,
    }
}

/// The slots of each transaction, of which each is of one page.
fn slots(bundles: &[Bundle]) -> Vec<Vec<u8>> {
    let slots = |batch: &Batch| batch.rows().iter().map(|row| row.slot).collect();
    bundles.iter().map(|bundle| slots(only(bundle))).collect()
}

fn only(bundle: &Bundle) -> &Batch {
    assert_eq!(bundle.batches().len(), 1);
    &bundle.batches()[0]
}

fn busy(channels: u8) -> World {
    let mut world = World::new(channels);
    for slot in 0..channels {
        world.open(slot, 10_000);
        world.pay(slot, 100 + u64::from(slot)).unwrap();
    }
    world
}

#[test]
fn given_little_that_waits_when_planned_then_nothing_is_due() {
    let mut world = busy(5);
    assert_eq!(world.ledger.plan(world.now, &never()), []);
}

#[test]
fn given_enough_money_when_planned_then_all_of_the_page_is_claimed_largest_first() {
    let mut world = busy(5);
    let policy = Policy { due_amount: units(510), ..never() };
    assert_eq!(slots(&world.ledger.plan(world.now, &policy)), [vec![4, 3, 2], vec![1, 0]]);
    let policy = Policy { due_amount: units(511), ..never() };
    assert_eq!(world.ledger.plan(world.now, &policy), []);
}

#[test]
fn given_an_old_charge_when_planned_then_all_of_the_page_is_claimed() {
    let mut world = busy(2);
    world.now += 9;
    world.pay(1, 1).unwrap();
    let policy = Policy { due_age_seconds: 10, ..never() };
    assert_eq!(world.ledger.plan(world.now, &policy), []);
    assert_eq!(slots(&world.ledger.plan(world.now + 1, &policy)), [vec![1, 0]]);
}

#[test]
fn given_enough_channels_when_planned_then_only_full_batches_are_due() {
    let mut world = busy(5);
    let policy = Policy { due_rows: 5, ..never() };
    assert_eq!(slots(&world.ledger.plan(world.now, &policy)), [vec![4, 3, 2]]);
    let policy = Policy { due_rows: 6, ..never() };
    assert_eq!(world.ledger.plan(world.now, &policy), []);
}

#[test]
fn given_calls_below_their_ceilings_when_planned_then_exactly_what_they_cost_is_claimed_in_narrower_batches() {
    let mut world = World::new(7);
    for slot in 0..7 {
        world.open(slot, 10_000);
        let ceiling = if slot < 3 { 900 } else { 100 + u64::from(slot) };
        world.pay_of(slot, ceiling, 100 + u64::from(slot)).unwrap();
    }
    let policy = Policy { per_call: true, ..never() };
    let bundles = world.ledger.plan(world.now, &policy);
    let batches: Vec<Batch> = bundles.iter().map(only).cloned().collect();
    assert_eq!(slots(&bundles), [vec![2, 1], vec![0, 6], vec![5, 4, 3]], "two of the wide rows, three of the others");
    assert!(batches[1].rows()[0].is_below() && !batches[1].rows()[1].is_below());
    let gains: Vec<_> = batches.iter().map(|batch| batch.gain().unwrap().get()).collect();
    assert_eq!(gains, [203, 206, 312]);
    for batch in &batches {
        assert_eq!(Ok(world.land(batch)), batch.gain());
    }
    world.see();
    assert_eq!(world.ledger.plan(world.now, &policy), []);
    let policy = Policy { due_rows: 7, ..never() };
    assert_eq!(world.ledger.plan(world.now, &policy), [], "nothing is left");
    let above = ClaimRow { amount: units(901), ..batches[0].rows()[0] };
    assert_eq!(Batch::new([7; 32], vec![above]), Err(Rejection::AmountAboveSigned));
}

#[test]
fn given_per_call_when_planned_then_all_is_due_at_once() {
    let mut world = busy(1);
    let policy = Policy { per_call: true, ..never() };
    assert_eq!(slots(&world.ledger.plan(world.now, &policy)), [vec![0]]);
}

#[test]
fn given_a_closing_channel_when_planned_then_it_is_claimed_at_once_and_alone() {
    let mut world = busy(4);
    world.request_close(1);
    world.request_close(2);
    world.see();
    assert_eq!(slots(&world.ledger.plan(world.now, &never())), [vec![1], vec![2]]);
    let policy = Policy { per_call: true, ..never() };
    assert_eq!(slots(&world.ledger.plan(world.now, &policy)), [vec![1], vec![2], vec![3, 0]]);
}

#[test]
fn given_a_channel_that_leaves_by_refund_when_the_refund_does_not_come_then_it_is_claimed_alone() {
    let mut world = busy(2);
    let voucher = world.voucher(0, 100);
    world.ledger.leave(voucher, world.now).unwrap();
    let policy = Policy { due_age_seconds: 10, ..never() };
    assert_eq!(slots(&world.ledger.plan(world.now + 9, &policy)), Vec::<Vec<u8>>::new());
    assert_eq!(slots(&world.ledger.plan(world.now + 10, &policy)), [vec![0], vec![1]]);
}

#[test]
fn given_a_batch_on_its_way_when_planned_then_its_channels_wait_until_it_has_ended() {
    let mut world = busy(3);
    let policy = Policy { per_call: true, ..never() };
    let batch = only(&world.ledger.plan(world.now, &policy)[0]).clone();
    world.ledger.sent(batch.channel_ids());
    world.pay(1, 7).unwrap();
    assert_eq!(world.ledger.plan(world.now, &policy), []);
    assert_eq!(world.land(&batch), units(303));
    world.see();
    world.ledger.ended(batch.channel_ids(), &[], world.now);
    let next = world.ledger.plan(world.now, &policy);
    assert_eq!(slots(&next), [vec![1]]);
    assert_eq!(only(&next[0]).gain(), Ok(units(7)));
}

#[test]
fn given_a_row_that_the_chain_refused_when_planned_then_it_is_left_alone_for_a_while() {
    let mut world = busy(2);
    let policy = Policy { per_call: true, ..never() };
    let batch = only(&world.ledger.plan(world.now, &policy)[0]).clone();
    world.ledger.sent(batch.channel_ids());
    world.ledger.ended(batch.channel_ids(), &[(1, Rejection::SignatureMismatch)], world.now);
    assert_eq!(slots(&world.ledger.plan(world.now, &policy)), [vec![0]]);
    assert_eq!(slots(&world.ledger.plan(world.now + 30, &policy)), [vec![1, 0]]);
}

#[test]
fn given_a_deposit_below_what_was_signed_when_planned_then_the_gain_is_what_is_left() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay(0, 900).unwrap();
    world.page().refund(0, 1, units(300)).unwrap();
    world.see();
    let policy = Policy { per_call: true, ..never() };
    let batch = only(&world.ledger.plan(world.now, &policy)[0]).clone();
    assert_eq!(batch.gain(), Ok(units(300)));
    assert_eq!(world.land(&batch), units(300));
    world.see();
    assert_eq!(world.ledger.plan(world.now, &policy), []);
}

/// What a transaction has room for, in made-up units: 100 bytes, of which itself takes 10, a book 6, a page 4, a row 2 or 3.
fn small() -> Capacity {
    let bytes = |bytes: u32| Load { bytes, ..Load::default() };
    Capacity {
        limit: Load { bytes: 100, ..Load::UNBOUNDED },
        transaction: bytes(10),
        book: bytes(6),
        page: bytes(4),
        row: bytes(2),
        row_below: bytes(3),
        pages: 4,
    }
}

/// How many rows of which page each transaction has.
fn shape(bundles: &[Bundle]) -> Vec<Vec<(u8, usize)>> {
    let parts = |bundle: &Bundle| bundle.batches().iter().map(|batch| (batch.page()[0], batch.rows().len())).collect();
    bundles.iter().map(parts).collect()
}

/// Plans pages, each a (number, book, channels): all of them due.
fn packed(pages: &[(u8, u8, u8)], policy: &Policy) -> Vec<Vec<(u8, usize)>> {
    let mut town = Town::new();
    pages.iter().for_each(|(page, book, channels)| town.page([*page; 32], [*book; 32], *channels));
    let bundles = town.ledger.plan(town.now, policy);
    for bundle in &bundles {
        town.ledger.sent(bundle.channel_ids());
    }
    assert_eq!(town.ledger.check(), Ok(()));
    assert_eq!(town.ledger.plan(town.now, policy), [], "everything is in some transaction");
    let mut slots: Vec<_> = bundles.iter().flat_map(Bundle::channel_ids).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), pages.iter().map(|(.., channels)| usize::from(*channels)).sum::<usize>(), "each once");
    shape(&bundles)
}

#[test]
fn given_small_pages_when_a_transaction_has_room_for_several_then_they_share_it_those_of_one_book_beside_each_other() {
    let policy = Policy { rows_per_batch: 96, rows_per_batch_below: 96, capacity: small(), per_call: true, ..never() };
    // Given 5 pages of 5 rows, of two books: 10 + 6 + 3 · 14 for the first book's three, and 6 + 14 for the first of the second.
    let pages = [(1, 9, 5), (2, 8, 5), (3, 8, 5), (4, 9, 5), (5, 8, 5)];
    assert_eq!(packed(&pages, &policy), [vec![(2, 5), (3, 5), (5, 5), (1, 5)], vec![(4, 5)]], "four pages, no more");
    // When a page is wider than what is left, a part of it goes along if it is large enough, else none.
    assert_eq!(packed(&[(1, 9, 18), (2, 9, 30)], &policy), [vec![(1, 18), (2, 20)], vec![(2, 10)]]);
    assert_eq!(packed(&[(1, 9, 31), (2, 9, 30)], &policy), [vec![(1, 31)], vec![(2, 30)]]);
    // A page by itself is cut where the transaction is full.
    assert_eq!(packed(&[(1, 9, 90)], &policy), [vec![(1, 40)], vec![(1, 40)], vec![(1, 10)]]);
}

#[test]
fn given_any_limit_when_it_is_reached_then_the_transaction_is_full() {
    let policy = Policy { rows_per_batch: 96, rows_per_batch_below: 96, per_call: true, ..never() };
    let pages = [(1, 9, 4), (2, 9, 4), (3, 9, 4), (4, 9, 4)];
    let of =
        |capacity: Capacity| packed(&pages, &Policy { capacity, ..policy }).iter().map(Vec::len).collect::<Vec<_>>();
    let free = Capacity { pages: 9, ..Capacity::ONE_PAGE };
    assert_eq!(of(free), [4]);
    assert_eq!(of(Capacity { pages: 3, ..free }), [3, 1]);
    let addresses = |addresses: u32| Load { addresses, ..Load::default() };
    let narrow = Load { addresses: 9, ..Load::UNBOUNDED };
    assert_eq!(of(Capacity { limit: narrow, transaction: addresses(3), page: addresses(3), ..free }), [2, 2]);
    let units = |compute_units: u32| Load { compute_units, ..Load::default() };
    let slow = Load { compute_units: 100, ..Load::UNBOUNDED };
    assert_eq!(of(Capacity { limit: slow, page: units(13), row: units(5), ..free }), [3, 1]);
    assert_eq!(
        of(Capacity { limit: slow, page: units(200), row: units(5), ..free }),
        [1; 16],
        "what fits nowhere goes row by row"
    );
}

#[test]
fn given_enough_channels_when_a_transaction_holds_more_then_one_that_is_well_filled_is_sent() {
    let policy = Policy { rows_per_batch: 9, due_rows: 6, ..never() };
    let rows = |channels: u8| {
        let bundles = busy(channels).ledger.plan(1_000, &policy);
        slots(&bundles).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(rows(5), Vec::<usize>::new());
    assert_eq!((rows(6), rows(8), rows(9)), (vec![6], vec![8], vec![9]));
    assert_eq!((rows(10), rows(14), rows(15)), (vec![9], vec![9], vec![9, 6]), "a rest waits until it is worth one");
}

#[test]
fn given_other_thresholds_when_planned_then_they_count_from_the_first_time_on() {
    let mut world = busy(5);
    assert_eq!(world.ledger.plan(world.now, &never()), []);
    let policy = Policy { due_amount: units(510), rows_per_batch: 5, ..never() };
    assert_eq!(slots(&world.ledger.plan(world.now, &policy)), [vec![4, 3, 2, 1, 0]]);
    world.pay(0, 1).unwrap();
    let policy = Policy { due_amount: units(511), ..policy };
    assert_eq!(world.ledger.plan(world.now, &Policy { due_amount: units(512), ..policy }), []);
    assert_eq!(slots(&world.ledger.plan(world.now, &policy)), [vec![4, 3, 2, 0, 1]]);
    assert_eq!(world.ledger.check(), Ok(()));
}

#[test]
fn given_channels_in_every_state_when_their_money_is_looked_at_then_each_sum_is_what_they_have() {
    // Given four channels with 10,000 each, of which three have paid 100, 101 and 102,
    let mut world = World::new(5);
    for slot in 0..4 {
        world.open(slot, 10_000);
        world.now += 1;
        if slot < 3 {
            world.pay(slot, 100 + u64::from(slot)).unwrap();
        }
    }
    let paid_first = world.now - 3;
    // one is on its way in a batch, one is closing, and the last has a call under way.
    world.ledger.sent([world.id(0)]);
    let now = world.now;
    world.request_close(1);
    world.see();
    world.reserve(3, 50, 50).unwrap();
    let money = world.ledger.money_of(&PAGE, world.now).unwrap();
    let expected = PageMoney {
        channels: 4,
        closing: 1,
        reserved: 1,
        deposited: units(40_000),
        charged: units(303),
        settled: units(0),
        unclaimed: units(303),
        in_flight: units(100),
        closing_unclaimed: units(101),
        unclaimed_since: Some(paid_first),
        closing_at: Some(now + i64::from(GRACE)),
    };
    assert_eq!(money, expected);
    assert_eq!(world.ledger.unsettled(), money.unclaimed);
    // When the batch has landed, then that much is settled, and the next one is the oldest.
    let batch = Batch::new(PAGE, vec![row(&world, 0)]).unwrap();
    world.land(&batch);
    world.see();
    let money = world.ledger.money_of(&PAGE, world.now).unwrap();
    assert_eq!((money.settled, money.unclaimed, money.unclaimed_since), (units(100), units(203), Some(paid_first + 1)));
    assert_eq!(money.plus(&money).unclaimed, units(406));
    assert_eq!(world.ledger.money_of(&[99; 32], world.now), None);
    assert_eq!(world.ledger.pages().collect::<Vec<_>>(), [PAGE]);
    assert_eq!(world.ledger.pages_from(PAGE).collect::<Vec<_>>(), [PAGE]);
    assert_eq!(world.ledger.pages_from([255; 32]).count(), 0);
    let slots: Vec<u8> = world.ledger.channels_of(&PAGE).map(|channel| channel.place().slot).collect();
    assert_eq!((slots, world.ledger.channels_of(&[99; 32]).count()), (vec![0, 1, 2, 3], 0));
}

fn row(world: &World, slot: u8) -> ClaimRow {
    let channel = world.channel(slot);
    let voucher = world.voucher(slot, channel.charged().get());
    ClaimRow { slot, voucher, amount: channel.charged(), settled: channel.settled(), deposit: channel.deposit() }
}
