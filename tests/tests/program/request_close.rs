//! Beginning to leave.

use crate::world::{BEGIN, GRACE_SECONDS, TALLYBOOK, World, custom_error, key};
use solana_signer::Signer;
use tallybook_rules::{Rejection, Status};

#[test]
fn given_an_open_channel_when_its_payer_asks_to_leave_then_the_grace_period_begins() {
    let (mut world, channels) = World::with_channels(2, 5_000);
    world.pass(10);

    world.request_close(&channels[1]).unwrap();

    let page = world.page_view();
    assert_eq!(page.slots[1].status(), Ok(Status::Closing));
    assert_eq!(page.slots[1].closing_at, BEGIN + 10 + i64::from(GRACE_SECONDS));
    assert_eq!(page.slots[0].status(), Ok(Status::Open));
    assert_eq!((page.header.used, page.header.outstanding.get()), (2, 10_000));
}

#[test]
fn given_a_closing_free_or_other_channel_when_asked_to_leave_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(2, 5_000);
    world.request_close(&channels[0]).unwrap();
    let (page, book) = (world.page, world.book);
    let [first, second] = [&channels[0].payer, &channels[1].payer];
    for (payer, slot, generation, rejection) in [
        (first, 0, 1, Rejection::SlotNotOpen),
        (first, 1, 1, Rejection::WrongPayer),
        (second, 1, 0, Rejection::WrongGeneration),
        (second, 1, 2, Rejection::WrongGeneration),
        (second, 3, 0, Rejection::SlotFree),
        (second, 8, 1, Rejection::NoSuchSlot),
    ] {
        let instruction = TALLYBOOK.request_close(&book, &page, &payer.pubkey(), slot, generation);
        world.refuses(instruction, &[payer], rejection);
    }
}

#[test]
fn given_another_book_or_no_signature_when_asked_to_leave_then_it_is_refused() {
    let (mut world, channels) = World::with_channels(1, 5_000);
    let hasty = tallybook_chain::instruction::NewBook {
        book_id: 1,
        terms: tallybook_rules::Terms { grace_seconds: 900, ..world.new_book().terms },
        ..world.new_book()
    };
    world.send_new_book(&hasty).unwrap();
    let other = tallybook_chain::address::book(&tallybook_chain::PROGRAM_ID, &hasty.payee, &hasty.mint, 1).0;
    let payer = &channels[0].payer;
    let instruction = TALLYBOOK.request_close(&other, &world.page, &payer.pubkey(), 0, 1);
    world.refuses(instruction, &[payer], Rejection::WrongBook);

    for stranger in [None, Some(key("payee"))] {
        let mut instruction = TALLYBOOK.request_close(&world.book, &world.page, &payer.pubkey(), 0, 1);
        match stranger {
            None => {
                instruction.accounts[0].is_signer = false;
                assert_eq!(custom_error(world.send(&[instruction], &[])), 3010, "Anchor: AccountNotSigner");
            }
            Some(payee) => {
                instruction.accounts[0].pubkey = payee.pubkey();
                world.refuses(instruction, &[&payee], Rejection::WrongPayer);
            }
        }
    }
}
