//! Leaving after the grace period.

use crate::vouchers::Batch;
use crate::world::{Channel, GRACE_SECONDS, TALLYBOOK, World, custom_error, key};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_signer::Signer;
use tallybook_rules::{Rejection, Slot, Status};

const DEPOSIT: u64 = 10_000;

/// Three channels that asked to leave, of which the first had 4,000 claimed and the last all.
fn closing() -> (World, Vec<Channel>) {
    let (mut world, channels) = World::with_channels(3, DEPOSIT);
    world.claim(&Batch::of(&[(&channels[0], 4_000), (&channels[2], DEPOSIT)])).unwrap();
    for channel in &channels {
        world.request_close(channel).unwrap();
    }
    (world, channels)
}

fn withdraw(world: &World, channels: &[&Channel]) -> Instruction {
    let channels: Vec<_> = channels.iter().map(|channel| (channel.slot, channel.payer.pubkey())).collect();
    TALLYBOOK.withdraw(&world.book_view(), &world.page, &channels)
}

#[test]
fn given_the_grace_period_is_over_when_withdrawn_by_anybody_then_payers_have_their_rest_and_slots_are_free() {
    let (mut world, channels) = closing();
    world.pass(GRACE_SECONDS);
    let mut instruction = withdraw(&world, &[&channels[2], &channels[0], &channels[1]]);
    instruction.accounts[6].pubkey = world.token_program; // nothing is unspent there: any account will do

    world.send(&[instruction], &[]).unwrap();

    let rests: Vec<_> = channels.iter().map(|channel| world.held_by(&channel.payer.pubkey())).collect();
    assert_eq!(rests, [6_000, 10_000, 0]);
    let page = world.page_view();
    let freed = Slot { generation: 1, ..Slot::default() };
    assert!(page.slots[..3].iter().all(|slot| *slot == freed));
    assert_eq!((page.header.used, page.header.outstanding.get()), (0, 0));
    assert_eq!(world.balance(&world.vault()), 14_000, "what was claimed is not paid out yet");
}

#[test]
fn given_the_grace_period_is_not_over_when_withdrawn_then_it_is_refused() {
    let (mut world, channels) = closing();
    for seconds in [0, GRACE_SECONDS - 1] {
        world.pass(seconds);
        world.refuses(withdraw(&world, &[&channels[0]]), &[], Rejection::GraceNotOver);
    }
    world.pass(1);
    world.send(&[withdraw(&world, &[&channels[0]])], &[]).unwrap();
}

#[test]
fn given_an_open_free_or_missing_slot_when_withdrawn_then_the_whole_instruction_is_refused() {
    let (mut world, channels) = closing();
    let open = world.open(3, DEPOSIT);
    world.pass(GRACE_SECONDS);
    world.refuses(withdraw(&world, &[&channels[0], &open]), &[], Rejection::SlotNotClosing);
    world.refuses(withdraw(&world, &[&channels[0], &channels[0]]), &[], Rejection::SlotNotClosing);
    let payer = channels[0].payer.pubkey();
    for (slot, rejection) in [(5, Rejection::SlotNotClosing), (8, Rejection::NoSuchSlot)] {
        let instruction = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(slot, payer)]);
        world.refuses(instruction, &[], rejection);
    }
}

#[test]
fn given_fewer_or_more_accounts_than_slots_when_withdrawn_then_it_is_refused() {
    let (mut world, channels) = closing();
    world.pass(GRACE_SECONDS);
    let mismatch = Rejection::AccountCountMismatch;
    let good = withdraw(&world, &[&channels[0], &channels[1]]);
    let mut fewer = good.clone();
    fewer.accounts.pop();
    world.refuses(fewer, &[], mismatch);
    let mut more = good.clone();
    more.accounts.push(good.accounts[6].clone());
    world.refuses(more, &[], mismatch);
    world.refuses(withdraw(&world, &[]), &[], mismatch);
}

#[test]
fn given_a_payer_whose_account_is_frozen_or_missing_when_withdrawn_then_its_slot_is_skipped_and_the_others_are_not() {
    let (mut world, channels) = closing();
    world.pass(GRACE_SECONDS);
    let account = world.token_account(&channels[0].payer.pubkey());
    let kept = world.svm.get_account(&account).unwrap();
    world.freeze(&account);

    world.send(&[withdraw(&world, &[&channels[0], &channels[1]])], &[]).unwrap();
    assert_eq!(world.page_view().slots[0].status(), Ok(Status::Closing));
    assert_eq!(world.page_view().slots[1].status(), Ok(Status::Free));

    let mut gone = kept.clone();
    (gone.lamports, gone.data, gone.owner) = (0, Vec::new(), Address::default());
    world.svm.set_account(account, gone).unwrap();
    world.send(&[withdraw(&world, &[&channels[0], &channels[2]])], &[]).unwrap();
    assert_eq!(world.page_view().slots[0].unsettled().unwrap().get(), 6_000, "untouched");
    assert_eq!(world.page_view().slots[2].status(), Ok(Status::Free));

    world.svm.set_account(account, kept).unwrap();
    world.send(&[withdraw(&world, &[&channels[0]])], &[]).unwrap();
    assert_eq!(world.balance(&account), 6_000);
}

#[test]
fn given_a_payer_whose_account_was_given_away_when_withdrawn_then_the_new_owner_gets_nothing() {
    let (mut world, channels) = closing();
    world.pass(GRACE_SECONDS);
    let account = world.token_account(&channels[0].payer.pubkey());
    let kept = world.svm.get_account(&account).unwrap();
    let mut given_away = kept.clone();
    given_away.data[32..64].copy_from_slice(key("thief").pubkey().as_ref());
    world.svm.set_account(account, given_away).unwrap();
    world.send(&[withdraw(&world, &[&channels[0], &channels[1]])], &[]).unwrap();
    assert_eq!(world.balance(&account), 0, "skipped");
    assert_eq!(world.page_view().slots[0].status(), Ok(Status::Closing));

    world.svm.set_account(account, kept).unwrap();
    world.send(&[withdraw(&world, &[&channels[0]])], &[]).unwrap();
    assert_eq!(world.balance(&account), 6_000);
}

#[test]
fn given_another_account_when_withdrawn_then_only_with_the_payers_own_signature() {
    let (mut world, channels) = closing();
    world.pass(GRACE_SECONDS);
    let (payer, other) = (&channels[0].payer, &channels[1].payer);
    let own = world.other_account("payer's other account", &payer.pubkey());
    let friends = world.other_account("friend's account", &key("friend").pubkey());
    let mut unsigned = withdraw(&world, &[&channels[0]]);
    unsigned.accounts[6].pubkey = own;
    world.refuses(unsigned, &[], Rejection::WrongRecipientAccount);
    let by_other = TALLYBOOK.withdraw_to(&world.book_view(), &world.page, 0, &other.pubkey(), &own);
    world.refuses(by_other, &[other], Rejection::WrongRecipientAccount);
    let mut optional = TALLYBOOK.withdraw_to(&world.book_view(), &world.page, 0, &payer.pubkey(), &own);
    optional.accounts[0].is_signer = false;
    assert_eq!(custom_error(world.send(&[optional], &[])), 3010, "Anchor: AccountNotSigner");

    let to_vault = TALLYBOOK.withdraw_to(&world.book_view(), &world.page, 0, &payer.pubkey(), &world.vault());
    world.send(&[to_vault], &[payer]).unwrap();
    assert_eq!(world.page_view().slots[0].status(), Ok(Status::Closing), "the vault is no way out: skipped");

    let strange = world.other_account("account of another mint", &payer.pubkey());
    let mut other_mint = world.svm.get_account(&strange).unwrap();
    other_mint.data[..32].copy_from_slice(Address::new_unique().as_ref());
    world.svm.set_account(strange, other_mint).unwrap();
    let to_strange = TALLYBOOK.withdraw_to(&world.book_view(), &world.page, 0, &payer.pubkey(), &strange);
    world.send(&[to_strange], &[payer]).unwrap();
    assert_eq!(world.page_view().slots[0].status(), Ok(Status::Closing), "another mint: skipped");

    let to_friend = TALLYBOOK.withdraw_to(&world.book_view(), &world.page, 0, &payer.pubkey(), &friends);
    world.send(&[to_friend], &[payer]).unwrap();
    assert_eq!((world.balance(&friends), world.balance(&own)), (6_000, 0));
}

#[test]
fn given_other_accounts_when_withdrawn_then_each_is_refused() {
    let (mut world, channels) = closing();
    world.pass(GRACE_SECONDS);
    let good = withdraw(&world, &[&channels[0]]);
    let other = world.other_account("other vault", &world.page.clone());
    for (at, address, number) in [
        (1, world.page, 3002),
        (2, world.book, 3002),
        (3, other, 6000 + u32::from(Rejection::WrongVault.code())),
        (4, other, 6000 + u32::from(Rejection::WrongMint.code())),
        (5, other, 6000 + u32::from(Rejection::WrongTokenProgram.code())),
        (6, other, 6000 + u32::from(Rejection::WrongRecipientAccount.code())),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[])), number, "account {at}");
    }
    let second = tallybook_chain::instruction::NewBook { book_id: 1, ..world.new_book() };
    world.send_new_book(&second).unwrap();
    let mut instruction = good;
    instruction.accounts[1].pubkey =
        tallybook_chain::address::book(&tallybook_chain::PROGRAM_ID, &second.payee, &second.mint, 1).0;
    world.refuses(instruction, &[], Rejection::WrongBook);
}
