//! Of several reasons the first is named: for each instruction, in the order of the table in section 5 of the
//! specification. Every two reasons that can apply together are brought about together.

use crate::claim_below::Below;
use crate::vouchers::Batch;
use crate::world::{Channel, GRACE_SECONDS, Setup, TALLYBOOK, World, assert_rejected, custom_error, key, no_point};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::book as book_address;
use tallybook_chain::instruction::{Addition, NewBook, NewChannel, RefundRow, Split};
use tallybook_rules::Rejection;

/// An instruction that would go through, in a world where it would.
struct Case {
    world: World,
    instruction: Instruction,
    signers: Vec<Keypair>,
}

/// Something that is wrong. Of two at the same place the later would undo the earlier.
struct Fault {
    place: &'static str,
    reason: Rejection,
    bring: fn(&mut Case),
}

const fn fault(place: &'static str, reason: Rejection, bring: fn(&mut Case)) -> Fault {
    Fault { place, reason, bring }
}

/// Brings about each reason alone and with each later one, and expects the earlier. `ready` makes the case anew.
fn assert_precedence(ready: fn() -> Case, faults: &[Fault]) {
    let refused = |brought: &[&Fault]| {
        let mut case = ready();
        brought.iter().for_each(|fault| (fault.bring)(&mut case));
        let signers: Vec<_> = case.signers.iter().collect();
        case.world.send(&[case.instruction], &signers)
    };
    let Case { mut world, instruction, signers } = ready();
    world.send(&[instruction], &signers.iter().collect::<Vec<_>>()).expect("nothing is wrong");
    for (at, first) in faults.iter().enumerate() {
        assert_rejected(refused(&[first]), first.reason);
        for second in faults[at + 1..].iter().filter(|second| second.place != first.place) {
            let number = custom_error(refused(&[first, second]));
            let expected = Rejection::ANCHOR_OFFSET + u32::from(first.reason.code());
            assert_eq!(number, expected, "{:?} with {:?}", first.reason, second.reason);
        }
    }
}

impl Case {
    fn new(world: World, instruction: Instruction, signers: &[&Keypair]) -> Self {
        Self { world, instruction, signers: signers.iter().map(|signer| signer.insecure_clone()).collect() }
    }

    /// Puts another account in the place numbered `at`, which need not sign.
    fn put(&mut self, at: usize, address: Address) {
        self.instruction.accounts[at].pubkey = address;
    }

    /// Lets somebody else sign in the place numbered `at`.
    fn sign_by_stranger(&mut self, at: usize) {
        self.instruction.accounts[at].pubkey = key("stranger").pubkey();
        self.signers.push(key("stranger"));
        let accounts = &self.instruction.accounts;
        self.signers.retain(|signer| accounts.iter().any(|a| a.is_signer && a.pubkey == signer.pubkey()));
    }

    /// Writes arguments in place.
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.instruction.data[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn tamper(&mut self, address: Address, at: usize, byte: u8) {
        let mut account = self.world.svm.get_account(&address).unwrap();
        account.data[at] = byte;
        self.world.svm.set_account(address, account).unwrap();
    }

    /// A page of a later layout.
    fn age_page(&mut self) {
        self.tamper(self.world.page, 8 + 190, 2);
    }

    /// A book of a later layout.
    fn age_book(&mut self) {
        self.tamper(self.world.book, 8 + 217, 2);
    }

    /// An idle limit of the book as it may be.
    fn set_idle_limit(&mut self, seconds: u32) {
        let mut account = self.world.svm.get_account(&self.world.book).unwrap();
        account.data[8 + 204..8 + 208].copy_from_slice(&seconds.to_le_bytes());
        self.world.svm.set_account(self.world.book, account).unwrap();
    }

    /// Another book of the same payee and mint in the place numbered `at`.
    fn other_book(&mut self, at: usize) {
        let second = NewBook { book_id: 1, ..self.world.new_book() };
        self.world.send_new_book(&second).unwrap();
        self.put(at, book_address(&PROGRAM_ID, &second.payee, &second.mint, 1).0);
    }
}

const ELSEWHERE: Address = Address::new_from_array([7; 32]);
const DEPOSIT: u64 = 10_000;
const NO_SLOT: u8 = 200;
const NO_GENERATION: [u8; 4] = 9u32.to_le_bytes();

/// A world of four channels, of which the one in slot 1 is closing.
fn lived_in() -> (World, Vec<Channel>) {
    let (mut world, channels) = World::with_channels(4, DEPOSIT);
    world.request_close(&channels[1]).unwrap();
    (world, channels)
}

#[test]
fn given_several_reasons_when_a_book_is_made_then_the_first_is_named() {
    fn ready() -> Case {
        let world = World::bare(&Setup::default());
        let one = Split { recipient: [1; 32], basis_points: 1 };
        let new = NewBook { splits: vec![one], ..world.new_book() };
        Case::new(world, TALLYBOOK.init_book(&new), &[&key("payee")])
    }
    // discriminator, book id, genesis hash, grace, idle, smallest deposit, policy, operator, splits
    assert_precedence(
        ready,
        &[
            fault("grace", Rejection::GraceOutOfRange, |case| case.write(35, &[0; 4])),
            fault("idle", Rejection::IdleOutOfRange, |case| case.write(39, &1u32.to_le_bytes())),
            fault("least", Rejection::MinDepositOutOfRange, |case| case.write(43, &[0; 8])),
            fault("policy", Rejection::UnknownOpenPolicy, |case| case.write(51, &[2])),
            fault("splits", Rejection::BadSplits, |case| case.write(120, &[0; 2])),
            fault("mint", Rejection::WrongMint, |case| case.tamper(case.world.mint, 45, 0)),
        ],
    );
}

#[test]
fn given_several_reasons_when_a_page_is_added_then_the_first_is_named() {
    fn ready() -> Case {
        let mut world = World::bare(&Setup::default());
        let new = world.new_book();
        world.send_new_book(&new).unwrap();
        let instruction = world.add_page_instruction(0, 8);
        Case::new(world, instruction, &[&key("operator")])
    }
    assert_precedence(
        ready,
        &[
            fault("mint", Rejection::WrongMint, |case| case.put(5, ELSEWHERE)),
            fault("token program", Rejection::WrongTokenProgram, |case| case.put(6, ELSEWHERE)),
            fault("capacity", Rejection::CapacityOutOfRange, |case| case.write(5, &[97])),
            fault("version", Rejection::WrongAccount, Case::age_book),
            fault("index", Rejection::WrongPageIndex, |case| {
                case.write(1, &1u32.to_le_bytes());
                case.put(3, tallybook_chain::address::page(&PROGRAM_ID, &case.world.book, 1).0);
            }),
            fault("authority", Rejection::WrongAuthority, |case| case.sign_by_stranger(0)),
            fault("vault", Rejection::WrongVault, |case| case.put(4, ELSEWHERE)),
        ],
    );
}

#[test]
fn given_several_reasons_when_a_channel_is_opened_then_the_first_is_named() {
    fn ready() -> Case {
        let mut world = World::with(Setup { open_policy: 1, ..Setup::default() });
        let (operator, other) = (key("operator"), world.opening(0, DEPOSIT));
        let taken = NewChannel { operator: Some(operator.pubkey()), ..other.0 };
        world.send(&[TALLYBOOK.open(&world.book_view(), &taken)], &[&other.1, &operator]).unwrap();
        let (new, payer, _) = world.opening(2, DEPOSIT);
        let new = NewChannel { operator: Some(operator.pubkey()), ..new };
        let instruction = TALLYBOOK.open(&world.book_view(), &new);
        Case::new(world, instruction, &[&payer, &operator])
    }
    // discriminator, slot, generation, signer, deposit
    assert_precedence(
        ready,
        &[
            fault("mint", Rejection::WrongMint, |case| case.put(6, ELSEWHERE)),
            fault("token program", Rejection::WrongTokenProgram, |case| case.put(7, ELSEWHERE)),
            fault("book", Rejection::WrongBook, |case| case.other_book(2)),
            fault("vault", Rejection::WrongVault, |case| case.put(5, ELSEWHERE)),
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("slot", Rejection::NoSuchSlot, |case| case.write(1, &[NO_SLOT])),
            fault("slot", Rejection::SlotTaken, |case| case.write(1, &[0])),
            fault("generation", Rejection::WrongGeneration, |case| case.write(2, &NO_GENERATION)),
            fault("operator", Rejection::OperatorMustSign, |case| case.sign_by_stranger(1)),
            fault("deposit", Rejection::DepositTooSmall, |case| case.write(38, &[0; 8])),
            fault("deposit", Rejection::DepositTooLarge, |case| case.write(38, &(1u64 << 48).to_le_bytes())),
            fault("signer", Rejection::WeakSigner, |case| case.write(6, &no_point())),
        ],
    );
}

#[test]
fn given_several_reasons_when_a_channel_is_topped_up_then_the_first_is_named() {
    fn ready() -> Case {
        let (mut world, channels) = lived_in();
        let (funder, page) = (&channels[0].payer, world.page);
        let source = world.fund(&funder.pubkey(), 5);
        let addition = Addition { funder: funder.pubkey(), source, page, slot: 0, generation: 1, amount: 5 };
        let instruction = TALLYBOOK.top_up(&world.book_view(), &addition);
        Case::new(world, instruction, &[funder])
    }
    // discriminator, slot, generation, amount
    assert_precedence(
        ready,
        &[
            fault("mint", Rejection::WrongMint, |case| case.put(5, ELSEWHERE)),
            fault("token program", Rejection::WrongTokenProgram, |case| case.put(6, ELSEWHERE)),
            fault("book", Rejection::WrongBook, |case| case.other_book(1)),
            fault("vault", Rejection::WrongVault, |case| case.put(4, ELSEWHERE)),
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("slot", Rejection::NoSuchSlot, |case| case.write(1, &[NO_SLOT])),
            fault("generation", Rejection::WrongGeneration, |case| case.write(2, &NO_GENERATION)),
            fault("slot", Rejection::SlotNotOpen, |case| case.write(1, &[1])),
            fault("amount", Rejection::DepositTooSmall, |case| case.write(6, &[0; 8])),
            fault("amount", Rejection::DepositTooLarge, |case| case.write(6, &[0xff; 8])),
        ],
    );
}

/// A claim of the first two channels of four; slot 6 is free.
fn claim_ready() -> Case {
    let (world, channels) = lived_in();
    let instruction = Batch::of(&[(&channels[0], 500), (&channels[1], 600)]).instruction(&world.page);
    Case::new(world, instruction, &[])
}

#[test]
fn given_several_reasons_when_vouchers_are_claimed_then_the_first_is_named() {
    // discriminator, scalar, rows of 39: slot, cumulative, nonce point
    assert_precedence(
        claim_ready,
        &[
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("length", Rejection::MalformedRows, |case| case.instruction.data.push(0)),
            fault("scalar", Rejection::ScalarNotCanonical, |case| case.write(1, &[0xff; 32])),
            fault("amount", Rejection::SignatureMismatch, |case| case.write(34, &[0xff])),
        ],
    );
    assert_precedence(
        claim_ready,
        &[
            fault("slot", Rejection::NoSuchSlot, |case| case.write(33, &[NO_SLOT])),
            fault("slot", Rejection::SlotFree, |case| case.write(33, &[6])),
            fault("scalar", Rejection::ScalarNotCanonical, |case| case.write(1, &[0xff; 32])),
            fault("amount", Rejection::SignatureMismatch, |case| case.write(34, &[0xff])),
        ],
    );
}

#[test]
fn given_several_reasons_when_vouchers_are_claimed_below_then_the_first_is_named() {
    fn ready() -> Case {
        let (world, channels) = lived_in();
        let instruction = Below::of(&[(&channels[0], 500, 400), (&channels[1], 600, 600)]).instruction(&world);
        Case::new(world, instruction, &[])
    }
    // discriminator, scalar, rows of 45: slot, signed, amount, nonce point
    assert_precedence(
        ready,
        &[
            fault("slot", Rejection::NoSuchSlot, |case| case.write(33, &[NO_SLOT])),
            fault("slot", Rejection::SlotFree, |case| case.write(33, &[6])),
            fault("scalar", Rejection::ScalarNotCanonical, |case| case.write(1, &[0xff; 32])),
            fault("signed", Rejection::SignatureMismatch, |case| case.write(34, &[0xfe])),
            fault("amount", Rejection::AmountAboveSigned, |case| case.write(40, &501u64.to_le_bytes()[..6])),
        ],
    );
}

#[test]
fn given_several_reasons_when_paid_out_then_the_first_is_named() {
    fn ready() -> Case {
        let (mut world, channels) = lived_in();
        world.claim(&Batch::of(&[(&channels[0], 500)])).unwrap();
        world.fund(&key("payee").pubkey(), 0);
        let instruction = TALLYBOOK.payout(&world.book_view(), &world.page, 1);
        Case::new(world, instruction, &[])
    }
    assert_precedence(
        ready,
        &[
            fault("mint", Rejection::WrongMint, |case| case.put(3, ELSEWHERE)),
            fault("token program", Rejection::WrongTokenProgram, |case| case.put(4, ELSEWHERE)),
            fault("book", Rejection::WrongBook, |case| case.other_book(0)),
            fault("vault", Rejection::WrongVault, |case| case.put(2, ELSEWHERE)),
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("legs", Rejection::AccountCountMismatch, |case| case.write(1, &[3])),
            fault("destination", Rejection::WrongRecipientAccount, |case| case.put(5, ELSEWHERE)),
            fault("totals", Rejection::InvariantBroken, |case| case.tamper(case.world.page, 8 + 189, 9)),
            fault("vault holds", Rejection::VaultShort, |case| case.tamper(case.world.vault(), 64, 0x3f)),
        ],
    );
}

#[test]
fn given_several_reasons_when_a_payer_asks_to_leave_then_the_first_is_named() {
    fn ready() -> Case {
        let (world, channels) = lived_in();
        let payer = &channels[0].payer;
        let instruction = TALLYBOOK.request_close(&world.book, &world.page, &payer.pubkey(), 0, 1);
        Case::new(world, instruction, &[payer])
    }
    // discriminator, slot, generation
    assert_precedence(
        ready,
        &[
            fault("book", Rejection::WrongBook, |case| case.other_book(1)),
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("slot", Rejection::NoSuchSlot, |case| case.write(1, &[NO_SLOT])),
            fault("generation", Rejection::WrongGeneration, |case| case.write(2, &NO_GENERATION)),
            fault("slot", Rejection::SlotNotOpen, |case| case.write(1, &[1])),
            fault("payer", Rejection::WrongPayer, |case| case.sign_by_stranger(0)),
        ],
    );
}

#[test]
fn given_several_reasons_when_withdrawn_then_the_first_is_named() {
    fn ready() -> Case {
        let (mut world, channels) = lived_in();
        world.pass(GRACE_SECONDS);
        world.request_close(&channels[2]).unwrap();
        let instruction = TALLYBOOK.withdraw(&world.book_view(), &world.page, &[(1, channels[1].payer.pubkey())]);
        Case::new(world, instruction, &[])
    }
    // discriminator, length, slots
    assert_precedence(
        ready,
        &[
            fault("mint", Rejection::WrongMint, |case| case.put(4, ELSEWHERE)),
            fault("token program", Rejection::WrongTokenProgram, |case| case.put(5, ELSEWHERE)),
            fault("book", Rejection::WrongBook, |case| case.other_book(1)),
            fault("vault", Rejection::WrongVault, |case| case.put(3, ELSEWHERE)),
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("count", Rejection::AccountCountMismatch, |case| {
                case.instruction.accounts.pop();
            }),
            fault("slot", Rejection::NoSuchSlot, |case| case.write(5, &[NO_SLOT])),
            fault("slot", Rejection::SlotNotClosing, |case| case.write(5, &[0])),
            fault("slot", Rejection::GraceNotOver, |case| case.write(5, &[2])),
        ],
    );
    assert_precedence(
        ready,
        &[
            fault("slot", Rejection::NoSuchSlot, |case| case.write(5, &[NO_SLOT])),
            fault("slot", Rejection::SlotNotClosing, |case| case.write(5, &[0])),
            fault("slot", Rejection::GraceNotOver, |case| case.write(5, &[2])),
            fault("destination", Rejection::WrongRecipientAccount, |case| case.put(6, ELSEWHERE)),
            fault("totals", Rejection::InvariantBroken, |case| case.tamper(case.world.page, 8 + 189, 9)),
        ],
    );
}

#[test]
fn given_several_reasons_when_refunded_then_the_first_is_named() {
    fn ready() -> Case {
        let (world, channels) = lived_in();
        let (operator, row) = (key("operator"), RefundRow { slot: 0, generation: 1, keep: 0 });
        let rows = [(row, channels[0].payer.pubkey())];
        let instruction = TALLYBOOK.refund(&world.book_view(), &world.page, &operator.pubkey(), &rows);
        Case::new(world, instruction, &[&operator])
    }
    // discriminator, length, rows: slot, generation, what is kept
    assert_precedence(
        ready,
        &[
            fault("mint", Rejection::WrongMint, |case| case.put(4, ELSEWHERE)),
            fault("token program", Rejection::WrongTokenProgram, |case| case.put(5, ELSEWHERE)),
            fault("book", Rejection::WrongBook, |case| case.other_book(1)),
            fault("vault", Rejection::WrongVault, |case| case.put(3, ELSEWHERE)),
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("authority", Rejection::WrongAuthority, |case| case.sign_by_stranger(0)),
            fault("count", Rejection::AccountCountMismatch, |case| {
                case.instruction.accounts.pop();
            }),
            fault("slot", Rejection::NoSuchSlot, |case| case.write(5, &[NO_SLOT])),
            fault("generation", Rejection::WrongGeneration, |case| case.write(6, &NO_GENERATION)),
        ],
    );
    assert_precedence(
        ready,
        &[
            fault("slot", Rejection::NoSuchSlot, |case| case.write(5, &[NO_SLOT])),
            fault("generation", Rejection::WrongGeneration, |case| case.write(6, &NO_GENERATION)),
            fault("destination", Rejection::WrongRecipientAccount, |case| case.put(6, ELSEWHERE)),
            fault("totals", Rejection::InvariantBroken, |case| case.tamper(case.world.page, 8 + 189, 9)),
        ],
    );
}

#[test]
fn given_several_reasons_when_closed_for_idleness_then_the_first_is_named() {
    fn ready() -> Case {
        let (mut world, channels) = lived_in();
        world.pass(86_400);
        world.claim(&Batch::of(&[(&channels[2], 5)])).unwrap();
        let payee = key("payee");
        let instruction = TALLYBOOK.idle_close(&world.book, &world.page, &payee.pubkey(), 0, 1);
        Case::new(world, instruction, &[&payee])
    }
    // discriminator, slot, generation
    let faults = [
        fault("book", Rejection::WrongBook, |case| case.other_book(1)),
        fault("version", Rejection::WrongAccount, Case::age_page),
        fault("authority", Rejection::WrongAuthority, |case| case.sign_by_stranger(0)),
        fault("slot", Rejection::NoSuchSlot, |case| case.write(1, &[NO_SLOT])),
        fault("generation", Rejection::WrongGeneration, |case| case.write(2, &NO_GENERATION)),
        fault("slot", Rejection::SlotNotOpen, |case| case.write(1, &[1])),
        fault("limit", Rejection::IdleCloseOff, |case| case.set_idle_limit(0)),
        fault("limit", Rejection::NotIdle, |case| case.set_idle_limit(17_280_000)),
    ];
    assert_precedence(ready, &faults);
}

#[test]
fn given_several_reasons_when_an_operator_is_named_then_the_first_is() {
    fn ready() -> Case {
        let world = World::new();
        let instruction = TALLYBOOK.set_operator(&world.book_view(), &ELSEWHERE);
        Case::new(world, instruction, &[&key("payee")])
    }
    assert_precedence(
        ready,
        &[
            fault("payee", Rejection::WrongAuthority, |case| case.sign_by_stranger(0)),
            fault("version", Rejection::WrongAccount, Case::age_book),
        ],
    );
}

#[test]
fn given_several_reasons_when_a_page_is_closed_then_the_first_is_named() {
    fn ready() -> Case {
        let mut world = World::new();
        let (page, payee) = (world.page, key("payee"));
        world.fund(&page, 7); // a donation
        world.fund(&payee.pubkey(), 0);
        let instruction = TALLYBOOK.close_page(&world.book_view(), &page, &payee.pubkey(), &world.sponsor.pubkey());
        Case::new(world, instruction, &[&payee])
    }
    /// By who may close the page, and may not say where the payee's money goes.
    fn ready_for_rent_payer() -> Case {
        let mut case = ready();
        case.instruction.accounts[0].pubkey = case.world.sponsor.pubkey();
        case.signers = vec![case.world.sponsor.insecure_clone()];
        case
    }
    /// As if something had been claimed and not been paid out.
    fn owe(case: &mut Case) {
        let page = case.world.page;
        case.tamper(page, 8 + 136, 5);
    }
    assert_precedence(
        ready,
        &[
            fault("mint", Rejection::WrongMint, |case| case.put(6, ELSEWHERE)),
            fault("token program", Rejection::WrongTokenProgram, |case| case.put(7, ELSEWHERE)),
            fault("book", Rejection::WrongBook, |case| case.other_book(1)),
            fault("vault", Rejection::WrongVault, |case| case.put(3, ELSEWHERE)),
            fault("rent payer", Rejection::WrongAccount, |case| case.put(4, ELSEWHERE)),
            fault("version", Rejection::WrongAccount, Case::age_page),
            fault("authority", Rejection::WrongAuthority, |case| case.sign_by_stranger(0)),
            fault("used", Rejection::PageInUse, |case| {
                case.tamper(case.world.page, 8 + 189, 1);
            }),
            fault("owed", Rejection::LegsUnpaid, owe),
            fault("payee account", Rejection::WrongRecipientAccount, |case| {
                case.tamper(case.world.token_account(&key("payee").pubkey()), 108, 2); // frozen
            }),
        ],
    );
    assert_precedence(
        ready_for_rent_payer,
        &[
            fault("authority", Rejection::WrongAuthority, |case| case.sign_by_stranger(0)),
            fault("payee account", Rejection::WrongRecipientAccount, |case| case.put(5, ELSEWHERE)),
            fault("used", Rejection::PageInUse, |case| {
                case.tamper(case.world.page, 8 + 189, 1);
            }),
            fault("owed", Rejection::LegsUnpaid, owe),
        ],
    );
}
