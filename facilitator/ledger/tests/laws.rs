//! Laws that hold whatever happens, in whatever order.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod world;

use proptest::prelude::*;
use std::collections::HashMap;
use tallybook_ledger::{Bundle, Change, Finality, Ledger, Policy, Reservation, Settings};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection};
use world::{World, units};

const CHANNELS: u8 = 4;

/// One thing that can happen.
#[derive(Clone, Debug)]
enum Step {
    Reserve { slot: u8, price: u64, off_by: u64 },
    Commit { slot: u8, off_by: u64, percent: u64 },
    Repeat { which: usize },
    Stranger { slot: u8 },
    Adopt { slot: u8, signed: u64, charged: u64 },
    Release { slot: u8 },
    Settle { land: bool },
    Close { slot: u8 },
    Leave { slot: u8 },
    Refund { slot: u8, keep: u64 },
    Withdraw { slot: u8 },
    Reopen { slot: u8, deposit: u64 },
    Wait { seconds: i64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..CHANNELS;
    let off = prop_oneof![8 => Just(0u64), 1 => 1u64..50];
    prop_oneof![
        8 => (slot.clone(), 1u64..400, off.clone()).prop_map(|(slot, price, off_by)| Step::Reserve { slot, price, off_by }),
        8 => (slot.clone(), off, prop_oneof![3 => Just(100u64), 5 => 0u64..=100, 1 => 101u64..300])
            .prop_map(|(slot, off_by, percent)| Step::Commit { slot, off_by, percent }),
        2 => (0usize..100).prop_map(|which| Step::Repeat { which }),
        1 => slot.clone().prop_map(|slot| Step::Stranger { slot }),
        1 => (slot.clone(), 0u64..1_500, 0u64..1_500).prop_map(|(slot, signed, charged)| Step::Adopt { slot, signed, charged }),
        1 => slot.clone().prop_map(|slot| Step::Release { slot }),
        2 => any::<bool>().prop_map(|land| Step::Settle { land }),
        1 => slot.clone().prop_map(|slot| Step::Close { slot }),
        1 => slot.clone().prop_map(|slot| Step::Leave { slot }),
        1 => (slot.clone(), 0u64..2_000).prop_map(|(slot, keep)| Step::Refund { slot, keep }),
        1 => slot.clone().prop_map(|slot| Step::Withdraw { slot }),
        2 => (slot, 1u64..2_000).prop_map(|(slot, deposit)| Step::Reopen { slot, deposit }),
        1 => (0i64..1_000).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// A world with a disk.
struct Run {
    world: World,
    disk: Vec<Change>,
    /// What each channel has charged, counted anew: by what calls cost, what strangers claimed, what was adopted.
    counted: HashMap<[u8; 32], u64>,
    /// Every committed call: its voucher and its cost.
    paid: Vec<(SignedVoucher, u64)>,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new(CHANNELS);
        for slot in 0..CHANNELS {
            world.open(slot, 1_000);
        }
        Self { world, disk: Vec::new(), counted: HashMap::new(), paid: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        let now = self.world.now;
        match *step {
            Step::Reserve { slot, price, off_by } => self.reserve(slot, price, off_by),
            Step::Commit { slot, off_by, percent } => self.commit(slot, off_by, percent),
            Step::Repeat { which } => self.repeat(which),
            Step::Stranger { slot } => self.stranger(slot),
            Step::Adopt { slot, signed, charged } => self.adopt(slot, signed, charged),
            Step::Release { slot } => {
                if let Some(held) = self.held(slot) {
                    self.world.ledger.release(&held).unwrap();
                }
            }
            Step::Settle { land } => self.settle(land),
            Step::Close { slot } => {
                let at = self.world.slots[usize::from(slot)];
                let _ = self.world.page().request_close(slot, at.generation, &at.payer, 900, now);
            }
            Step::Leave { slot } => {
                if let Some(channel) = self.world.ledger.channel(&self.world.id(slot)) {
                    let voucher = self.world.voucher(slot, channel.charged().get());
                    if let Ok(left) = self.world.ledger.leave(voucher, now) {
                        self.disk.extend(left.change.map(Change::Channel));
                    }
                }
            }
            Step::Refund { slot, keep } => {
                let generation = self.world.slots[usize::from(slot)].generation;
                let _ = self.world.page().refund(slot, generation, units(keep));
            }
            Step::Withdraw { slot } => {
                let _ = self.world.page().withdraw(slot, now);
            }
            Step::Reopen { slot, deposit } => {
                if self.world.slots[usize::from(slot)].deposit.is_zero() {
                    self.world.open_unseen(slot, deposit);
                }
            }
            Step::Wait { seconds } => self.world.now += seconds,
            Step::Restart => self.restart(),
        }
        self.world.see();
        let ended = self.world.see_final();
        self.disk.extend(ended);
    }

    fn reservation(&self, slot: u8) -> Option<Reservation> {
        self.world.ledger.channel(&self.world.id(slot))?.reserved(self.world.now)
    }

    fn held(&self, slot: u8) -> Option<SignedVoucher> {
        Some(*self.reservation(slot)?.voucher.voucher())
    }

    fn count(&mut self, channel: [u8; 32], charged: u64) {
        let counted = self.counted.entry(channel).or_default();
        *counted = charged.max(*counted);
    }

    /// Accepted exactly when the chain would settle all of it, and the amount is right.
    fn reserve(&mut self, slot: u8, price: u64, off_by: u64) {
        let Some(channel) = self.world.ledger.channel(&self.world.id(slot)) else {
            return;
        };
        let cumulative = channel.charged().get() + price + off_by;
        let mut on_chain = self.world.slots[usize::from(slot)];
        let settles = on_chain.claim(units(cumulative), 0).is_ok() && on_chain.settled == units(cumulative);
        match self.world.reserve(slot, cumulative, price) {
            Ok(_) => assert!(settles && off_by == 0),
            Err(Rejection::DepositExceeded) => assert!(!settles),
            Err(Rejection::WrongCumulative) => assert_ne!(off_by, 0),
            Err(rejection) => assert!(
                [Rejection::ChannelBusy, Rejection::ChannelClosing, Rejection::VoucherUsed].contains(&rejection),
                "{rejection:?}"
            ),
        }
    }

    /// Charges exactly what the call cost, once.
    fn commit(&mut self, slot: u8, off_by: u64, percent: u64) {
        let Some(reserved) = self.reservation(slot) else { return };
        let held = *reserved.voucher.voucher();
        let before = self.world.channel(slot);
        let charge = reserved.amount.get() * percent / 100;
        let result = self.world.commit_for(slot, held.cumulative.get() + off_by, charge);
        let above = off_by == 0 && charge > reserved.amount.get();
        let Ok(committed) = result else {
            assert_eq!(self.world.channel(slot), before, "a refused commit changes nothing");
            let expected = match (off_by, above) {
                (0, true) => Rejection::ChargeAboveCeiling,
                // The payee took the deposit back meanwhile: the one thing that can make a good call worth nothing.
                (0, false) => Rejection::DepositExceeded,
                _ => Rejection::NoReservation,
            };
            assert_eq!(result.unwrap_err().rejection, expected);
            return;
        };
        if off_by != 0 {
            assert_eq!((committed.channel, committed.change), (before, None), "the last call's voucher, as before");
            return;
        }
        assert!(!above);
        self.count(held.channel_id, held.cumulative.get() - reserved.amount.get() + charge);
        let again = self.world.commit_for(slot, held.cumulative.get(), reserved.amount.get()).unwrap();
        assert_eq!((again.channel, again.charge, again.change), (committed.channel, units(charge), None));
        self.disk.push(Change::Channel(committed.change.unwrap()));
        self.paid.push((held, charge));
    }

    /// A voucher that has paid for a call pays for no other, however often it is committed again.
    fn repeat(&mut self, which: usize) {
        let Some((voucher, _)) = self.paid.get(which % self.paid.len().max(1)).copied() else { return };
        let Some(before) = self.world.ledger.channel(&voucher.channel_id) else { return };
        let now = self.world.now;
        if before.reserved(now).is_some_and(|reserved| *reserved.voucher.voucher() == voucher) {
            return;
        }
        let repeated = self.world.ledger.commit(&voucher, units(u64::MAX), now);
        let newest_call = self.paid.iter().rev().find(|(paid, _)| paid.channel_id == voucher.channel_id).unwrap();
        match repeated {
            Ok(committed) => {
                assert_eq!(newest_call.0, voucher);
                assert_eq!((committed.charge, committed.change), (units(newest_call.1), None));
            }
            Err(refused) => {
                assert_ne!(newest_call.0, voucher);
                assert_eq!(refused.rejection, Rejection::NoReservation);
            }
        }
        assert_eq!(self.world.ledger.channel(&voucher.channel_id), Some(before));
    }

    /// Whoever holds a voucher may claim all of it.
    fn stranger(&mut self, slot: u8) {
        let newest = self.world.ledger.channel(&self.world.id(slot)).and_then(|channel| channel.newest().copied());
        let Some(voucher) = self.held(slot).or(newest) else { return };
        let now = self.world.now;
        if self.world.page().claim(slot, voucher.cumulative, now).is_ok() {
            self.count(voucher.channel_id, self.world.slots[usize::from(slot)].settled.get());
        }
    }

    /// The larger of each counts, whatever comes in whatever order.
    fn adopt(&mut self, slot: u8, signed: u64, charged: u64) {
        let Some(before) = self.world.ledger.channel(&self.world.id(slot)) else { return };
        let (voucher, now) = (self.world.voucher(slot, signed), self.world.now);
        let Ok(adopted) = self.world.ledger.adopt(voucher, units(charged), now) else {
            assert_eq!(self.world.channel(slot), before, "a refused voucher changes nothing");
            assert!(charged > signed || units(signed) > before.deposit());
            return;
        };
        assert_eq!(adopted.channel.charged(), before.charged().max(units(charged)));
        assert_eq!(adopted.channel.signed(), before.signed().max(units(signed)));
        assert_eq!(self.world.ledger.adopt(voucher, units(charged), now).unwrap().change, None);
        self.count(*before.id(), charged);
        self.disk.extend(adopted.change.map(Change::Channel));
    }

    /// What is planned gains exactly what it says, and nothing waits after it has landed.
    fn settle(&mut self, land: bool) {
        let policy = Policy { per_call: true, rows_per_batch: 3, due_age_seconds: 0, ..Policy::default() };
        let bundles = self.world.ledger.plan(self.world.now, &policy);
        for bundle in &bundles {
            self.world.ledger.sent(bundle.channel_ids());
        }
        assert_eq!(self.world.ledger.plan(self.world.now, &policy), []);
        for batch in bundles.iter().flat_map(Bundle::batches) {
            if land {
                assert_eq!(Ok(self.world.land(batch)), batch.gain());
            }
            self.world.see();
            self.world.ledger.ended(batch.channel_ids(), &[], self.world.now);
        }
        let left = self.world.ledger.plan(self.world.now, &policy);
        assert_eq!(left.is_empty(), land || bundles.is_empty());
    }

    /// Replay: a new ledger from the disk and the chain is the old one without its reservations.
    fn restart(&mut self) {
        let mut before: Vec<_> = self.world.ledger.channels().collect();
        self.world.ledger = replay(&self.disk);
        self.world.see();
        self.world.observe(Finality::Final);
        before.retain(|channel| self.world.ledger.channel(channel.id()).is_some());
        for old in &before {
            let new = self.world.ledger.channel(old.id()).unwrap();
            let numbers = |channel: &tallybook_ledger::Channel| {
                (
                    channel.deposit(),
                    channel.settled(),
                    channel.charged(),
                    channel.signed(),
                    channel.gain(),
                    channel.newest().copied(),
                    channel.is_closing(),
                    *channel.on_chain(),
                )
            };
            assert_eq!(numbers(&new), numbers(old));
        }
        assert_eq!(before.len(), self.world.ledger.len());
        let calls: Vec<_> = self.paid.clone();
        for (at, (voucher, charge)) in calls.iter().enumerate() {
            let is_last = !calls.iter().skip(at + 1).any(|(later, _)| later.channel_id == voucher.channel_id);
            if is_last && self.world.ledger.channel(&voucher.channel_id).is_some() {
                let again = self.world.ledger.commit(voucher, Amount::ZERO, self.world.now).unwrap();
                assert_eq!((again.charge, again.change), (units(*charge), None), "the same answer after a restart");
            }
        }
    }
}

/// The last record of each channel that is not over, as a store gives them back.
fn replay(disk: &[Change]) -> Ledger {
    let mut records = std::collections::BTreeMap::new();
    for change in disk {
        match change {
            Change::Channel(record) => drop(records.insert(record.voucher.channel_id, *record)),
            Change::Over { channel_id } => drop(records.remove(channel_id)),
            Change::Planned(_)
            | Change::Sending { .. }
            | Change::Ended { .. }
            | Change::Spent { .. }
            | Change::Payment(_)
            | Change::PaymentOver { .. }
            | Change::Listing(_)
            | Change::Unlisted { .. }
            | Change::Table { .. } => {
                panic!("not a ledger's change: {change:?}")
            }
        }
    }
    let mut ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
    records.values().for_each(|record| ledger.restore(*record).unwrap());
    ledger
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_happens_the_four_numbers_stay_in_order_never_fall_and_are_what_calls_cost(steps in proptest::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            let before: Vec<_> = run.world.ledger.channels().collect();
            run.take(step);
            prop_assert_eq!(run.world.ledger.check(), Ok(()), "what waits is what a count gives");
            for channel in run.world.ledger.channels() {
                prop_assert_eq!(channel.check(), Ok(()));
                let counted = run.counted.get(channel.id()).copied().unwrap_or_default();
                prop_assert_eq!(channel.charged(), units(counted), "what calls cost, and nothing else");
            }
            for old in before {
                if let Some(new) = run.world.ledger.channel(old.id()) {
                    prop_assert!(new.charged() >= old.charged() && new.settled() >= old.settled());
                    prop_assert!(new.signed() >= old.signed(), "a voucher over less never replaces one over more");
                }
            }
        }
        run.restart();
    }

    #[test]
    fn the_order_in_which_channels_pay_does_not_change_the_plan(
        order in Just((0..6u8).collect::<Vec<_>>()).prop_shuffle(),
        prices in proptest::collection::vec(1u64..500, 6),
    ) {
        let plan = |order: &[u8]| {
            let mut world = World::new(6);
            (0..6).for_each(|slot| { world.open(slot, 1_000); });
            for slot in order {
                world.pay(*slot, prices[usize::from(*slot)]).unwrap();
            }
            let policy = Policy { per_call: true, rows_per_batch: 4, ..Policy::default() };
            world.ledger.plan(world.now, &policy)
        };
        let bundles = plan(&order);
        prop_assert_eq!(&bundles, &plan(&[0, 1, 2, 3, 4, 5]));
        let total: u64 = bundles.iter().flat_map(Bundle::batches).map(|batch| batch.gain().unwrap().get()).sum();
        prop_assert_eq!(total, prices.iter().sum::<u64>());
    }
}
