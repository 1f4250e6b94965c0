//! A call: reserve, commit, release, and each reason why not.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod world;

use tallybook_ledger::{Change, Finality, Ledger, Settings};
use tallybook_rules::{Amount, Rejection};
use world::{World, key, units};

#[test]
fn given_a_channel_when_calls_are_paid_then_charged_rises_by_each_price() {
    let mut world = World::new(2);
    world.open(0, 1_000);
    world.pay(0, 300).unwrap();
    world.pay(0, 700).unwrap();
    let channel = world.channel(0);
    assert_eq!((channel.charged(), channel.signed(), channel.settled()), (units(1_000), units(1_000), units(0)));
    assert_eq!(channel.gain(), units(1_000));
    assert_eq!(world.pay(0, 1), Err(Rejection::DepositExceeded));
}

#[test]
fn given_several_reasons_when_a_voucher_is_refused_then_the_first_in_order_is_named() {
    let mut world = World::new(3);
    let unopened = world.voucher(2, 5);
    let refused = world.ledger.reserve(unopened, units(5), 0, 60).unwrap_err();
    assert_eq!((refused.rejection, refused.channel), (Rejection::UnknownChannel, None));

    world.open(0, 1_000);
    world.pay(0, 100).unwrap();
    assert_eq!(world.reserve(0, 100, 100), Err(Rejection::VoucherUsed));
    assert_eq!(world.reserve(0, 50, 50), Err(Rejection::WrongCumulative), "an older voucher");
    assert_eq!(world.reserve(0, 300, 100), Err(Rejection::WrongCumulative), "too much");
    assert_eq!(world.reserve(0, 5_000, 100), Err(Rejection::WrongCumulative), "before the deposit is looked at");
    assert_eq!(world.reserve(0, 1_001, 901), Err(Rejection::DepositExceeded));
    world.reserve(0, 200, 100).unwrap();
    assert_eq!(world.reserve(0, 200, 100), Err(Rejection::ChannelBusy), "the very same");
    assert_eq!(world.reserve(0, 100, 100), Err(Rejection::ChannelBusy), "before it is seen to be used");
    world.request_close(0);
    world.see();
    assert_eq!(world.reserve(0, 300, 100), Err(Rejection::ChannelClosing));
}

#[test]
fn given_a_call_of_nothing_when_reserved_then_it_is_refused() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    assert_eq!(world.reserve(0, 0, 0), Err(Rejection::WrongCumulative));
}

#[test]
fn given_another_signer_when_reserved_then_the_signature_is_refused() {
    let mut world = World::new(2);
    let id = world.open(0, 1_000);
    let thief = key(9);
    let voucher = tallybook_rules::signing::SignedVoucher::sign(&thief, id, units(10));
    let verified = voucher.verify(thief.verifying_key().as_bytes()).unwrap();
    let refused = world.ledger.reserve(verified, units(10), world.now, world.now + 9).unwrap_err();
    assert_eq!(refused.rejection, Rejection::BadSignature);
}

#[test]
fn given_a_wrong_amount_when_refused_then_the_channel_is_shown() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay(0, 100).unwrap();
    for (cumulative, rejection) in [(100, Rejection::VoucherUsed), (150, Rejection::WrongCumulative)] {
        let voucher = world.voucher(0, cumulative);
        let refused = world.ledger.reserve(voucher, units(100), world.now, world.now + 9).unwrap_err();
        assert_eq!(refused.rejection, rejection);
        let channel = refused.channel.unwrap();
        assert_eq!(channel.charged(), units(100));
        assert_eq!(channel.newest().unwrap().cumulative, units(100));
    }
}

#[test]
fn given_a_committed_voucher_when_committed_again_then_the_answer_is_the_same_and_nothing_is_written() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.reserve(0, 100, 100).unwrap();
    let first = world.commit(0, 100).unwrap();
    let again = world.commit(0, 100).unwrap();
    assert_eq!(first.channel, again.channel);
    assert_eq!(first.change.unwrap().charged, units(100));
    assert_eq!(again.change, None);
}

#[test]
fn given_a_ceiling_when_a_call_costs_less_then_the_next_voucher_is_over_less_than_the_newest() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay_of(0, 400, 30).unwrap();
    let Change::Channel(record) = world.pay_of(0, 100, 100).unwrap() else { panic!() };
    let channel = world.channel(0);
    assert_eq!((channel.charged(), channel.signed(), channel.gain()), (units(130), units(400), units(130)));
    assert_eq!((record.voucher.cumulative, record.charged), (units(400), units(130)));
    assert_eq!(record.last.map(|last| (last.cumulative, last.charge)), Some((units(130), Some(units(100)))));
    assert_eq!(world.reserve(0, 400, 300), Err(Rejection::WrongCumulative), "the newest, but not the last");
    assert_eq!(world.reserve(0, 130, 100), Err(Rejection::VoucherUsed));
    world.reserve(0, 400, 270).unwrap();
    assert_eq!(
        world.commit_for(0, 400, 270).unwrap().channel.charged(),
        units(400),
        "the very bytes of the first voucher"
    );
}

#[test]
fn given_a_call_of_nothing_when_paid_for_again_then_the_same_voucher_pays_for_the_next_call() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay_of(0, 100, 0).unwrap();
    assert_eq!(world.channel(0).charged(), Amount::ZERO);
    assert_eq!(world.commit_for(0, 100, 60).unwrap().charge, Amount::ZERO, "the first call again");
    world.reserve(0, 100, 100).unwrap();
    let second = world.commit_for(0, 100, 60).unwrap();
    assert_eq!((second.charge, second.channel.charged()), (units(60), units(60)));
    assert_eq!(world.commit_for(0, 100, 60).unwrap().channel.charged(), units(60), "and not once more");
}

#[test]
fn given_a_voucher_that_pays_twice_when_its_second_reservation_is_lost_then_the_first_call_is_no_receipt_for_the_second()
 {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay_of(0, 100, 40).unwrap();
    let second = world.reserve(0, 100, 60).unwrap();
    assert_eq!(second.record().unwrap().last, None, "nor after a restart");
    world.now += 1_000;
    let refused = world.commit_for(0, 100, 60).unwrap_err();
    assert_eq!((refused.rejection, world.channel(0).charged()), (Rejection::NoReservation, units(40)));
}

#[test]
fn given_a_charge_above_the_ceiling_when_committed_then_it_is_refused_and_the_call_stays_reserved() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.reserve(0, 100, 100).unwrap();
    let refused = world.commit_for(0, 100, 101).unwrap_err();
    assert_eq!(refused.rejection, Rejection::ChargeAboveCeiling);
    assert_eq!(world.commit_for(0, 100, 100).unwrap().channel.charged(), units(100));
}

#[test]
fn given_a_call_under_way_when_a_stranger_claims_its_voucher_then_it_is_not_charged_twice() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.reserve(0, 100, 100).unwrap();
    let now = world.now;
    world.page().claim(0, units(100), now).unwrap();
    world.see();
    assert_eq!(world.commit_for(0, 100, 40).unwrap().channel.charged(), units(100));
}

#[test]
fn given_what_another_ledger_accepted_when_adopted_then_the_larger_counts_and_the_rest_is_refused() {
    let mut world = World::new(2);
    let id = world.open(0, 1_000);
    let adopt = |world: &mut World, signed, charged| {
        let voucher = world.voucher(0, signed);
        let adopted = world.ledger.adopt(voucher, units(charged), world.now);
        adopted.map_err(|refused| refused.rejection)
    };
    assert!(adopt(&mut world, 400, 300).unwrap().change.is_some());
    assert_eq!(adopt(&mut world, 400, 300).unwrap().change, None, "the same again");
    assert_eq!(adopt(&mut world, 350, 200).unwrap().change, None, "something older");
    let record = adopt(&mut world, 380, 350).unwrap().change.unwrap();
    assert_eq!((record.voucher.cumulative, record.charged, record.last), (units(400), units(350), None));
    assert_eq!(adopt(&mut world, 500, 501).unwrap_err(), Rejection::AmountAboveSigned);
    assert_eq!(adopt(&mut world, 1_001, 400).unwrap_err(), Rejection::DepositExceeded);
    let thief = key(9);
    let forged = tallybook_rules::signing::SignedVoucher::sign(&thief, id, units(900));
    let forged = forged.verify(thief.verifying_key().as_bytes()).unwrap();
    let refused = world.ledger.adopt(forged, units(900), world.now).unwrap_err();
    assert_eq!(refused.rejection, Rejection::BadSignature);
    world.request_close(0);
    world.see();
    assert!(adopt(&mut world, 900, 600).unwrap().change.is_some(), "a closing channel can still be claimed");
    assert_eq!(world.channel(0).gain(), units(600));
}

#[test]
fn given_no_reservation_when_committed_then_nothing_is_charged() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    let refused = |world: &mut World, cumulative| world.commit(0, cumulative).map_err(|refused| refused.rejection);
    assert_eq!(refused(&mut world, 100).unwrap_err(), Rejection::NoReservation, "never made");
    world.reserve(0, 100, 100).unwrap();
    assert_eq!(refused(&mut world, 200).unwrap_err(), Rejection::NoReservation, "of another voucher");
    let voucher = *world.voucher(0, 100).voucher();
    world.ledger.release(&voucher).unwrap();
    assert_eq!(refused(&mut world, 100).unwrap_err(), Rejection::NoReservation, "released");
    world.reserve(0, 100, 100).unwrap();
    world.now += 60;
    assert_eq!(refused(&mut world, 100).unwrap_err(), Rejection::NoReservation, "over at its very second");
    assert_eq!(world.channel(0).charged(), Amount::ZERO);
    world.reserve(0, 100, 100).unwrap();
    assert!(world.commit(0, 100).is_ok());
}

#[test]
fn given_reservations_when_the_time_of_one_is_over_then_it_alone_counts_as_gone() {
    let mut world = World::new(2);
    world.open(0, 1_000);
    world.open(1, 1_000);
    world.reserve(0, 100, 100).unwrap();
    world.now += 30;
    world.reserve(1, 100, 100).unwrap();
    world.now += 30;
    assert_eq!(world.channel(0).reserved(world.now), None);
    assert!(world.channel(1).reserved(world.now).is_some());
}

#[test]
fn given_a_call_under_way_when_another_voucher_is_released_then_the_reservation_stays() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.reserve(0, 100, 100).unwrap();
    let other = *world.voucher(0, 200).voucher();
    world.ledger.release(&other).unwrap();
    assert_eq!(world.reserve(0, 100, 100), Err(Rejection::ChannelBusy));
}

#[test]
fn given_a_payer_who_leaves_on_chain_when_the_call_was_reserved_before_then_it_is_still_charged() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.reserve(0, 100, 100).unwrap();
    world.request_close(0);
    world.see();
    assert!(world.commit(0, 100).is_ok(), "a claim is valid until the slot is withdrawn");
    assert_eq!(world.channel(0).gain(), units(100));
}

#[test]
fn given_a_deposit_that_the_payee_gave_back_when_committed_then_nothing_is_charged() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay(0, 50).unwrap();
    world.reserve(0, 1_000, 950).unwrap();
    world.page().refund(0, 1, units(100)).unwrap();
    world.see();
    let refused = world.commit(0, 1_000).unwrap_err();
    assert_eq!(refused.rejection, Rejection::DepositExceeded);
    assert_eq!(world.channel(0).charged(), units(50));
}

#[test]
fn given_a_deposit_that_is_not_final_when_spent_then_only_the_credit_counts() {
    let mut world = World::new(1);
    world.ledger = Ledger::new(Settings { credit: units(100), ..Settings::default() });
    world.open(0, 1_000);
    world.pay(0, 100).unwrap();
    assert_eq!(world.pay(0, 1), Err(Rejection::SettlementPending));
    assert!(world.observe(Finality::Final).events.is_empty());
    world.pay(0, 900).unwrap();
}

#[test]
fn given_a_refund_when_asked_for_then_nothing_more_is_accepted_and_asking_again_is_the_same() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    world.pay(0, 100).unwrap();
    world.reserve(0, 150, 50).unwrap();
    let leave = |world: &mut World, cumulative| {
        let voucher = world.voucher(0, cumulative);
        let left = world.ledger.leave(voucher, world.now);
        left.map_err(|refused| refused.rejection)
    };
    assert_eq!(leave(&mut world, 100).unwrap_err(), Rejection::ChannelBusy);
    let voucher = *world.voucher(0, 150).voucher();
    world.ledger.release(&voucher).unwrap();
    assert_eq!(leave(&mut world, 150).unwrap_err(), Rejection::WrongCumulative);
    let left = leave(&mut world, 100).unwrap();
    assert_eq!(left.change.unwrap().leaving_since, world.now);
    world.now += 5;
    assert_eq!(leave(&mut world, 100).unwrap().change, None);
    assert_eq!(world.reserve(0, 150, 50), Err(Rejection::ChannelClosing));
}

#[test]
fn given_an_unused_channel_when_its_payer_leaves_then_the_voucher_of_nothing_is_kept() {
    let mut world = World::new(1);
    world.open(0, 1_000);
    let voucher = world.voucher(0, 0);
    let left = world.ledger.leave(voucher, world.now).unwrap();
    assert_eq!(left.change.unwrap().voucher.cumulative, Amount::ZERO);
}
