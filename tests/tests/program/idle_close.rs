//! Closing what nobody uses.

use crate::vouchers::Batch;
use crate::world::{BEGIN, Channel, GRACE_SECONDS, TALLYBOOK, World, assert_rejected, custom_error, key};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book as book_address;
use tallybook_chain::instruction::NewBook;
use tallybook_rules::{Rejection, Slot, Status, Terms};

const DEPOSIT: u64 = 10_000;
/// The idle limit of the world's book.
const IDLE_SECONDS: u32 = 86_400;

fn idle_close(world: &World, authority: &Keypair, slot: u8, generation: u32) -> Instruction {
    TALLYBOOK.idle_close(&world.book, &world.page, &authority.pubkey(), slot, generation)
}

fn close(world: &mut World, channel: &Channel) -> crate::world::Sent {
    let payee = key("payee");
    world.send(&[idle_close(world, &payee, channel.slot, channel.generation)], &[&payee])
}

#[test]
fn given_an_idle_channel_when_closed_by_each_authority_then_the_grace_period_begins() {
    for authority in ["payee", "operator", "sponsor"] {
        let authority = key(authority); // the sponsor has paid the page's rent
        let (mut world, channels) = World::with_channels(2, DEPOSIT);
        let before = world.page_view();
        world.pass(IDLE_SECONDS);

        world.send(&[idle_close(&world, &authority, 1, 1)], &[&authority]).unwrap();

        let page = world.page_view();
        let closing_at = BEGIN + i64::from(IDLE_SECONDS + GRACE_SECONDS);
        assert_eq!(page.slots[1], Slot { closing_at, status_byte: 2, ..before.slots[1] });
        assert_eq!((page.slots[0], page.header), (before.slots[0], before.header));

        world.claim(&Batch::of(&[(&channels[1], 400)])).expect("vouchers count as before");
        let withdraw = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(1, channels[1].payer.pubkey())]);
        world.pass(GRACE_SECONDS - 1);
        assert_rejected(world.send(std::slice::from_ref(&withdraw), &[]), Rejection::GraceNotOver);
        world.pass(1);
        world.send(&[withdraw], &[]).unwrap();
        assert_eq!(world.held_by(&channels[1].payer.pubkey()), DEPOSIT - 400);
    }
}

#[test]
fn given_a_channel_that_is_used_when_closed_for_idleness_then_it_is_refused_until_nobody_claims_for_long() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    let channel = &channels[0];
    assert_rejected(close(&mut world, channel), Rejection::NotIdle);
    world.pass(IDLE_SECONDS - 1);
    assert_rejected(close(&mut world, channel), Rejection::NotIdle);
    world.claim(&Batch::of(&[(channel, 100)])).unwrap();
    world.pass(1);
    assert_rejected(close(&mut world, channel), Rejection::NotIdle);
    world.claim(&Batch::of(&[(channel, 100)])).expect("adds nothing, so it is no use of the channel");
    world.pass(IDLE_SECONDS - 2);
    assert_rejected(close(&mut world, channel), Rejection::NotIdle);
    world.pass(1);
    close(&mut world, channel).unwrap();
}

#[test]
fn given_a_closing_free_or_other_channel_when_closed_for_idleness_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(2, DEPOSIT);
    world.request_close(&channels[0]).unwrap();
    world.pass(IDLE_SECONDS);
    let operator = key("operator");
    for (slot, generation, rejection) in [
        (8, 1, Rejection::NoSuchSlot),
        (1, 0, Rejection::WrongGeneration),
        (1, 2, Rejection::WrongGeneration),
        (3, 0, Rejection::SlotFree),
        (0, 1, Rejection::SlotNotOpen),
    ] {
        world.refuses(idle_close(&world, &operator, slot, generation), &[&operator], rejection);
    }
    close(&mut world, &channels[1]).unwrap();
    assert_rejected(close(&mut world, &channels[1]), Rejection::SlotNotOpen);
    assert_eq!(world.page_view().slots[1].status(), Ok(Status::Closing));
}

#[test]
fn given_a_book_without_an_idle_limit_when_a_channel_is_closed_for_idleness_then_never() {
    let mut world = World::bare(&crate::world::Setup::default());
    let good = world.new_book();
    world.send_new_book(&NewBook { terms: Terms { max_idle_seconds: 0, ..good.terms }, ..good }).unwrap();
    world.send_add_page(0, 8).unwrap();
    world.fund(&world.page.clone(), 0); // so that the world counts the vault
    let channel = world.open(0, DEPOSIT);
    for _ in 0..4 {
        assert_rejected(close(&mut world, &channel), Rejection::IdleCloseOff);
        world.pass(1_000_000_000);
    }
}

#[test]
fn given_a_stranger_or_the_payer_when_it_closes_for_idleness_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(1, DEPOSIT);
    world.pass(IDLE_SECONDS);
    for stranger in [key("stranger"), channels[0].payer.insecure_clone()] {
        world.refuses(idle_close(&world, &stranger, 0, 1), &[&stranger], Rejection::WrongAuthority);
        world.refuses(idle_close(&world, &stranger, 9, 7), &[&stranger], Rejection::WrongAuthority);
    }
    let mut unsigned = idle_close(&world, &key("payee"), 0, 1);
    unsigned.accounts[0].is_signer = false;
    assert_eq!(custom_error(world.send(&[unsigned], &[])), 3010, "Anchor: AccountNotSigner");
}

#[test]
fn given_other_accounts_when_closed_for_idleness_then_each_is_refused() {
    let (mut world, _) = World::with_channels(1, DEPOSIT);
    world.pass(IDLE_SECONDS);
    let payee = key("payee");
    let good = idle_close(&world, &payee, 0, 1);
    let (other, page, book) = (Address::new_unique(), world.page, world.book);
    for (at, address, number) in [(1, page, 3002), (2, book, 3002), (1, other, 3007), (2, other, 3007)] {
        let mut instruction = good.clone();
        instruction.accounts[at].pubkey = address;
        assert_eq!(custom_error(world.send(&[instruction], &[&payee])), number, "account {at}");
    }
    let mut read_only = good.clone();
    read_only.accounts[2].is_writable = false;
    assert_eq!(custom_error(world.send(&[read_only], &[&payee])), 2000, "Anchor: ConstraintMut");

    // A book of a stranger's own, with terms of its own, over which it is payee.
    let thief = key("thief");
    let second = NewBook { payee: thief.pubkey(), ..world.new_book() };
    world.send(&[TALLYBOOK.init_book(&second)], &[&thief]).unwrap();
    let mut instruction = idle_close(&world, &thief, 0, 1);
    instruction.accounts[1].pubkey = book_address(&PROGRAM_ID, &second.payee, &second.mint, 0).0;
    world.refuses(instruction, &[&thief], Rejection::WrongBook);
}
