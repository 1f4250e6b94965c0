//! Adding pages.

use crate::world::{GENESIS, Setup, TALLYBOOK, World, assert_rejected, custom_error, key};
use solana_address::Address;
use solana_signer::Signer;
use tallybook_chain::address::page as page_address;
use tallybook_chain::transaction::create_token_account;
use tallybook_chain::{PROGRAM_ID, TokenAccountView};
use tallybook_rules::signing::page_domain;
use tallybook_rules::{Amount, PageHeader, Rejection, Slot};

fn world_with_book() -> World {
    let mut world = World::bare(&Setup::default());
    let new = world.new_book();
    world.send_new_book(&new).unwrap();
    world
}

#[test]
fn given_a_book_when_its_operator_adds_a_page_then_page_and_vault_are_there() {
    for capacity in [1, 96] {
        let mut world = world_with_book();

        world.send_add_page(0, capacity).unwrap();

        let (view, vault) = (world.page_view(), world.vault());
        let expected = PageHeader {
            book: world.book.to_bytes(),
            page_domain: page_domain(PROGRAM_ID.as_array(), &GENESIS, world.page.as_array()),
            vault: vault.to_bytes(),
            rent_payer: world.sponsor.pubkey().to_bytes(),
            capacity,
            version: PageHeader::VERSION,
            bump: page_address(&PROGRAM_ID, &world.book, 0).1,
            ..PageHeader::default()
        };
        assert_eq!(view.header, expected);
        assert!(view.slots.iter().all(|slot| *slot == Slot::default()));
        let held = TokenAccountView::parse(&world.data(&vault)).unwrap();
        assert_eq!((held.owner, held.mint, held.amount), (world.page, world.mint, Amount::ZERO));
        assert_eq!(world.book_view().state.next_page, 1);
    }
}

#[test]
fn given_a_page_when_the_payee_adds_the_next_then_the_index_counts_up_and_is_never_used_twice() {
    let mut world = world_with_book();
    world.send_add_page(0, 2).unwrap();
    let payee = key("payee");
    let next = TALLYBOOK.add_page(&world.book_view(), &payee.pubkey(), &world.sponsor.pubkey(), 1, 3);
    world.send(&[next], &[&payee]).unwrap();
    assert_eq!(world.book_view().state.next_page, 2);

    for index in [0, 1, 3, u32::MAX] {
        assert_rejected(world.send_add_page(index, 2), Rejection::WrongPageIndex);
    }
}

#[test]
fn given_a_capacity_out_of_range_when_a_page_is_added_then_it_is_refused() {
    let mut world = world_with_book();
    for capacity in [0, 97, 255] {
        assert_rejected(world.send_add_page(0, capacity), Rejection::CapacityOutOfRange);
    }
}

#[test]
fn given_a_stranger_when_it_adds_a_page_then_it_is_refused() {
    let mut world = world_with_book();
    let stranger = key("stranger");
    let instruction = TALLYBOOK.add_page(&world.book_view(), &stranger.pubkey(), &world.sponsor.pubkey(), 0, 8);
    world.refuses(instruction, &[&stranger], Rejection::WrongAuthority);

    let mut unsigned = world.add_page_instruction(0, 8);
    unsigned.accounts[0].is_signer = false;
    assert_eq!(custom_error(world.send(&[unsigned], &[])), 3010, "Anchor: AccountNotSigner");
}

#[test]
fn given_other_accounts_when_a_page_is_added_then_each_is_refused() {
    let mut world = world_with_book();
    let operator = key("operator");
    let good = world.add_page_instruction(0, 8);
    let other = Address::new_unique();
    let stray_vault = world.token_account(&other);
    for (at, address, number) in [
        (2, world.mint, 3007),                                  // Anchor: AccountOwnedByWrongProgram
        (3, page_address(&PROGRAM_ID, &world.book, 1).0, 2006), // Anchor: ConstraintSeeds
        (4, stray_vault, 6000 + u32::from(Rejection::WrongVault.code())),
        (5, other, 6000 + u32::from(Rejection::WrongMint.code())),
        (6, other, 6000 + u32::from(Rejection::WrongTokenProgram.code())),
        (7, other, 3008), // Anchor: InvalidProgramId
        (8, other, 3008),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[&operator])), number, "account {at}");
    }
}

#[test]
fn given_a_vault_or_lamports_of_a_stranger_when_a_page_is_added_then_it_is_added() {
    let mut world = world_with_book();
    let (sponsor, page, mint, token_program) = (world.sponsor.pubkey(), world.page, world.mint, world.token_program);
    world.svm.airdrop(&page, 1_000_000).unwrap();
    world.send(&[create_token_account(&sponsor, &page, &mint, &token_program)], &[]).unwrap();

    world.send_add_page(0, 8).expect("a vault that was there before does no harm");

    assert_eq!(world.page_view().header.vault, world.vault().to_bytes());
}

#[test]
fn given_a_vault_over_which_somebody_else_has_power_when_a_page_is_added_then_it_is_refused() {
    let cases: [(&str, fn(&mut Vec<u8>)); 4] = [
        ("an owner", |data| data[32..64].fill(7)),
        ("a mint", |data| data[..32].fill(7)),
        ("a delegate", |data| (data[72], data[76]) = (1, 7)),
        ("a close authority", |data| (data[129], data[133]) = (1, 7)),
    ];
    for (what, change) in cases {
        let mut world = world_with_book();
        let vault = world.vault();
        let mut data = vec![0; 165];
        data[..32].copy_from_slice(world.mint.as_ref());
        data[32..64].copy_from_slice(world.page.as_ref());
        data[108] = 1;
        change(&mut data);
        world.svm.set_account(vault, crate::machine::account(data, world.token_program)).unwrap();
        assert!(world.send_add_page(0, 8).is_err(), "{what}");
        if what.starts_with("a ") && what != "a mint" {
            assert_rejected(world.send_add_page(0, 8), Rejection::WrongVault);
        }
    }
}
