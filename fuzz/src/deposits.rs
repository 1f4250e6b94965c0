//! Transactions that a sponsor is to co-sign. The adversary is the payer: it signs whatever it likes, so every input is
//! signed by payer and operator wherever they have a place, and only the check stands between it and the sponsor's lamports.
//!
//! What passes is of the one allowed shape, spends at most the fees that the caps allow, and does what the program does with
//! it. Looked at here by other code than the check's own.

#[path = "../../facilitator/settler/src/deposit/check.rs"]
#[allow(dead_code, unreachable_pub)]
mod check;

use super::input::{Input, edited};
use check::{Caps, DepositKind, ExpectedDeposit};
use solana_address::Address;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_message::{VersionedMessage, v0};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::OnceLock;
use tallybook_chain::address::{COMPUTE_BUDGET_PROGRAM, MEMO_PROGRAM, TOKEN_PROGRAM};
use tallybook_chain::instruction::{Addition, NewChannel, discriminator};
use tallybook_chain::transaction::{MAX_TRANSACTION_BYTES, from_bytes, to_bytes};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, deposit};
use tallybook_rules::signing::{channel_id, page_domain};
use tallybook_rules::{Amount, Book, Opening, Page, PageHeader, Rejection, Slot};

const MAX_UNITS: u32 = 100_000;
const MAX_PRICE: u64 = 50_000;
/// A signature's fee in lamports.
const SIGNATURE_FEE: u64 = 5_000;
const DEPOSIT: u64 = 5_000;

/// Who takes part, and what the chain shows.
struct Scene {
    payer: Keypair,
    operator: Keypair,
    sponsor: Address,
    book: BookView,
    page: PageView,
    new: NewChannel,
    channel_id: [u8; 32],
}

impl Scene {
    fn new(open_policy: u8) -> Self {
        let (payer, operator) = (Keypair::new_from_array([21; 32]), Keypair::new_from_array([22; 32]));
        let state = Book {
            payee: [1; 32],
            mint: [2; 32],
            token_program: TOKEN_PROGRAM.to_bytes(),
            operator: operator.pubkey().to_bytes(),
            min_deposit: Amount::new(1_000),
            open_policy,
            leg_count: 1,
            version: Book::VERSION,
            ..Book::default()
        };
        let book = BookView { address: Address::from([3; 32]), state };
        let address = Address::from([4; 32]);
        let header = PageHeader {
            book: [3; 32],
            page_domain: page_domain(PROGRAM_ID.as_array(), &[9; 32], &address.to_bytes()),
            capacity: 4,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        let page = PageView { address, header, slots: vec![Slot::default(); 4] };
        let new = NewChannel {
            payer: payer.pubkey(),
            source: book.token_account(&payer.pubkey()),
            operator: (open_policy == 1).then(|| operator.pubkey()),
            page: address,
            slot: 1,
            generation: 1,
            signer: payer.pubkey().to_bytes(),
            deposit: DEPOSIT,
        };
        let channel_id = channel_id(&page.header.page_domain, 1, 1, payer.pubkey().as_array(), &new.signer);
        Self { sponsor: Keypair::new_from_array([5; 32]).pubkey(), payer, operator, book, page, new, channel_id }
    }

    fn addition(&self) -> Addition {
        let NewChannel { payer, source, page, slot, generation, deposit, .. } = self.new;
        Addition { funder: payer, source, page, slot, generation, amount: deposit }
    }

    /// The good transactions of this scene, unsigned: an opening and a top-up, each as a legacy and as a v0 message.
    fn good(&self, which: u8) -> Vec<u8> {
        let hash = Hash::new_from_array([8; 32]);
        let message = match which {
            0 => deposit::message(&self.book, &self.new, &self.channel_id, &self.sponsor, hash),
            1 => deposit::top_up_message(&self.book, &self.addition(), &self.channel_id, &self.sponsor, hash),
            _ => {
                let opening = deposit::instructions(&self.book, &self.new, &self.channel_id);
                let top_up = deposit::top_up_instructions(&self.book, &self.addition(), &self.channel_id);
                let instructions = if which == 2 { opening } else { top_up };
                let compiled = v0::Message::try_compile(&self.sponsor, &instructions, &[], hash);
                VersionedMessage::V0(compiled.expect("a good deposit compiles"))
            }
        };
        let signers = usize::from(message.header().num_required_signatures);
        let unsigned = VersionedTransaction { signatures: vec![Default::default(); signers], message };
        to_bytes(&unsigned).expect("a good deposit fits")
    }

    /// Signs for payer and operator wherever they have a place.
    fn signed(&self, mut transaction: VersionedTransaction) -> Vec<u8> {
        let message = transaction.message.serialize();
        let keys = transaction.message.static_account_keys().to_vec();
        for (key, signature) in keys.iter().zip(&mut transaction.signatures) {
            if let Some(signer) = [&self.payer, &self.operator].iter().find(|signer| signer.pubkey() == *key) {
                *signature = signer.sign_message(&message);
            }
        }
        to_bytes(&transaction).expect("as long as before")
    }
}

fn scenes() -> &'static [Scene; 2] {
    static SCENES: OnceLock<[Scene; 2]> = OnceLock::new();
    SCENES.get_or_init(|| [Scene::new(0), Scene::new(1)])
}

/// The first byte says under which open policy, and whether what follows are changes to a good transaction or a whole one.
pub(crate) fn deposits(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    let scene = &scenes()[usize::from(kind & 1)];
    let bytes = if kind & 2 == 0 { edited(&scene.good((kind >> 2) % 4), &mut input) } else { input.rest().to_vec() };
    let transaction = match from_bytes(&bytes) {
        Ok(transaction) => transaction,
        Err(rejection) => {
            let too_large = bytes.len() > MAX_TRANSACTION_BYTES;
            let expected = if too_large { Rejection::RequestTooLarge } else { Rejection::MalformedPayload };
            return assert_eq!(rejection, expected);
        }
    };
    assert_eq!(to_bytes(&transaction).as_ref(), Ok(&bytes), "a transaction has one encoding");
    let signed = scene.signed(transaction);
    let expected =
        ExpectedDeposit { book: &scene.book, page: &scene.page, new: &scene.new, channel_id: scene.channel_id };
    let caps = Caps { fee_payer: scene.sponsor, max_compute_units: MAX_UNITS, max_compute_price: MAX_PRICE };
    if let Ok(checked) = check::check(&signed, &expected, &caps) {
        assert_eq!(checked.new_channel(), &scene.new);
        assert_eq!(to_bytes(&checked.transaction).as_ref(), Ok(&signed), "what was looked at is what is signed");
        costs_fees_alone(scene, &checked.transaction);
        does_what_it_says(scene, &checked.transaction.message, checked.kind());
    }
}

/// The sponsor pays for signatures and for compute within the caps, and is nowhere in an instruction.
fn costs_fees_alone(scene: &Scene, transaction: &VersionedTransaction) {
    let message = &transaction.message;
    let keys = message.static_account_keys();
    assert!(!matches!(message, VersionedMessage::V1(_)));
    assert!(message.address_table_lookups().is_none_or(|tables| tables.is_empty()), "static accounts only");
    assert_eq!(keys.first(), Some(&scene.sponsor));
    assert_eq!(keys.iter().filter(|key| **key == scene.sponsor).count(), 1);
    let named = message.instructions().iter().flat_map(|one| one.accounts.iter().chain([&one.program_id_index]));
    assert!(named.into_iter().all(|at| *at != 0), "the sponsor is in no instruction");

    let mut signers: Vec<&Address> = keys[..transaction.signatures.len()].iter().collect();
    signers.sort();
    let payer = scene.payer.pubkey();
    let operator = scene.operator.pubkey();
    let two = [&scene.sponsor, &payer];
    let mut allowed: Vec<&Address> =
        two.into_iter().chain([&operator].into_iter().filter(|_| signers.len() == 3)).collect();
    allowed.sort();
    assert_eq!(signers, allowed, "nobody else signs");

    let [limit, price, _, _] = message.instructions() else { panic!("four instructions") };
    let units = u32::from_le_bytes(limit.data[1..].try_into().expect("a limit of 4 bytes"));
    let price = u64::from_le_bytes(price.data[1..].try_into().expect("a price of 8 bytes"));
    let priority = (u128::from(units) * u128::from(price)).div_ceil(1_000_000);
    assert!(priority <= u128::from(MAX_UNITS) * u128::from(MAX_PRICE) / 1_000_000, "the caps bound the fee");
    assert!(signers.len() <= 3, "at most {} lamports for signatures", 3 * SIGNATURE_FEE);
}

/// Four instructions, of which one moves the payer's own tokens into the page's vault; the program's rules take them.
fn does_what_it_says(scene: &Scene, message: &VersionedMessage, kind: DepositKind) {
    let keys = message.static_account_keys();
    let program = |at: usize| keys[usize::from(message.instructions()[at].program_id_index)];
    assert_eq!([program(0), program(1)], [COMPUTE_BUDGET_PROGRAM; 2]);
    assert_eq!([program(2), program(3)], [PROGRAM_ID, MEMO_PROGRAM]);
    let deposit = &message.instructions()[2];
    let accounts: Vec<Address> = deposit.accounts.iter().map(|at| keys[usize::from(*at)]).collect();
    let (vault, page) = (scene.book.vault(&scene.page.address), scene.page.address);
    let header = message.header();
    let signers = usize::from(header.num_required_signatures);
    let writable = |address: &Address| {
        let at = keys.iter().position(|key| key == address).expect("an account of the transaction");
        let signer = at < signers - usize::from(header.num_readonly_signed_accounts);
        signer || (at >= signers && at < keys.len() - usize::from(header.num_readonly_unsigned_accounts))
    };
    assert!([scene.new.source, vault, page].iter().all(|account| accounts.contains(account) && writable(account)));
    let written = keys.iter().skip(1).filter(|key| writable(key));
    assert!(written.into_iter().all(|key| [scene.new.source, vault, page].contains(key)), "nothing else is written");

    let mut arguments = Input(&deposit.data);
    let mut view = scene.page.clone();
    let on_chain = &mut Page { header: &mut view.header, slots: &mut view.slots };
    let [number, slot] = arguments.array();
    let generation = u32::from_le_bytes(arguments.array());
    let mut opening = Opening {
        payer: scene.new.payer.to_bytes(),
        signer: scene.new.signer,
        generation,
        deposit: Amount::new(DEPOSIT),
    };
    match kind {
        DepositKind::Opening => {
            assert_eq!(number, discriminator::OPEN);
            opening.signer = arguments.array();
            opening.deposit = Amount::new(arguments.u64());
            assert_eq!(on_chain.open(slot, &opening, scene.book.state.min_deposit, 1), Ok(()));
        }
        DepositKind::TopUp => {
            assert_eq!(number, discriminator::TOP_UP);
            assert_eq!(on_chain.open(scene.new.slot, &opening, Amount::new(1), 1), Ok(()));
            assert_eq!(on_chain.top_up(slot, generation, Amount::new(arguments.u64())), Ok(()));
        }
    }
    assert!(arguments.is_empty(), "no byte more than the arguments");
    assert_eq!(on_chain.check(), Ok(()));
    let times = if kind == DepositKind::TopUp { 2 } else { 1 };
    assert_eq!(view.slots[1].deposit, Amount::new(times * DEPOSIT), "what the payload says, and no other channel");
}
