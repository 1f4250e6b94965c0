//! What a batch costs: bytes, compute units, heap, and where the money goes.

use crate::claim_below::Below;
use crate::vouchers::Batch;
use crate::world::{Channel, GRACE_SECONDS, TALLYBOOK, World, key};
use solana_address::Address;
use solana_signer::Signer;
use tallybook_chain::instruction::{Addition, RefundRow};
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
        assert!(bytes <= 1_232 && units <= 240_000);
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
    assert!(bytes <= 4_096 && units <= 900_000);
    assert_eq!(world.balance(&payee), expected);
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
    assert!(bytes <= 1_232 && units <= 210_000);
    assert_eq!(world.balance(&payee), 20 * 250);
}

#[test]
fn given_a_page_when_topped_up_idle_handed_over_and_closed_then_each_stays_within_its_compute_budget() {
    let mut world = World::with(crate::world::Setup { capacity: 96, ..Default::default() });
    let (channel, payee, page) = (world.open(0, DEPOSIT), key("payee"), world.page);
    let (book, funder) = (world.book_view(), channel.payer.pubkey());
    world.fund(&payee.pubkey(), 0);
    let source = world.fund(&funder, 5);
    let top_up = TALLYBOOK.top_up(&book, &Addition { funder, source, page, slot: 0, generation: 1, amount: 5 });
    let mut units = vec![("top_up", world.send(&[top_up], &[&channel.payer]).unwrap().compute_units_consumed, 20_000)];
    let set = TALLYBOOK.set_operator(&book, &payee.pubkey());
    units.push(("set_operator", world.send(&[set], &[&payee]).unwrap().compute_units_consumed, 5_000));
    world.pass(86_400);
    let idle = TALLYBOOK.idle_close(&world.book, &page, &payee.pubkey(), 0, 1);
    units.push(("idle_close", world.send(&[idle], &[&payee]).unwrap().compute_units_consumed, 10_000));
    world.pass(GRACE_SECONDS);
    let withdraw = TALLYBOOK.withdraw(&book, &page, &[(0, funder)]);
    world.send(&[withdraw], &[]).unwrap();
    world.fund(&page, 7); // a donation
    let close = TALLYBOOK.close_page(&book, &page, &payee.pubkey(), &world.sponsor.pubkey());
    units.push(("close_page", world.send(&[close], &[&payee]).unwrap().compute_units_consumed, 30_000));
    for (name, units, budget) in units {
        println!("| {name:13} | {units:6} |");
        assert!(units <= budget, "{name} takes {units}");
    }
}

#[test]
fn given_a_channel_when_it_is_opened_closed_withdrawn_or_refunded_then_each_stays_within_its_compute_budget() {
    let mut world = World::with(crate::world::Setup { capacity: 96, ..Default::default() });
    let (new, payer, _) = world.opening(0, DEPOSIT);
    let open = TALLYBOOK.open(&world.book_view(), &new);
    let mut units = vec![("open", world.send(&[open], &[&payer]).unwrap().compute_units_consumed, 40_000)];
    let other = world.open(1, DEPOSIT);
    let row = RefundRow { slot: 1, generation: 1, keep: 0 };
    let operator = key("operator");
    let rows = [(row, other.payer.pubkey())];
    let refund = TALLYBOOK.refund(&world.book_view(), &world.page, &operator.pubkey(), &rows);
    units.push(("refund", world.send(&[refund], &[&operator]).unwrap().compute_units_consumed, 40_000));
    let close = TALLYBOOK.request_close(&world.book, &world.page, &payer.pubkey(), 0, 1);
    units.push(("request_close", world.send(&[close], &[&payer]).unwrap().compute_units_consumed, 15_000));
    world.pass(GRACE_SECONDS);
    let withdraw = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(0, payer.pubkey())]);
    units.push(("withdraw", world.send(&[withdraw], &[]).unwrap().compute_units_consumed, 40_000));
    for (name, units, budget) in units {
        println!("| {name:13} | {units:6} |");
        assert!(units <= budget, "{name} takes {units}");
    }
}
