//! The slot: every order in which a channel is opened, topped up, signed for, claimed from, left and opened again, by the
//! transitions that the program runs.
//!
//! Everything is tried in every state, by everybody: so that what is refused is refused everywhere, and changes nothing.

use crate::explore::{Explored, Model, explore};
use std::hash::Hash;
use tallybook_rules::signing::channel_id;
use tallybook_rules::{Amount, Leg, Opening, Page, PageHeader, Rejection, Slot, Status, Terms};

/// A tick of the clock, in seconds: half a grace period.
const TICK: i64 = 450;
const GRACE: u32 = 900;
const TERMS: Terms = Terms { grace_seconds: GRACE, max_idle_seconds: 900, min_deposit: Amount::new(1), open_policy: 0 };
/// Two thirds and a third: shares that do not come out even.
const LEGS: [Leg; 2] = [
    Leg { recipient: [1; 32], account: [1; 32], basis_points: 6_667 },
    Leg { recipient: [2; 32], account: [2; 32], basis_points: 3_333 },
];

/// How far it goes.
struct Bounds {
    slots: u8,
    /// What all payers have together, in base units.
    tokens: u64,
    generations: u32,
    ticks: i64,
}

#[derive(Clone)]
struct State {
    header: PageHeader,
    slots: Vec<Slot>,
    now: i64,
    /// Of each slot's channel, the most that was signed.
    signed: Vec<u64>,
    /// Tokens of payers, in the vault, and of those who are paid.
    purse: u64,
    vault: u64,
    paid: u64,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Open { slot: u8, deposit: u64 },
    TopUp { slot: u8, generation: u32, amount: u64 },
    Sign { slot: u8 },
    Claim { slot: u8, generation: u32, cumulative: u64 },
    RequestClose { slot: u8, generation: u32, by_payer: bool },
    IdleClose { slot: u8, generation: u32 },
    Withdraw { slot: u8 },
    Refund { slot: u8, generation: u32, keep: u64 },
    Payout { leg: usize },
    Tick,
}

impl State {
    fn page(&mut self) -> Page<'_> {
        Page { header: &mut self.header, slots: &mut self.slots }
    }

    fn at(&self, slot: u8) -> &Slot {
        &self.slots[usize::from(slot)]
    }

    fn id(&self, slot: u8, generation: u32) -> [u8; 32] {
        channel_id(&self.header.page_domain, slot, generation, &payer(slot), &signer(slot))
    }

    /// Does it on the page, and moves the tokens as the program does.
    fn act(&mut self, action: Action) -> Result<(), Rejection> {
        let now = self.now;
        match action {
            Action::Open { slot, deposit } => {
                let generation = self.at(slot).generation + 1;
                let opening =
                    Opening { payer: payer(slot), signer: signer(slot), generation, deposit: Amount::new(deposit) };
                self.page().open(slot, &opening, TERMS.min_deposit, now)?;
                self.signed[usize::from(slot)] = 0;
                self.move_in(deposit);
            }
            Action::TopUp { slot, generation, amount } => {
                self.page().top_up(slot, generation, Amount::new(amount))?;
                self.move_in(amount);
            }
            Action::Sign { slot } => self.signed[usize::from(slot)] += 1,
            Action::Claim { slot, generation, cumulative } => {
                // The program rebuilds the voucher from the slot: of another generation it is another voucher.
                let at = self.at(slot);
                if at.status()? != Status::Free && self.id(slot, at.generation) != self.id(slot, generation) {
                    return Err(Rejection::SignatureMismatch);
                }
                self.page().claim(slot, Amount::new(cumulative), now)?;
            }
            Action::RequestClose { slot, generation, by_payer } => {
                let who = if by_payer { payer(slot) } else { [0xee; 32] };
                self.page().request_close(slot, generation, &who, GRACE, now)?;
            }
            Action::IdleClose { slot, generation } => {
                self.page().idle_close(slot, generation, &TERMS, now)?;
            }
            Action::Withdraw { slot } => {
                let returned = self.page().withdraw(slot, now)?;
                assert_eq!(returned.payer, payer(slot), "to whoever funded it");
                self.move_back(returned.amount.get());
            }
            Action::Refund { slot, generation, keep } => {
                let returned = self.page().refund(slot, generation, Amount::new(keep))?;
                self.move_back(returned.amount.get());
            }
            Action::Payout { leg } => {
                let amount = self.header.pay(leg, &LEGS[leg])?.get();
                self.vault -= amount;
                self.paid += amount;
            }
            Action::Tick => self.now += TICK,
        }
        Ok(())
    }

    fn move_in(&mut self, amount: u64) {
        self.purse -= amount;
        self.vault += amount;
    }

    fn move_back(&mut self, amount: u64) {
        self.vault -= amount;
        self.purse += amount;
    }

    fn numbers(&self) -> impl PartialEq + Hash + std::fmt::Debug + use<> {
        let slots: Vec<_> = self
            .slots
            .iter()
            .map(|slot| {
                let times = (slot.closing_at, slot.last_activity);
                (slot.status_byte, slot.generation, slot.deposit, slot.settled, times)
            })
            .collect();
        let totals = (self.header.outstanding, self.header.claimed_total, self.header.paid, self.header.used);
        (slots, totals, self.now, self.signed.clone(), [self.purse, self.vault, self.paid])
    }
}

fn payer(slot: u8) -> [u8; 32] {
    [100 + slot; 32]
}

fn signer(slot: u8) -> [u8; 32] {
    [200 + slot; 32]
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn fingerprint(&self, state: &State) -> impl Hash {
        state.numbers()
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        for slot in 0..self.slots {
            let at = state.at(slot);
            let (generation, signed) = (at.generation, state.signed[usize::from(slot)]);
            let affordable = 1..=state.purse;
            if at.generation < self.generations {
                actions.extend(affordable.clone().map(|deposit| Action::Open { slot, deposit }));
            }
            // One beyond what there is: a voucher may be for more than the deposit.
            if at.status() == Ok(Status::Open) && signed <= at.deposit.get() {
                actions.push(Action::Sign { slot });
            }
            for generation in generation.saturating_sub(1)..=generation + 1 {
                if state.purse > 0 {
                    actions.push(Action::TopUp { slot, generation, amount: 1 });
                }
                actions.extend((0..=signed).map(|cumulative| Action::Claim { slot, generation, cumulative }));
                actions.extend([true, false].map(|by_payer| Action::RequestClose { slot, generation, by_payer }));
                actions.push(Action::IdleClose { slot, generation });
                actions.extend((0..=self.tokens).map(|keep| Action::Refund { slot, generation, keep }));
            }
            actions.push(Action::Withdraw { slot });
        }
        actions.extend([0, 1].map(|leg| Action::Payout { leg }));
        if state.now < self.ticks * TICK {
            actions.push(Action::Tick);
        }
        actions
    }

    fn next(&self, before: &State, action: Action) -> Option<State> {
        let mut after = before.clone();
        let outcome = after.act(action);
        if outcome.is_err() {
            assert!(after.numbers() == before.numbers(), "refused changes nothing: {outcome:?}");
            return None;
        }
        never_falls(before, &after, action);
        by_whom_and_when(before, action);
        idempotent(&after, action);
        (after.numbers() != before.numbers()).then_some(after)
    }

    fn check(&self, state: &State) {
        let mut state = state.clone();
        assert_eq!(state.page().check(), Ok(()), "the page's own invariants");
        assert_eq!(state.purse + state.vault + state.paid, self.tokens, "conservation: no token is made or lost");
        assert_eq!(state.header.check_vault(Amount::new(state.vault)), Ok(()), "the vault covers what is owed");
        assert_eq!(state.header.owed_in_all(), Ok(Amount::new(state.vault)), "and nobody's money is forgotten in it");
        for slot in 0..self.slots {
            let at = *state.at(slot);
            if at.status() == Ok(Status::Free) {
                assert!(at.deposit.is_zero() && at.settled.is_zero());
                continue;
            }
            let signed = Amount::new(state.signed[usize::from(slot)]);
            assert!(at.settled <= signed && at.settled <= at.deposit, "settled ≤ signed, settled ≤ deposit");
            payee_can_claim(&state, slot, signed);
            payer_can_leave(&state, slot);
        }
    }
}

/// Generations, settled amounts and totals.
fn never_falls(before: &State, after: &State, action: Action) {
    for (old, new) in before.slots.iter().zip(&after.slots) {
        assert!(new.generation >= old.generation, "a generation never falls");
        let same_channel = new.generation == old.generation && new.status() != Ok(Status::Free);
        assert!(!same_channel || new.settled >= old.settled, "settled never falls");
        let takes_back = matches!(action, Action::Refund { .. });
        assert!(!same_channel || takes_back || new.deposit >= old.deposit, "only a refund lowers a deposit");
    }
    assert!(after.header.claimed_total >= before.header.claimed_total, "what was claimed stays claimed");
    assert!(after.header.paid.iter().zip(&before.header.paid).all(|(new, old)| new >= old), "what was paid stays paid");
}

/// What went through was allowed to.
fn by_whom_and_when(before: &State, action: Action) {
    match action {
        Action::Open { slot, .. } => assert_eq!(before.at(slot).status(), Ok(Status::Free), "no slot is taken twice"),
        Action::Claim { slot, generation, .. } => {
            assert_ne!(before.at(slot).status(), Ok(Status::Free), "no claim after free");
            assert_eq!(before.at(slot).generation, generation, "no voucher outlives its channel");
        }
        Action::RequestClose { by_payer, .. } => assert!(by_payer, "nobody else begins to close for the payer"),
        Action::IdleClose { slot, .. } => {
            assert!(before.now >= before.at(slot).last_activity + 900, "not while it is used");
        }
        Action::Withdraw { slot } => {
            assert_eq!(before.at(slot).status(), Ok(Status::Closing));
            assert!(before.now >= before.at(slot).closing_at, "never within the grace period");
        }
        Action::TopUp { slot, generation, .. } => assert_eq!(before.at(slot).generation, generation),
        Action::Sign { .. } | Action::Refund { .. } | Action::Payout { .. } | Action::Tick => {}
    }
}

/// The same again, as a resend or a second claimant would do it.
fn idempotent(after: &State, action: Action) {
    let mut again = after.clone();
    if matches!(action, Action::Claim { .. } | Action::Refund { .. } | Action::Payout { .. }) {
        let refused = again.act(action);
        let is_over = matches!(refused, Err(Rejection::SlotFree));
        assert!(refused.is_ok() || is_over, "the same again is no error: {refused:?}");
        assert!(again.numbers() == after.numbers(), "the same again changes nothing");
    }
}

/// All that was signed and is covered can be claimed now, whether the payer is leaving or not.
fn payee_can_claim(state: &State, slot: u8, signed: Amount) {
    let mut claimed = state.clone();
    let generation = state.at(slot).generation;
    claimed.act(Action::Claim { slot, generation, cumulative: signed.get() }).expect("the payee can claim");
    assert_eq!(claimed.at(slot).settled, signed.min(state.at(slot).deposit), "in full");
}

/// Whatever anybody else has done, the payer gets all that is not settled, after the grace period at most.
fn payer_can_leave(state: &State, slot: u8) {
    let mut leaving = state.clone();
    let at = *state.at(slot);
    if at.status() == Ok(Status::Open) {
        let leave = Action::RequestClose { slot, generation: at.generation, by_payer: true };
        leaving.act(leave).expect("the payer can ask to leave");
    }
    let closing_at = leaving.at(slot).closing_at;
    assert!(closing_at <= state.now + i64::from(GRACE), "and waits no longer than the grace period");
    leaving.now = leaving.now.max(closing_at);
    leaving.act(Action::Withdraw { slot }).expect("the payer can leave");
    let rest = at.deposit.minus(at.settled).expect("settled is at most the deposit").get();
    assert_eq!(leaving.purse, state.purse + rest, "with all that is unspent");
    assert_eq!(leaving.at(slot).status(), Ok(Status::Free));
}

fn run(bounds: &Bounds) -> Explored {
    let header = PageHeader {
        page_domain: [7; 32],
        capacity: bounds.slots,
        version: PageHeader::VERSION,
        ..PageHeader::default()
    };
    let slots = usize::from(bounds.slots);
    let start = State {
        header,
        slots: vec![Slot::default(); slots],
        now: 0,
        signed: vec![0; slots],
        purse: bounds.tokens,
        vault: 0,
        paid: 0,
    };
    explore(bounds, start)
}

#[test]
fn given_one_slot_when_anything_happens_in_any_order_then_money_is_kept_and_both_sides_can_always_have_theirs() {
    let explored = run(&Bounds { slots: 1, tokens: 3, generations: 3, ticks: 5 });
    println!("slot, alone: {explored:?}");
    assert!(explored.states > 5_000, "{explored:?}");
    assert_eq!(explored.taken.len(), 10, "every kind of step was taken: {:?}", explored.taken.keys());
}

#[test]
fn given_two_slots_of_a_page_when_anything_happens_in_any_order_then_neither_touches_the_others_money() {
    let explored = run(&Bounds { slots: 2, tokens: 2, generations: 2, ticks: 3 });
    println!("slots, two of a page: {explored:?}");
    assert!(explored.states > 5_000, "{explored:?}");
    assert_eq!(explored.taken.len(), 10, "every kind of step was taken: {:?}", explored.taken.keys());
}
