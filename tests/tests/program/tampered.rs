//! Accounts as a bug or a hostile runtime might leave them: the program notices and writes nothing.

use crate::vouchers::Batch;
use crate::world::{Channel, TALLYBOOK, World, assert_rejected};
use solana_address::Address;
use tallybook_rules::Rejection;

const DEPOSIT: u64 = 10_000;
/// Where the fields lie in their accounts, discriminator included.
const BOOK_VERSION: usize = 8 + 217;
const PAGE_OUTSTANDING: usize = 8 + 128;
const PAGE_USED: usize = 8 + 189;
const PAGE_VERSION: usize = 8 + 190;
const FIRST_SLOT_STATUS: usize = 8 + 216 + 100;
const TOKEN_AMOUNT: usize = 64;

/// A world of two channels of which one has 4,000 claimed.
fn claimed() -> (World, Vec<Channel>) {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    let payee = world.book_view().payee();
    world.fund(&payee, 0);
    world.claim(&Batch::of(&[(&channels[0], 4_000)])).unwrap();
    (world, channels)
}

fn tamper(world: &mut World, address: Address, at: usize, change: impl FnOnce(&mut u8)) {
    let mut account = world.svm.get_account(&address).unwrap();
    change(&mut account.data[at]);
    world.svm.set_account(address, account).unwrap();
}

#[test]
fn given_a_page_whose_totals_are_off_when_claimed_or_paid_out_then_nothing_is_written() {
    for at in [PAGE_OUTSTANDING, PAGE_USED] {
        let (mut world, channels) = claimed();
        let page = world.page;
        tamper(&mut world, page, at, |byte| *byte += 1);
        assert_rejected(world.claim(&Batch::of(&[(&channels[1], 1)])), Rejection::InvariantBroken);
        assert_rejected(world.payout(1), Rejection::InvariantBroken);
    }
}

#[test]
fn given_a_slot_of_an_unknown_status_when_its_page_is_changed_then_nothing_is_written() {
    let (mut world, channels) = claimed();
    let page = world.page;
    tamper(&mut world, page, FIRST_SLOT_STATUS, |byte| *byte = 3);
    assert_rejected(world.claim(&Batch::of(&[(&channels[1], 1)])), Rejection::InvariantBroken);
    assert_rejected(world.claim(&Batch::of(&[(&channels[0], 1)])), Rejection::SlotFree);
}

#[test]
fn given_a_vault_that_holds_less_than_is_owed_when_paid_out_then_nothing_is_paid() {
    let (mut world, _) = claimed();
    let vault = world.vault();
    tamper(&mut world, vault, TOKEN_AMOUNT, |byte| *byte -= 1);
    assert_rejected(world.payout(1), Rejection::VaultShort);
}

#[test]
fn given_accounts_of_another_layout_version_when_used_then_they_are_refused() {
    let (mut world, channels) = claimed();
    let (book, page) = (world.book, world.page);
    let payout = TALLYBOOK.payout(&world.book_view(), &page, 1);
    tamper(&mut world, page, PAGE_VERSION, |byte| *byte = 2);
    assert_rejected(world.claim(&Batch::of(&[(&channels[0], 5_000)])), Rejection::WrongAccount);
    world.refuses(payout.clone(), &[], Rejection::WrongAccount);
    tamper(&mut world, page, PAGE_VERSION, |byte| *byte = 1);
    tamper(&mut world, book, BOOK_VERSION, |byte| *byte = 2);
    world.refuses(payout, &[], Rejection::WrongAccount);
}
