//! Which mints a book takes: SPL Token, and Token-2022 with extensions that only describe.

use crate::vouchers::Batch;
use crate::world::{Setup, World, assert_rejected};
use solana_signer::Signer;
use tallybook_chain::address::TOKEN_2022_PROGRAM;
use tallybook_rules::Rejection;

/// The mint's bytes after the common 82: padding, the mark of a mint, and each extension as (type, bytes).
fn extensions(list: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = vec![0; 165 - 82];
    bytes.push(1);
    for (kind, length) in list {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.resize(bytes.len() + usize::from(*length), 0);
    }
    bytes
}

fn token_2022(list: &[(u16, u16)]) -> Setup {
    Setup {
        token_program: TOKEN_2022_PROGRAM,
        mint_extensions: if list.is_empty() { Vec::new() } else { extensions(list) },
        ..Setup::default()
    }
}

/// Metadata pointer, token metadata, group pointer, group, member pointer, member.
const DESCRIBING: [(u16, u16); 6] = [(18, 64), (19, 80), (20, 64), (21, 80), (22, 64), (23, 72)];

#[test]
fn given_a_plain_token_2022_mint_when_a_channel_lives_then_all_goes_as_with_spl_token() {
    let mut world = World::with(token_2022(&[]));
    let (payee, channel) = (world.payee.pubkey(), world.open(0, 5_000));
    world.fund(&payee, 0);

    world.claim(&Batch::of(&[(&channel, 1_200)])).unwrap();
    world.payout(1).unwrap();
    world.request_close(&channel).unwrap();
    world.pass(crate::world::GRACE_SECONDS);
    let payer = channel.payer.pubkey();
    let withdraw = crate::world::TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(0, payer)]);
    world.send(&[withdraw], &[]).unwrap();

    assert_eq!((world.held_by(&payee), world.held_by(&payer)), (1_200, 3_800));
    assert_eq!(world.balance(&world.vault()), 0);
}

#[test]
fn given_extensions_that_only_describe_when_a_book_is_made_then_it_is() {
    for extension in DESCRIBING {
        let mut world = World::bare(&token_2022(&[extension]));
        let new = world.new_book();
        world.send_new_book(&new).unwrap_or_else(|failed| panic!("{extension:?}: {failed:?}"));
    }
    let mut world = World::bare(&token_2022(&DESCRIBING));
    let new = world.new_book();
    world.send_new_book(&new).unwrap();
}

#[test]
fn given_any_other_extension_when_a_book_is_made_then_it_is_refused() {
    for kind in (1..=40).filter(|kind| !DESCRIBING.iter().any(|(describing, _)| describing == kind)) {
        for list in [vec![(kind, 32)], vec![DESCRIBING[0], (kind, 0)]] {
            let mut world = World::bare(&token_2022(&list));
            let new = world.new_book();
            assert_rejected(world.send_new_book(&new), Rejection::MintNotSupported);
        }
    }
}

#[test]
fn given_a_token_2022_recipient_that_asks_for_memos_when_paid_out_then_the_leg_stays_owed_until_it_does_not() {
    let mut world = World::with(token_2022(&[]));
    let (payee, channel) = (world.payee.pubkey(), world.open(0, 5_000));
    let account = world.fund(&payee, 0);
    world.claim(&Batch::of(&[(&channel, 700)])).unwrap();
    let mut asking = world.svm.get_account(&account).unwrap();
    let plain = asking.clone();
    asking.data.extend_from_slice(&[8, 0, 1, 0, 1]); // memo transfer: required
    world.svm.set_account(account, asking).unwrap();

    world.payout(1).unwrap();
    assert_eq!(world.held_by(&payee), 0, "left out");

    world.svm.set_account(account, plain).unwrap();
    world.payout(1).unwrap();
    assert_eq!(world.held_by(&payee), 700);
}
