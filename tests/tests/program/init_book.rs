//! Making a book.

use crate::world::{Setup, TALLYBOOK, World, assert_rejected, custom_error, key};
use solana_address::Address;
use solana_signer::Signer;
use tallybook_chain::address::TOKEN_2022_PROGRAM;
use tallybook_chain::instruction::{NewBook, Split};
use tallybook_rules::{Amount, Book, Rejection, Terms};

fn split(name: &str, basis_points: u16) -> Split {
    Split { recipient: key(name).pubkey().to_bytes(), basis_points }
}

#[test]
fn given_good_terms_when_a_payee_makes_a_book_then_it_says_exactly_that() {
    let mut world = World::bare(&Setup::default());
    let new = NewBook { splits: vec![split("partner", 250), split("tax", 1_000)], ..world.new_book() };

    world.send_new_book(&new).unwrap();

    let view = world.book_view();
    let book = view.state;
    assert_eq!((view.payee(), view.mint(), view.token_program()), (new.payee, new.mint, new.token_program));
    assert_eq!((view.operator(), book.rent_payer), (new.operator, new.rent_payer.to_bytes()));
    assert_eq!((book.terms(), book.genesis_hash), (new.terms, new.genesis_hash));
    assert_eq!((book.book_id, book.next_page, book.decimals, book.version), (0, 0, 6, Book::VERSION));
    let shares: Vec<_> = book.legs().iter().map(|leg| (leg.recipient, leg.basis_points)).collect();
    let [partner, tax] = [new.splits[0].recipient, new.splits[1].recipient];
    assert_eq!(shares, [(new.payee.to_bytes(), 8_750), (partner, 250), (tax, 1_000)]);
    for leg in book.legs() {
        assert_eq!(Address::from(leg.account), world.token_account(&leg.recipient.into()));
    }
    assert!(book.spare == [0; 21] && book.spare_tail == [0; 6]);
}

#[test]
fn given_terms_out_of_range_when_a_book_is_made_then_each_is_refused_by_its_name() {
    let mut world = World::bare(&Setup::default());
    let good = world.new_book();
    let cases: [(fn(&mut Terms), Rejection); 9] = [
        (|t| t.grace_seconds = 899, Rejection::GraceOutOfRange),
        (|t| t.grace_seconds = 2_592_001, Rejection::GraceOutOfRange),
        (|t| t.max_idle_seconds = 1, Rejection::IdleOutOfRange),
        (|t| t.max_idle_seconds = 86_399, Rejection::IdleOutOfRange),
        (|t| t.min_deposit = Amount::ZERO, Rejection::MinDepositOutOfRange),
        (|t| t.min_deposit = Amount::DEPOSIT_LIMIT, Rejection::MinDepositOutOfRange),
        (|t| t.min_deposit = Amount::new(u64::MAX), Rejection::MinDepositOutOfRange),
        (|t| t.open_policy = 2, Rejection::UnknownOpenPolicy),
        (|t| t.open_policy = 255, Rejection::UnknownOpenPolicy),
    ];
    for (change, rejection) in cases {
        let mut new = good.clone();
        change(&mut new.terms);
        assert_rejected(world.send_new_book(&new), rejection);
    }
}

#[test]
fn given_bad_splits_when_a_book_is_made_then_they_are_refused() {
    let mut world = World::bare(&Setup::default());
    let nobody = Split { recipient: [0; 32], basis_points: 1 };
    let five: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|name| split(name, 1)).collect();
    let cases = [
        five,
        vec![split("a", 0)],
        vec![nobody],
        vec![split("payee", 1)],
        vec![split("a", 1), split("b", 1), split("a", 1)],
        vec![split("a", 10_001)],
        vec![split("a", 5_000), split("b", 5_001)],
    ];
    for splits in cases {
        let new = NewBook { splits, ..world.new_book() };
        assert_rejected(world.send_new_book(&new), Rejection::BadSplits);
    }
    let all = NewBook { splits: vec![split("a", 9_999), split("b", 1)], ..world.new_book() };
    world.send_new_book(&all).expect("a payee may give all away");
    assert_eq!(world.book_view().state.legs[0].basis_points, 0);
}

#[test]
fn given_a_book_when_made_again_then_it_is_refused() {
    let mut world = World::bare(&Setup::default());
    let new = world.new_book();
    world.send_new_book(&new).unwrap();

    let again = NewBook { operator: Address::new_unique(), ..new };
    assert_eq!(custom_error(world.send_new_book(&again)), 0, "the system program: already in use");
}

#[test]
fn given_an_address_that_holds_lamports_when_a_book_is_made_there_then_it_is_made() {
    for lamports in [1_000_000, 1_000_000_000] {
        let mut world = World::bare(&Setup::default());
        let (book, new) = (world.book, world.new_book());
        world.svm.airdrop(&book, lamports).unwrap();
        world.send_new_book(&new).expect("money at an address does not keep a book from being made");
        world.send_add_page(0, 1).unwrap();
    }
}

#[test]
fn given_no_signature_of_the_payee_when_a_book_is_made_then_it_is_refused() {
    let mut world = World::bare(&Setup::default());
    let new = world.new_book();
    let mut instruction = TALLYBOOK.init_book(&new);
    instruction.accounts[0].is_signer = false;
    assert_eq!(custom_error(world.send(&[instruction], &[])), 3010, "Anchor: AccountNotSigner");
}

#[test]
fn given_another_address_or_program_when_a_book_is_made_then_it_is_refused() {
    let mut world = World::bare(&Setup::default());
    let payee = key("payee");
    let good = TALLYBOOK.init_book(&world.new_book());
    for (at, other, number) in [
        (2, Address::new_unique(), 2006), // Anchor: ConstraintSeeds
        (4, Address::new_unique(), 3008), // Anchor: InvalidProgramId
        (5, Address::new_unique(), 3008),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = other;
        assert_eq!(custom_error(world.send(&[instruction], &[&payee])), number, "account {at}");
    }
}

#[test]
fn given_a_mint_of_another_program_or_no_mint_when_a_book_is_made_then_it_is_refused() {
    let mut world = World::bare(&Setup::default());
    let other_program = NewBook { token_program: TOKEN_2022_PROGRAM, ..world.new_book() };
    assert_rejected(world.send_new_book(&other_program), Rejection::WrongMint);

    let account = world.fund(&key("payee").pubkey(), 1);
    for mint in [account, Address::new_unique()] {
        let new = NewBook { mint, ..world.new_book() };
        assert_rejected(world.send_new_book(&new), Rejection::WrongMint);
    }
    let mut blank = world.svm.get_account(&world.mint).unwrap();
    blank.data[45] = 0;
    world.svm.set_account(world.mint, blank).unwrap();
    let new = world.new_book();
    assert_rejected(world.send_new_book(&new), Rejection::WrongMint);
}
