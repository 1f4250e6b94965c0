//! What a batch costs together with its payout: bytes, compute units, heap, and where the money goes.

use crate::claim_below::Below;
use crate::vouchers::Batch;
use crate::world::{Channel, TALLYBOOK, World};
use solana_address::Address;
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price};

const DEPOSIT: u64 = 10_000_000;

/// The newest vouchers of the first `count` channels, and what they are worth together.
fn vouchers(channels: &[Channel], count: usize) -> (Batch, u64) {
    let vouchers: Vec<_> = channels.iter().take(count).map(|c| (c, 1_000 + u64::from(c.slot))).collect();
    (Batch::of(&vouchers), vouchers.iter().map(|(_, cumulative)| cumulative).sum())
}

#[test]
fn given_1_8_and_23_channels_when_claimed_and_paid_out_in_one_transaction_then_it_fits_bytes_and_compute() {
    println!("|  n | bytes |      CU | CU/claim |");
    for count in [1, 8, 16, 23] {
        let (mut world, channels) = World::with_channels(96, DEPOSIT);
        let book = world.book_view();
        let payee = world.fund(&book.payee(), 0);
        let (batch, expected) = vouchers(&channels, count);
        let table: Vec<Address> =
            vec![world.page, world.vault(), payee, book.mint(), book.token_program(), book.address];
        let instructions = [
            compute_unit_limit(240_000),
            compute_unit_price(1_000),
            batch.instruction(&world.page),
            TALLYBOOK.payout(&book, &world.page, 1),
        ];

        let (bytes, sent) = world.send_v0(&instructions, table);
        let units = sent.expect("the batch is claimed and paid out").compute_units_consumed;

        println!("| {count:2} | {bytes:5} | {units:7} | {:8} |", units / u64::try_from(count).unwrap());
        assert!(bytes <= 1_232 && units <= 215_700);
        assert_eq!(world.balance(&payee), expected);
        assert_eq!(world.balance(&world.vault()), 96 * DEPOSIT - expected);
    }
}

#[test]
fn given_94_channels_when_claimed_and_paid_out_in_a_transaction_of_version_1_then_it_fits_bytes_compute_and_heap() {
    let (mut world, channels) = World::with_channels(96, DEPOSIT);
    let book = world.book_view();
    let payee = world.fund(&book.payee(), 0);
    let (batch, expected) = vouchers(&channels, 94);
    let instructions = [batch.instruction(&world.page), TALLYBOOK.payout(&book, &world.page, 1)];

    let (bytes, sent) = world.send_v1(&instructions);
    let units = sent.expect("the batch is claimed and paid out").compute_units_consumed;

    println!("| 94 | {bytes:5} | {units:7} | {:8} |", units / 94);
    assert!(bytes <= 4_096 && units <= 851_900);
    assert_eq!(world.balance(&payee), expected);
}

#[test]
fn given_one_claim_more_or_a_payout_of_one_leg_when_measured_then_it_takes_what_is_promised() {
    const COMPUTE_LIMIT: u64 = 150; // the instruction that sets it
    let (mut world, channels) = World::with_channels(96, DEPOSIT);
    let payee = world.book_view().payee();
    world.fund(&payee, 0);
    let mut claim = |count: usize, cumulative: u64| {
        let vouchers: Vec<_> = channels.iter().take(count).map(|channel| (channel, cumulative)).collect();
        world.claim(&Batch::of(&vouchers)).unwrap().compute_units_consumed
    };

    let one_more = (claim(23, 2_000) - claim(3, 1_000)) / 20;
    let payout = world.payout(1).unwrap().compute_units_consumed - COMPUTE_LIMIT;

    println!("one claim more {one_more}, a payout of one leg {payout}");
    assert!(one_more <= 8_900 && payout <= 5_000);
}

#[test]
fn given_20_channels_when_claimed_below_and_paid_out_in_one_transaction_then_it_fits_bytes_and_compute() {
    let (mut world, channels) = World::with_channels(96, DEPOSIT);
    let book = world.book_view();
    let payee = world.fund(&book.payee(), 0);
    let vouchers: Vec<_> = channels.iter().take(20).map(|channel| (channel, 1_000, 250)).collect();
    let table = vec![world.page, world.vault(), payee, book.mint(), book.token_program(), book.address];
    let instructions = [
        compute_unit_limit(240_000),
        compute_unit_price(1_000),
        Below::of(&vouchers).instruction(&world),
        TALLYBOOK.payout(&book, &world.page, 1),
    ];

    let (bytes, sent) = world.send_v0(&instructions, table);
    let units = sent.expect("the batch is claimed and paid out").compute_units_consumed;

    println!("| 20 below | {bytes:5} | {units:7} |");
    assert!(bytes <= 1_232 && units <= 189_700);
    assert_eq!(world.balance(&payee), 20 * 250);
}
