//! Giving unclaimed money back at once.

use crate::vouchers::Batch;
use crate::world::{Channel, TALLYBOOK, World, key};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::instruction::RefundRow;
use tallybook_rules::{Rejection, Status};

const DEPOSIT: u64 = 10_000;

fn refund(world: &World, authority: &Keypair, rows: &[(&Channel, u64)]) -> Instruction {
    let rows: Vec<_> = rows.iter().map(|(channel, keep)| (row(channel, *keep), channel.payer.pubkey())).collect();
    TALLYBOOK.refund(&world.book_view(), &world.page, &authority.pubkey(), &rows)
}

fn row(channel: &Channel, keep: u64) -> RefundRow {
    RefundRow { slot: channel.slot, generation: channel.generation, keep }
}

/// What each payer holds, and what each slot's deposit is.
fn state(world: &World, channels: &[Channel]) -> Vec<(u64, u64)> {
    let slots = world.page_view().slots;
    let of =
        |channel: &Channel| (world.held_by(&channel.payer.pubkey()), slots[usize::from(channel.slot)].deposit.get());
    channels.iter().map(of).collect()
}

#[test]
fn given_channels_when_the_operator_refunds_then_deposits_fall_to_what_is_kept_or_settled_and_the_rest_goes_back() {
    let (mut world, channels) = World::with_channels(4, DEPOSIT);
    world.claim(&Batch::of(&[(&channels[0], 3_000), (&channels[1], 3_000)])).unwrap();
    world.request_close(&channels[2]).unwrap();
    let operator = key("operator");
    let rows = [(&channels[0], 3_000), (&channels[1], 5_000), (&channels[2], 0), (&channels[3], 20_000)];

    world.send(&[refund(&world, &operator, &rows)], &[&operator]).unwrap();

    let page = world.page_view();
    let statuses: Vec<_> = page.slots[..4].iter().map(|slot| slot.status().unwrap()).collect();
    assert_eq!(statuses, [Status::Free, Status::Open, Status::Free, Status::Open]);
    assert_eq!(state(&world, &channels), [(7_000, 0), (5_000, 5_000), (10_000, 0), (0, 10_000)]);
    assert_eq!((page.header.used, page.header.outstanding.get()), (2, 12_000));
    assert_eq!(world.balance(&world.vault()), 18_000);
}

#[test]
fn given_a_refund_when_sent_again_also_after_reopening_then_it_does_nothing() {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    let payee = key("payee");
    let first = refund(&world, &payee, &[(&channels[0], 0), (&channels[1], 4_000)]);
    world.send(std::slice::from_ref(&first), &[&payee]).unwrap();
    let after = state(&world, &channels);

    world.send(std::slice::from_ref(&first), &[&payee]).expect("by target");
    assert_eq!(state(&world, &channels), after);

    let reopened = world.open(0, DEPOSIT);
    world.send(&[first], &[&payee]).expect("a row of an earlier generation");
    assert_eq!(world.page_view().slots[0].deposit.get(), DEPOSIT);
    world.claim(&Batch::of(&[(&reopened, DEPOSIT)])).unwrap();
}

#[test]
fn given_a_stranger_when_it_refunds_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    for stranger in [key("stranger"), channels[0].payer.insecure_clone()] {
        world.refuses(refund(&world, &stranger, &[(&channels[0], 0)]), &[&stranger], Rejection::WrongAuthority);
    }
}

#[test]
fn given_a_later_generation_or_no_slot_when_refunded_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let (operator, payer) = (key("operator"), channels[0].payer.pubkey());
    for (slot, generation, rejection) in
        [(0, 2, Rejection::WrongGeneration), (5, 1, Rejection::WrongGeneration), (8, 1, Rejection::NoSuchSlot)]
    {
        let row = RefundRow { slot, generation, keep: 0 };
        let instruction = TALLYBOOK.refund(&world.book_view(), &world.page, &operator.pubkey(), &[(row, payer)]);
        world.refuses(instruction, &[&operator], rejection);
    }
}

#[test]
fn given_a_payer_whose_account_is_frozen_when_refunded_then_its_row_is_skipped() {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    let operator = key("operator");
    let account = world.token_account(&channels[0].payer.pubkey());
    world.freeze(&account);
    let instruction = refund(&world, &operator, &[(&channels[0], 0), (&channels[1], 0)]);
    world.send(std::slice::from_ref(&instruction), &[&operator]).unwrap();
    assert_eq!(state(&world, &channels), [(0, DEPOSIT), (DEPOSIT, 0)]);
    assert_eq!(world.page_view().slots[0].status(), Ok(Status::Open));

    world.thaw(&account);
    world.send(&[instruction], &[&operator]).unwrap();
    assert_eq!(state(&world, &channels), [(DEPOSIT, 0), (DEPOSIT, 0)]);
}

#[test]
fn given_a_payer_whose_account_was_given_away_or_closed_when_refunded_then_it_is_paid_once_the_account_is_its_own() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let operator = key("operator");
    let account = world.token_account(&channels[0].payer.pubkey());
    let kept = world.svm.get_account(&account).unwrap();
    let instruction = refund(&world, &operator, &[(&channels[0], 0)]);
    let mut given_away = kept.clone();
    given_away.data[32..64].copy_from_slice(key("thief").pubkey().as_ref());
    let mut closed = kept.clone();
    (closed.lamports, closed.data, closed.owner) = (0, Vec::new(), solana_address::Address::default());
    for unusable in [given_away, closed] {
        world.svm.set_account(account, unusable).unwrap();
        world.send(std::slice::from_ref(&instruction), &[&operator]).expect("skipped");
        assert_eq!(world.page_view().slots[0].deposit.get(), DEPOSIT);
        assert_eq!(world.balance(&account), 0);
    }
    world.svm.set_account(account, kept).unwrap();
    world.send(&[instruction], &[&operator]).unwrap();
    assert_eq!(state(&world, &channels), [(DEPOSIT, 0)]);
}

#[test]
fn given_as_many_channels_as_a_transaction_takes_when_refunded_then_all_are() {
    let (mut world, channels) = World::with_channels(17, DEPOSIT);
    let operator = key("operator");
    let rows: Vec<_> = channels.iter().map(|channel| (channel, 0)).collect();
    let instruction = refund(&world, &operator, &rows);
    world.send(&[instruction], &[&operator]).unwrap();
    assert_eq!(state(&world, &channels), [(DEPOSIT, 0); 17]);
    assert_eq!((world.page_view().header.used, world.balance(&world.vault())), (0, 0));
}

#[test]
fn given_other_accounts_or_another_count_when_refunded_then_each_is_refused() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let operator = key("operator");
    let good = refund(&world, &operator, &[(&channels[0], 0)]);
    let own = world.other_account("payer's other account", &channels[0].payer.pubkey());
    for (at, rejection) in [
        (3, Rejection::WrongVault),
        (4, Rejection::WrongMint),
        (5, Rejection::WrongTokenProgram),
        (6, Rejection::WrongRecipientAccount),
    ] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = own;
        world.refuses(instruction, &[&operator], rejection);
    }
    let mut fewer = good.clone();
    fewer.accounts.pop();
    world.refuses(fewer, &[&operator], Rejection::AccountCountMismatch);
    world.refuses(refund(&world, &operator, &[]), &[&operator], Rejection::AccountCountMismatch);
}

#[test]
fn given_two_rows_of_one_channel_when_refunded_then_the_lower_target_counts() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let operator = key("operator");
    let rows = [(&channels[0], 6_000), (&channels[0], 2_000), (&channels[0], 9_000)];
    world.send(&[refund(&world, &operator, &rows)], &[&operator]).unwrap();
    assert_eq!(state(&world, &channels), [(8_000, 2_000)]);
}
