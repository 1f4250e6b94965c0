//! Random lives of a page, of all instructions, with wrong accounts, wrong authorities and forged vouchers among them,
//! against a plain model that shares no code with the program. Every other life is one of a book whose operator co-signs,
//! and every other pair of lives has a Token-2022 mint with extensions, whose accounts may ask for memos.
//!
//! Before each step the model says what will come of it: the error's number, or the whole state after. The world checks
//! the invariants after each transaction besides, and that a refused one changes nothing. `TALLYBOOK_STEPS` sets the number
//! of steps and `TALLYBOOK_SEED` another seed.

use crate::mints::{DESCRIBING, token_2022};
use crate::vouchers::Batch;
use crate::world::{GRACE_SECONDS, MIN_DEPOSIT, Setup, TALLYBOOK, World, key};
use ed25519_dalek::SigningKey;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use solana_address::Address;
use solana_instruction::error::InstructionError;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_transaction::TransactionError;
use std::collections::BTreeMap;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::address::{TOKEN_2022_PROGRAM, page as page_address};
use tallybook_chain::instruction::{Addition, NewChannel, RefundRow, Split, discriminator};
use tallybook_rules::half_aggregation::BelowRow;
use tallybook_rules::signing::{SignedVoucher, channel_id};
use tallybook_rules::{Amount, Rejection};

/// As many as the model has seats.
const CAPACITY: u8 = 4;
const PAYERS: usize = 3;
const IDLE_SECONDS: i64 = 86_400;
const LIMIT: u64 = 1 << 48;
const LEGS: [(&str, u64); 3] = [("payee", 6_667), ("partner", 3_332), ("tax", 1)];
const OPERATORS: [&str; 2] = ["operator", "new operator"];
/// The extension of a Token-2022 account that asks for memos: type, length, whether.
const MEMOS_REQUIRED: [u8; 5] = [8, 0, 1, 0, 1];
const STEPS_OF_A_LIFE: u64 = 1_000;

/// A slot, as the model sees it. 0 is free, 1 open, 2 closing.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Seat {
    status: u8,
    generation: u32,
    payer: usize,
    deposit: u64,
    settled: u64,
    closing_at: i64,
    active: i64,
}

/// All that can change.
#[derive(Clone, PartialEq, Debug)]
struct Model {
    seats: [Seat; 4],
    claimed: u64,
    paid: [u64; 3],
    donated: u64,
    /// What each payer holds in its associated account, and in another one of its own.
    purses: [u64; PAYERS],
    elsewhere: [u64; PAYERS],
    operator: usize,
    next_page: u32,
}

/// A token account of a payer: its associated one, or the other.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Purse {
    payer: usize,
    is_other: bool,
}

/// What is to come of an instruction: the state after, or the error's number (none where it is the token program's).
type Forecast = Result<Model, Option<u32>>;

/// The floor of a share of everything claimed.
fn share(claimed: u64, points: u64) -> u64 {
    u64::try_from(u128::from(claimed) * u128::from(points) / 10_000).unwrap()
}

fn refused<T>(rejection: Rejection) -> Result<T, Option<u32>> {
    Err(Some(6000 + u32::from(rejection.code())))
}

impl Model {
    fn seat(&mut self, slot: u8) -> Result<&mut Seat, Option<u32>> {
        self.seats.get_mut(usize::from(slot)).map_or_else(|| refused(Rejection::NoSuchSlot), Ok)
    }

    fn of_generation(&mut self, slot: u8, generation: u32) -> Result<&mut Seat, Option<u32>> {
        let seat = self.seat(slot)?;
        if seat.generation == generation { Ok(seat) } else { refused(Rejection::WrongGeneration) }
    }

    /// What the vault holds.
    fn vault(&self) -> u64 {
        let outstanding: u64 = self.seats.iter().map(|seat| seat.deposit - seat.settled).sum();
        outstanding + self.claimed - self.paid.iter().sum::<u64>() + self.donated
    }

    fn take(mut self, payer: usize, amount: u64, frozen: &[bool; PAYERS]) -> Forecast {
        if frozen[payer] || self.purses[payer] < amount {
            return Err(None);
        }
        self.purses[payer] -= amount;
        Ok(self)
    }

    /// Lowers a deposit and pays the rest to `purse`, unless that takes nothing now.
    fn give_back(&mut self, slot: u8, target: u64, purse: Purse, shut: &[bool; PAYERS]) {
        let seat = &mut self.seats[usize::from(slot)];
        let amount = seat.deposit - target;
        if amount > 0 && !purse.is_other && shut[purse.payer] {
            return;
        }
        let purses = if purse.is_other { &mut self.elsewhere } else { &mut self.purses };
        purses[purse.payer] += amount;
        seat.deposit = target;
        if target == seat.settled {
            *seat = Seat { generation: seat.generation, ..Seat::default() };
        }
    }
}

struct Life {
    world: World,
    model: Model,
    random: StdRng,
    payers: Vec<Keypair>,
    frozen: [bool; PAYERS],
    /// Whose associated accounts ask for memos, as those of Token-2022 can: they take nothing, but can be spent from.
    asking: [bool; PAYERS],
    frozen_legs: [bool; 3],
    /// The book's open policy.
    policy: u8,
    /// How often what was sent, and how often it went through.
    tally: BTreeMap<&'static str, [u32; 2]>,
}

impl Life {
    fn new(seed: u64, policy: u8, is_token_2022: bool) -> Self {
        let split = |(name, points): (&str, u64)| Split {
            recipient: key(name).pubkey().to_bytes(),
            basis_points: u16::try_from(points).unwrap(),
        };
        let splits = vec![split(LEGS[1]), split(LEGS[2])];
        let mint = if is_token_2022 { token_2022(&DESCRIBING) } else { Setup::default() };
        let mut world = World::with(Setup { capacity: CAPACITY, splits, open_policy: policy, ..mint });
        let payers: Vec<_> = (0..PAYERS).map(|at| key(&format!("payer {at}"))).collect();
        for payer in &payers {
            world.fund(&payer.pubkey(), 1 << 50);
            world.other_account(&format!("other account of {}", payer.pubkey()), &payer.pubkey());
        }
        for (name, _) in LEGS {
            world.fund(&key(name).pubkey(), 0);
        }
        let model = Model {
            seats: Default::default(),
            claimed: 0,
            paid: [0; 3],
            donated: 0,
            purses: [1 << 50; PAYERS],
            elsewhere: [0; PAYERS],
            operator: 0,
            next_page: 1,
        };
        let random = StdRng::seed_from_u64(seed);
        Self {
            world,
            model,
            random,
            payers,
            frozen: [false; PAYERS],
            asking: [false; PAYERS],
            frozen_legs: [false; 3],
            policy,
            tally: BTreeMap::new(),
        }
    }

    /// The address of a payer's account.
    fn address(&self, purse: Purse) -> Address {
        let payer = self.payers[purse.payer].pubkey();
        if purse.is_other {
            key(&format!("other account of {payer}")).pubkey()
        } else {
            self.world.token_account(&payer)
        }
    }

    /// Whose associated accounts take nothing now.
    fn shut(&self) -> [bool; PAYERS] {
        std::array::from_fn(|at| self.frozen[at] || self.asking[at])
    }

    /// What stands on the chain, in the model's words.
    fn observed(&self) -> Model {
        let page = self.world.page_view();
        let payer = |bytes: &[u8; 32]| self.payers.iter().position(|p| p.pubkey().as_array() == bytes).unwrap_or(0);
        let seats = page.slots.iter().map(|slot| Seat {
            status: slot.status_byte,
            generation: slot.generation,
            payer: payer(&slot.payer),
            deposit: slot.deposit.get(),
            settled: slot.settled.get(),
            closing_at: slot.closing_at,
            active: slot.last_activity,
        });
        let book = self.world.book_view();
        let mut model = Model {
            seats: seats.collect::<Vec<_>>().try_into().unwrap(),
            claimed: page.header.claimed_total.get(),
            paid: std::array::from_fn(|at| page.header.paid[at].get()),
            donated: 0,
            purses: std::array::from_fn(|payer| self.world.balance(&self.address(Purse { payer, is_other: false }))),
            elsewhere: std::array::from_fn(|payer| self.world.balance(&self.address(Purse { payer, is_other: true }))),
            operator: OPERATORS.iter().position(|name| key(name).pubkey() == book.operator()).unwrap(),
            next_page: book.state.next_page,
        };
        model.donated = self.world.balance(&self.world.vault()) - model.vault();
        model
    }

    /// Sends the instruction, now and then with something wrong about its accounts first, and holds it to the forecast.
    fn send(&mut self, name: &'static str, good: Instruction, signers: &[&Keypair], forecast: Forecast) {
        // Where the account of a row is wrong already, another might be the right one.
        let is_row_wrong =
            matches!(&forecast, Err(number) if *number == refused::<()>(Rejection::WrongRecipientAccount).unwrap_err());
        if self.random.random_ratio(1, 3) && !is_row_wrong && self.send_wrong(&good, signers, forecast.as_ref().ok()) {
            return;
        }
        let sent = self.world.send(std::slice::from_ref(&good), signers);
        let tally = self.tally.entry(name).or_default();
        tally[0] += 1;
        match (sent, forecast) {
            (Ok(_), Ok(model)) => {
                tally[1] += 1;
                self.model = model;
            }
            (Err(failed), Err(expected)) => {
                let TransactionError::InstructionError(_, InstructionError::Custom(number)) = failed.err else {
                    panic!("{name}: {:?}", failed.err);
                };
                assert!(expected.is_none_or(|expected| expected == number), "{name}: {number}, not {expected:?}");
            }
            (sent, forecast) => panic!("{name}: {:?}, not {forecast:?}", sent.map(|_| ())),
        }
        assert_eq!(self.observed(), self.model, "{name}");
    }

    /// The same with an account replaced, or a signature or a permission missing: it is refused, or does what was meant.
    fn send_wrong(&mut self, good: &Instruction, signers: &[&Keypair], meant: Option<&Model>) -> bool {
        let mut wrong = good.clone();
        // Where a payer signs, money of its slots may go to any account of a row: that is not wrong.
        let is_named = good.data[0] == discriminator::WITHDRAW && good.accounts[0].is_signer;
        let at = self.random.random_range(0..if is_named { 6 } else { wrong.accounts.len() });
        // A row whose account is read-only is skipped, as one whose account is frozen, and others go through.
        let is_row =
            [discriminator::PAYOUT, discriminator::WITHDRAW, discriminator::REFUND].contains(&good.data[0]) && at >= 5;
        let account = &mut wrong.accounts[at];
        if account.is_signer {
            account.is_signer = false;
        } else if !is_row && self.random.random_ratio(1, 5) {
            account.is_writable = false;
        } else {
            let world = &self.world;
            let other = page_address(&PROGRAM_ID, &world.book, 1_000).0;
            let mut pool = vec![world.book, world.page, world.vault(), world.mint, world.token_program, other];
            pool.extend(self.payers.iter().map(|payer| world.token_account(&payer.pubkey())));
            pool.extend(LEGS.iter().map(|(leg, _)| world.token_account(&key(leg).pubkey())));
            account.pubkey = *pool.choose(&mut self.random).unwrap();
        }
        let signers: Vec<_> = signers
            .iter()
            .copied()
            .filter(|s| wrong.accounts.iter().any(|a| a.is_signer && a.pubkey == s.pubkey()))
            .collect();
        let sent = self.world.send(&[wrong], &signers);
        let observed = self.observed();
        if observed == self.model {
            return false;
        }
        assert!(sent.is_ok() && Some(&observed) == meant, "a wrong account changed something: {observed:?}");
        self.model = observed;
        true
    }

    // --- what is asked for: often right, often not

    fn slot(&mut self) -> u8 {
        let beyond = u8::from(self.random.random_ratio(1, 10));
        self.random.random_range(0..CAPACITY + beyond)
    }

    fn generation(&mut self, slot: u8, next: u32) -> u32 {
        let right = self.model.seats.get(usize::from(slot)).map_or(1, |seat| seat.generation + next);
        if self.random.random_ratio(1, 8) { self.random.random_range(0..4) } else { right }
    }

    fn payer_of(&mut self, slot: u8) -> usize {
        let right = self.model.seats.get(usize::from(slot)).map_or(0, |seat| seat.payer);
        if self.random.random_ratio(1, 8) { self.random.random_range(0..PAYERS) } else { right }
    }

    fn amount(&mut self) -> u64 {
        match self.random.random_range(0..10) {
            0 => *[0, 1, MIN_DEPOSIT - 1, MIN_DEPOSIT, LIMIT - 1].choose(&mut self.random).unwrap(),
            1 => self.random.random_range(0..LIMIT),
            _ => self.random.random_range(0..50_000),
        }
    }

    fn authority(&mut self) -> Keypair {
        let now = OPERATORS[self.model.operator];
        key(["payee", "payee", now, now, now, "operator", "sponsor", "stranger"].choose(&mut self.random).unwrap())
    }

    /// Whether it is the payee's or the present operator's key.
    fn may_refund(&self, authority: &Keypair) -> bool {
        [key("payee"), key(OPERATORS[self.model.operator])].iter().any(|key| key.pubkey() == authority.pubkey())
    }

    fn voucher_key(payer: usize) -> SigningKey {
        SigningKey::from_bytes(&Sha256::digest(format!("voucher key {payer}")).into())
    }

    // --- the instructions

    fn open(&mut self) {
        let free = (0u8..).zip(&self.model.seats).find(|(_, seat)| seat.status == 0).map(|(slot, _)| slot);
        let slot = free.filter(|_| self.random.random_ratio(2, 3)).unwrap_or_else(|| self.slot());
        let (generation, payer) = (self.generation(slot, 1), self.random.random_range(0..PAYERS));
        let deposit = if self.random.random_ratio(1, 20) { LIMIT + self.amount() } else { self.amount() };
        let signer = self.payers[payer].insecure_clone();
        let source = self.world.token_account(&signer.pubkey());
        let operators = [None, Some("operator"), Some("new operator"), Some("stranger")];
        let right = self.random.random_ratio(3, 4).then_some(Some(OPERATORS[self.model.operator]));
        let operator = right.unwrap_or_else(|| *operators.choose(&mut self.random).unwrap());
        let agrees = self.policy == 0 || operator == Some(OPERATORS[self.model.operator]);
        let new = NewChannel {
            payer: signer.pubkey(),
            source,
            operator: operator.map(|name| key(name).pubkey()),
            page: self.world.page,
            slot,
            generation,
            signer: Self::voucher_key(payer).verifying_key().to_bytes(),
            deposit,
        };
        let (mut model, active) = (self.model.clone(), self.world.now());
        let forecast = (|| {
            let seat = model.seat(slot)?;
            match () {
                () if seat.status != 0 => return refused(Rejection::SlotTaken),
                () if seat.generation + 1 != generation => return refused(Rejection::WrongGeneration),
                () if !agrees => return refused(Rejection::OperatorMustSign),
                () if deposit < MIN_DEPOSIT => return refused(Rejection::DepositTooSmall),
                () if deposit >= LIMIT => return refused(Rejection::DepositTooLarge),
                () => *seat = Seat { status: 1, generation, payer, deposit, active, ..Seat::default() },
            }
            model.take(payer, deposit, &self.frozen)
        })();
        let name = if self.policy == 0 { "open" } else { "open with the operator" };
        let operator = operator.map(key);
        let signers: Vec<_> = [&signer].into_iter().chain(operator.as_ref()).collect();
        self.send(name, TALLYBOOK.open(&self.world.book_view(), &new), &signers, forecast);
    }

    fn top_up(&mut self) {
        let slot = self.slot();
        let (generation, payer, amount) =
            (self.generation(slot, 0), self.random.random_range(0..PAYERS), self.amount());
        let funder = self.payers[payer].insecure_clone();
        let (source, page) = (self.world.token_account(&funder.pubkey()), self.world.page);
        let addition = Addition { funder: funder.pubkey(), source, page, slot, generation, amount };
        let mut model = self.model.clone();
        let forecast = (|| {
            let seat = model.of_generation(slot, generation)?;
            match () {
                () if seat.status != 1 => return refused(Rejection::SlotNotOpen),
                () if amount == 0 => return refused(Rejection::DepositTooSmall),
                () if seat.deposit + amount >= LIMIT => return refused(Rejection::DepositTooLarge),
                () => seat.deposit += amount,
            }
            model.take(payer, amount, &self.frozen)
        })();
        self.send("top_up", TALLYBOOK.top_up(&self.world.book_view(), &addition), &[&funder], forecast);
    }

    /// Either kind of claim, of rows of which some may be old, another's, or forged.
    fn claim(&mut self, below: bool) {
        let domain = self.world.page_view().header.page_domain;
        let (mut model, now) = (self.model.clone(), self.world.now());
        let (mut vouchers, mut amounts, mut honest, mut above) = (Vec::new(), Vec::new(), true, false);
        let mut forecast = Ok(());
        for _ in 0..self.random.random_range(1..=4) {
            let slot = self.slot();
            let right = self.model.seats.get(usize::from(slot)).copied().unwrap_or_default();
            let (generation, payer) = (self.generation(slot, 0), self.payer_of(slot));
            let (signer, signed) = (if self.random.random_ratio(1, 12) { 0 } else { payer }, self.amount());
            let strange = self.random.random_ratio(1, 25);
            let domain = if strange { [9; 32] } else { domain };
            honest &= (generation, payer, signer) == (right.generation, right.payer, right.payer) && !strange;
            let (payer_key, voucher_key) = (self.payers[payer].pubkey(), Self::voucher_key(signer));
            let id = channel_id(
                &domain,
                slot,
                generation,
                payer_key.as_array(),
                &Self::voucher_key(payer).verifying_key().to_bytes(),
            );
            let voucher = SignedVoucher::sign(&voucher_key, id, Amount::new(signed));
            vouchers.push((slot, voucher.verify(&voucher_key.verifying_key().to_bytes()).unwrap()));

            let amount = match below {
                false => signed,
                true if self.random.random_ratio(1, 15) => self.amount(),
                true => self.random.random_range(0..=signed),
            };
            above |= amount > signed;
            amounts.push(Amount::new(amount));
            forecast = forecast.and_then(|()| {
                let seat = model.seat(slot)?;
                if seat.status == 0 {
                    return refused(Rejection::SlotFree);
                }
                let target = amount.min(seat.deposit);
                if target > seat.settled {
                    let added = target - seat.settled;
                    (seat.settled, seat.active) = (target, now);
                    model.claimed += added;
                }
                Ok(())
            });
        }
        let forecast = match forecast {
            Err(number) => Err(number),
            Ok(()) if !honest => refused(Rejection::SignatureMismatch),
            Ok(()) if above => refused(Rejection::AmountAboveSigned),
            Ok(()) => Ok(model),
        };
        let batch = Batch::from_signed(vouchers);
        if below {
            let rows: Vec<_> =
                batch.rows.iter().zip(amounts).map(|(signed, amount)| BelowRow { signed: *signed, amount }).collect();
            let instruction = TALLYBOOK.claim_below(&self.world.page, &batch.scalar, &rows).unwrap();
            self.send("claim_below", instruction, &[], forecast);
        } else {
            self.send("claim", batch.instruction(&self.world.page), &[], forecast);
        }
    }

    fn payout(&mut self) {
        let mask = self.random.random_range(0..9u8);
        let mut model = self.model.clone();
        let named = |at: usize| mask >> at & 1 == 1;
        for (at, (_, points)) in LEGS.iter().enumerate() {
            if named(at) && !self.frozen_legs[at] {
                model.paid[at] = share(model.claimed, *points);
            }
        }
        let forecast = if mask == 0 || mask > 7 { refused(Rejection::AccountCountMismatch) } else { Ok(model) };
        self.send("payout", TALLYBOOK.payout(&self.world.book_view(), &self.world.page, mask), &[], forecast);
    }

    fn request_close(&mut self) {
        let slot = self.slot();
        let (generation, payer) = (self.generation(slot, 0), self.payer_of(slot));
        let (mut model, signer) = (self.model.clone(), self.payers[payer].insecure_clone());
        let closing_at = self.world.now() + i64::from(GRACE_SECONDS);
        let forecast = (|| {
            let seat = model.of_generation(slot, generation)?;
            match seat.status {
                0 => return refused(Rejection::SlotFree),
                2 => return refused(Rejection::SlotNotOpen),
                _ if seat.payer != payer => return refused(Rejection::WrongPayer),
                _ => (seat.status, seat.closing_at) = (2, closing_at),
            }
            Ok(model)
        })();
        let (book, page) = (self.world.book, self.world.page);
        let instruction = TALLYBOOK.request_close(&book, &page, &signer.pubkey(), slot, generation);
        self.send("request_close", instruction, &[&signer], forecast);
    }

    fn idle_close(&mut self) {
        let slot = self.slot();
        let (generation, authority, now) = (self.generation(slot, 0), self.authority(), self.world.now());
        let mut model = self.model.clone();
        let forecast = (|| {
            if !self.may_refund(&authority) && authority.pubkey() != self.world.sponsor.pubkey() {
                return refused(Rejection::WrongAuthority);
            }
            let seat = model.of_generation(slot, generation)?;
            match seat.status {
                0 => return refused(Rejection::SlotFree),
                2 => return refused(Rejection::SlotNotOpen),
                _ if now < seat.active + IDLE_SECONDS => return refused(Rejection::NotIdle),
                _ => (seat.status, seat.closing_at) = (2, now + i64::from(GRACE_SECONDS)),
            }
            Ok(model)
        })();
        let (book, page) = (self.world.book, self.world.page);
        let instruction = TALLYBOOK.idle_close(&book, &page, &authority.pubkey(), slot, generation);
        self.send("idle_close", instruction, &[&authority], forecast);
    }

    fn withdraw(&mut self) {
        let mut slots: Vec<_> = (0..self.random.random_range(1..=3)).map(|_| self.slot()).collect();
        if self.random.random_ratio(2, 3) {
            let closing = (0u8..).zip(&self.model.seats).filter(|(_, seat)| seat.status == 2);
            slots = closing.map(|(slot, _)| slot).collect();
        }
        if slots.is_empty() {
            return;
        }
        if self.random.random_ratio(1, 2) {
            self.world.pass(GRACE_SECONDS);
        }
        let (mut model, now, shut) = (self.model.clone(), self.world.now(), self.shut());
        let signer = self.random.random_ratio(1, 2).then(|| self.payer_of(slots[0]));
        let (mut channels, mut accounts, mut forecast) = (Vec::new(), Vec::new(), Ok(()));
        for slot in slots {
            let payer = self.payer_of(slot);
            // Whoever does not sign has no choice but rarely tries.
            let is_other = self.random.random_ratio(1, if signer == Some(payer) { 2 } else { 20 });
            let purse = Purse { payer, is_other };
            channels.push((slot, self.payers[payer].pubkey()));
            accounts.push(self.address(purse));
            forecast = forecast.and_then(|()| {
                let seat = *model.seat(slot)?;
                match () {
                    () if seat.status != 2 => refused(Rejection::SlotNotClosing),
                    () if now < seat.closing_at => refused(Rejection::GraceNotOver),
                    () if seat.deposit > seat.settled
                        && signer != Some(seat.payer)
                        && purse != (Purse { payer: seat.payer, is_other: false }) =>
                    {
                        refused(Rejection::WrongRecipientAccount)
                    }
                    () => {
                        model.give_back(slot, seat.settled, purse, &shut);
                        Ok(())
                    }
                }
            });
        }
        let mut instruction = TALLYBOOK.withdraw(&self.world.book_view(), &self.world.page, &channels);
        instruction.accounts[6..].iter_mut().zip(accounts).for_each(|(account, address)| account.pubkey = address);
        let signer = signer.map(|payer| self.payers[payer].insecure_clone());
        if let Some(signer) = &signer {
            instruction.accounts[0] = AccountMeta::new_readonly(signer.pubkey(), true);
        }
        let name = if signer.is_some() { "withdraw with the payer" } else { "withdraw" };
        self.send(name, instruction, &signer.iter().collect::<Vec<_>>(), forecast.map(|()| model));
    }

    fn refund(&mut self, slots: &[u8], keep: Option<u64>) {
        let authority = self.authority();
        let (mut model, shut) = (self.model.clone(), self.shut());
        let allowed = self.may_refund(&authority);
        let (mut rows, mut forecast) = (Vec::new(), if allowed { Ok(()) } else { refused(Rejection::WrongAuthority) });
        for slot in slots.iter().copied() {
            let (generation, payer) = (self.generation(slot, 0), self.payer_of(slot));
            let keep = keep.unwrap_or_else(|| self.amount());
            rows.push((RefundRow { slot, generation, keep }, self.payers[payer].pubkey()));
            forecast = forecast.and_then(|()| {
                let seat = *model.seat(slot)?;
                let target = seat.deposit.min(seat.settled.max(keep));
                match () {
                    () if seat.generation < generation => refused(Rejection::WrongGeneration),
                    () if seat.generation > generation || seat.status == 0 => Ok(()),
                    () if target < seat.deposit && payer != seat.payer => refused(Rejection::WrongRecipientAccount),
                    () => {
                        model.give_back(slot, target, Purse { payer: seat.payer, is_other: false }, &shut);
                        Ok(())
                    }
                }
            });
        }
        let instruction = TALLYBOOK.refund(&self.world.book_view(), &self.world.page, &authority.pubkey(), &rows);
        self.send("refund", instruction, &[&authority], forecast.map(|()| model));
    }

    fn set_operator(&mut self) {
        let operator = self.random.random_range(0..OPERATORS.len());
        let signer = self.authority();
        let mut instruction = TALLYBOOK.set_operator(&self.world.book_view(), &key(OPERATORS[operator]).pubkey());
        instruction.accounts[0].pubkey = signer.pubkey();
        let is_payee = signer.pubkey() == self.world.payee.pubkey();
        let changed = Model { operator, ..self.model.clone() };
        let forecast = if is_payee { Ok(changed) } else { refused(Rejection::WrongAuthority) };
        self.send("set_operator", instruction, &[&signer], forecast);
    }

    /// Tries to close the page as it is, and goes on with the next one if that worked.
    fn close_page(&mut self) {
        let (authority, sponsor) = (self.authority(), self.world.sponsor.pubkey());
        let (book, page) = (self.world.book_view(), self.world.page);
        let mut close = TALLYBOOK.close_page(&book, &page, &authority.pubkey(), &sponsor);
        let rejection = match () {
            () if ![sponsor, self.world.payee.pubkey()].contains(&authority.pubkey()) => {
                Some(Rejection::WrongAuthority)
            }
            () if self.model.seats.iter().any(|seat| seat.status != 0) => Some(Rejection::PageInUse),
            () if !self.is_paid() => Some(Rejection::LegsUnpaid),
            () if self.model.vault() > 0 && self.frozen_legs[0] => Some(Rejection::WrongRecipientAccount),
            () => None,
        };
        if let Some(rejection) = rejection {
            return self.send("close_page", close, &[&authority], refused(rejection));
        }
        // Wrongly first: to a rent payer who paid nothing.
        close.accounts[4].pubkey = key("stranger").pubkey();
        self.world.refuses(close, &[&authority], Rejection::WrongAccount);
        let (before, left) = (self.world.held_by(&self.world.payee.pubkey()), self.model.vault());
        let close = TALLYBOOK.close_page(&book, &page, &authority.pubkey(), &sponsor);
        self.world.send(std::slice::from_ref(&close), &[&authority]).unwrap();
        assert_eq!(self.world.held_by(&self.world.payee.pubkey()), before + left);
        assert!(self.world.data(&page).is_empty() && self.world.data(&self.world.vault()).is_empty());
        assert!(self.world.send(&[close], &[&authority]).is_err(), "twice");
        *self.tally.entry("close_page").or_default() =
            self.tally.get("close_page").map_or([1; 2], |[a, b]| [a + 1, b + 1]);
        self.add_page();
    }

    /// Gives everything back, pays every leg and closes, by as many tries as it takes.
    fn wind_down(&mut self) {
        for payer in 0..PAYERS {
            self.thaw_payer(payer);
        }
        for leg in 0..LEGS.len() {
            self.thaw_leg(leg);
        }
        for slot in 0..CAPACITY {
            while self.model.seats[usize::from(slot)].status != 0 {
                self.refund(&[slot], Some(0));
            }
        }
        while !self.is_paid() {
            self.payout();
        }
        let page = self.world.page;
        while self.world.page == page {
            self.close_page();
        }
    }

    fn is_paid(&self) -> bool {
        LEGS.iter().zip(self.model.paid).all(|((_, points), paid)| share(self.model.claimed, *points) == paid)
    }

    fn thaw_payer(&mut self, at: usize) {
        if std::mem::take(&mut self.frozen[at]) {
            self.world.thaw(&self.world.token_account(&self.payers[at].pubkey()));
        }
        self.ask_for_memos(at, false);
    }

    /// Lets an associated account ask for a memo with each transfer to it, or not any more.
    fn ask_for_memos(&mut self, at: usize, asks: bool) {
        if std::mem::replace(&mut self.asking[at], asks) == asks {
            return;
        }
        let address = self.address(Purse { payer: at, is_other: false });
        let mut account = self.world.svm.get_account(&address).unwrap();
        if asks {
            account.data.extend_from_slice(&MEMOS_REQUIRED);
        } else {
            account.data.truncate(account.data.len() - MEMOS_REQUIRED.len());
        }
        self.world.svm.set_account(address, account).unwrap();
    }

    fn thaw_leg(&mut self, at: usize) {
        if std::mem::take(&mut self.frozen_legs[at]) {
            self.world.thaw(&self.world.token_account(&key(LEGS[at].0).pubkey()));
        }
    }

    fn add_page(&mut self) {
        let (operator, sponsor, next) =
            (key(OPERATORS[self.model.operator]), self.world.sponsor.pubkey(), self.model.next_page);
        let book = self.world.book_view();
        let add = |index| TALLYBOOK.add_page(&book, &operator.pubkey(), &sponsor, index, CAPACITY);
        for index in [0, next - 1, next + 1] {
            self.world.refuses(add(index), &[&operator], Rejection::WrongPageIndex);
        }
        self.world.page = page_address(&PROGRAM_ID, &self.world.book, next).0;
        self.world.send(&[add(next)], &[&operator]).unwrap();
        let page = self.world.page;
        self.world.fund(&page, 0); // so that the world counts the vault
        let fresh = Model { seats: Default::default(), claimed: 0, paid: [0; 3], donated: 0, ..self.model.clone() };
        self.model = Model { next_page: next + 1, ..fresh };
        assert_eq!(self.observed(), self.model, "a new page");
    }

    /// The world around: time passes, accounts freeze and thaw, strangers send tokens.
    fn weather(&mut self) {
        let at = self.random.random_range(0..PAYERS);
        match self.random.random_range(0..13) {
            12 if self.world.token_program == TOKEN_2022_PROGRAM => self.ask_for_memos(at, true),
            0 => {
                let page = self.world.page;
                let donation = self.random.random_range(1..1_000);
                self.world.fund(&page, donation);
                self.model.donated += donation;
            }
            1 => {
                if !std::mem::replace(&mut self.frozen[at], true) {
                    self.world.freeze(&self.world.token_account(&self.payers[at].pubkey()));
                }
            }
            2 => {
                if !std::mem::replace(&mut self.frozen_legs[at], true) {
                    self.world.freeze(&self.world.token_account(&key(LEGS[at].0).pubkey()));
                }
            }
            3 => self.thaw_payer(at),
            4 => self.thaw_leg(at),
            _ => {
                let seconds = [1, 60, GRACE_SECONDS / 2, GRACE_SECONDS, 40_000, 86_400, 90_000];
                let passed = *seconds.choose(&mut self.random).unwrap();
                self.world.pass(passed);
            }
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..40) {
            0..=6 => self.open(),
            7..=9 => self.top_up(),
            10..=15 => self.claim(false),
            16..=20 => self.claim(true),
            21..=23 => self.payout(),
            24..=26 => self.request_close(),
            27..=28 => self.idle_close(),
            29..=31 => self.withdraw(),
            32..=33 => {
                let slots: Vec<_> = (0..self.random.random_range(1..=3)).map(|_| self.slot()).collect();
                self.refund(&slots, None);
            }
            34 => self.set_operator(),
            35 => self.wind_down(),
            36 => self.close_page(),
            _ => self.weather(),
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn given_any_life_of_a_page_when_lived_then_each_step_does_what_the_model_says() {
    let (steps, seed) = (number("TALLYBOOK_STEPS", 4_000), number("TALLYBOOK_SEED", 0x7a11_b00c));
    // A new machine for every few steps, so that a long run does not drag its history along.
    let mut tally = BTreeMap::<_, [u32; 2]>::new();
    for (life, begin) in (0u64..).zip((0..steps).step_by(usize::try_from(STEPS_OF_A_LIFE).unwrap())) {
        let mut world = Life::new(seed + life, u8::from(life % 2 == 1), life % 4 > 1);
        (begin..steps.min(begin + STEPS_OF_A_LIFE)).for_each(|_| world.step());
        for (name, [sent, through]) in world.tally {
            let sum = tally.entry(name).or_default();
            *sum = [sum[0] + sent, sum[1] + through];
        }
    }
    println!("{steps} steps of seed {seed:#x}, sent and gone through: {tally:?}");
    if steps >= 4 * STEPS_OF_A_LIFE {
        assert_eq!(tally.len(), 13, "every instruction was sent: {tally:?}");
        assert!(tally.values().all(|[sent, through]| *through > 0 && sent >= through), "and went through: {tally:?}");
    }
}
