//! Account bytes, as an endpoint gives them: books, pages and token accounts, and what a ledger makes of a page.

use super::input::{Input, edited};
use solana_address::Address;
use tallybook_chain::account::PAGE_DISCRIMINATOR;
use tallybook_chain::{BookView, PageView, TokenAccountView};
use tallybook_ledger::{Finality, Ledger, PageSeen, Settings};
use tallybook_rules::{Amount, Leg, Page, Rejection, Slot, Status};

/// The first byte says what the rest is to be.
pub(crate) fn accounts(data: &[u8]) {
    let mut input = Input(data);
    match input.below(3) {
        0 => book(input.rest()),
        1 => token_account(input.rest()),
        _ => pages(input),
    }
}

fn book(data: &[u8]) {
    match BookView::parse(Address::default(), data) {
        Err(rejection) => assert_eq!(rejection, Rejection::WrongAccount),
        Ok(view) => {
            assert_eq!(bytemuck::bytes_of(&view.state), &data[8..], "a view is the bytes and nothing else");
            assert!(view.state.legs().len() <= 5);
            // Whatever terms the bytes say, they are in range or refused by name.
            let _ = view.state.terms().check();
        }
    }
}

fn token_account(data: &[u8]) {
    if let Some(view) = TokenAccountView::parse(data) {
        assert_eq!(view.mint.as_ref(), &data[..32]);
        assert_eq!(view.owner.as_ref(), &data[32..64]);
        assert_eq!(view.amount.get().to_le_bytes(), data[64..72]);
        assert_eq!(data[108], 1 + u8::from(view.frozen), "initialized");
        assert!(data.len() == 165 || data[165] == 2, "a mint of Token-2022 is no account");
    }
}

/// A page, and the same with some bytes changed, as two sights of one ledger.
fn pages(mut input: Input<'_>) {
    let mut changes = Input(input.0);
    for _ in 0..input.below(8) {
        input.array::<3>();
    }
    let data = input.rest();
    let Some(first) = page(data) else { return };
    let second = page(&edited(data, &mut changes));
    let mut ledger = Ledger::new(Settings::default());
    look(&mut ledger, &first, 5);
    look(&mut ledger, &first, 5);
    if let Some(second) = second {
        look(&mut ledger, &second, 7);
        look(&mut ledger, &first, 6);
    }
}

fn page(data: &[u8]) -> Option<PageView> {
    let view = match PageView::parse(Address::default(), data) {
        Err(rejection) => {
            assert_eq!(rejection, Rejection::WrongAccount);
            return None;
        }
        Ok(view) => view,
    };
    let mut bytes = PAGE_DISCRIMINATOR.to_vec();
    bytes.extend_from_slice(bytemuck::bytes_of(&view.header));
    bytes.extend_from_slice(bytemuck::cast_slice(&view.slots));
    assert_eq!(bytes, data, "a view is the bytes and nothing else");
    for (at, generation) in view.free_slots() {
        let slot = view.slot(at).expect("a free slot is there");
        assert_eq!((slot.status(), Some(generation)), (Ok(Status::Free), slot.generation.checked_add(1)));
        assert_eq!(view.channel_id(at), None, "nobody has a free slot");
    }
    // The program reads the same bytes as clients do, and no sum in them makes either of them stumble.
    let mut copy = view.clone();
    let on_chain = Page { header: &mut copy.header, slots: &mut copy.slots };
    let sound = on_chain.check();
    if sound.is_ok() {
        let slots = on_chain.slots.iter().map(|slot| slot.unsettled().expect("settled is at most the deposit").get());
        assert_eq!(slots.sum::<u64>(), on_chain.header.outstanding.get());
    }
    for at in 0..5 {
        let leg = Leg { basis_points: 10_000, ..Leg::default() };
        let owed = on_chain.header.owed(at, &leg);
        assert!(sound.is_err() || owed.is_ok(), "of a sound page each leg's debt can be said");
    }
    Some(view)
}

/// The ledger takes the sight in whole and stays sound, or refuses it and stays as it was.
fn look(ledger: &mut Ledger, view: &PageView, chain_slot: u64) {
    let before = shown(ledger);
    let seen = PageSeen { address: [7; 32], chain_slot, header: &view.header, slots: &view.slots };
    match ledger.observe(&seen, Finality::Confirmed, 1_000) {
        Err(rejection) => {
            assert_eq!(rejection, Rejection::InvariantBroken);
            assert_eq!(shown(ledger), before, "a refused sight changes nothing");
        }
        Ok(_) => {
            assert!(view.slots.iter().all(|slot| Slot::check(slot).is_ok()));
            for channel in ledger.channels() {
                assert_eq!(channel.check(), Ok(()));
                assert!(channel.settled() <= channel.charged() && channel.gain() == Amount::ZERO, "nothing was signed");
            }
            let again = ledger.observe(&seen, Finality::Confirmed, 1_000).expect("the same again");
            assert_eq!((again.events, again.changes), (Vec::new(), Vec::new()), "nothing is told twice");
        }
    }
}

/// Every channel, in an order of its own.
fn shown(ledger: &Ledger) -> Vec<String> {
    let mut channels: Vec<String> = ledger.channels().map(|channel| format!("{channel:?}")).collect();
    channels.sort();
    channels
}
