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
use tallybook_ledger::{Change, Finality, Ledger, Policy, Settings};
use tallybook_rules::{Amount, Rejection};
use world::{World, units};

const CHANNELS: u8 = 4;

/// One thing that can happen.
#[derive(Clone, Debug)]
enum Step {
    Reserve { slot: u8, price: u64, off_by: u64 },
    Commit { slot: u8, off_by: u64 },
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
        8 => (slot.clone(), off).prop_map(|(slot, off_by)| Step::Commit { slot, off_by }),
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
}

impl Run {
    fn new() -> Self {
        let mut world = World::new(CHANNELS);
        for slot in 0..CHANNELS {
            world.open(slot, 1_000);
        }
        Self {
            world,
            disk: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        let now = self.world.now;
        match *step {
            Step::Reserve { slot, price, off_by } => self.reserve(slot, price, off_by),
            Step::Commit { slot, off_by } => self.commit(slot, off_by),
            Step::Release { slot } => {
                if let Some(held) = self.held(slot) {
                    self.world.ledger.release(&held).unwrap();
                }
            }
            Step::Settle { land } => self.settle(land),
            Step::Close { slot } => {
                let at = self.world.slots[usize::from(slot)];
                let _ = self
                    .world
                    .page()
                    .request_close(slot, at.generation, &at.payer, 900, now);
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

    fn held(&self, slot: u8) -> Option<tallybook_rules::signing::SignedVoucher> {
        let channel = self.world.ledger.channel(&self.world.id(slot))?;
        Some(*channel.reserved(self.world.now)?.voucher.voucher())
    }

    /// Accepted exactly when the chain would settle all of it, and the amount is right.
    fn reserve(&mut self, slot: u8, price: u64, off_by: u64) {
        let Some(channel) = self.world.ledger.channel(&self.world.id(slot)).copied() else {
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
                [
                    Rejection::ChannelBusy,
                    Rejection::ChannelClosing,
                    Rejection::VoucherUsed
                ]
                .contains(&rejection),
                "{rejection:?}"
            ),
        }
    }

    fn commit(&mut self, slot: u8, off_by: u64) {
        let Some(held) = self.held(slot) else { return };
        let before = *self.world.channel(slot);
        let result = self.world.commit(slot, held.cumulative.get() + off_by);
        let Ok(committed) = result else {
            assert_eq!(*self.world.channel(slot), before, "a refused commit changes nothing");
            return;
        };
        assert_eq!(committed.channel.charged(), held.cumulative);
        assert!(committed.channel.charged() > before.charged());
        let again = self.world.commit(slot, held.cumulative.get()).unwrap();
        assert_eq!((again.channel, again.change), (committed.channel, None));
        self.disk.push(Change::Channel(committed.change.unwrap()));
    }

    /// What is planned gains exactly what it says, and nothing waits after it has landed.
    fn settle(&mut self, land: bool) {
        let policy = Policy {
            per_call: true,
            rows_per_batch: 3,
            due_age_seconds: 0,
            ..Policy::default()
        };
        let batches = self.world.ledger.plan(self.world.now, &policy);
        for batch in &batches {
            self.world.ledger.sent(batch.channel_ids());
        }
        assert_eq!(self.world.ledger.plan(self.world.now, &policy), []);
        for batch in &batches {
            if land {
                assert_eq!(Ok(self.world.land(batch)), batch.gain());
            }
            self.world.see();
            self.world.ledger.ended(batch.channel_ids(), &[], self.world.now);
        }
        let left = self.world.ledger.plan(self.world.now, &policy);
        assert_eq!(left.is_empty(), land || batches.is_empty());
    }

    /// Replay: a new ledger from the disk and the chain is the old one without its reservations.
    fn restart(&mut self) {
        let mut before: Vec<_> = self.world.ledger.channels().copied().collect();
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
            assert_eq!(numbers(new), numbers(old));
        }
        assert_eq!(before.len(), self.world.ledger.channels().len());
    }
}

/// The last record of each channel that is not over, as a store gives them back.
fn replay(disk: &[Change]) -> Ledger {
    let mut records = std::collections::BTreeMap::new();
    for change in disk {
        match change {
            Change::Channel(record) => drop(records.insert(record.voucher.channel_id, *record)),
            Change::Over { channel_id } => drop(records.remove(channel_id)),
            Change::Planned(_) | Change::Sending { .. } | Change::Ended { .. } | Change::Table { .. } => {
                panic!("not a ledger's change: {change:?}")
            }
        }
    }
    let mut ledger = Ledger::new(Settings {
        credit: Amount::MAX_DEPOSIT,
        ..Settings::default()
    });
    records.values().for_each(|record| ledger.restore(*record).unwrap());
    ledger
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_happens_the_four_numbers_stay_in_order_and_never_fall(steps in proptest::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            let before: Vec<_> = run.world.ledger.channels().copied().collect();
            run.take(step);
            for channel in run.world.ledger.channels() {
                prop_assert_eq!(channel.check(), Ok(()));
            }
            for old in before {
                if let Some(new) = run.world.ledger.channel(old.id()) {
                    prop_assert!(new.charged() >= old.charged() && new.settled() >= old.settled());
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
        let batches = plan(&order);
        prop_assert_eq!(&batches, &plan(&[0, 1, 2, 3, 4, 5]));
        let total: u64 = batches.iter().map(|batch| batch.gain().unwrap().get()).sum();
        prop_assert_eq!(total, prices.iter().sum::<u64>());
    }
}
