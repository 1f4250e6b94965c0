//! What holds of a page through any life of its channels.

#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::as_conversions,
    reason = "a test"
)]

use proptest::prelude::*;
use tallybook_rules::{Amount, Leg, Opening, Page, PageHeader, Rejection, Slot, Status, Terms};

const CAPACITY: u8 = 4;
const GRACE_SECONDS: u32 = 900;
const TERMS: Terms =
    Terms { grace_seconds: GRACE_SECONDS, max_idle_seconds: 86_400, min_deposit: Amount::new(100), open_policy: 0 };

/// Everything that can happen to a page, with arguments good and bad.
#[derive(Clone, Debug)]
enum Step {
    Open { slot: u8, generation_skew: u8, deposit: u64 },
    Fund { slot: u8, amount: u64 },
    Claim { slot: u8, cumulative: u64 },
    TopUp { slot: u8, generation_skew: u8, amount: u64 },
    RequestClose { slot: u8, payer: u8 },
    IdleClose { slot: u8 },
    Withdraw { slot: u8 },
    Refund { slot: u8, keep: u64 },
    Payout { leg: usize },
    Wait { seconds: u16 },
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..2_000,
        Just(Amount::MAX_DEPOSIT.get()),
        Just(Amount::DEPOSIT_LIMIT.get()),
        Just(u64::MAX),
        any::<u64>()
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0u8..=CAPACITY;
    prop_oneof![
        3 => (slot.clone(), prop_oneof![8 => Just(0u8), 1 => 1u8..3], amount())
            .prop_map(|(slot, generation_skew, deposit)| Step::Open { slot, generation_skew, deposit }),
        1 => (slot.clone(), amount()).prop_map(|(slot, amount)| Step::Fund { slot, amount }),
        5 => (slot.clone(), amount()).prop_map(|(slot, cumulative)| Step::Claim { slot, cumulative }),
        1 => (slot.clone(), 0u8..6).prop_map(|(slot, payer)| Step::RequestClose { slot, payer }),
        1 => (slot.clone(), prop_oneof![8 => Just(0u8), 1 => 1u8..3], amount())
            .prop_map(|(slot, generation_skew, amount)| Step::TopUp { slot, generation_skew, amount }),
        1 => slot.clone().prop_map(|slot| Step::IdleClose { slot }),
        1 => slot.clone().prop_map(|slot| Step::Withdraw { slot }),
        1 => (slot, amount()).prop_map(|(slot, keep)| Step::Refund { slot, keep }),
        2 => (0usize..3).prop_map(|leg| Step::Payout { leg }),
        1 => any::<u16>().prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// The page under test, beside a vault that is only ever moved by what the transitions say.
struct World {
    header: PageHeader,
    slots: [Slot; CAPACITY as usize],
    legs: [Leg; 2],
    vault: u128,
    now: i64,
}

impl World {
    fn new() -> Self {
        let leg = |basis_points| Leg { basis_points, ..Leg::default() };
        let header = PageHeader { capacity: CAPACITY, version: PageHeader::VERSION, ..PageHeader::default() };
        Self { header, slots: Default::default(), legs: [leg(6_667), leg(3_333)], vault: 0, now: 1_000_000 }
    }

    fn page(&mut self) -> Page<'_> {
        Page { header: &mut self.header, slots: &mut self.slots }
    }

    fn payer(slot: u8) -> [u8; 32] {
        [slot + 1; 32]
    }

    fn generation(&self, slot: u8) -> u32 {
        self.slots.get(usize::from(slot)).map_or(0, |slot| slot.generation)
    }

    fn apply(&mut self, step: &Step) -> Result<(), Rejection> {
        let now = self.now;
        match *step {
            Step::Open { slot, generation_skew, deposit } => {
                let generation = self.generation(slot) + 1 + u32::from(generation_skew);
                let opening =
                    Opening { payer: Self::payer(slot), signer: [9; 32], generation, deposit: Amount::new(deposit) };
                self.page().open(slot, &opening, Amount::new(100), now)?;
                self.vault += u128::from(deposit);
            }
            Step::Fund { slot, amount } => {
                self.page().fund(slot, Amount::new(amount))?;
                self.vault += u128::from(amount);
            }
            Step::Claim { slot, cumulative } => {
                self.page().claim(slot, Amount::new(cumulative), now)?;
            }
            Step::RequestClose { slot, payer } => {
                let generation = self.generation(slot);
                self.page().request_close(slot, generation, &Self::payer(payer), GRACE_SECONDS, now)?;
            }
            Step::TopUp { slot, generation_skew, amount } => {
                let generation = self.generation(slot) + u32::from(generation_skew);
                self.page().top_up(slot, generation, Amount::new(amount))?;
                self.vault += u128::from(amount);
            }
            Step::IdleClose { slot } => {
                let generation = self.generation(slot);
                self.page().idle_close(slot, generation, &TERMS, now)?;
            }
            Step::Withdraw { slot } => {
                let returned = self.page().withdraw(slot, now)?;
                self.vault -= u128::from(returned.amount.get());
            }
            Step::Refund { slot, keep } => {
                let generation = self.generation(slot);
                let returned = self.page().refund(slot, generation, Amount::new(keep))?;
                self.vault -= u128::from(returned.amount.get());
                let again = self.page().refund(slot, generation, Amount::new(keep))?;
                assert_eq!(again.amount, Amount::ZERO, "a repeated refund returned more");
            }
            Step::Payout { leg } => {
                let share = *self.legs.get(leg).ok_or(Rejection::AccountCountMismatch)?;
                let paid = self.header.pay(leg, &share)?;
                self.vault -= u128::from(paid.get());
                assert_eq!(self.header.owed(leg, &share), Ok(Amount::ZERO), "something stayed owed after a payout");
            }
            Step::Wait { seconds } => self.now += i64::from(seconds),
        }
        Ok(())
    }

    fn check(&mut self) {
        self.page().check().unwrap();
        let owed = self.header.owed_in_all().unwrap();
        assert_eq!(u128::from(owed.get()), self.vault, "the vault does not hold exactly what is owed");
        self.header.check_vault(owed).unwrap();
        assert!(owed.is_zero() || self.header.check_vault(Amount::new(owed.get() - 1)).is_err());
    }
}

/// A slot of any status and amounts.
fn any_slot() -> impl Strategy<Value = Slot> {
    let status = prop_oneof![1 => Just(0u8), 3 => Just(1u8), 1 => Just(2u8), 1 => any::<u8>()];
    let amount = || prop_oneof![1 => Just(0u64), 2 => amount()];
    (amount(), amount(), status).prop_map(|(deposit, settled, status_byte)| Slot {
        deposit: Amount::new(deposit),
        settled: Amount::new(settled),
        status_byte,
        ..Slot::default()
    })
}

/// A slot that holds its invariants.
fn sound_slot() -> impl Strategy<Value = Slot> {
    (0u64..4, 0u64..4, 0u8..3).prop_map(|(deposit, settled, status_byte)| match status_byte {
        0 => Slot::default(),
        _ => Slot {
            deposit: Amount::new(deposit.max(settled)),
            settled: Amount::new(settled),
            status_byte,
            ..Slot::default()
        },
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// The check of a page, written to be cheap on chain, is the check of each slot and the plain sums.
    #[test]
    fn given_any_slots_and_totals_when_checked_then_they_hold_exactly_where_each_slot_and_the_sums_do(
        mut slots in prop::collection::vec(sound_slot(), 0..40),
        odd in prop::option::of((any_slot(), any::<prop::sample::Index>())),
        off in prop_oneof![8 => Just(0u64), 1 => Just(1u64), 1 => any::<u64>()],
        used_off in prop_oneof![8 => Just(0u8), 1 => Just(1u8)],
    ) {
        if let Some((slot, at)) = odd {
            slots.insert(at.index(slots.len() + 1), slot);
        }
        let difference = |slot: &Slot| u128::from(slot.deposit.get()).wrapping_sub(u128::from(slot.settled.get()));
        let in_use = slots.iter().filter(|slot| slot.status_byte != 0);
        let used = in_use.clone().count() as u8;
        let outstanding = in_use.map(difference).fold(0u128, u128::wrapping_add) as u64;
        let mut header = PageHeader {
            outstanding: Amount::new(outstanding.wrapping_add(off)),
            used: used.wrapping_add(used_off),
            capacity: slots.len() as u8,
            ..PageHeader::default()
        };
        let holds = slots.iter().all(|slot| slot.check().is_ok()) && off == 0 && used_off == 0;
        let page = Page { header: &mut header, slots: &mut slots };
        prop_assert_eq!(page.check(), if holds { Ok(()) } else { Err(Rejection::InvariantBroken) });
    }

    /// Conservation, monotonicity, and nothing changed by a rejection, through any life of a page.
    #[test]
    fn given_any_steps_then_tokens_are_conserved_and_totals_never_fall(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            let before = (world.header, world.slots);
            let outcome = world.apply(step);
            world.check();
            if outcome.is_err() {
                prop_assert_eq!(before, (world.header, world.slots), "{:?} was rejected and changed something", step);
            }
            prop_assert!(world.header.claimed_total >= before.0.claimed_total);
            for (slot, old) in world.slots.iter().zip(&before.1) {
                prop_assert!(slot.generation >= old.generation);
                if slot.generation == old.generation && slot.status() != Ok(Status::Free) {
                    prop_assert!(slot.settled >= old.settled);
                }
            }
        }
    }

    /// Vouchers of several channels claimed in any order, any number of times, settle the same.
    #[test]
    fn given_vouchers_when_claimed_in_any_order_and_again_then_the_books_are_the_same(
        vouchers in prop::collection::vec((0..CAPACITY, 0u64..3_000), 1..40),
        order in any::<prop::sample::Index>(),
    ) {
        let open = |world: &mut World| {
            for slot in 0..CAPACITY {
                world.apply(&Step::Open { slot, generation_skew: 0, deposit: 2_000 }).unwrap();
            }
        };
        let (mut straight, mut turned) = (World::new(), World::new());
        open(&mut straight);
        open(&mut turned);
        for (slot, cumulative) in &vouchers {
            straight.apply(&Step::Claim { slot: *slot, cumulative: *cumulative }).unwrap();
        }
        let mut shuffled = [vouchers.clone(), vouchers.clone()].concat();
        let turn = order.index(shuffled.len());
        shuffled.rotate_left(turn);
        shuffled.reverse();
        for (slot, cumulative) in shuffled {
            turned.apply(&Step::Claim { slot, cumulative }).unwrap();
        }
        prop_assert_eq!(straight.header, turned.header);
        prop_assert_eq!(straight.slots, turned.slots);
    }

    /// However totals grow and whenever legs are paid, no leg gets more than its share, nor all more than the whole.
    #[test]
    fn given_any_split_when_paid_at_any_times_then_no_leg_gets_more_than_its_share(
        points in 0u16..=10_000,
        claims in prop::collection::vec((0u64..1 << 40, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let leg = |basis_points| Leg { basis_points, ..Leg::default() };
        let legs = [leg(10_000 - points), leg(points)];
        let mut header = PageHeader { outstanding: Amount::new(u64::MAX), ..PageHeader::default() };
        for (added, first, second) in claims {
            header.record_claim(Amount::new(added)).unwrap();
            for (at, leg) in legs.iter().enumerate().filter(|(at, _)| [first, second][*at]) {
                header.pay(at, leg).unwrap();
                prop_assert_eq!(header.paid[at], header.claimed_total.share(leg.basis_points).unwrap());
            }
            prop_assert!(header.paid[0].plus(header.paid[1]).unwrap() <= header.claimed_total);
        }
    }
}

fn opened() -> World {
    let mut world = World::new();
    world.apply(&Step::Open { slot: 0, generation_skew: 0, deposit: 1_000 }).unwrap();
    world
}

#[test]
fn given_a_taken_slot_when_opened_again_then_it_is_refused() {
    assert_eq!(opened().apply(&Step::Open { slot: 0, generation_skew: 0, deposit: 1_000 }), Err(Rejection::SlotTaken));
}

#[test]
fn given_a_free_slot_when_opened_badly_then_the_first_reason_is_named() {
    let mut world = World::new();
    let mut open = |slot, generation_skew, deposit| world.apply(&Step::Open { slot, generation_skew, deposit });
    assert_eq!(open(CAPACITY, 0, 1_000), Err(Rejection::NoSuchSlot));
    assert_eq!(open(0, 1, 99), Err(Rejection::WrongGeneration));
    assert_eq!(open(0, 0, 99), Err(Rejection::DepositTooSmall));
    assert_eq!(open(0, 0, 1 << 48), Err(Rejection::DepositTooLarge));
    assert_eq!(open(0, 0, (1 << 48) - 1), Ok(()));
}

#[test]
fn given_a_voucher_above_the_deposit_when_claimed_then_the_deposit_is_all_it_gets() {
    let mut world = opened();
    assert_eq!(world.page().claim(0, Amount::new(u64::MAX), 5), Ok(Amount::new(1_000)));
    assert_eq!(world.page().claim(0, Amount::new(u64::MAX), 6), Ok(Amount::ZERO));
    assert_eq!(world.slots[0].last_activity, 5, "a claim of nothing is no activity");
}

#[test]
fn given_a_closing_channel_then_it_is_claimed_until_withdrawn_and_not_before_the_grace_period_ends() {
    let mut world = opened();
    let start = world.now;
    assert_eq!(world.apply(&Step::RequestClose { slot: 0, payer: 3 }), Err(Rejection::WrongPayer));
    world.apply(&Step::RequestClose { slot: 0, payer: 0 }).unwrap();
    assert_eq!(world.apply(&Step::RequestClose { slot: 0, payer: 0 }), Err(Rejection::SlotNotOpen));
    assert_eq!(world.apply(&Step::Fund { slot: 0, amount: 1 }), Err(Rejection::SlotNotOpen));
    assert_eq!(world.page().withdraw(0, start + 899).map(|_| ()), Err(Rejection::GraceNotOver));
    assert_eq!(world.page().claim(0, Amount::new(400), start + 5_000), Ok(Amount::new(400)));
    assert_eq!(world.page().withdraw(0, start + 900).map(|returned| returned.amount), Ok(Amount::new(600)));
    assert_eq!(world.page().claim(0, Amount::new(500), start), Err(Rejection::SlotFree));
    assert_eq!(world.slots[0], Slot { generation: 1, ..Slot::default() }, "a freed slot keeps its generation alone");
}

#[test]
fn given_a_refund_of_an_older_or_future_generation_then_it_returns_nothing_or_is_refused() {
    let mut world = opened();
    assert_eq!(world.page().refund(0, 1, Amount::ZERO).map(|returned| returned.amount), Ok(Amount::new(1_000)));
    world.apply(&Step::Open { slot: 0, generation_skew: 0, deposit: 700 }).unwrap();
    assert_eq!(world.page().refund(0, 1, Amount::ZERO).map(|returned| returned.amount), Ok(Amount::ZERO));
    assert_eq!(world.page().refund(0, 3, Amount::ZERO).map(|_| ()), Err(Rejection::WrongGeneration));
}

#[test]
fn given_a_channel_when_nobody_claims_for_long_then_it_may_be_closed_with_the_same_grace() {
    let mut world = opened();
    let start = world.now;
    let never = Terms { max_idle_seconds: 0, ..TERMS };
    assert_eq!(world.page().idle_close(0, 1, &never, i64::MAX), Err(Rejection::IdleCloseOff));
    assert_eq!(world.page().idle_close(0, 2, &TERMS, i64::MAX), Err(Rejection::WrongGeneration));
    assert_eq!(world.page().idle_close(0, 1, &TERMS, start + 86_399), Err(Rejection::NotIdle));
    world.page().claim(0, Amount::new(1), start + 86_399).unwrap();
    assert_eq!(world.page().idle_close(0, 1, &TERMS, start + 86_400), Err(Rejection::NotIdle), "a claim is activity");
    let idle_at = start + 86_399 + 86_400;
    assert_eq!(world.page().idle_close(0, 1, &TERMS, idle_at), Ok(idle_at + 900));
    assert_eq!(world.page().idle_close(0, 1, &TERMS, idle_at), Err(Rejection::SlotNotOpen));
}

#[test]
fn given_a_channel_when_topped_up_then_only_its_own_generation_takes_the_money() {
    let mut world = opened();
    assert_eq!(world.page().top_up(0, 2, Amount::new(5)), Err(Rejection::WrongGeneration));
    assert_eq!(world.page().top_up(0, 1, Amount::ZERO), Err(Rejection::DepositTooSmall));
    assert_eq!(world.page().top_up(0, 1, Amount::MAX_DEPOSIT), Err(Rejection::DepositTooLarge));
    assert_eq!(world.page().top_up(0, 1, Amount::new(5)), Ok(()));
    assert_eq!(world.slots[0].deposit, Amount::new(1_005));
    assert_eq!(world.page().top_up(1, 0, Amount::new(5)), Err(Rejection::SlotNotOpen), "a free slot");
}

#[test]
fn given_a_page_when_used_or_owing_then_it_cannot_be_closed() {
    let mut world = opened();
    world.page().claim(0, Amount::new(999), 5).unwrap();
    let legs = world.legs;
    assert_eq!(world.header.check_closable(&legs), Err(Rejection::PageInUse));
    world.page().refund(0, 1, Amount::ZERO).unwrap();
    assert_eq!(world.header.check_closable(&legs), Err(Rejection::LegsUnpaid));
    for (at, leg) in legs.iter().enumerate() {
        world.header.pay(at, leg).unwrap();
    }
    assert_eq!(world.header.check_closable(&legs), Ok(()));
    assert_eq!(world.header.owed_in_all(), Ok(Amount::new(1)), "666.0333 and 332.9667 leave one unit of dust");
}
