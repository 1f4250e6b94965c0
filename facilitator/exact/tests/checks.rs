//! Every refusal of a client's transaction, in the reference's order, and every trick that a sponsor must not fall for.

#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test says what it expects, and counts"
)]

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use solana_address::{Address, address};
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{AddressLookupTableAccount, VersionedMessage, legacy, v0};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::address::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM, associated_token_account};
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price, create_token_account, memo, to_bytes};
use tallybook_exact::{Caps, Denied, Fault, Payment, check};
use tallybook_rules::Amount;
use tallybook_wire::ExactRequest;

const LIGHTHOUSE: Address = address!("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95");
const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const NONCE: &str = "00112233445566778899aabbccddeeff";
const PRICE: u64 = 1_000;

/// A client, a sponsor and a payee, and a payment that is good until something in it is changed.
struct Scene {
    client: Keypair,
    sponsor: Keypair,
    pay_to: Address,
    mint: Address,
    token_program: Address,
    instructions: Vec<Instruction>,
    version: u64,
    legacy: bool,
}

impl Scene {
    fn new() -> Self {
        Self::with_token(TOKEN_PROGRAM)
    }

    fn with_token(token_program: Address) -> Self {
        let (client, sponsor) = (Keypair::new(), Keypair::new());
        let (pay_to, mint) = (Keypair::new().pubkey(), Keypair::new().pubkey());
        let mut scene =
            Self { client, sponsor, pay_to, mint, token_program, instructions: Vec::new(), version: 2, legacy: false };
        let transfer = scene.transfer(PRICE);
        scene.instructions = vec![compute_unit_limit(20_000), compute_unit_price(1), transfer, memo(NONCE)];
        scene
    }

    fn account_of(&self, owner: &Address) -> Address {
        associated_token_account(owner, &self.mint, &self.token_program)
    }

    fn transfer(&self, amount: u64) -> Instruction {
        let client = self.client.pubkey();
        Instruction {
            program_id: self.token_program,
            accounts: vec![
                AccountMeta::new(self.account_of(&client), false),
                AccountMeta::new_readonly(self.mint, false),
                AccountMeta::new(self.account_of(&self.pay_to), false),
                AccountMeta::new_readonly(client, true),
            ],
            data: [&[12][..], &amount.to_le_bytes(), &[6]].concat(),
        }
    }

    fn message(&self) -> VersionedMessage {
        let (payer, hash) = (self.sponsor.pubkey(), Hash::new_from_array([7; 32]));
        if self.legacy {
            let message = legacy::Message::new_with_blockhash(&self.instructions, Some(&payer), &hash);
            return VersionedMessage::Legacy(message);
        }
        VersionedMessage::V0(v0::Message::try_compile(&payer, &self.instructions, &[], hash).unwrap())
    }

    /// Signed by all of `signers` that have to, the sponsor's place left empty.
    fn signed(message: VersionedMessage, signers: &[&Keypair]) -> VersionedTransaction {
        let bytes = message.serialize();
        let needed = usize::from(message.header().num_required_signatures);
        let sign = |key: &Address| {
            let signer = signers.iter().find(|signer| signer.pubkey() == *key);
            signer.map_or_else(Signature::default, |signer| signer.sign_message(&bytes))
        };
        let signatures = message.static_account_keys().iter().take(needed).map(sign).collect();
        VersionedTransaction { signatures, message }
    }

    fn transaction(&self) -> VersionedTransaction {
        Self::signed(self.message(), &[&self.client])
    }

    fn body(&self, transaction: &str) -> Value {
        let extra = json!({ "feePayer": self.sponsor.pubkey().to_string() });
        let (network, amount) =
            if self.version == 1 { ("solana-devnet", "maxAmountRequired") } else { (NETWORK, "amount") };
        let mut terms = json!({
            "scheme": "exact", "network": network, "asset": self.mint.to_string(), "payTo": self.pay_to.to_string(),
            "maxTimeoutSeconds": 60, "extra": extra,
        });
        terms[amount] = json!(PRICE.to_string());
        let payload = json!({ "transaction": transaction });
        let payment = if self.version == 1 {
            json!({ "x402Version": 1, "scheme": "exact", "network": network, "payload": payload })
        } else {
            json!({ "x402Version": 2, "accepted": terms, "payload": payload })
        };
        json!({ "x402Version": self.version, "paymentPayload": payment, "paymentRequirements": terms })
    }

    fn caps(&self) -> Caps {
        Caps { sponsor: self.sponsor.pubkey(), max_compute_units: 200_000, max_compute_price: 50_000 }
    }

    fn check_body(&self, body: &Value) -> Result<Payment, Denied> {
        check(&ExactRequest::read(body.to_string().as_bytes()).unwrap(), &self.caps())
    }

    fn check(&self, transaction: &VersionedTransaction) -> Result<Payment, Denied> {
        self.check_body(&self.body(&STANDARD.encode(to_bytes(transaction).unwrap())))
    }

    fn fault(&self) -> Option<Fault> {
        self.check(&self.transaction()).err().map(|denied| denied.fault)
    }
}

/// What is wrong with a payment after `change`.
fn fault_of(change: impl FnOnce(&mut Scene)) -> Option<Fault> {
    let mut scene = Scene::new();
    change(&mut scene);
    scene.fault()
}

#[test]
fn given_payments_as_clients_make_them_when_checked_then_they_hold_and_say_what_they_do() {
    for (token_program, version, legacy) in [
        (TOKEN_PROGRAM, 2, false),
        (TOKEN_2022_PROGRAM, 2, true),
        (TOKEN_PROGRAM, 1, false),
        (TOKEN_2022_PROGRAM, 1, true),
    ] {
        let mut scene = Scene::with_token(token_program);
        (scene.version, scene.legacy) = (version, legacy);
        let payment = scene.check(&scene.transaction()).unwrap();
        assert_eq!((payment.payer(), payment.pay_to()), (&scene.client.pubkey(), &scene.pay_to));
        assert_eq!((payment.mint(), payment.amount()), (&scene.mint, Amount::new(PRICE)));
        assert_eq!(payment.has_extensions(), token_program == TOKEN_2022_PROGRAM);
    }
    // Without a memo, as the first clients sent them; with what wallets add; and where the payee is the sponsor itself.
    let lighthouse = Instruction { program_id: LIGHTHOUSE, accounts: Vec::new(), data: vec![1] };
    assert_eq!(fault_of(|scene| drop(scene.instructions.pop())), None);
    assert_eq!(fault_of(|scene| scene.instructions.splice(3..3, vec![lighthouse; 3]).for_each(drop)), None);
    let merchant = |scene: &mut Scene| {
        scene.pay_to = scene.sponsor.pubkey();
        scene.instructions[2] = scene.transfer(PRICE);
    };
    assert_eq!(fault_of(merchant), None);
}

#[test]
fn given_a_request_that_does_not_fit_when_checked_then_it_is_refused_by_the_name_of_its_version() {
    for version in [2, 1] {
        let mut scene = Scene::new();
        scene.version = version;
        let transaction = STANDARD.encode(to_bytes(&scene.transaction()).unwrap());
        let accepted = if version == 1 { "/paymentPayload" } else { "/paymentPayload/accepted" };
        let amount = if version == 1 { "maxAmountRequired" } else { "amount" };
        let (scheme, network) = (format!("{accepted}/scheme"), format!("{accepted}/network"));
        let (amount, stranger) = (format!("/paymentRequirements/{amount}"), Keypair::new().pubkey().to_string());
        let cases = [
            (scheme.as_str(), json!("upto"), ["unsupported_scheme", "invalid_exact_svm_unsupported_scheme"]),
            (&network, json!("solana:other"), ["network_mismatch", "invalid_exact_svm_network_mismatch"]),
            ("/paymentRequirements/extra", json!(null), ["invalid_exact_svm_payload_missing_fee_payer"; 2]),
            ("/paymentRequirements/extra/feePayer", json!(5), ["invalid_exact_svm_payload_missing_fee_payer"; 2]),
            (
                "/paymentRequirements/extra/feePayer",
                json!(stranger),
                ["fee_payer_not_managed_by_facilitator", "invalid_exact_svm_fee_payer_not_managed_by_facilitator"],
            ),
            (&amount, json!("01000"), ["invalid_payment_requirements"; 2]),
            (&amount, json!("+1000"), ["invalid_payment_requirements"; 2]),
            (&amount, json!(" 1000 "), ["invalid_payment_requirements"; 2]),
            (&amount, json!("1_000"), ["invalid_payment_requirements"; 2]),
            (&amount, json!("999"), ["invalid_exact_svm_payload_amount_mismatch"; 2]),
            (&amount, json!("1001"), ["invalid_exact_svm_payload_amount_mismatch"; 2]),
            ("/paymentRequirements/asset", json!("no address"), ["invalid_exact_svm_payload_mint_mismatch"; 2]),
            ("/paymentRequirements/asset", json!(stranger), ["invalid_exact_svm_payload_mint_mismatch"; 2]),
            ("/paymentRequirements/payTo", json!("no address"), ["invalid_exact_svm_payload_recipient_mismatch"; 2]),
            ("/paymentRequirements/payTo", json!(stranger), ["invalid_exact_svm_payload_recipient_mismatch"; 2]),
            (
                "/paymentPayload/payload/transaction",
                json!("not base64!"),
                ["invalid_exact_svm_payload_transaction_could_not_be_decoded"; 2],
            ),
            (
                "/paymentPayload/payload/transaction",
                json!("A".repeat(60_000)),
                ["invalid_exact_svm_payload_transaction_could_not_be_decoded"; 2],
            ),
        ];
        for (pointer, value, names) in cases {
            let mut body = scene.body(&transaction);
            *body.pointer_mut(pointer).unwrap() = value;
            let denied = scene.check_body(&body).unwrap_err();
            assert_eq!(denied.fault.name(version), names[usize::from(version == 2)], "{pointer}");
            assert!(denied.fault.advice().ends_with('.'));
        }
    }
}

#[test]
fn given_bytes_that_are_no_transaction_of_the_one_encoding_when_checked_then_they_are_not_decoded() {
    let scene = Scene::new();
    let good = to_bytes(&scene.transaction()).unwrap();
    let mut trailing = good.clone();
    trailing.push(0);
    let oversize = [good.clone(), vec![0; 1_233 - good.len()]].concat();
    for bytes in [Vec::new(), good[..good.len() - 1].to_vec(), trailing, oversize] {
        let denied = scene.check_body(&scene.body(&STANDARD.encode(bytes))).unwrap_err();
        assert_eq!(denied.fault, Fault::Undecodable);
    }
}

#[test]
fn given_signatures_that_do_not_hold_when_checked_then_nothing_that_is_unsigned_passes() {
    let scene = Scene::new();
    let unsigned = Scene::signed(scene.message(), &[]);
    assert_eq!(scene.check(&unsigned).unwrap_err().fault, Fault::SignatureInvalid);
    let mut other = scene.transaction();
    other.signatures[1] = Scene::signed(scene.message(), &[&scene.client]).signatures[1];
    assert!(scene.check(&other).is_ok());
    let mut changed = Scene::new();
    changed.instructions[3] = memo("another memo than was signed");
    let spliced = VersionedTransaction { signatures: scene.transaction().signatures, message: changed.message() };
    assert_eq!(changed.check(&spliced).unwrap_err().fault, Fault::SignatureInvalid);
    // Only the sponsor signs: its own tokens, or those of somebody who has not.
    let alone = |scene: &mut Scene| scene.instructions[2].accounts[3].is_signer = false;
    assert_eq!(fault_of(alone), Some(Fault::SignatureInvalid));
    // Somebody signs, and somebody else's tokens are moved.
    let someone_elses = |scene: &mut Scene| {
        let (bystander, victim) = (scene.client.pubkey(), Keypair::new().pubkey());
        scene.instructions[2].accounts[3] = AccountMeta::new_readonly(victim, false);
        scene.instructions[3].accounts.push(AccountMeta::new_readonly(bystander, true));
    };
    assert_eq!(fault_of(someone_elses), Some(Fault::SignatureInvalid));
}

#[test]
fn given_a_place_for_the_sponsors_signature_that_is_filled_when_checked_then_it_is_the_same_payment() {
    let scene = Scene::new();
    let first = scene.check(&scene.transaction()).unwrap();
    for forged in [[1; 64], [255; 64]] {
        let mut mutated = scene.transaction();
        mutated.signatures[0] = Signature::from(forged);
        assert_eq!(scene.check(&mutated).unwrap().message_hash(), first.message_hash());
    }
    let mut other = Scene::new();
    other.instructions[3] = memo("ffeeddccbbaa99887766554433221100");
    assert_ne!(other.check(&other.transaction()).unwrap().message_hash(), first.message_hash());
}

#[test]
fn given_another_signer_or_fee_payer_when_checked_then_the_sponsor_signs_for_client_and_itself_alone() {
    let (mut scene, third) = (Scene::new(), Keypair::new());
    scene.instructions[3].accounts.push(AccountMeta::new_readonly(third.pubkey(), true));
    let signed = Scene::signed(scene.message(), &[&scene.client, &third]);
    assert_eq!(scene.check(&signed).unwrap_err().fault, Fault::ExcessiveSigners);
    // The client pays its own fee.
    let mut scene = Scene::new();
    let sponsor = std::mem::replace(&mut scene.sponsor, scene.client.insecure_clone());
    let own = scene.transaction();
    scene.sponsor = sponsor;
    assert_eq!(scene.check(&own).unwrap_err().fault, Fault::FeePayerMismatch);
}

#[test]
fn given_lookup_tables_when_checked_then_no_account_stays_out_of_sight() {
    let mut scene = Scene::new();
    // The sponsor hides in a table: as an account of an instruction, behind an index.
    let hidden = scene.account_of(&scene.pay_to);
    let table =
        AddressLookupTableAccount { key: Keypair::new().pubkey(), addresses: vec![hidden, scene.sponsor.pubkey()] };
    let compile = |scene: &Scene| {
        let hash = Hash::new_from_array([7; 32]);
        let message =
            v0::Message::try_compile(&scene.sponsor.pubkey(), &scene.instructions, std::slice::from_ref(&table), hash);
        Scene::signed(VersionedMessage::V0(message.unwrap()), &[&scene.client])
    };
    assert_eq!(scene.check(&compile(&scene)).unwrap_err().fault, Fault::LookupTables);
    scene.version = 1;
    let fault = scene.check(&compile(&scene)).unwrap_err().fault;
    assert_eq!(fault.name(1), "invalid_exact_svm_payload_transaction_could_not_be_decoded");
    assert_eq!(fault.name(2), "invalid_exact_svm_smart_wallet_alt_resolution_not_available");
}

#[test]
fn given_more_or_fewer_instructions_when_checked_then_their_number_is_held_in_each_version() {
    assert_eq!(fault_of(|scene| drop(scene.instructions.drain(..2))), Some(Fault::InstructionsLength));
    let memos = |version, memos| {
        fault_of(|scene| {
            scene.version = version;
            scene.instructions.truncate(3);
            scene.instructions.extend((0..memos).map(|number| memo(&format!("{number}"))));
        })
    };
    assert_eq!((memos(2, 4), memos(2, 5)), (None, Some(Fault::InstructionsLength)));
    assert_eq!((memos(1, 3), memos(1, 4)), (None, Some(Fault::InstructionsLength)));
}

#[test]
fn given_compute_that_costs_more_than_is_paid_for_when_checked_then_no_layout_hides_it() {
    let of = |at: usize, with: Instruction| fault_of(|scene| scene.instructions[at] = with);
    assert_eq!(of(0, compute_unit_limit(200_000)), None);
    assert_eq!(of(0, compute_unit_limit(200_001)), Some(Fault::ComputeLimitTooHigh));
    assert_eq!(of(1, compute_unit_price(50_000)), None);
    assert_eq!(of(1, compute_unit_price(50_001)), Some(Fault::ComputePriceTooHigh));
    // Beyond 53 and 63 bits, where a price that is read as a float or signed looks small.
    for price in [1 << 53, u64::MAX, 1 << 63] {
        assert_eq!(of(1, compute_unit_price(price)), Some(Fault::ComputePriceTooHigh));
    }
    let raw = |at: usize, data: &[u8]| fault_of(|scene| scene.instructions[at].data = data.to_vec());
    // Shorter, so that it would be read as less; longer, so that the runtime might read it otherwise.
    assert_eq!(raw(1, &[3, 1, 0, 0, 0]), Some(Fault::ComputePrice));
    assert_eq!(raw(1, &[3, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Some(Fault::ComputePrice));
    assert_eq!(raw(0, &[2, 1, 0]), Some(Fault::ComputeLimit));
    assert_eq!(raw(0, &[]), Some(Fault::ComputeLimit));
    // The two the other way round, another compute budget instruction, and a price that comes a second time.
    assert_eq!(fault_of(|scene| scene.instructions.swap(0, 1)), Some(Fault::ComputeLimit));
    assert_eq!(raw(0, &[1, 0, 0, 4, 0]), Some(Fault::ComputeLimit));
    let again = |scene: &mut Scene| scene.instructions.push(compute_unit_price(u64::MAX));
    assert_eq!(fault_of(again), Some(Fault::UnknownInstruction(5)));
    assert_eq!(fault_of(|scene| scene.instructions[1] = memo(NONCE)), Some(Fault::ComputePrice));
}

#[test]
fn given_something_else_than_the_transfer_when_checked_then_it_is_none() {
    let spoiled = |spoil: &dyn Fn(&mut Instruction)| fault_of(|scene| spoil(&mut scene.instructions[2]));
    // `Transfer` names no mint; `Approve` makes a delegate; `CloseAccount` and `Burn` pay nobody.
    for number in [3, 4, 9, 8, 13, 15] {
        assert_eq!(spoiled(&|transfer| transfer.data[0] = number), Some(Fault::NoTransfer), "{number}");
    }
    assert_eq!(spoiled(&|transfer| transfer.data.truncate(9)), Some(Fault::NoTransfer));
    assert_eq!(spoiled(&|transfer| transfer.data.push(0)), Some(Fault::NoTransfer));
    let without_source = |transfer: &mut Instruction| {
        transfer.accounts.remove(0);
    };
    assert_eq!(spoiled(&without_source), Some(Fault::NoTransfer));
    let hook = AccountMeta::new_readonly(Address::from([9; 32]), false);
    assert_eq!(spoiled(&|transfer| transfer.accounts.push(hook.clone())), Some(Fault::NoTransfer));
    assert_eq!(spoiled(&|transfer| transfer.program_id = Address::from([8; 32])), Some(Fault::NoTransfer));
    // The account is not made here: that would lock up rent, which whoever owns the account can take.
    let created = |scene: &mut Scene| {
        let client = scene.client.pubkey();
        let create = create_token_account(&client, &scene.pay_to, &scene.mint, &scene.token_program);
        scene.instructions.insert(2, create);
    };
    assert_eq!(fault_of(created), Some(Fault::NoTransfer));
}

#[test]
fn given_a_transfer_of_something_else_when_checked_then_mint_payee_and_amount_are_held() {
    let stranger = Keypair::new().pubkey();
    let account = |at: usize, account: Address| fault_of(|scene| scene.instructions[2].accounts[at].pubkey = account);
    assert_eq!(account(1, stranger), Some(Fault::MintMismatch));
    assert_eq!(account(2, stranger), Some(Fault::RecipientMismatch));
    // An account of the payee, but of the other token program.
    let other_program = |scene: &mut Scene| {
        let theirs = associated_token_account(&scene.pay_to, &scene.mint, &TOKEN_2022_PROGRAM);
        scene.instructions[2].accounts[2].pubkey = theirs;
    };
    assert_eq!(fault_of(other_program), Some(Fault::RecipientMismatch));
    // The payee itself instead of its account, and the client's own account.
    let payee_itself = |scene: &mut Scene| scene.instructions[2].accounts[2].pubkey = scene.pay_to;
    assert_eq!(fault_of(payee_itself), Some(Fault::RecipientMismatch));
    for amount in [0, PRICE - 1, PRICE + 1, u64::MAX] {
        let paid = |scene: &mut Scene| scene.instructions[2] = scene.transfer(amount);
        assert_eq!(fault_of(paid), Some(Fault::AmountMismatch), "{amount}");
    }
}

#[test]
fn given_the_sponsor_in_any_instruction_when_checked_then_it_is_kept_out_of_all() {
    // As authority, with its own account as the source.
    let (mut scene, client) = (Scene::new(), Keypair::new());
    let sponsor = scene.sponsor.pubkey();
    scene.instructions[2].accounts[0].pubkey = scene.account_of(&sponsor);
    scene.instructions[2].accounts[3].pubkey = sponsor;
    scene.instructions[3].accounts.push(AccountMeta::new_readonly(client.pubkey(), true));
    let signed = Scene::signed(scene.message(), &[&client]);
    assert_eq!(scene.check(&signed).unwrap_err().fault, Fault::FeePayerTransferring);
    // Its account as the source of somebody whom it might have made a delegate, and itself as the source.
    let its_account = |scene: &mut Scene| {
        scene.instructions[2].accounts[0].pubkey = scene.account_of(&scene.sponsor.pubkey());
    };
    assert_eq!(fault_of(its_account), Some(Fault::FeePayerTransferring));
    let itself = |scene: &mut Scene| scene.instructions[2].accounts[0].pubkey = scene.sponsor.pubkey();
    assert_eq!(fault_of(itself), Some(Fault::FeePayerTransferring));
    // Named beside: by a memo, which then has it sign for the text, or by an assertion; signing or not; as a program.
    for signs in [true, false] {
        let in_memo = |scene: &mut Scene| {
            let named = AccountMeta { pubkey: scene.sponsor.pubkey(), is_signer: signs, is_writable: false };
            scene.instructions[3].accounts.push(named);
        };
        assert_eq!(fault_of(in_memo), Some(Fault::FeePayerInAccounts));
        let asserted = |scene: &mut Scene| {
            let named = AccountMeta { pubkey: scene.sponsor.pubkey(), is_signer: signs, is_writable: true };
            scene.instructions.push(Instruction { program_id: LIGHTHOUSE, accounts: vec![named], data: vec![1] });
        };
        assert_eq!(fault_of(asserted), Some(Fault::FeePayerInAccounts));
    }
}

#[test]
fn given_something_behind_the_transfer_when_checked_then_only_assertions_and_memos_pass_by_their_place() {
    let second = |scene: &mut Scene| scene.instructions.push(scene.transfer(PRICE));
    assert_eq!(fault_of(second), Some(Fault::UnknownInstruction(5)));
    let at = |place: usize| {
        fault_of(|scene| {
            scene.instructions.truncate(3);
            scene.instructions.extend((4..place).map(|_| memo("before")));
            let system = Instruction { program_id: Address::default(), accounts: Vec::new(), data: vec![2] };
            scene.instructions.push(system);
        })
    };
    let names = [4, 5, 6, 7].map(|place| at(place).unwrap().name(2).rsplit("unknown_").next().unwrap());
    let ordinals = ["fourth", "fifth", "sixth", "seventh"].map(|ordinal| format!("{ordinal}_instruction"));
    assert_eq!(names, ordinals.each_ref().map(String::as_str));
    let lighthouse = Instruction { program_id: LIGHTHOUSE, accounts: Vec::new(), data: vec![1] };
    let four = |scene: &mut Scene| scene.instructions.splice(3.., vec![lighthouse; 4]).for_each(drop);
    assert_eq!(fault_of(four), Some(Fault::UnknownInstruction(7)));
}

#[test]
fn given_a_memo_that_was_asked_for_when_checked_then_there_is_exactly_that_one() {
    let paid = |memos: &[&str]| {
        let mut scene = Scene::new();
        scene.instructions.truncate(3);
        scene.instructions.extend(memos.iter().map(|text| memo(text)));
        let mut body = scene.body(&STANDARD.encode(to_bytes(&scene.transaction()).unwrap()));
        body["paymentRequirements"]["extra"]["memo"] = json!("invoice-7 ✓");
        scene.check_body(&body).err().map(|denied| denied.fault)
    };
    assert_eq!(paid(&["invoice-7 ✓"]), None);
    assert_eq!(paid(&[]), Some(Fault::MemoCount));
    assert_eq!(paid(&["invoice-7 ✓", "invoice-7 ✓"]), Some(Fault::MemoCount));
    assert_eq!(paid(&["invoice-7 ✓", NONCE]), Some(Fault::MemoCount));
    assert_eq!(paid(&["invoice-7"]), Some(Fault::MemoMismatch));
    assert_eq!(paid(&["invoice-8 ✓"]), Some(Fault::MemoMismatch));
}

#[test]
fn given_several_faults_when_checked_then_the_reference_s_first_is_named() {
    let mut scene = Scene::new();
    scene.instructions = vec![
        compute_unit_limit(1_400_000),
        compute_unit_price(u64::MAX),
        scene.transfer(PRICE - 1),
        scene.transfer(PRICE),
        memo("another"),
    ];
    let mut body = scene.body("");
    body["paymentRequirements"]["extra"]["memo"] = json!("invoice");
    let mut met = Vec::new();
    // Mended one after the other, each fault uncovers the next.
    let mends: [&dyn Fn(&mut Scene); 6] = [
        &|scene| scene.instructions[0] = compute_unit_limit(1),
        &|scene| scene.instructions[1] = compute_unit_price(1),
        &|scene| scene.instructions[2] = scene.transfer(PRICE),
        &|scene| drop(scene.instructions.remove(3)),
        &|scene| scene.instructions[3] = memo("invoice"),
        &|_| {},
    ];
    for mend in mends {
        body["paymentPayload"]["payload"]["transaction"] =
            json!(STANDARD.encode(to_bytes(&scene.transaction()).unwrap()));
        met.push(scene.check_body(&body).err().map(|denied| denied.fault));
        mend(&mut scene);
    }
    let expected = [
        Some(Fault::ComputeLimitTooHigh),
        Some(Fault::ComputePriceTooHigh),
        Some(Fault::AmountMismatch),
        Some(Fault::UnknownInstruction(4)),
        Some(Fault::MemoMismatch),
        None,
    ];
    assert_eq!(met, expected);
}
