use super::*;
use crate::memory::{Fault, House};
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::v0::MessageAddressTableLookup;
use solana_message::{VersionedMessage, legacy, v0};
use solana_signature::Signature;
use solana_signer::Signer;
use tallybook_chain::address::SYSTEM_PROGRAM;
use tallybook_chain::instruction::{Addition, Instructions, NewChannel};
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price, from_bytes, memo, to_bytes};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, deposit};
use tallybook_rules::{Amount, Opening};

/// A payer who wants slot 0, and everything that it takes to send it.
struct Scene {
    house: House,
    book: BookView,
    page: PageView,
    payer: Keypair,
    operator: Keypair,
    new: NewChannel,
    channel_id: [u8; 32],
}

fn scene() -> Scene {
    let house = House::new(4);
    let page = house.page_view();
    let payer = Keypair::new_from_array([21; 32]);
    let new = NewChannel {
        payer: payer.pubkey(),
        source: house.book.token_account(&payer.pubkey()),
        operator: None,
        page: page.address,
        slot: 0,
        generation: 1,
        signer: payer.pubkey().to_bytes(),
        deposit: 5_000,
    };
    let channel_id = deposit::expected_channel_id(&page, &new).unwrap();
    Scene { book: house.book, page, payer, operator: Keypair::new_from_array([22; 32]), new, channel_id, house }
}

impl Scene {
    fn instructions(&self) -> Vec<Instruction> {
        deposit::instructions(&self.book, &self.new, &self.channel_id).to_vec()
    }

    fn sponsor(&self) -> Address {
        self.house.settler.sponsor()
    }

    /// A legacy message of any instructions, signed by payer and operator wherever they have a place.
    fn signed(&self, instructions: &[Instruction]) -> Vec<u8> {
        self.sign(VersionedMessage::Legacy(legacy::Message::new_with_blockhash(
            instructions,
            Some(&self.sponsor()),
            &Hash::new_from_array([8; 32]),
        )))
    }

    fn sign(&self, message: VersionedMessage) -> Vec<u8> {
        to_bytes(&self.transaction(message)).unwrap()
    }

    fn transaction(&self, message: VersionedMessage) -> VersionedTransaction {
        let bytes = message.serialize();
        let signers = usize::from(message.header().num_required_signatures);
        let signatures = message.static_account_keys()[..signers]
            .iter()
            .map(|key| match [&self.payer, &self.operator].iter().find(|one| one.pubkey() == *key) {
                Some(one) => one.sign_message(&bytes),
                None => Signature::default(),
            })
            .collect();
        VersionedTransaction { signatures, message }
    }

    fn addition(&self) -> Addition {
        Addition {
            funder: self.new.payer,
            source: self.new.source,
            page: self.new.page,
            slot: self.new.slot,
            generation: self.new.generation,
            amount: self.new.deposit,
        }
    }

    fn top_up(&self) -> Vec<Instruction> {
        deposit::top_up_instructions(&self.book, &self.addition(), &self.channel_id).to_vec()
    }

    fn check(&self, bytes: &[u8]) -> Result<CheckedDeposit, Rejection> {
        let expected =
            ExpectedDeposit { book: &self.book, page: &self.page, new: &self.new, channel_id: self.channel_id };
        self.house.settler.check_deposit(bytes, &expected)
    }

    /// What the check says of the instructions after a change to them.
    fn after(&self, change: impl FnOnce(&mut Vec<Instruction>)) -> Rejection {
        let mut instructions = self.instructions();
        change(&mut instructions);
        self.check(&self.signed(&instructions)).unwrap_err()
    }

    /// What the chain shows once the deposit has landed.
    fn opened(&self) {
        let opening = Opening {
            payer: self.new.payer.to_bytes(),
            signer: self.new.signer,
            generation: self.new.generation,
            deposit: Amount::new(self.new.deposit),
        };
        self.house.on_page(|page| page.open(0, &opening, Amount::new(1), 0).unwrap());
    }
}

#[test]
fn the_deposit_that_clients_build_passes_as_legacy_and_as_v0() {
    let scene = scene();
    let checked = scene.check(&scene.signed(&scene.instructions())).unwrap();
    assert_eq!(checked.new_channel(), &scene.new);
    assert_eq!(checked.channel_id(), &scene.channel_id);
    let v0 = v0::Message::try_compile(&scene.sponsor(), &scene.instructions(), &[], Hash::default()).unwrap();
    assert!(scene.check(&scene.sign(VersionedMessage::V0(v0))).is_ok());
}

#[test]
fn the_top_up_that_clients_build_passes_and_nothing_but_it() {
    let mut scene = scene();
    let message = deposit::top_up_message(
        &scene.book,
        &scene.addition(),
        &scene.channel_id,
        &scene.sponsor(),
        Hash::new_from_array([8; 32]),
    );
    let checked = scene.check(&scene.sign(message)).unwrap();
    assert_eq!((checked.kind(), checked.new_channel()), (DepositKind::TopUp, &scene.new));
    let program = Instructions::new(PROGRAM_ID);
    let with = |scene: &Scene, change: fn(&mut Addition)| {
        let mut addition = scene.addition();
        change(&mut addition);
        let mut instructions = scene.top_up();
        instructions[2] = program.top_up(&scene.book, &addition);
        scene.check(&scene.signed(&instructions)).unwrap_err()
    };
    assert_eq!(with(&scene, |addition| addition.amount += 1), Rejection::DepositMismatch);
    assert_eq!(with(&scene, |addition| addition.slot = 1), Rejection::DepositMismatch);
    assert_eq!(with(&scene, |addition| addition.generation = 2), Rejection::DepositMismatch);
    assert_eq!(with(&scene, |addition| addition.source = Address::from([7; 32])), Rejection::DepositMismatch);
    assert_eq!(with(&scene, |addition| addition.funder = Address::from([7; 32])), Rejection::DepositMismatch);
    let sponsor_pays = |scene: &Scene| {
        let addition = Addition { funder: scene.sponsor(), ..scene.addition() };
        let mut instructions = scene.top_up();
        instructions[2] = program.top_up(&scene.book, &addition);
        scene.check(&scene.signed(&instructions)).unwrap_err()
    };
    assert_eq!(sponsor_pays(&scene), Rejection::WrongFeePayer, "the sponsor's own tokens");
    let twice = [scene.top_up(), vec![scene.top_up().remove(2)]].concat();
    assert_eq!(scene.check(&scene.signed(&twice)).unwrap_err(), Rejection::MalformedDeposit);
    let mut unsigned = from_bytes(&scene.signed(&scene.top_up())).unwrap();
    unsigned.signatures[1] = Signature::default();
    assert_eq!(scene.check(&to_bytes(&unsigned).unwrap()).unwrap_err(), Rejection::PayerSignatureMissing);
    // A small top-up is fine, though no channel could be opened with it; one of nothing is not.
    scene.book.state.min_deposit = Amount::new(1_000_000);
    assert!(scene.check(&scene.signed(&scene.top_up())).is_ok());
    assert_eq!(scene.check(&scene.signed(&scene.instructions())).unwrap_err(), Rejection::DepositTooSmall);
    scene.new.deposit = 0;
    assert_eq!(scene.check(&scene.signed(&scene.top_up())).unwrap_err(), Rejection::DepositTooSmall);
}

#[test]
fn another_order_of_accounts_passes_since_libraries_differ_in_it() {
    let scene = scene();
    let VersionedMessage::Legacy(mut message) =
        deposit::message(&scene.book, &scene.new, &scene.channel_id, &scene.sponsor(), Hash::default())
    else {
        panic!("deposits are built as legacy messages")
    };
    // The last two accounts are read-only and sign nothing: they may change places.
    let last = message.account_keys.len() - 1;
    message.account_keys.swap(last - 1, last);
    let (a, b) = (u8::try_from(last - 1).unwrap(), u8::try_from(last).unwrap());
    let swap = |at: &mut u8| {
        *at = if *at == a {
            b
        } else if *at == b {
            a
        } else {
            *at
        }
    };
    for instruction in &mut message.instructions {
        swap(&mut instruction.program_id_index);
        instruction.accounts.iter_mut().for_each(swap);
    }
    assert!(scene.check(&scene.sign(VersionedMessage::Legacy(message))).is_ok());
}

#[test]
fn only_the_four_instructions_in_their_order_pass() {
    let scene = scene();
    let transfer = Instruction {
        program_id: SYSTEM_PROGRAM,
        accounts: vec![AccountMeta::new(scene.payer.pubkey(), true)],
        data: vec![2, 0, 0, 0],
    };
    assert_eq!(scene.after(|all| all.push(transfer.clone())), Rejection::MalformedDeposit, "one more");
    assert_eq!(scene.after(|all| all.truncate(3)), Rejection::MalformedDeposit, "no memo");
    assert_eq!(scene.after(|all| drop(all.remove(0))), Rejection::MalformedDeposit, "no limit");
    assert_eq!(scene.after(|all| all.swap(0, 1)), Rejection::MalformedDeposit, "price first");
    assert_eq!(scene.after(|all| all.swap(2, 3)), Rejection::MalformedDeposit, "memo first");
    assert_eq!(scene.after(|all| all[2] = transfer.clone()), Rejection::MalformedDeposit, "not an open");
    assert_eq!(scene.after(|all| all[3] = all[2].clone()), Rejection::MalformedDeposit, "two opens");
    let nonce = Instruction {
        program_id: SYSTEM_PROGRAM,
        accounts: vec![
            AccountMeta::new(Address::new_from_array([77; 32]), false),
            AccountMeta::new_readonly(scene.payer.pubkey(), true),
        ],
        data: vec![4, 0, 0, 0],
    };
    assert_eq!(scene.after(|all| all.insert(0, nonce.clone())), Rejection::MalformedDeposit, "durable nonce");
    assert_eq!(scene.after(|all| all[0] = nonce), Rejection::MalformedDeposit, "a nonce for the limit");
}

#[test]
fn what_the_sponsor_pays_is_capped() {
    let scene = scene();
    let settings = *scene.house.settler.settings();
    let limit = settings.max_compute_units;
    let price = settings.max_compute_price;
    assert_eq!(scene.after(|all| all[0] = compute_unit_limit(limit + 1)), Rejection::FeeTooHigh);
    assert_eq!(scene.after(|all| all[1] = compute_unit_price(price + 1)), Rejection::FeeTooHigh);
    let mut at_the_cap = scene.instructions();
    at_the_cap[0] = compute_unit_limit(limit);
    at_the_cap[1] = compute_unit_price(price);
    assert!(scene.check(&scene.signed(&at_the_cap)).is_ok());
    // A longer argument than the one that nodes read must not hide another meaning.
    assert_eq!(scene.after(|all| all[0].data.push(0)), Rejection::MalformedDeposit);
    let named = AccountMeta::new_readonly(scene.payer.pubkey(), true);
    assert_eq!(scene.after(|all| all[0].accounts.push(named)), Rejection::MalformedDeposit);
}

#[test]
fn the_fee_payer_is_the_sponsor_and_stands_in_no_instruction() {
    let scene = scene();
    let by = |fee_payer: &Address| {
        let message = deposit::message(&scene.book, &scene.new, &scene.channel_id, fee_payer, Hash::default());
        scene.check(&scene.sign(message)).unwrap_err()
    };
    assert_eq!(by(&scene.payer.pubkey()), Rejection::WrongFeePayer);
    assert_eq!(by(&Address::new_from_array([60; 32])), Rejection::WrongFeePayer);
    let sponsor = scene.sponsor();
    assert_eq!(scene.after(|all| all[2].accounts[4].pubkey = sponsor), Rejection::WrongFeePayer, "as the source");
    let witness = AccountMeta::new_readonly(sponsor, true);
    assert_eq!(scene.after(|all| all[3].accounts.push(witness)), Rejection::WrongFeePayer, "in the memo");
}

#[test]
fn every_account_and_amount_is_as_claimed() {
    let scene = scene();
    let stranger = Address::new_from_array([61; 32]);
    for at in 1..8 {
        let rejection = scene.after(|all| all[2].accounts[at].pubkey = stranger);
        assert_eq!(rejection, Rejection::DepositMismatch, "account {at} of the open");
    }
    for change in [
        NewChannel { deposit: 4_999, ..scene.new },
        NewChannel { slot: 1, ..scene.new },
        NewChannel { generation: 2, ..scene.new },
        NewChannel { signer: [7; 32], ..scene.new },
    ] {
        let open = Instructions::new(PROGRAM_ID).open(&scene.book, &change);
        assert_eq!(scene.after(|all| all[2] = open), Rejection::DepositMismatch, "{change:?}");
    }
    assert_eq!(scene.after(|all| all[3] = memo("another")), Rejection::DepositMismatch);
    assert_eq!(scene.after(|all| all[2].data.push(0)), Rejection::DepositMismatch, "bytes after the arguments");
}

#[test]
fn no_account_signer_or_right_more_than_needed_passes() {
    let scene = scene();
    let message = |change: &dyn Fn(&mut legacy::Message)| {
        let VersionedMessage::Legacy(mut message) =
            deposit::message(&scene.book, &scene.new, &scene.channel_id, &scene.sponsor(), Hash::default())
        else {
            panic!("deposits are built as legacy messages")
        };
        change(&mut message);
        scene.check(&scene.sign(VersionedMessage::Legacy(message))).unwrap_err()
    };
    let unused = Address::new_from_array([62; 32]);
    let more = message(&|message| {
        message.account_keys.push(unused);
        message.header.num_readonly_unsigned_accounts += 1;
    });
    assert_eq!(more, Rejection::MalformedDeposit, "an account in no instruction");
    let writable = message(&|message| message.header.num_readonly_unsigned_accounts -= 1);
    assert_eq!(writable, Rejection::MalformedDeposit, "one more writable account");
    let payer_writable = message(&|message| message.header.num_readonly_signed_accounts -= 1);
    assert_eq!(payer_writable, Rejection::MalformedDeposit, "a writable payer");
    let witness = AccountMeta::new_readonly(scene.operator.pubkey(), true);
    assert_eq!(scene.after(|all| all[3].accounts.push(witness)), Rejection::DepositMismatch, "a third signer");
}

#[test]
fn lookup_tables_and_later_versions_do_not_pass() {
    let scene = scene();
    let mut message = v0::Message::try_compile(&scene.sponsor(), &scene.instructions(), &[], Hash::default()).unwrap();
    message.address_table_lookups.push(MessageAddressTableLookup {
        account_key: Address::new_from_array([63; 32]),
        writable_indexes: vec![],
        readonly_indexes: vec![0],
    });
    let with_table = scene.sign(VersionedMessage::V0(message));
    assert_eq!(scene.check(&with_table).unwrap_err(), Rejection::MalformedDeposit);
    let mut v1 = scene.signed(&scene.instructions());
    v1[0] = 0x81;
    assert_eq!(scene.check(&v1).unwrap_err(), Rejection::MalformedDeposit);
}

#[test]
fn only_the_one_encoding_of_at_most_1232_bytes_is_read() {
    let scene = scene();
    let good = scene.signed(&scene.instructions());
    let mut trailing = good.clone();
    trailing.push(0);
    assert_eq!(scene.check(&trailing).unwrap_err(), Rejection::MalformedDeposit);
    for length in 0..good.len() {
        assert_eq!(scene.check(&good[..length]).unwrap_err(), Rejection::MalformedDeposit, "cut at {length}");
    }
    assert_eq!(scene.check(&[0; 1_233]).unwrap_err(), Rejection::RequestTooLarge);
    // Every single flipped bit is noticed, but those of the sponsor's own, empty signature.
    for at in (0..good.len()).filter(|at| !(1..65).contains(at)) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(scene.check(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn the_payer_signs_this_very_message() {
    let scene = scene();
    let message = deposit::message(&scene.book, &scene.new, &scene.channel_id, &scene.sponsor(), Hash::default());
    let mut transaction = scene.transaction(message);
    transaction.signatures[1] = Signature::default();
    let unsigned = to_bytes(&transaction).unwrap();
    assert_eq!(scene.check(&unsigned).unwrap_err(), Rejection::PayerSignatureMissing);
    transaction.signatures[1] = scene.payer.sign_message(b"something else");
    let foreign = to_bytes(&transaction).unwrap();
    assert_eq!(scene.check(&foreign).unwrap_err(), Rejection::PayerSignatureMissing);
}

#[test]
fn under_open_policy_1_the_operator_signs_too() {
    let mut scene = scene();
    scene.book.state.open_policy = 1;
    scene.book.state.operator = scene.operator.pubkey().to_bytes();
    let without = scene.signed(&scene.instructions());
    assert_eq!(scene.check(&without).unwrap_err(), Rejection::DepositMismatch, "the payload names no operator");
    scene.new.operator = Some(scene.operator.pubkey());
    assert_eq!(scene.check(&without).unwrap_err(), Rejection::OperatorMustSign, "the transaction names none");
    let message = deposit::message(&scene.book, &scene.new, &scene.channel_id, &scene.sponsor(), Hash::default());
    let mut transaction = scene.transaction(message);
    assert!(scene.check(&to_bytes(&transaction).unwrap()).is_ok());
    let at = transaction.message.static_account_keys().iter().position(|key| *key == scene.operator.pubkey());
    transaction.signatures[at.unwrap()] = Signature::default();
    let unsigned = to_bytes(&transaction).unwrap();
    assert_eq!(scene.check(&unsigned).unwrap_err(), Rejection::OperatorMustSign, "an empty signature");
    // Where anybody may open, an operator has no business in it.
    scene.book.state.open_policy = 0;
    let with = scene.signed(&scene.instructions());
    assert_eq!(scene.check(&with).unwrap_err(), Rejection::DepositMismatch);
}

#[test]
fn the_payload_itself_must_be_of_one_piece() {
    let base = scene();
    let good = base.signed(&base.instructions());
    let says = |change: &dyn Fn(&mut Scene)| {
        let mut scene = scene();
        change(&mut scene);
        scene.check(&good).unwrap_err()
    };
    let stranger = Address::new_from_array([64; 32]);
    assert_eq!(says(&|scene| scene.channel_id[0] ^= 1), Rejection::DepositMismatch, "the id");
    assert_eq!(says(&|scene| scene.new.source = stranger), Rejection::DepositMismatch, "the source");
    assert_eq!(says(&|scene| scene.new.page = stranger), Rejection::DepositMismatch, "the page");
    assert_eq!(says(&|scene| scene.page.header.book = [0; 32]), Rejection::DepositMismatch, "the book");
    assert_eq!(says(&|scene| scene.page.header.capacity = 0), Rejection::NoSuchSlot);
    assert_eq!(says(&|scene| scene.new.deposit = 999), Rejection::DepositTooSmall);
    assert_eq!(says(&|scene| scene.new.deposit = 1 << 48), Rejection::DepositTooLarge);
    let weak = says(&|scene| {
        scene.new.signer = [0; 32];
        scene.new.signer[0] = 1;
        scene.channel_id = deposit::expected_channel_id(&scene.page, &scene.new).unwrap();
    });
    assert_eq!(weak, Rejection::WeakSigner);
}

#[tokio::test]
async fn a_deposit_that_lands_though_every_answer_is_lost_is_found() {
    let scene = scene();
    let checked = scene.check(&scene.signed(&scene.instructions())).unwrap();
    scene.house.chain.state().faults.push_back(Fault::LostAnswer);
    scene.opened();
    let opened = scene.house.settler.send_deposit(&checked, None, &scene.house.notes).await.unwrap();
    assert_eq!(opened.state.deposit, Amount::new(5_000));
    // The same deposit again is the same transaction: found, and not sent.
    let again = scene.house.settler.send_deposit(&checked, Some(opened.attempt), &scene.house.notes).await.unwrap();
    assert_eq!(again.attempt, opened.attempt);
    assert_eq!(scene.house.chain.state().sent.len(), 1);
    assert_eq!(scene.house.notes.attempts.lock().unwrap().len(), 1, "recorded before it was sent");
}

#[tokio::test]
async fn a_deposit_that_cannot_be_recorded_is_not_sent() {
    let scene = scene();
    let checked = scene.check(&scene.signed(&scene.instructions())).unwrap();
    *scene.house.notes.fails.lock().unwrap() = true;
    let refused = scene.house.settler.send_deposit(&checked, None, &scene.house.notes).await;
    assert_eq!(refused.unwrap_err(), Rejection::StoreUnavailable);
    assert!(scene.house.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a_deposit_that_never_lands_is_pending_until_it_provably_expired() {
    let scene = scene();
    let checked = scene.check(&scene.signed(&scene.instructions())).unwrap();
    scene.house.chain.state().faults.extend([Fault::Dropped; 1_000]);
    let pending = scene.house.settler.send_deposit(&checked, None, &scene.house.notes).await;
    assert_eq!(pending.unwrap_err(), Rejection::SettlementPending, "blocks stand still");
    let attempt = scene.house.notes.attempts.lock().unwrap()[0];
    scene.house.chain.state().height = attempt.last_valid_block_height;
    let pending = scene.house.settler.send_deposit(&checked, Some(attempt), &scene.house.notes).await;
    assert_eq!(pending.unwrap_err(), Rejection::SettlementPending, "the last valid block is not over");
    scene.house.chain.state().height += 1;
    scene.house.chain.state().statuses_behind = 1;
    let pending = scene.house.settler.send_deposit(&checked, Some(attempt), &scene.house.notes).await;
    assert_eq!(pending.unwrap_err(), Rejection::SettlementPending, "the node that says no is behind");
    scene.house.chain.state().statuses_behind = 0;
    let expired = scene.house.settler.send_deposit(&checked, Some(attempt), &scene.house.notes).await;
    assert_eq!(expired.unwrap_err(), Rejection::DepositExpired);
}

#[tokio::test]
async fn a_deposit_that_fails_because_it_has_just_landed_has_landed() {
    let scene = scene();
    let checked = scene.check(&scene.signed(&scene.instructions())).unwrap();
    scene.opened();
    scene.house.chain.state().lands_meanwhile = true;
    let opened = scene.house.settler.send_deposit(&checked, None, &scene.house.notes).await;
    assert_eq!(opened.unwrap().state.deposit, Amount::new(5_000));
    assert!(scene.house.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a_slot_that_somebody_else_has_is_taken_and_nothing_is_sent() {
    let scene = scene();
    let checked = scene.check(&scene.signed(&scene.instructions())).unwrap();
    scene.house.channel(0, 9_000, 1);
    scene.house.chain.state().refuses_opens = true;
    let refused = scene.house.settler.send_deposit(&checked, None, &scene.house.notes).await;
    assert_eq!(refused.unwrap_err(), Rejection::SlotTaken);
    // Where the page shows this very channel, its transaction will be found: nothing is guessed.
    let scene = self::scene();
    scene.opened();
    scene.house.chain.state().refuses_opens = true;
    let pending = scene.house.settler.send_deposit(&checked, None, &scene.house.notes).await;
    assert_eq!(pending.unwrap_err(), Rejection::SettlementPending);
    assert!(scene.house.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a_deposit_that_is_repeated_after_its_channels_end_says_so() {
    let scene = scene();
    let checked = scene.check(&scene.signed(&scene.instructions())).unwrap();
    // Landed, but the page does not show the channel any more.
    let over = scene.house.settler.send_deposit(&checked, None, &scene.house.notes).await;
    assert_eq!(over.unwrap_err(), Rejection::SlotFree);
}
