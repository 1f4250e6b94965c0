//! Adding to a channel's deposit.

use crate::vouchers::Batch;
use crate::world::{Channel, MIN_DEPOSIT, TALLYBOOK, World, custom_error, key};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book as book_address;
use tallybook_chain::instruction::{Addition, NewBook, RefundRow};
use tallybook_rules::{Amount, Rejection, Slot};

const DEPOSIT: u64 = 9_000;

/// A good addition of 500 by a stranger to the channel in slot 2.
fn ready() -> (World, Channel, Addition, Keypair) {
    let mut world = World::new();
    let channel = world.open(2, DEPOSIT);
    let funder = key("funder");
    let source = world.fund(&funder.pubkey(), 500);
    let page = world.page;
    (world, channel, Addition { funder: funder.pubkey(), source, page, slot: 2, generation: 1, amount: 500 }, funder)
}

fn top_up(world: &World, addition: &Addition) -> Instruction {
    TALLYBOOK.top_up(&world.book_view(), addition)
}

/// Adds `amount` new tokens to a channel, by its own payer.
fn add(world: &mut World, channel: &Channel, amount: u64) -> crate::world::Sent {
    let funder = channel.payer.pubkey();
    let source = world.fund(&funder, amount);
    let (page, slot, generation) = (world.page, channel.slot, channel.generation);
    let instruction = top_up(world, &Addition { funder, source, page, slot, generation, amount });
    world.send(&[instruction], &[&channel.payer])
}

#[test]
fn given_an_open_channel_when_anybody_tops_it_up_then_only_its_deposit_is_higher_and_the_vault_has_the_money() {
    let (mut world, channel, addition, funder) = ready();
    world.claim(&Batch::of(&[(&channel, DEPOSIT + 300)])).unwrap();
    let before = world.page_view();
    world.pass(7);

    world.send(&[top_up(&world, &addition)], &[&funder]).unwrap();

    let page = world.page_view();
    let expected = Slot { deposit: Amount::new(DEPOSIT + 500), ..before.slots[2] };
    assert_eq!(page.slots[2], expected);
    assert_eq!((page.header.outstanding.get(), page.header.used), (500, 1));
    assert_eq!((world.balance(&world.vault()), world.balance(&addition.source)), (DEPOSIT + 500, 0));
    world.claim(&Batch::of(&[(&channel, DEPOSIT + 300)])).expect("the same voucher is covered now");
    assert_eq!(world.page_view().slots[2].settled.get(), DEPOSIT + 300);
}

#[test]
fn given_money_of_a_stranger_when_the_channel_is_refunded_then_it_goes_to_the_payer() {
    let (mut world, channel, addition, funder) = ready();
    world.send(&[top_up(&world, &addition)], &[&funder]).unwrap();
    let (operator, payer) = (key("operator"), channel.payer.pubkey());
    let row = RefundRow { slot: 2, generation: 1, keep: 0 };
    let refund = TALLYBOOK.refund(&world.book_view(), &world.page, &operator.pubkey(), &[(row, payer)]);
    world.send(&[refund], &[&operator]).unwrap();
    assert_eq!((world.held_by(&payer), world.held_by(&funder.pubkey())), (DEPOSIT + 500, 0));
}

#[test]
fn given_a_bad_addition_when_sent_then_it_is_refused_by_its_name() {
    let (mut world, _, good, funder) = ready();
    let closing = world.open(4, DEPOSIT);
    world.request_close(&closing).unwrap();
    let cases: [(fn(&mut Addition), Rejection); 13] = [
        (|a| a.slot = 8, Rejection::NoSuchSlot),
        (|a| (a.slot, a.amount) = (255, u64::MAX), Rejection::NoSuchSlot),
        (|a| a.generation = 0, Rejection::WrongGeneration),
        (|a| (a.generation, a.amount) = (2, 0), Rejection::WrongGeneration),
        (|a| (a.slot, a.generation) = (3, 1), Rejection::WrongGeneration),
        (|a| (a.slot, a.generation) = (3, 0), Rejection::SlotNotOpen),
        (|a| a.slot = 4, Rejection::SlotNotOpen),
        (|a| (a.slot, a.amount) = (4, 0), Rejection::SlotNotOpen),
        (|a| (a.slot, a.amount) = (4, u64::MAX), Rejection::SlotNotOpen),
        (|a| a.amount = 0, Rejection::DepositTooSmall),
        (|a| a.amount = (1 << 48) - DEPOSIT, Rejection::DepositTooLarge),
        (|a| a.amount = u64::MAX - DEPOSIT, Rejection::DepositTooLarge),
        (|a| a.amount = u64::MAX, Rejection::DepositTooLarge),
    ];
    for (change, rejection) in cases {
        let mut addition = good;
        change(&mut addition);
        world.refuses(top_up(&world, &addition), &[&funder], rejection);
    }
}

#[test]
fn given_a_small_channel_when_topped_up_to_the_limit_then_all_of_it_counts_and_one_more_is_refused() {
    let mut world = World::new();
    let channel = world.open(0, MIN_DEPOSIT);
    add(&mut world, &channel, 1).unwrap();
    add(&mut world, &channel, (1 << 48) - 2 - MIN_DEPOSIT).unwrap();
    assert_eq!(world.page_view().slots[0].deposit, Amount::MAX_DEPOSIT);
    crate::world::assert_rejected(add(&mut world, &channel, 1), Rejection::DepositTooLarge);

    world.claim(&Batch::of(&[(&channel, (1 << 48) - 1)])).unwrap();
    assert_eq!(world.page_view().slots[0].settled, Amount::MAX_DEPOSIT);
}

#[test]
fn given_other_accounts_when_topped_up_then_each_is_refused() {
    let (mut world, _, addition, funder) = ready();
    let good = top_up(&world, &addition);
    let other = Address::new_unique();
    let (strangers, page) = (world.fund(&other, 9_000), world.page);
    for (at, address, number) in [
        (1, page, 3002), // Anchor: AccountDiscriminatorMismatch
        (2, world.book, 3002),
        (1, other, 3007), // Anchor: AccountOwnedByWrongProgram
        (2, other, 3007),
        (3, strangers, 4), // the token program: OwnerMismatch
        (3, world.vault(), 4),
        (4, strangers, 6000 + u32::from(Rejection::WrongVault.code())),
        (4, addition.source, 6000 + u32::from(Rejection::WrongVault.code())),
        (5, other, 6000 + u32::from(Rejection::WrongMint.code())),
        (6, other, 6000 + u32::from(Rejection::WrongTokenProgram.code())),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[&funder])), number, "account {at}");
    }
    let mut unsigned = good.clone();
    unsigned.accounts[0].is_signer = false;
    assert_eq!(custom_error(world.send(&[unsigned], &[])), 3010, "Anchor: AccountNotSigner");
    let mut read_only = good.clone();
    read_only.accounts[2].is_writable = false;
    assert_eq!(custom_error(world.send(&[read_only], &[&funder])), 2000, "Anchor: ConstraintMut");
    let short = Addition { amount: 501, ..addition };
    let sent = world.send(&[top_up(&world, &short)], &[&funder]);
    assert_eq!(custom_error(sent), 1, "the token program: InsufficientFunds");

    let second = NewBook { book_id: 1, ..world.new_book() };
    world.send_new_book(&second).unwrap();
    let mut instruction = good;
    instruction.accounts[1].pubkey = book_address(&PROGRAM_ID, &second.payee, &second.mint, 1).0;
    world.refuses(instruction, &[&funder], Rejection::WrongBook);
}
