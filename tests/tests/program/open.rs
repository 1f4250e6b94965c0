//! Opening channels.

use crate::vouchers::Batch;
use crate::world::{BEGIN, MIN_DEPOSIT, Setup, TALLYBOOK, World, custom_error, key};
use curve25519_dalek::constants::EIGHT_TORSION;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::instruction::{NewChannel, RefundRow};
use tallybook_rules::{Amount, Rejection, Slot, Status};

/// A world, and a good opening of slot 2 with a deposit of 9,000.
fn ready() -> (World, NewChannel, Keypair) {
    let mut world = World::new();
    let (new, payer, _) = world.opening(2, 9_000);
    (world, new, payer)
}

#[test]
fn given_a_free_slot_when_a_payer_opens_it_then_the_deposit_is_in_the_vault_and_the_slot_says_so() {
    let (mut world, new, payer) = ready();

    world.send(&[TALLYBOOK.open(&world.book_view(), &new)], &[&payer]).unwrap();

    let page = world.page_view();
    let slot = page.slots[2];
    let expected = Slot {
        payer: new.payer.to_bytes(),
        signer: new.signer,
        deposit: Amount::new(9_000),
        last_activity: BEGIN,
        generation: 1,
        status_byte: 1,
        ..Slot::default()
    };
    assert_eq!((slot, slot.status()), (expected, Ok(Status::Open)));
    assert_eq!((page.header.outstanding, page.header.used), (Amount::new(9_000), 1));
    assert_eq!((world.balance(&world.vault()), world.balance(&new.source)), (9_000, 0));
}

#[test]
fn given_a_bad_opening_when_sent_then_it_is_refused_by_its_name() {
    let (mut world, good, payer) = ready();
    let cases: [(fn(&mut NewChannel), Rejection); 9] = [
        (|new| new.slot = 8, Rejection::NoSuchSlot),
        (|new| new.slot = 255, Rejection::NoSuchSlot),
        (|new| new.generation = 0, Rejection::WrongGeneration),
        (|new| new.generation = 2, Rejection::WrongGeneration),
        (|new| new.deposit = 0, Rejection::DepositTooSmall),
        (|new| new.deposit = MIN_DEPOSIT - 1, Rejection::DepositTooSmall),
        (|new| new.deposit = 1 << 48, Rejection::DepositTooLarge),
        (|new| new.deposit = u64::MAX, Rejection::DepositTooLarge),
        (|new| new.signer = crate::world::no_point(), Rejection::WeakSigner),
    ];
    for (change, rejection) in cases {
        let mut new = good;
        change(&mut new);
        world.refuses(TALLYBOOK.open(&world.book_view(), &new), &[&payer], rejection);
    }
}

#[test]
fn given_the_largest_deposit_when_opened_then_it_is_taken() {
    let mut world = World::new();
    let channel = world.open(0, (1 << 48) - 1);
    world.claim(&Batch::of(&[(&channel, (1 << 48) - 1)])).unwrap();
    assert_eq!(world.page_view().slots[0].settled, Amount::MAX_DEPOSIT);
}

#[test]
fn given_a_taken_slot_when_opened_then_it_is_refused_and_a_freed_one_opens_with_the_next_generation_only() {
    let mut world = World::new();
    let first = world.open(2, 5_000);
    let (new, payer, _) = world.opening(2, 5_000);
    world.refuses(TALLYBOOK.open(&world.book_view(), &new), &[&payer], Rejection::SlotTaken);

    let row = RefundRow { slot: 2, generation: 1, keep: 0 };
    let operator = key("operator");
    let refund = TALLYBOOK.refund(&world.book_view(), &world.page, &operator.pubkey(), &[(row, first.payer.pubkey())]);
    world.send(&[refund], &[&operator]).unwrap();

    let stale = NewChannel { generation: 1, ..new };
    world.refuses(TALLYBOOK.open(&world.book_view(), &stale), &[&payer], Rejection::WrongGeneration);
    world.send(&[TALLYBOOK.open(&world.book_view(), &new)], &[&payer]).unwrap();
    assert_eq!(world.page_view().slots[2].generation, 2);
}

#[test]
fn given_a_key_of_small_order_or_none_when_opened_then_it_is_refused_in_every_encoding() {
    let (mut world, good, payer) = ready();
    let mut weak: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    // encodings that are not canonical: y = 0 and y = 1 written as p and p + 1, and a sign where x is 0
    for (low, high) in [(0xed, 0x7f), (0xed, 0xff), (0xee, 0x7f), (0xee, 0xff), (0xec, 0xff)] {
        weak.push(std::array::from_fn(|at| match at {
            0 => low,
            31 => high,
            _ => 0xff,
        }));
    }
    weak.push(std::array::from_fn(|at| [1, 0, 0x80][usize::from(at > 0) + usize::from(at == 31)]));
    weak.push([0x02; 32]); // no point of the curve
    for signer in weak {
        let new = NewChannel { signer, ..good };
        let instruction = TALLYBOOK.open(&world.book_view(), &new);
        world.refuses(instruction, &[&payer], Rejection::WeakSigner);
    }
}

#[test]
fn given_a_book_whose_operator_co_signs_when_opened_then_only_with_that_signature() {
    let mut world = World::with(Setup { open_policy: 1, ..Setup::default() });
    let (good, payer, _) = world.opening(2, 9_000);
    let (operator, stranger) = (key("operator"), key("stranger"));
    let book = world.book_view();
    world.refuses(TALLYBOOK.open(&book, &good), &[&payer], Rejection::OperatorMustSign);
    let other = NewChannel { operator: Some(stranger.pubkey()), ..good };
    world.refuses(TALLYBOOK.open(&book, &other), &[&payer, &stranger], Rejection::OperatorMustSign);
    let signed = NewChannel { operator: Some(operator.pubkey()), ..good };
    let mut unsigned = TALLYBOOK.open(&book, &signed);
    unsigned.accounts[1].is_signer = false;
    assert_eq!(custom_error(world.send(&[unsigned], &[&payer])), 3010, "Anchor: AccountNotSigner");

    world.send(&[TALLYBOOK.open(&book, &signed)], &[&payer, &operator]).unwrap();
}

#[test]
fn given_other_accounts_when_opened_then_each_is_refused() {
    let (mut world, new, payer) = ready();
    world.open(0, 9_000); // so that there is something to steal
    let good = TALLYBOOK.open(&world.book_view(), &new);
    let other = Address::new_unique();
    let (stranger_account, page) = (world.fund(&other, 9_000), world.page);
    for (at, address, number) in [
        (2, page, 3002), // Anchor: AccountDiscriminatorMismatch
        (3, world.book, 3002),
        (2, other, 3007), // Anchor: AccountOwnedByWrongProgram
        (3, other, 3007),
        (4, stranger_account, 4), // the token program: OwnerMismatch
        (4, world.vault(), 4),
        (5, stranger_account, 6000 + u32::from(Rejection::WrongVault.code())),
        (6, other, 6000 + u32::from(Rejection::WrongMint.code())),
        (7, other, 6000 + u32::from(Rejection::WrongTokenProgram.code())),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[&payer])), number, "account {at}");
    }
    let mut unsigned = good.clone();
    unsigned.accounts[0].is_signer = false;
    assert_eq!(custom_error(world.send(&[unsigned], &[])), 3010, "Anchor: AccountNotSigner");
    let short = NewChannel { deposit: 9_001, ..new };
    let sent = world.send(&[TALLYBOOK.open(&world.book_view(), &short)], &[&payer]);
    assert_eq!(custom_error(sent), 1, "the token program: InsufficientFunds");
}

#[test]
fn given_a_page_of_another_book_when_opened_then_it_is_refused() {
    let (mut world, new, payer) = ready();
    let second = tallybook_chain::instruction::NewBook { book_id: 1, ..world.new_book() };
    world.send_new_book(&second).unwrap();
    let mut instruction = TALLYBOOK.open(&world.book_view(), &new);
    instruction.accounts[2].pubkey =
        tallybook_chain::address::book(&tallybook_chain::PROGRAM_ID, &second.payee, &second.mint, 1).0;
    world.refuses(instruction, &[&payer], Rejection::WrongBook);
}
