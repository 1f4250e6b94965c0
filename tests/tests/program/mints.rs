//! Which mints a book takes: SPL Token, and Token-2022 with extensions that only describe.

use crate::vouchers::Batch;
use crate::world::{Setup, TALLYBOOK, World};
use solana_signer::Signer;
use tallybook_chain::address::TOKEN_2022_PROGRAM;
use tallybook_chain::instruction::Addition;
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

pub(crate) fn token_2022(list: &[(u16, u16)]) -> Setup {
    Setup {
        token_program: TOKEN_2022_PROGRAM,
        mint_extensions: if list.is_empty() { Vec::new() } else { extensions(list) },
        ..Setup::default()
    }
}

/// Metadata pointer, token metadata, group pointer, group, member pointer, member.
pub(crate) const DESCRIBING: [(u16, u16); 6] = [(18, 64), (19, 80), (20, 64), (21, 80), (22, 64), (23, 72)];

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
    let withdraw = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(0, payer)]);
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

/// Every other extension that a mint can have, as (name, type, bytes).
const REFUSED: [(&str, u16, u16); 12] = [
    ("transfer fee", 1, 108),
    ("mint close authority", 3, 32),
    ("confidential transfer", 4, 65),
    ("default account state", 6, 1),
    ("non-transferable", 9, 0),
    ("interest-bearing", 10, 52),
    ("permanent delegate", 12, 32),
    ("transfer hook", 14, 64),
    ("confidential transfer fee", 16, 129),
    ("confidential mint and burn", 24, 196),
    ("scaled amount", 25, 56),
    ("pausable", 26, 33),
];
/// Those of accounts, which no mint has.
const OF_ACCOUNTS: [u16; 9] = [2, 5, 7, 8, 11, 13, 15, 17, 27];
/// The last that there is now.
const LAST: u16 = 27;

#[track_caller]
fn assert_refused(list: &[(u16, u16)], name: &str) {
    let mut world = World::bare(&token_2022(list));
    let new = world.new_book();
    let number = crate::world::custom_error(world.send_new_book(&new));
    assert_eq!(number, 6000 + u32::from(Rejection::MintNotSupported.code()), "{name}: {list:?}");
}

#[test]
fn given_each_other_extension_when_a_book_is_made_then_it_is_refused_alone_and_among_allowed_ones() {
    for (name, kind, bytes) in REFUSED {
        assert_refused(&[(kind, bytes)], name);
        assert_refused(&[&DESCRIBING[..], &[(kind, bytes)]].concat(), name);
        assert_refused(&[(kind, bytes), DESCRIBING[3]], name);
    }
}

#[test]
fn given_extensions_of_accounts_or_of_later_versions_when_a_book_is_made_then_they_are_refused() {
    let described = DESCRIBING.iter().map(|(kind, _)| *kind);
    let mut known: Vec<_> = described.chain(REFUSED.map(|(_, kind, _)| kind)).chain(OF_ACCOUNTS).collect();
    known.sort_unstable();
    assert_eq!(known, (1..=LAST).collect::<Vec<_>>(), "each is looked at once");
    for kind in OF_ACCOUNTS.into_iter().chain(LAST + 1..=LAST + 8).chain([u16::MAX]) {
        assert_refused(&[(kind, 32)], "not of mints");
        assert_refused(&[DESCRIBING[0], (kind, 0)], "not of mints");
    }
}

/// Appends extensions to a token account or mint that is there already, as the token program itself never would.
fn append(world: &mut World, address: &solana_address::Address, bytes: &[u8]) {
    let mut account = world.svm.get_account(address).unwrap();
    account.data.extend_from_slice(bytes);
    world.svm.set_account(*address, account).unwrap();
}

#[test]
fn given_a_mint_that_takes_a_fee_after_all_when_money_is_put_in_then_it_is_not_credited() {
    let mut world = World::with(token_2022(&[]));
    let channel = world.open(0, 5_000);
    let (new, payer, _) = world.opening(1, 5_000);
    let source = world.fund(&channel.payer.pubkey(), 5_000);
    let (vault, mint) = (world.vault(), world.mint);
    // One percent of each transfer is withheld in the account that it goes to.
    let fee: Vec<u8> = [&u64::MIN.to_le_bytes()[..], &u64::MAX.to_le_bytes(), &100u16.to_le_bytes()].concat();
    let config = [&[0; 32 + 32 + 8][..], &fee, &fee].concat();
    append(&mut world, &mint, &[&[0; 165 - 82][..], &[1, 1, 0, 108, 0], &config].concat());
    for account in [vault, source, new.source] {
        append(&mut world, &account, &[2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    world.refuses(TALLYBOOK.open(&world.book_view(), &new), &[&payer], Rejection::DepositNotReceived);
    let (funder, page) = (channel.payer.pubkey(), world.page);
    let addition = Addition { funder, source, page, slot: 0, generation: 1, amount: 5_000 };
    let top_up = TALLYBOOK.top_up(&world.book_view(), &addition);
    world.refuses(top_up, &[&channel.payer], Rejection::DepositNotReceived);
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
