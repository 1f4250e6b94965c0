//! Claiming less than was signed.

use crate::vouchers::Batch;
use crate::world::{Channel, GRACE_SECONDS, TALLYBOOK, World, assert_rejected, custom_error};
use solana_instruction::Instruction;
use solana_signer::Signer;
use tallybook_rules::half_aggregation::BelowRow;
use tallybook_rules::{Amount, Rejection};

const DEPOSIT: u64 = 10_000;
const MOST: u64 = (1 << 48) - 1;

/// A claim below the ceiling: its scalar and rows, free to be forged.
#[derive(Clone)]
pub(crate) struct Below {
    scalar: [u8; 32],
    rows: Vec<BelowRow>,
}

impl Below {
    /// For each channel a voucher of so much, of which only so much is settled.
    pub(crate) fn of(vouchers: &[(&Channel, u64, u64)]) -> Self {
        let signed: Vec<_> = vouchers.iter().map(|(channel, signed, _)| (*channel, *signed)).collect();
        let batch = Batch::of(&signed);
        let amounts = vouchers.iter().map(|(_, _, amount)| Amount::new(*amount));
        let rows = batch.rows.into_iter().zip(amounts).map(|(signed, amount)| BelowRow { signed, amount });
        Self { scalar: batch.scalar, rows: rows.collect() }
    }

    pub(crate) fn instruction(&self, world: &World) -> Instruction {
        TALLYBOOK.claim_below(&world.page, &self.scalar, &self.rows).unwrap()
    }

    fn send(&self, world: &mut World) -> crate::world::Sent {
        world.send(&[self.instruction(world)], &[])
    }
}

fn settled(world: &World) -> Vec<u64> {
    world.page_view().slots.iter().map(|slot| slot.settled.get()).collect()
}

#[test]
fn given_vouchers_when_claimed_below_then_each_is_settled_up_to_its_amount_and_nothing_moves() {
    let (mut world, channels) = World::with_channels(4, DEPOSIT);

    Below::of(&[(&channels[3], 5_000, 40), (&channels[0], 10, 10), (&channels[1], 700, 0)]).send(&mut world).unwrap();

    assert_eq!(settled(&world)[..4], [10, 0, 0, 40]);
    let header = world.page_view().header;
    assert_eq!((header.claimed_total.get(), header.outstanding.get()), (50, 4 * DEPOSIT - 50));
    assert_eq!(world.balance(&world.vault()), 4 * DEPOSIT);
}

#[test]
fn given_both_kinds_of_claim_when_mixed_then_the_highest_amount_counts_once() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let channel = &channels[0];
    for (signed, amount, expected) in [
        (900, Some(300), 300),
        (500, None, 500),
        (900, Some(400), 500),
        (900, Some(500), 500),
        (900, Some(501), 501),
        (501, None, 501),
        (900, Some(0), 501),
        (900, Some(900), 900),
        (901, Some(1), 900),
        (901, None, 901),
        (MOST, Some(902), 902),
    ] {
        let sent = match amount {
            Some(amount) => Below::of(&[(channel, signed, amount)]).send(&mut world),
            None => world.claim(&Batch::of(&[(channel, signed)])),
        };
        sent.unwrap();
        assert_eq!(settled(&world)[0], expected, "after {signed} {amount:?}");
    }
}

#[test]
fn given_both_kinds_of_claim_of_one_channel_in_one_transaction_then_both_count() {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    let below = Below::of(&[(&channels[0], 900, 300), (&channels[1], 900, 100)]).instruction(&world);
    let plain = Batch::of(&[(&channels[0], 200), (&channels[1], 400)]).instruction(&world.page);
    world.send(&[below, plain], &[]).unwrap();
    assert_eq!(settled(&world)[..2], [300, 400]);
}

#[test]
fn given_two_rows_of_one_channel_in_a_batch_when_claimed_below_then_the_higher_amount_counts() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let channel = &channels[0];
    Below::of(&[(channel, 900, 100), (channel, 500, 500), (channel, 800, 300)]).send(&mut world).unwrap();
    assert_eq!((settled(&world)[0], world.page_view().header.claimed_total.get()), (500, 500));
}

#[test]
fn given_amounts_at_their_bounds_when_claimed_below_then_the_deposit_bounds_them() {
    for (deposit, signed, amount, expected) in [
        (DEPOSIT, 0, 0, 0),
        (DEPOSIT, 1, 0, 0),
        (DEPOSIT, 1, 1, 1),
        (DEPOSIT, MOST, 1, 1),
        (DEPOSIT, MOST, DEPOSIT, DEPOSIT),
        (DEPOSIT, MOST, DEPOSIT + 1, DEPOSIT),
        (DEPOSIT, MOST, MOST, DEPOSIT),
        (MOST, MOST, MOST - 1, MOST - 1),
        (MOST, MOST, MOST, MOST),
    ] {
        let mut world = World::new();
        let channel = world.open(0, deposit);
        Below::of(&[(&channel, signed, amount)]).send(&mut world).unwrap();
        assert_eq!(settled(&world)[0], expected, "{amount} of {signed}, out of {deposit}");
    }
}

#[test]
fn given_an_amount_above_what_was_signed_when_claimed_below_then_the_whole_batch_is_refused() {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    for (signed, amount) in [(0, 1), (500, 501), (500, MOST), (MOST - 1, MOST)] {
        let batch = Below::of(&[(&channels[0], 700, 700), (&channels[1], signed, amount)]);
        assert_rejected(batch.send(&mut world), Rejection::AmountAboveSigned);
    }
    world.claim(&Batch::of(&[(&channels[1], 900)])).unwrap();
    let settled_already = Below::of(&[(&channels[1], 500, 501)]);
    assert_rejected(settled_already.send(&mut world), Rejection::AmountAboveSigned);
}

#[test]
fn given_several_reasons_when_claimed_below_then_the_first_in_precedence_is_named() {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    let above = Below::of(&[(&channels[0], 500, 501), (&channels[1], 500, 500)]);
    let cases: [(fn(&mut Below), Rejection); 5] = [
        (|batch| batch.rows[1].signed.slot = 8, Rejection::NoSuchSlot),
        (|batch| batch.rows[1].signed.slot = 3, Rejection::SlotFree),
        (|batch| batch.scalar = [0xff; 32], Rejection::ScalarNotCanonical),
        (|batch| batch.rows[1].signed.cumulative = Amount::new(501), Rejection::SignatureMismatch),
        (|_| (), Rejection::AmountAboveSigned),
    ];
    for (change, rejection) in cases {
        let mut batch = above.clone();
        change(&mut batch);
        assert_rejected(batch.send(&mut world), rejection);
    }
}

#[test]
fn given_an_honest_batch_when_anything_signed_is_changed_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(3, DEPOSIT);
    let honest = Below::of(&[(&channels[0], 900, 1), (&channels[1], 900, 2), (&channels[2], 900, 3)]);
    let cases: [(&str, fn(&mut Below)); 8] = [
        ("a nonce point", |batch| batch.rows[0].signed.nonce[0] ^= 1),
        ("the scalar", |batch| batch.scalar[3] ^= 1),
        ("a ceiling, by one more", |batch| batch.rows[1].signed.cumulative = Amount::new(901)),
        ("a ceiling, by one less", |batch| batch.rows[1].signed.cumulative = Amount::new(899)),
        ("two slots", |batch| (batch.rows[0].signed.slot, batch.rows[2].signed.slot) = (2, 0)),
        ("the order of two rows", |batch| batch.rows.swap(0, 1)),
        ("the number of rows, by one less", |batch| batch.rows.truncate(2)),
        ("the number of rows, by one twice", |batch| batch.rows.push(batch.rows[2])),
    ];
    for (what, change) in cases {
        let mut forged = honest.clone();
        change(&mut forged);
        let number = 6000 + u32::from(Rejection::SignatureMismatch.code());
        assert_eq!(custom_error(forged.send(&mut world)), number, "changed: {what}");
    }
    honest.send(&mut world).expect("unchanged");
    assert_eq!(settled(&world)[..3], [1, 2, 3]);
}

#[test]
fn given_bytes_that_are_not_whole_rows_when_claimed_below_then_they_are_refused() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let good = Below::of(&[(&channels[0], 900, 300)]).instruction(&world);
    for length in [1, 2, 32, 33, 34, 33 + 39, 33 + 44, 33 + 46, 33 + 89] {
        let mut instruction = good.clone();
        instruction.data.resize(length, 0);
        world.refuses(instruction, &[], Rejection::MalformedRows);
    }
    let mut as_plain = good.clone();
    as_plain.data[0] = 5;
    world.refuses(as_plain, &[], Rejection::MalformedRows);
    let mut plain_as_below = Batch::of(&[(&channels[0], 900)]).instruction(&world.page);
    plain_as_below.data[0] = 6;
    world.refuses(plain_as_below, &[], Rejection::MalformedRows);
    world.send(&[good], &[]).unwrap();
}

#[test]
fn given_15_rows_of_a_plain_claim_when_sent_as_13_below_then_they_are_refused() {
    let (mut world, channels) = World::with_channels(15, DEPOSIT);
    let vouchers: Vec<_> = channels.iter().map(|channel| (channel, 900)).collect();
    let mut instruction = Batch::of(&vouchers).instruction(&world.page);
    assert_eq!((instruction.data.len() - 33) % 45, 0, "as many bytes as 13 longer rows have");
    instruction.data[0] = 6;
    assert!(world.send(&[instruction], &[]).is_err());
    assert_eq!(settled(&world).iter().sum::<u64>(), 0);
}

#[test]
fn given_a_closing_channel_when_claimed_below_then_it_counts_until_the_slot_is_withdrawn() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let channel = &channels[0];
    world.request_close(channel).unwrap();
    world.pass(GRACE_SECONDS + 1);
    Below::of(&[(channel, 900, 300)]).send(&mut world).expect("also after closing_at");
    let withdraw = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(0, channel.payer.pubkey())]);
    world.send(&[withdraw], &[]).unwrap();
    assert_eq!(world.held_by(&channel.payer.pubkey()), DEPOSIT - 300);
    assert_rejected(Below::of(&[(channel, 900, 400)]).send(&mut world), Rejection::SlotFree);

    let reopened = world.open(0, DEPOSIT);
    assert_rejected(Below::of(&[(channel, 900, 400)]).send(&mut world), Rejection::SignatureMismatch);
    Below::of(&[(&reopened, 900, 400)]).send(&mut world).unwrap();
}

#[test]
fn given_another_account_when_claimed_below_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let good = Below::of(&[(&channels[0], 900, 300)]).instruction(&world);
    for (address, number) in [(world.book, 3002), (world.vault(), 3007)] {
        let mut instruction = good.clone();
        instruction.accounts[0].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[])), number);
    }
    let mut read_only = good.clone();
    read_only.accounts[0].is_writable = false;
    assert_eq!(custom_error(world.send(&[read_only], &[])), 2000, "Anchor: ConstraintMut");

    world.send_add_page(1, 8).unwrap();
    let mut elsewhere = good;
    elsewhere.accounts[0].pubkey = tallybook_chain::address::page(&tallybook_chain::PROGRAM_ID, &world.book, 1).0;
    assert_rejected(world.send(&[elsewhere], &[]), Rejection::SlotFree);
}

#[test]
fn given_81_channels_when_claimed_below_in_a_transaction_of_version_1_then_it_fits_bytes_compute_and_heap() {
    let (mut world, channels) = World::with_channels(96, DEPOSIT);
    world.fund(&world.payee.pubkey(), 0);
    let vouchers: Vec<_> = channels.iter().take(81).map(|channel| (channel, 900, 300)).collect();
    let instructions = [Below::of(&vouchers).instruction(&world), TALLYBOOK.payout(&world.book_view(), &world.page, 1)];
    let (bytes, sent) = world.send_v1(&instructions);
    let units = sent.expect("the batch is claimed and paid out").compute_units_consumed;
    println!("| 81 below | {bytes:5} | {units:7} |");
    assert!(bytes <= 4_096 && units <= 800_000);
    assert_eq!(world.held_by(&world.payee.pubkey()), 81 * 300);
}
