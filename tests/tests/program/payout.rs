//! Paying out what was claimed.

use crate::vouchers::Batch;
use crate::world::{Setup, TALLYBOOK, World, assert_rejected, custom_error, key};
use solana_address::Address;
use solana_instruction::AccountMeta;
use solana_signer::Signer;
use tallybook_chain::instruction::Split;
use tallybook_rules::Rejection;

const RECIPIENTS: [&str; 3] = ["payee", "partner", "tax"];

/// A world of three legs (66.67 %, 33.32 %, 0.01 %), each with an account, and one channel.
fn with_splits() -> (World, crate::world::Channel) {
    let split = |name: &str, basis_points| Split { recipient: key(name).pubkey().to_bytes(), basis_points };
    let mut world = World::with(Setup { splits: vec![split("partner", 3_332), split("tax", 1)], ..Setup::default() });
    let channel = world.open(0, 1_000_000);
    for name in RECIPIENTS {
        world.fund(&key(name).pubkey(), 0);
    }
    (world, channel)
}

fn paid(world: &World) -> [u64; 3] {
    RECIPIENTS.map(|name| world.held_by(&key(name).pubkey()))
}

fn claim(world: &mut World, channel: &crate::world::Channel, cumulative: u64) {
    world.claim(&Batch::of(&[(channel, cumulative)])).unwrap();
}

#[test]
fn given_splits_when_paid_out_in_parts_then_each_leg_gets_the_floor_of_its_share_of_everything() {
    let (mut world, channel) = with_splits();
    for cumulative in [1, 2, 3, 10_001, 19_999, 20_000, 999_999] {
        claim(&mut world, &channel, cumulative);
        world.payout(0b111).unwrap();
        let shares = [6_667, 3_332, 1].map(|basis_points| cumulative * basis_points / 10_000);
        assert_eq!(paid(&world), shares, "of {cumulative}");
    }
    let before = paid(&world);
    world.payout(0b111).expect("nothing owed is no error");
    assert_eq!(paid(&world), before);
}

#[test]
fn given_legs_when_only_some_are_named_then_the_others_stay_owed() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    world.payout(0b010).unwrap();
    assert_eq!(paid(&world), [0, 33_320, 0]);
    world.payout(0b101).unwrap();
    assert_eq!(paid(&world), [66_670, 33_320, 10]);
    assert_eq!(world.balance(&world.vault()), 900_000);
}

#[test]
fn given_a_frozen_missing_or_given_away_account_when_paid_out_then_that_leg_stays_owed_and_the_others_are_paid() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    let partner = world.token_account(&key("partner").pubkey());
    world.freeze(&partner);
    world.payout(0b111).unwrap();
    assert_eq!(paid(&world), [66_670, 0, 10]);
    world.thaw(&partner);

    // given away: the owner field is another's now
    let kept = world.svm.get_account(&partner).unwrap();
    let mut sold = kept.clone();
    sold.data[32..64].copy_from_slice(key("thief").pubkey().as_ref());
    world.svm.set_account(partner, sold).unwrap();
    world.payout(0b010).unwrap();
    assert_eq!(paid(&world)[1], 0);

    let mut gone = kept.clone();
    (gone.lamports, gone.data, gone.owner) = (0, Vec::new(), Address::default());
    world.svm.set_account(partner, gone).unwrap();
    world.payout(0b010).unwrap();

    world.svm.set_account(partner, kept).unwrap();
    world.payout(0b010).unwrap();
    assert_eq!(paid(&world), [66_670, 33_320, 10]);
}

#[test]
fn given_a_frozen_vault_when_paid_out_then_it_is_refused_until_it_thaws() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    let vault = world.vault();
    world.freeze(&vault);
    assert_eq!(custom_error(world.payout(1)), 17, "the token program: AccountFrozen");
    world.thaw(&vault);
    world.payout(1).unwrap();
    assert_eq!(paid(&world), [66_670, 0, 0]);
}

#[test]
fn given_legs_that_are_not_there_or_no_account_for_one_when_paid_out_then_it_is_refused() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    for legs in [0, 0b1000, 0b1001, 0x80, 0xff] {
        assert_rejected(world.payout(legs), Rejection::AccountCountMismatch);
    }
    let mut short = TALLYBOOK.payout(&world.book_view(), &world.page, 0b111);
    short.accounts.pop();
    world.refuses(short, &[], Rejection::AccountCountMismatch);
}

#[test]
fn given_another_account_of_a_leg_when_paid_out_then_only_with_its_recipients_signature() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    let (partner, thief) = (key("partner"), key("thief"));
    let own = world.other_account("partner's other account", &partner.pubkey());
    let thiefs = world.other_account("thief's account", &thief.pubkey());
    let with = |world: &World, to: Address, signer: Option<(Address, bool)>| {
        let mut instruction = TALLYBOOK.payout(&world.book_view(), &world.page, 0b010);
        instruction.accounts[5].pubkey = to;
        instruction.accounts.extend(signer.map(|(address, signs)| AccountMeta::new_readonly(address, signs)));
        instruction
    };
    let wrong = Rejection::WrongRecipientAccount;
    world.refuses(with(&world, own, None), &[], wrong);
    world.refuses(with(&world, thiefs, None), &[], wrong);
    world.refuses(with(&world, own, Some((partner.pubkey(), false))), &[], wrong);
    world.refuses(with(&world, own, Some((thief.pubkey(), true))), &[&thief], wrong);
    world.refuses(with(&world, thiefs, Some((thief.pubkey(), true))), &[&thief], wrong);
    let payees = world.token_account(&world.payee.pubkey());
    world.refuses(with(&world, payees, None), &[], wrong);

    world.send(&[with(&world, thiefs, Some((partner.pubkey(), true)))], &[&partner]).unwrap();
    assert_eq!(world.balance(&thiefs), 0, "not the recipient's own: left out");
    world.send(&[with(&world, own, Some((partner.pubkey(), true)))], &[&partner]).unwrap();
    assert_eq!((world.balance(&own), paid(&world)), (33_320, [0; 3]));
}

#[test]
fn given_the_vault_as_destination_when_a_recipient_signs_for_it_then_nothing_is_booked() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    let payee = key("payee");
    let mut instruction = TALLYBOOK.payout(&world.book_view(), &world.page, 1);
    instruction.accounts[5].pubkey = world.vault();
    instruction.accounts.push(AccountMeta::new_readonly(payee.pubkey(), true));
    world.send(&[instruction], &[&payee]).unwrap();
    assert_eq!(world.page_view().header.paid, [tallybook_rules::Amount::ZERO; 5]);
}

#[test]
fn given_other_accounts_when_paid_out_then_each_is_refused() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    let good = TALLYBOOK.payout(&world.book_view(), &world.page, 1);
    let other = world.other_account("other vault", &world.page.clone());
    for (at, address, number) in [
        (0, world.page, 3002),
        (1, world.book, 3002),
        (0, other, 3007),
        (1, other, 3007),
        (2, other, 6000 + u32::from(Rejection::WrongVault.code())),
        (3, other, 6000 + u32::from(Rejection::WrongMint.code())),
        (4, other, 6000 + u32::from(Rejection::WrongTokenProgram.code())),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[])), number, "account {at}");
    }
}

#[test]
fn given_a_page_of_another_book_when_paid_out_then_its_money_does_not_go_to_that_books_payee() {
    let (mut world, channel) = with_splits();
    claim(&mut world, &channel, 100_000);
    let thief = key("thief");
    let book = tallybook_chain::instruction::NewBook { payee: thief.pubkey(), ..world.new_book() };
    world.send(&[TALLYBOOK.init_book(&book)], &[&thief]).unwrap();
    let thiefs = world.fund(&thief.pubkey(), 0);
    let mut instruction = TALLYBOOK.payout(&world.book_view(), &world.page, 1);
    instruction.accounts[0].pubkey =
        tallybook_chain::address::book(&tallybook_chain::PROGRAM_ID, &thief.pubkey(), &world.mint, 0).0;
    instruction.accounts[5].pubkey = thiefs;
    world.refuses(instruction, &[], Rejection::WrongBook);
}

#[test]
fn given_tokens_sent_to_a_vault_when_paid_out_then_they_are_credited_to_nobody() {
    let (mut world, channel) = with_splits();
    let page = world.page;
    world.fund(&page, 5_000);
    claim(&mut world, &channel, 100_000);
    world.payout(0b111).unwrap();
    assert_eq!(paid(&world), [66_670, 33_320, 10]);
    assert_eq!(world.balance(&world.vault()), 905_000);
}
