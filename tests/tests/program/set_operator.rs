//! Naming another operator.

use crate::world::{Setup, TALLYBOOK, World, custom_error, key};
use solana_address::Address;
use solana_signer::Signer;
use tallybook_chain::instruction::{NewBook, NewChannel, RefundRow};
use tallybook_rules::{Book, Rejection};

#[test]
fn given_a_book_when_its_payee_names_another_operator_then_nothing_else_changes() {
    let mut world = World::new();
    let before = world.book_view().state;
    let payee = key("payee");
    for operator in [key("new operator").pubkey(), payee.pubkey(), Address::default(), key("operator").pubkey()] {
        for again in ["once", "twice"] {
            world.send(&[TALLYBOOK.set_operator(&world.book_view(), &operator)], &[&payee]).unwrap();
            let expected = Book { operator: operator.to_bytes(), ..before };
            assert_eq!(world.book_view().state, expected, "{again}");
        }
    }
}

#[test]
fn given_a_new_operator_when_named_then_it_has_the_power_and_the_one_before_has_none() {
    let (mut world, channels) = World::with_channels(1, 9_000);
    let (old, new) = (key("operator"), key("new operator"));
    world.send(&[TALLYBOOK.set_operator(&world.book_view(), &new.pubkey())], &[&key("payee")]).unwrap();

    let row = RefundRow { slot: 0, generation: 1, keep: 4_000 };
    let rows = [(row, channels[0].payer.pubkey())];
    let (book, sponsor) = (world.book_view(), world.sponsor.pubkey());
    let refund = |by: &Address| TALLYBOOK.refund(&book, &world.page, by, &rows);
    let (refund_by_old, refund_by_new) = (refund(&old.pubkey()), refund(&new.pubkey()));
    world.refuses(refund_by_old, &[&old], Rejection::WrongAuthority);
    let add = |by: &Address| TALLYBOOK.add_page(&book, by, &sponsor, 1, 8);
    world.refuses(add(&old.pubkey()), &[&old], Rejection::WrongAuthority);
    let close = TALLYBOOK.idle_close(&world.book, &world.page, &old.pubkey(), 0, 1);
    world.refuses(close, &[&old], Rejection::WrongAuthority);

    world.send(&[refund_by_new, add(&new.pubkey())], &[&new]).unwrap();
    assert_eq!(world.held_by(&channels[0].payer.pubkey()), 5_000);
}

#[test]
fn given_a_book_whose_operator_co_signs_when_another_is_named_then_only_its_signature_opens() {
    let mut world = World::with(Setup { open_policy: 1, ..Setup::default() });
    let (good, payer, _) = world.opening(2, 9_000);
    let (old, new) = (key("operator"), key("new operator"));
    world.send(&[TALLYBOOK.set_operator(&world.book_view(), &new.pubkey())], &[&key("payee")]).unwrap();
    let book = world.book_view();
    let by_old = NewChannel { operator: Some(old.pubkey()), ..good };
    world.refuses(TALLYBOOK.open(&book, &by_old), &[&payer, &old], Rejection::OperatorMustSign);
    let by_new = NewChannel { operator: Some(new.pubkey()), ..good };
    world.send(&[TALLYBOOK.open(&book, &by_new)], &[&payer, &new]).unwrap();
}

#[test]
fn given_anybody_but_the_payee_when_it_names_an_operator_then_it_is_refused() {
    let mut world = World::new();
    let thief = key("thief");
    let own = NewBook { payee: thief.pubkey(), ..world.new_book() };
    world.send(&[TALLYBOOK.init_book(&own)], &[&thief]).unwrap();
    let good = TALLYBOOK.set_operator(&world.book_view(), &thief.pubkey());
    for stranger in [thief, key("operator"), key("sponsor")] {
        let mut instruction = good.clone();
        instruction.accounts[0].pubkey = stranger.pubkey();
        world.refuses(instruction, &[&stranger], Rejection::WrongAuthority);
    }
    let mut unsigned = good;
    unsigned.accounts[0].is_signer = false;
    assert_eq!(custom_error(world.send(&[unsigned], &[])), 3010, "Anchor: AccountNotSigner");
}

#[test]
fn given_another_account_when_an_operator_is_named_then_it_is_refused() {
    let mut world = World::new();
    let payee = key("payee");
    let good = TALLYBOOK.set_operator(&world.book_view(), &payee.pubkey());
    for (address, number) in [(world.page, 3002), (world.vault(), 3007), (world.mint, 3007)] {
        let mut instruction = good.clone();
        instruction.accounts[1].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[&payee])), number);
    }
    let mut read_only = good;
    read_only.accounts[1].is_writable = false;
    assert_eq!(custom_error(world.send(&[read_only], &[&payee])), 2000, "Anchor: ConstraintMut");
}
