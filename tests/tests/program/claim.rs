//! Claiming: what a good batch settles.

use crate::vouchers::{Batch, voucher};
use crate::world::{BEGIN, Channel, GRACE_SECONDS, TALLYBOOK, World, assert_rejected, custom_error};
use solana_signer::Signer;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::page as page_address;
use tallybook_rules::{Amount, Rejection};

const DEPOSIT: u64 = 10_000;

fn settled(world: &World) -> Vec<u64> {
    world.page_view().slots.iter().map(|slot| slot.settled.get()).collect()
}

fn claimed_total(world: &World) -> u64 {
    let header = world.page_view().header;
    let deposits: u64 = world.page_view().slots.iter().map(|slot| slot.deposit.get()).sum();
    assert_eq!(header.outstanding.get() + header.claimed_total.get(), deposits, "a claim keeps the sum");
    header.claimed_total.get()
}

#[test]
fn given_channels_when_their_vouchers_are_claimed_then_each_is_settled_and_nothing_moves() {
    let (mut world, channels) = World::with_channels(4, DEPOSIT);
    world.pass(5);

    world.claim(&Batch::of(&[(&channels[2], 30), (&channels[0], 10), (&channels[3], 40)])).unwrap();

    assert_eq!(settled(&world)[..4], [10, 0, 30, 40]);
    assert_eq!(claimed_total(&world), 80);
    let slots = world.page_view().slots;
    assert_eq!((slots[0].last_activity, slots[1].last_activity), (BEGIN + 5, BEGIN));
    assert_eq!(world.balance(&world.vault()), 4 * DEPOSIT);
}

#[test]
fn given_a_claim_when_sent_again_or_older_then_nothing_is_added_and_a_newer_one_adds_the_difference() {
    let (mut world, channels) = World::with_channels(3, DEPOSIT);
    for (cumulative, expected) in [(700, 2_100), (700, 2_100), (600, 2_100), (0, 2_100), (701, 2_103)] {
        let vouchers: Vec<_> = channels.iter().map(|channel| (channel, cumulative)).collect();
        let before = world.page_view().slots[0].last_activity;
        world.pass(1);
        world.claim(&Batch::of(&vouchers)).unwrap();
        assert_eq!(claimed_total(&world), expected, "after {cumulative}");
        let touched = world.page_view().slots[0].last_activity != before;
        assert_eq!(touched, cumulative == 701 || before == BEGIN && cumulative == 700 && touched);
    }
}

#[test]
fn given_a_voucher_above_the_deposit_when_claimed_then_the_deposit_is_settled() {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    world.claim(&Batch::of(&[(&channels[0], DEPOSIT), (&channels[1], (1 << 48) - 1)])).unwrap();
    assert_eq!(settled(&world)[..2], [DEPOSIT, DEPOSIT]);
    assert_eq!(world.page_view().header.outstanding, Amount::ZERO);
}

#[test]
fn given_two_vouchers_of_one_channel_in_a_batch_when_claimed_then_the_higher_counts_once() {
    for order in [[500, 900], [900, 500], [900, 900]] {
        let (mut world, channels) = World::with_channels(2, DEPOSIT);
        let [first, second] = order;
        world.claim(&Batch::of(&[(&channels[0], first), (&channels[1], 7), (&channels[0], second)])).unwrap();
        assert_eq!((settled(&world)[0], claimed_total(&world)), (900, 907), "{order:?}");
    }
}

#[test]
fn given_a_closing_channel_when_claimed_then_it_counts_until_the_slot_is_withdrawn() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let channel = &channels[0];
    world.request_close(channel).unwrap();
    world.claim(&Batch::of(&[(channel, 100)])).unwrap();
    world.pass(GRACE_SECONDS + 1);
    world.claim(&Batch::of(&[(channel, 300)])).expect("also after closing_at");
    assert_eq!(claimed_total(&world), 300);

    let withdraw = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(0, channel.payer.pubkey())]);
    world.send(&[withdraw], &[]).unwrap();
    assert_eq!(world.held_by(&channel.payer.pubkey()), DEPOSIT - 300);
    assert_rejected(world.claim(&Batch::of(&[(channel, 400)])), Rejection::SlotFree);
}

#[test]
fn given_a_reopened_slot_when_an_old_voucher_is_claimed_then_its_whole_batch_is_refused() {
    let (mut world, mut channels) = World::with_channels(2, DEPOSIT);
    world.request_close(&channels[0]).unwrap();
    world.pass(GRACE_SECONDS);
    let withdraw = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(0, channels[0].payer.pubkey())]);
    world.send(&[withdraw], &[]).unwrap();
    let old: Channel = std::mem::replace(&mut channels[0], world.open(0, DEPOSIT));
    assert_eq!(channels[0].generation, 2);

    let batch = Batch::of(&[(&channels[1], 50), (&old, 60)]);
    assert_rejected(world.claim(&batch), Rejection::SignatureMismatch);
    world.claim(&Batch::of(&[(&channels[1], 50), (&channels[0], 60)])).unwrap();
}

#[test]
fn given_the_same_channel_in_two_pages_of_a_book_when_claimed_then_each_takes_its_own_vouchers_only() {
    let mut world = World::new();
    let first = world.open(2, DEPOSIT);
    world.send_add_page(1, 8).unwrap();
    let (page, other) = (world.page, page_address(&PROGRAM_ID, &world.book, 1).0);
    world.page = other;
    world.fund(&other, 0); // so that the world counts the vault
    let second = world.open(2, DEPOSIT);
    assert_eq!((first.payer.pubkey(), first.generation), (second.payer.pubkey(), second.generation));
    assert_eq!(first.signer, second.signer);
    for (page, channel, stranger) in [(page, &first, &second), (other, &second, &first)] {
        world.page = page;
        assert_rejected(world.claim(&Batch::of(&[(stranger, 500)])), Rejection::SignatureMismatch);
        world.claim(&Batch::of(&[(channel, 500)])).unwrap();
        assert_eq!(settled(&world)[2], 500);
    }
}

#[test]
fn given_the_last_slot_of_a_full_page_when_all_are_claimed_in_parts_then_all_are_settled() {
    let (mut world, channels) = World::with_channels(24, DEPOSIT);
    for part in channels.chunks(12) {
        let signed: Vec<_> = part.iter().map(|channel| voucher(channel, 5 + u64::from(channel.slot))).collect();
        world.claim(&Batch::from_signed(signed)).unwrap();
    }
    assert_eq!(settled(&world), (0..24).map(|slot| 5 + slot).collect::<Vec<_>>());
}

#[test]
fn given_another_account_when_claimed_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let good = Batch::of(&[(&channels[0], 10)]).instruction(&world.page);
    for (address, number) in [(world.book, 3002), (world.vault(), 3007)] {
        let mut instruction = good.clone();
        instruction.accounts[0].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[])), number);
    }
    let mut read_only = good;
    read_only.accounts[0].is_writable = false;
    assert_eq!(custom_error(world.send(&[read_only], &[])), 2000, "Anchor: ConstraintMut");
}
