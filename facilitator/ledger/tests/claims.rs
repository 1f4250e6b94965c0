//! Which claims are due, and in which batches.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod world;

use tallybook_ledger::{Batch, ClaimRow, Policy};
use tallybook_rules::{Amount, Rejection};
use world::{World, units};

/// Nothing is due but by what a test sets.
fn never() -> Policy {
    Policy {
        rows_per_batch: 3,
        rows_per_batch_below: 2,
        due_amount: Amount::MAX_DEPOSIT,
        due_age_seconds: i64::MAX,
        due_rows: usize::MAX,
        per_call: false,
    }
}

fn slots(batches: &[Batch]) -> Vec<Vec<u8>> {
    let slots = |batch: &Batch| batch.rows().iter().map(|row| row.slot).collect();
    batches.iter().map(slots).collect()
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
    let world = busy(5);
    assert_eq!(world.ledger.plan(world.now, &never()), []);
}

#[test]
fn given_enough_money_when_planned_then_all_of_the_page_is_claimed_largest_first() {
    let world = busy(5);
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
    let world = busy(5);
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
    let batches = world.ledger.plan(world.now, &policy);
    assert_eq!(slots(&batches), [vec![2, 1], vec![0, 6], vec![5, 4, 3]], "two of the wide rows, three of the others");
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
    let world = busy(1);
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
    let batch = world.ledger.plan(world.now, &policy).remove(0);
    world.ledger.sent(batch.channel_ids());
    world.pay(1, 7).unwrap();
    assert_eq!(world.ledger.plan(world.now, &policy), []);
    assert_eq!(world.land(&batch), units(303));
    world.see();
    world.ledger.ended(batch.channel_ids(), &[], world.now);
    let next = world.ledger.plan(world.now, &policy);
    assert_eq!(slots(&next), [vec![1]]);
    assert_eq!(next[0].gain(), Ok(units(7)));
}

#[test]
fn given_a_row_that_the_chain_refused_when_planned_then_it_is_left_alone_for_a_while() {
    let mut world = busy(2);
    let policy = Policy { per_call: true, ..never() };
    let batch = world.ledger.plan(world.now, &policy).remove(0);
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
    let batch = world.ledger.plan(world.now, &policy).remove(0);
    assert_eq!(batch.gain(), Ok(units(300)));
    assert_eq!(world.land(&batch), units(300));
    world.see();
    assert_eq!(world.ledger.plan(world.now, &policy), []);
}
