//! Transactions by the scheme `exact` that a sponsor is to co-sign. The adversary is the client: it lays a transaction out as it
//! likes, holds every key but the sponsor's, and signs wherever those have a place; only the check stands between it and the
//! payee's price and the sponsor's lamports.
//!
//! Whatever passes pays what was asked, does nothing else, costs the sponsor fees within the caps and no more, and is one payment:
//! what the documentation of the crate `exact` promises of a `Payment`, word for word. A mint that passes takes nothing from transfers.
//!
//! Looked at here by other code than the check's own. That the check takes what clients really send is held too: what is not
//! changed is accepted.

use super::input::{Input, edited};
use base64::{Engine, engine::general_purpose::STANDARD};
use solana_address::{Address, address};
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{VersionedMessage, legacy, v0};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::OnceLock;
use tallybook_chain::address::{COMPUTE_BUDGET_PROGRAM, MEMO_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM};
use tallybook_chain::transaction::{
    compute_unit_limit, compute_unit_price, create_token_account, from_bytes, memo, to_bytes,
};
use tallybook_exact::{Caps, Fault, Payment, check, check_mint};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;
use tallybook_wire::{ExactRequest, ExactTerms};

const LIGHTHOUSE: Address = address!("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95");
const ASSOCIATED_TOKEN_PROGRAM: Address = address!("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const MAX_UNITS: u32 = 100_000;
const MAX_PRICE: u64 = 50_000;
const PRICE: u64 = 1_000;
const MEMO: &str = "invoice 7";
/// Extensions of a mint that take from transfers or decide on them.
const TRANSFER_FEE: u16 = 1;
const TRANSFER_HOOK: u16 = 14;

/// Who takes part. Of all but the sponsor the adversary has the key.
struct Cast {
    sponsor: Address,
    client: Keypair,
    other: Keypair,
    payee: Address,
    mint: Address,
}

fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(|| Cast {
        sponsor: Keypair::new_from_array([5; 32]).pubkey(),
        client: Keypair::new_from_array([21; 32]),
        other: Keypair::new_from_array([22; 32]),
        payee: Keypair::new_from_array([23; 32]).pubkey(),
        mint: Keypair::new_from_array([24; 32]).pubkey(),
    })
}

/// Where an owner's tokens of a mint are, found without the library's help.
fn account_of(owner: &Address, mint: &Address, token_program: &Address) -> Address {
    let seeds = [owner.as_ref(), token_program.as_ref(), mint.as_ref()];
    Address::find_program_address(&seeds, &ASSOCIATED_TOKEN_PROGRAM).0
}

/// What is asked for, and how a payment of it is laid out until the adversary changes it.
struct Scene {
    version: u64,
    is_legacy: bool,
    token_program: Address,
    pay_to: Address,
    terms: ExactTerms,
}

impl Scene {
    /// By the bits of a byte: every combination of version, message, token program, payee and memo.
    fn new(kind: u8) -> Self {
        let cast = cast();
        let has = |bit: u8| kind & (1 << bit) != 0;
        let version = if has(0) { 1 } else { 2 };
        let pay_to = if has(3) { cast.sponsor } else { cast.payee };
        let terms = ExactTerms {
            scheme: "exact".to_owned(),
            network: if version == 1 { "solana-devnet" } else { NETWORK }.to_owned(),
            amount: PRICE.to_string(),
            asset: cast.mint.to_string(),
            pay_to: pay_to.to_string(),
            fee_payer: Some(cast.sponsor.to_string()),
            memo: has(4).then(|| MEMO.to_owned()),
        };
        let token_program = if has(2) { TOKEN_2022_PROGRAM } else { TOKEN_PROGRAM };
        Self { version, is_legacy: has(1), token_program, pay_to, terms }
    }

    fn account_of(&self, owner: &Address) -> Address {
        account_of(owner, &cast().mint, &self.token_program)
    }

    fn transfer(&self, amount: u64) -> Instruction {
        let client = cast().client.pubkey();
        Instruction {
            program_id: self.token_program,
            accounts: vec![
                AccountMeta::new(self.account_of(&client), false),
                AccountMeta::new_readonly(cast().mint, false),
                AccountMeta::new(self.account_of(&self.pay_to), false),
                AccountMeta::new_readonly(client, true),
            ],
            data: [&[12][..], &amount.to_le_bytes(), &[6]].concat(),
        }
    }

    fn good(&self) -> Vec<Instruction> {
        vec![compute_unit_limit(20_000), compute_unit_price(1), self.transfer(PRICE), memo(MEMO)]
    }

    /// Somebody or something that an instruction could name.
    fn named(&self, which: u8) -> Address {
        let cast = cast();
        let (client, other) = (cast.client.pubkey(), cast.other.pubkey());
        match which % 14 {
            0 => cast.sponsor,
            1 => client,
            2 => other,
            3 => self.pay_to,
            4 => cast.mint,
            5 => self.account_of(&client),
            6 => self.account_of(&self.pay_to),
            7 => self.account_of(&cast.sponsor),
            8 => account_of(&self.pay_to, &other, &self.token_program),
            9 => TOKEN_PROGRAM,
            10 => TOKEN_2022_PROGRAM,
            11 => COMPUTE_BUDGET_PROGRAM,
            12 => MEMO_PROGRAM,
            _ => LIGHTHOUSE,
        }
    }

    /// An instruction that a client, a wallet or a thief could add.
    fn added(&self, input: &mut Input<'_>) -> Instruction {
        match input.below(8) {
            0 => memo(MEMO),
            1 => memo(&format!("{}", input.byte())),
            2 => Instruction { program_id: LIGHTHOUSE, accounts: Vec::new(), data: vec![input.byte()] },
            3 => self.transfer(input.amount()),
            4 => compute_unit_limit(u32::try_from(input.amount()).unwrap_or(u32::MAX)),
            5 => compute_unit_price(input.amount()),
            6 => create_token_account(&self.named(input.byte()), &self.pay_to, &cast().mint, &self.token_program),
            // Approve, SetAuthority, CloseAccount and whatever else has a number.
            _ => Instruction {
                program_id: self.named(input.byte()),
                accounts: vec![AccountMeta::new(self.named(input.byte()), false)],
                data: vec![input.byte(); usize::from(input.below(12))],
            },
        }
    }

    /// Changes the instructions in one way.
    fn change(&self, instructions: &mut Vec<Instruction>, input: &mut Input<'_>) {
        let count = u8::try_from(instructions.len()).expect("few instructions");
        if count == 0 || input.below(4) == 0 {
            let at = usize::from(input.below(count + 1));
            return instructions.insert(at, self.added(input));
        }
        let at = usize::from(input.below(count));
        match input.below(6) {
            0 => drop(instructions.remove(at)),
            1 => instructions.swap(at, usize::from(input.below(count))),
            2 => instructions[at].program_id = self.named(input.byte()),
            3 => {
                let (who, flags) = (self.named(input.byte()), input.byte());
                let account = AccountMeta { pubkey: who, is_signer: flags & 1 != 0, is_writable: flags & 2 != 0 };
                let accounts = &mut instructions[at].accounts;
                let place = usize::from(flags >> 2) % (accounts.len() + 1);
                if place == accounts.len() { accounts.push(account) } else { accounts[place] = account }
            }
            4 => drop(instructions[at].accounts.pop()),
            _ => {
                let (place, byte) = (usize::from(input.byte()), input.byte());
                let data = &mut instructions[at].data;
                let place = place % (data.len() + 1);
                if place == data.len() { data.push(byte) } else { data[place] = byte }
            }
        }
    }

    /// Compiled for the sponsor as the fee payer, unsigned; none where it is too large.
    fn compiled(&self, instructions: &[Instruction]) -> Option<Vec<u8>> {
        let (sponsor, hash) = (cast().sponsor, Hash::new_from_array([7; 32]));
        let message = if self.is_legacy {
            VersionedMessage::Legacy(legacy::Message::new_with_blockhash(instructions, Some(&sponsor), &hash))
        } else {
            VersionedMessage::V0(v0::Message::try_compile(&sponsor, instructions, &[], hash).ok()?)
        };
        let signers = usize::from(message.header().num_required_signatures);
        to_bytes(&VersionedTransaction { signatures: vec![Signature::default(); signers], message }).ok()
    }

    fn request(&self, transaction: &VersionedTransaction) -> ExactRequest {
        ExactRequest {
            x402_version: self.version,
            accepted: (self.terms.scheme.clone(), self.terms.network.clone()),
            transaction: STANDARD.encode(to_bytes(transaction).expect("as long as before")),
            terms: self.terms.clone(),
            settlement_id: None,
        }
    }
}

/// Signs with every key that the adversary has, wherever it has a place.
fn sign(transaction: &mut VersionedTransaction) {
    let message = transaction.message.serialize();
    let keys = transaction.message.static_account_keys().to_vec();
    for (key, signature) in keys.iter().zip(&mut transaction.signatures) {
        let own = [&cast().client, &cast().other].into_iter().find(|own| own.pubkey() == *key);
        *signature = own.map_or(*signature, |own| own.sign_message(&message));
    }
}

/// The first byte says what is asked for, the second what the adversary does: lay a good payment out anew, change its bytes, write
/// a transaction of its own, ask for something else, or offer a mint.
pub(crate) fn payments(data: &[u8]) {
    let mut input = Input(data);
    let (kind, way) = (input.byte(), input.byte());
    let mut scene = Scene::new(kind);
    if way % 8 == 7 {
        return mint(way & 8 != 0, &mut input);
    }
    let mut instructions = scene.good();
    let mut is_good = true;
    if way % 8 < 3 {
        let changes = input.below(5);
        (0..changes).for_each(|_| scene.change(&mut instructions, &mut input));
        is_good = changes == 0;
    }
    if way % 8 == 3 {
        is_good = !asks_for_something_else(&mut scene.terms, &mut input);
    }
    let Some(compiled) = scene.compiled(&instructions) else { return };
    let bytes = match way % 8 {
        2 | 4 => edited(&compiled, &mut input),
        5 => input.rest().to_vec(),
        _ => compiled.clone(),
    };
    let Ok(mut transaction) = from_bytes(&bytes) else { return };
    if way & 8 == 0 {
        sign(&mut transaction);
    }
    let request = scene.request(&transaction);
    let caps = Caps { sponsor: cast().sponsor, max_compute_units: MAX_UNITS, max_compute_price: MAX_PRICE };
    match check(&request, &caps) {
        Ok(payment) => {
            assert_eq!(payment.transaction(), &transaction, "what was looked at is what is signed");
            sponsor_pays_fees_alone(&transaction);
            pays_what_was_asked(&payment, &transaction.message, &request.terms);
            is_one_payment(&payment, &scene, transaction, &caps);
        }
        Err(denied) => {
            assert!(denied.fault.name(scene.version).is_ascii() && denied.fault.advice().ends_with('.'));
            let unsigned = way & 8 != 0;
            assert!(unsigned || !is_good || bytes != compiled, "a good payment is taken: {:?}", denied.fault);
        }
    }
}

/// Another amount, asset, payee, sponsor, memo or scheme; whether anything is another now.
fn asks_for_something_else(terms: &mut ExactTerms, input: &mut Input<'_>) -> bool {
    let before = terms.clone();
    let which = input.below(6);
    let text = String::from_utf8_lossy(input.0).into_owned();
    match which {
        0 => terms.amount = text,
        1 => terms.asset = text,
        2 => terms.pay_to = text,
        3 => terms.fee_payer = Some(text),
        4 => terms.memo = Some(text),
        _ => terms.scheme = text,
    }
    *terms != before
}

/// The sponsor pays for two signatures and for compute within the caps, and stands nowhere else.
fn sponsor_pays_fees_alone(transaction: &VersionedTransaction) {
    let message = &transaction.message;
    let keys = message.static_account_keys();
    assert!(!matches!(message, VersionedMessage::V1(_)), "its compute limits would be out of sight");
    assert!(message.address_table_lookups().is_none_or(|tables| tables.is_empty()), "static accounts only");
    assert_eq!(keys.first(), Some(&cast().sponsor));
    assert_eq!(transaction.signatures.len(), 2, "client and sponsor sign, and nobody else");
    assert!(transaction.signatures[1].verify(keys[1].as_ref(), &message.serialize()), "the client has signed this");
    let named = message.instructions().iter().flat_map(|one| one.accounts.iter().chain([&one.program_id_index]));
    let sponsor = cast().sponsor;
    assert!(named.into_iter().all(|at| keys[usize::from(*at)] != sponsor), "the sponsor is in no instruction");

    let budget: Vec<(usize, &[u8])> = (0..)
        .zip(message.instructions())
        .filter(|(_, one)| keys[usize::from(one.program_id_index)] == COMPUTE_BUDGET_PROGRAM)
        .map(|(at, one)| (at, one.data.as_slice()))
        .collect();
    let [(0, [2, units @ ..]), (1, [3, price @ ..])] = budget.as_slice() else { panic!("a limit, then a price") };
    assert!(u32::from_le_bytes(units.try_into().expect("a limit of 4 bytes")) <= MAX_UNITS);
    assert!(u64::from_le_bytes(price.try_into().expect("a price of 8 bytes")) <= MAX_PRICE);
}

/// One transfer of what was asked for to whom it was asked for, with memos and assertions behind it, and nothing else.
fn pays_what_was_asked(payment: &Payment, message: &VersionedMessage, terms: &ExactTerms) {
    let keys = message.static_account_keys();
    let programs: Vec<Address> =
        message.instructions().iter().map(|one| keys[usize::from(one.program_id_index)]).collect();
    let token_program = programs[2];
    assert!([TOKEN_PROGRAM, TOKEN_2022_PROGRAM].contains(&token_program));
    assert!(programs[3..].iter().all(|program| [MEMO_PROGRAM, LIGHTHOUSE].contains(program)), "{programs:?}");

    let transfer = &message.instructions()[2];
    let accounts: Vec<Address> = transfer.accounts.iter().map(|at| keys[usize::from(*at)]).collect();
    let [source, mint, destination, owner] = accounts.as_slice() else { panic!("four accounts") };
    let [12, amount @ .., _] = transfer.data.as_slice() else { panic!("a TransferChecked") };
    let amount = u64::from_le_bytes(amount.try_into().expect("an amount of 8 bytes"));
    // The number itself as text, so that there is one way to ask for it.
    assert_eq!((amount.to_string(), mint.to_string()), (terms.amount.clone(), terms.asset.clone()));
    let pay_to: Address = terms.pay_to.parse().expect("a payee that was paid");
    assert_eq!(*destination, account_of(&pay_to, mint, &token_program));
    assert_eq!(*owner, keys[1], "the client, who has signed, is whose tokens are moved");
    assert_ne!(*source, account_of(&cast().sponsor, mint, &token_program), "the sponsor's own tokens stay");

    let memos: Vec<&[u8]> = (message.instructions().iter().zip(&programs))
        .filter(|(_, program)| **program == MEMO_PROGRAM)
        .map(|(memo, _)| memo.data.as_slice())
        .collect();
    assert!(terms.memo.as_ref().is_none_or(|memo| memos == [memo.as_bytes()]), "what was asked for, and once");

    assert_eq!((payment.payer(), payment.pay_to(), payment.mint()), (owner, &pay_to, mint));
    assert_eq!((payment.amount().get(), payment.has_extensions()), (amount, token_program == TOKEN_2022_PROGRAM));
    assert_eq!(*payment.message_hash(), Sha2::sha256(&[&message.serialize()]));
}

/// Whatever stands in the sponsor's place, it is the same payment; and nobody else's signature passes for the client's.
fn is_one_payment(payment: &Payment, scene: &Scene, mut transaction: VersionedTransaction, caps: &Caps) {
    transaction.signatures[0] = Signature::from([9; 64]);
    let again = check(&scene.request(&transaction), caps).expect("the sponsor's place is not looked at");
    assert_eq!(again.message_hash(), payment.message_hash());
    transaction.signatures.swap(0, 1);
    let forged = check(&scene.request(&transaction), caps).map_err(|denied| denied.fault);
    assert_eq!(forged.err(), Some(Fault::SignatureInvalid));
}

/// A mint of Token-2022 that passes takes nothing from transfers and lets nobody decide on them.
fn mint(is_raw: bool, input: &mut Input<'_>) {
    let data = if is_raw { input.0.to_vec() } else { laid_out(input) };
    if check_mint(&data).is_err() {
        return;
    }
    let Some((kind, mut rest)) = data.get(165..).and_then(<[u8]>::split_first) else { return };
    assert_eq!(*kind, 1, "a mint, and no token account");
    // As Token-2022 reads it: number, length, value, until a number is 0 or nothing follows.
    while let [low, high, after @ ..] = rest {
        let number = u16::from_le_bytes([*low, *high]);
        if number == 0 {
            break;
        }
        let [low, high, after @ ..] = after else { panic!("an extension without a length was not refused") };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        assert!(length <= after.len(), "an extension that is cut off was not refused");
        let (value, after) = after.split_at(length);
        if number == TRANSFER_FEE {
            let rates = [&value[88..90], &value[106..108]];
            assert_eq!(rates, [&[0, 0]; 2], "a fee now, and one of a later epoch");
        }
        if number == TRANSFER_HOOK {
            assert_eq!(value[32..64], [0; 32], "a program that decides on transfers");
        }
        rest = after;
    }
}

/// A mint with the extensions that the input names, changed in places.
fn laid_out(input: &mut Input<'_>) -> Vec<u8> {
    let mut data = vec![0; 165];
    data.push(1);
    for _ in 0..input.below(5) {
        let (number, length) = match input.below(4) {
            0 => (TRANSFER_FEE, 108),
            1 => (TRANSFER_HOOK, 64),
            _ => (u16::from(input.byte()), input.below(80)),
        };
        data.extend(number.to_le_bytes());
        data.extend([length, 0]);
        data.extend(vec![0; usize::from(length)]);
    }
    edited(&data, input)
}
