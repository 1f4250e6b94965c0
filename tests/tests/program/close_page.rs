//! Closing a page and its vault.

use crate::vouchers::Batch;
use crate::world::{Channel, GRACE_SECONDS, Setup, TALLYBOOK, World, assert_rejected, custom_error, key};
use solana_address::{Address, address};
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM, book as book_address, page as page_address};
use tallybook_chain::instruction::{NewBook, RefundRow, Split};
use tallybook_rules::Rejection;

const DEPOSIT: u64 = 100_000;
const LAMPORTS: u64 = 1_000_000_000;

/// A world of three legs (66.67 %, 33.32 %, 0.01 %), each with an account, whose first page the landlord has paid for.
fn rented(token_program: Address) -> World {
    let mut world = World::bare(&Setup { token_program, ..Setup::default() });
    let split = |name: &str, basis_points| Split { recipient: key(name).pubkey().to_bytes(), basis_points };
    let book = NewBook { splits: vec![split("partner", 3_332), split("tax", 1)], ..world.new_book() };
    world.send_new_book(&book).unwrap();
    let (operator, landlord) = (key("operator"), key("landlord"));
    world.svm.airdrop(&landlord.pubkey(), LAMPORTS).unwrap();
    let add = TALLYBOOK.add_page(&world.book_view(), &operator.pubkey(), &landlord.pubkey(), 0, 8);
    world.send(&[add], &[&operator, &landlord]).unwrap();
    for owner in [world.page, key("payee").pubkey(), key("partner").pubkey(), key("tax").pubkey()] {
        world.fund(&owner, 0);
    }
    world
}

fn lamports(world: &World, address: &Address) -> u64 {
    world.svm.get_account(address).map_or(0, |account| account.lamports)
}

fn close_by(world: &World, authority: &Keypair) -> Instruction {
    TALLYBOOK.close_page(&world.book_view(), &world.page, &authority.pubkey(), &key("landlord").pubkey())
}

/// Closes the page by its payee.
fn close(world: &mut World) -> crate::world::Sent {
    let payee = key("payee");
    world.send(&[close_by(world, &payee)], &[&payee])
}

/// Gives back all that is left of a channel.
fn refund(world: &mut World, channel: &Channel) {
    let operator = key("operator");
    let row = RefundRow { slot: channel.slot, generation: channel.generation, keep: 0 };
    let rows = [(row, channel.payer.pubkey())];
    let refund = TALLYBOOK.refund(&world.book_view(), &world.page, &operator.pubkey(), &rows);
    world.send(&[refund], &[&operator]).unwrap();
}

/// A channel's whole life, of which `cumulative` was claimed and paid out.
fn live(world: &mut World, cumulative: u64) -> Channel {
    let channel = world.open(3, DEPOSIT);
    world.claim(&Batch::of(&[(&channel, cumulative)])).unwrap();
    refund(world, &channel);
    world.payout(0b111).unwrap();
    channel
}

fn is_gone(world: &World) -> bool {
    [world.page, world.token_account(&world.page)]
        .iter()
        .all(|gone| lamports(world, gone) == 0 && world.data(gone).is_empty())
}

#[test]
fn given_an_unused_page_when_its_payee_or_its_rent_payer_closes_it_then_all_rent_is_back_and_the_book_stands() {
    for token_program in [TOKEN_PROGRAM, TOKEN_2022_PROGRAM] {
        for authority in [key("payee"), key("landlord")] {
            let mut world = rented(token_program);
            let (book, landlord, page) = (world.book_view(), key("landlord").pubkey(), world.page);
            world.svm.airdrop(&page, 77).unwrap();
            assert!(lamports(&world, &landlord) < LAMPORTS);

            world.send(&[close_by(&world, &authority)], &[&authority]).unwrap();

            assert!(is_gone(&world));
            assert_eq!(lamports(&world, &landlord), LAMPORTS + 77, "with what strangers sent to the page");
            assert_eq!(world.book_view(), book);
        }
    }
}

#[test]
fn given_dust_and_donations_when_the_page_is_closed_then_they_are_the_payees() {
    for (cumulative, dust, donation) in [(10_000, 0, 0), (9_999, 2, 0), (1, 1, 0), (10_000, 0, 5_000), (29_998, 2, 1)] {
        let mut world = rented(TOKEN_PROGRAM);
        live(&mut world, cumulative);
        let (page, payee) = (world.page, key("payee").pubkey());
        world.fund(&page, donation);
        let paid = world.held_by(&payee);
        assert_eq!(world.balance(&world.vault()), dust + donation, "of {cumulative}");

        let landlord = key("landlord");
        world.send(&[close_by(&world, &landlord)], &[&landlord]).unwrap();

        assert!(is_gone(&world));
        assert_eq!(world.held_by(&payee), paid + dust + donation);
    }
}

#[test]
fn given_a_channel_when_its_page_is_closed_then_it_is_refused_until_the_slot_is_free() {
    let mut world = rented(TOKEN_PROGRAM);
    let channel = world.open(7, DEPOSIT);
    assert_rejected(close(&mut world), Rejection::PageInUse);
    world.claim(&Batch::of(&[(&channel, DEPOSIT)])).unwrap();
    assert_rejected(close(&mut world), Rejection::PageInUse);
    world.payout(0b111).unwrap();
    assert_rejected(close(&mut world), Rejection::PageInUse);
    world.request_close(&channel).unwrap();
    world.pass(GRACE_SECONDS);
    assert_rejected(close(&mut world), Rejection::PageInUse);
    let withdraw = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(7, channel.payer.pubkey())]);
    world.send(&[withdraw], &[]).unwrap();
    close(&mut world).unwrap();
}

#[test]
fn given_a_leg_that_is_owed_something_when_the_page_is_closed_then_it_is_refused() {
    for unpaid in 0..3u8 {
        let mut world = rented(TOKEN_PROGRAM);
        let channel = world.open(3, DEPOSIT);
        world.claim(&Batch::of(&[(&channel, 10_000)])).unwrap();
        refund(&mut world, &channel);
        assert_rejected(close(&mut world), Rejection::LegsUnpaid);
        world.payout(0b111 & !(1 << unpaid)).unwrap();
        assert_rejected(close(&mut world), Rejection::LegsUnpaid);
        world.payout(1 << unpaid).unwrap();
        close(&mut world).unwrap();
        assert_eq!(world.held_by(&key("payee").pubkey()), 6_667);
    }
}

#[test]
fn given_a_closed_page_when_closed_again_then_it_is_refused_also_within_one_transaction() {
    let mut world = rented(TOKEN_PROGRAM);
    let payee = key("payee");
    let twice = [close_by(&world, &payee), close_by(&world, &payee)];
    assert_eq!(custom_error(world.send(&twice, &[&payee])), 3007, "Anchor: AccountOwnedByWrongProgram");
    let [once, again] = twice;
    world.send(&[once], &[&payee]).unwrap();
    assert_eq!(custom_error(world.send(&[again], &[&payee])), 3007);
}

#[test]
fn given_lamports_sent_after_it_when_a_page_is_closed_then_it_does_not_come_back_in_the_same_transaction() {
    let mut world = rented(TOKEN_PROGRAM);
    let channel = live(&mut world, 700);
    let (payee, operator, sponsor, page) = (key("payee"), key("operator"), world.sponsor.pubkey(), world.page);
    let transfer = Instruction {
        program_id: address!("11111111111111111111111111111111"),
        accounts: vec![AccountMeta::new(sponsor, true), AccountMeta::new(page, false)],
        data: [&2u32.to_le_bytes()[..], &50_000_000u64.to_le_bytes()].concat(),
    };
    let claim = Batch::of(&[(&channel, 800)]).instruction(&page);
    let revive = [close_by(&world, &payee), transfer.clone(), claim];
    assert_eq!(custom_error(world.send(&revive, &[&payee])), 3007, "nobody's account");
    let readd = [close_by(&world, &payee), transfer.clone(), world.add_page_instruction(0, 8)];
    assert_rejected(world.send(&readd, &[&payee, &operator]), Rejection::WrongPageIndex);

    let next = [close_by(&world, &payee), transfer, world.add_page_instruction(1, 8)];
    world.send(&next, &[&payee, &operator]).unwrap();
    let left = world.svm.get_account(&page).unwrap();
    assert_eq!((left.lamports, left.data.len(), left.owner), (50_000_000, 0, Address::default()));
}

#[test]
fn given_a_closed_page_when_another_is_added_then_it_has_another_number_and_takes_no_old_voucher() {
    let mut world = rented(TOKEN_PROGRAM);
    let old = live(&mut world, 700);
    close(&mut world).unwrap();
    assert_rejected(world.send_add_page(0, 8), Rejection::WrongPageIndex);

    world.send_add_page(1, 8).unwrap();
    let page = page_address(&PROGRAM_ID, &world.book, 1).0;
    assert_ne!(page, world.page);
    world.page = page;
    world.fund(&page, 0);
    let new = world.open(old.slot, DEPOSIT);
    assert_eq!((new.generation, new.payer.pubkey()), (old.generation, old.payer.pubkey()));
    assert_ne!(new.id, old.id, "the page is in it");
    assert_rejected(world.claim(&Batch::of(&[(&old, 900)])), Rejection::SignatureMismatch);
    world.claim(&Batch::of(&[(&new, 900)])).unwrap();
    assert_eq!(world.book_view().state.next_page, 2);
}

#[test]
fn given_anybody_else_when_it_closes_a_page_then_it_is_refused() {
    let mut world = rented(TOKEN_PROGRAM);
    for stranger in [key("stranger"), key("operator"), key("sponsor"), key("partner")] {
        world.refuses(close_by(&world, &stranger), &[&stranger], Rejection::WrongAuthority);
    }
    for authority in ["payee", "landlord"] {
        let mut unsigned = close_by(&world, &key(authority));
        unsigned.accounts[0].is_signer = false;
        assert_eq!(custom_error(world.send(&[unsigned], &[])), 3010, "Anchor: AccountNotSigner");
    }
}

#[test]
fn given_another_rent_payer_when_a_page_is_closed_then_it_is_refused() {
    let mut world = rented(TOKEN_PROGRAM);
    let (payee, thief) = (key("payee"), key("thief"));
    for (authority, rent_payer) in
        [(&payee, payee.pubkey()), (&payee, world.sponsor.pubkey()), (&thief, thief.pubkey())]
    {
        let instruction = TALLYBOOK.close_page(&world.book_view(), &world.page, &authority.pubkey(), &rent_payer);
        world.refuses(instruction, &[authority], Rejection::WrongAccount);
    }
}

#[test]
fn given_another_account_of_the_payee_when_a_page_is_closed_then_only_with_the_payees_own_signature() {
    let mut world = rented(TOKEN_PROGRAM);
    let (payee, landlord, page) = (key("payee"), key("landlord"), world.page);
    world.fund(&page, 500);
    let own = world.other_account("payee's other account", &payee.pubkey());
    let thiefs = world.other_account("thief's account", &key("thief").pubkey());
    let to = |mut instruction: Instruction, account: Address| {
        instruction.accounts[5].pubkey = account;
        instruction
    };
    let wrong = Rejection::WrongRecipientAccount;
    for account in [own, thiefs, world.vault(), world.token_account(&key("partner").pubkey())] {
        world.refuses(to(close_by(&world, &landlord), account), &[&landlord], wrong);
    }
    for account in [thiefs, world.vault(), page, world.mint, Address::new_unique()] {
        world.refuses(to(close_by(&world, &payee), account), &[&payee], wrong);
    }
    world.send(&[to(close_by(&world, &payee), own)], &[&payee]).unwrap();
    assert_eq!(world.balance(&own), 500);
}

#[test]
fn given_a_payee_account_that_takes_nothing_when_a_page_is_closed_then_only_if_nothing_is_left() {
    for donation in [0, 500] {
        let mut world = rented(TOKEN_PROGRAM);
        let (payee, page) = (key("payee").pubkey(), world.page);
        let account = world.fund(&payee, 0);
        world.fund(&page, donation);
        world.freeze(&account);
        if donation > 0 {
            assert_rejected(close(&mut world), Rejection::WrongRecipientAccount);
            let mut gone = world.svm.get_account(&account).unwrap();
            let kept = gone.clone();
            (gone.lamports, gone.data, gone.owner) = (0, Vec::new(), Address::default());
            world.svm.set_account(account, gone).unwrap();
            assert_rejected(close(&mut world), Rejection::WrongRecipientAccount);
            world.svm.set_account(account, kept).unwrap();
            world.thaw(&account);
        }
        close(&mut world).unwrap();
        assert!(is_gone(&world));
        assert_eq!(world.held_by(&payee), donation);
    }
}

#[test]
fn given_a_frozen_vault_when_a_page_is_closed_then_what_is_left_waits_for_the_thaw() {
    let mut world = rented(TOKEN_PROGRAM);
    let (page, vault) = (world.page, world.vault());
    world.fund(&page, 500);
    world.freeze(&vault);
    assert_eq!(custom_error(close(&mut world)), 17, "the token program: AccountFrozen");
    world.thaw(&vault);
    close(&mut world).unwrap();
}

#[test]
fn given_other_accounts_when_a_page_is_closed_then_each_is_refused() {
    let mut world = rented(TOKEN_PROGRAM);
    let payee = key("payee");
    let good = close_by(&world, &payee);
    let other = world.other_account("other vault", &world.page.clone());
    for (at, address, number) in [
        (1, world.page, 3002),
        (2, world.book, 3002),
        (1, other, 3007),
        (2, other, 3007),
        (3, other, 6000 + u32::from(Rejection::WrongVault.code())),
        (6, other, 6000 + u32::from(Rejection::WrongMint.code())),
        (7, other, 6000 + u32::from(Rejection::WrongTokenProgram.code())),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[&payee])), number, "account {at}");
    }
    for at in [2, 3, 4, 5] {
        let mut instruction = good.clone();
        instruction.accounts[at].is_writable = false;
        assert_eq!(custom_error(world.send(&[instruction], &[&payee])), 2000, "account {at}: Anchor: ConstraintMut");
    }
    // A thief's own book over the same page: it is payee there.
    let thief = key("thief");
    let second = NewBook { payee: thief.pubkey(), ..world.new_book() };
    world.send(&[TALLYBOOK.init_book(&second)], &[&thief]).unwrap();
    let mut instruction = close_by(&world, &thief);
    instruction.accounts[1].pubkey = book_address(&PROGRAM_ID, &second.payee, &second.mint, 0).0;
    instruction.accounts[5].pubkey = world.fund(&thief.pubkey(), 0);
    world.refuses(instruction, &[&thief], Rejection::WrongBook);
}
