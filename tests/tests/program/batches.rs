//! What a batch costs: bytes, compute units, and where the money goes.

use crate::world::{Batch, World};
use solana_address::Address;
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price};

const DEPOSIT: u64 = 10_000_000;

/// Claims the first `count` channels of a world of 96 slots and pays out, in one transaction; bytes and compute units.
fn claim_and_pay_out(world: &mut World, batch: &Batch) -> (usize, u64) {
    let book = world.book_view();
    let payee = world.token_account(&book.payee());
    let table: Vec<Address> = vec![
        world.page,
        world.vault(),
        payee,
        book.mint(),
        book.token_program(),
        book.address,
    ];
    let instructions = [
        compute_unit_limit(240_000),
        compute_unit_price(1_000),
        batch.instruction(&world.page),
        super::world::TALLYBOOK.payout(&book, &world.page, 1),
    ];
    let (bytes, sent) = world.send_v0(&instructions, table);
    let meta = sent.expect("the batch is claimed and paid out");
    (bytes, meta.compute_units_consumed)
}

#[test]
fn given_1_8_and_23_channels_when_claimed_and_paid_out_in_one_transaction_then_it_fits_bytes_and_compute() {
    println!("|  n | bytes |      CU | CU/claim |");
    for count in [1u8, 8, 23] {
        let (mut world, channels) = World::with_channels(96, DEPOSIT);
        world.fund(&world.book_view().payee(), 0);
        let vouchers: Vec<_> = channels
            .iter()
            .take(count.into())
            .map(|c| (c, 1_000 + u64::from(c.slot)))
            .collect();
        let expected: u64 = vouchers.iter().map(|(_, cumulative)| cumulative).sum();

        let (bytes, units) = claim_and_pay_out(&mut world, &Batch::of(&vouchers));

        println!("| {count:2} | {bytes:5} | {units:7} | {:8} |", units / u64::from(count));
        assert!(bytes <= 1_232 && units <= 240_000);
        assert_eq!(world.held_by(&world.book_view().payee()), expected);
        assert_eq!(world.balance(&world.vault()), 96 * DEPOSIT - expected);
    }
}
