//! The ledger off chain against the real program: what the ledger accepts, the chain settles in full.
//!
//! Random calls, openings, top-ups, leavings and settlements drive both. Whenever the ledger accepts a voucher, a claim of it
//! is tried on the chain as it stands; whenever it plans a batch, the batch lands as it is; and in the end the payee has
//! been paid all that calls cost. Now and then the ledger sees late what happened on chain, as a watcher does.

use crate::vouchers::Batch;
use crate::world::{Channel, GRACE_SECONDS, MIN_DEPOSIT, Setup, TALLYBOOK, World, key};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use solana_signer::Signer;
use std::collections::BTreeMap;
use tallybook_chain::PageView;
use tallybook_chain::instruction::{Addition, RefundRow};
use tallybook_ledger::{Capacity, Finality, Ledger, PageSeen, Policy, Settings};
use tallybook_rules::half_aggregation::BelowRow;
use tallybook_rules::signing::{SignedVoucher, SigningKey, VerifiedVoucher};
use tallybook_rules::{Amount, Rejection, Status};

const CAPACITY: u8 = 6;
const POLICY: Policy = Policy {
    rows_per_batch: 4,
    rows_per_batch_below: 3,
    capacity: Capacity::ONE_PAGE,
    due_amount: Amount::ZERO,
    due_age_seconds: 0,
    due_rows: 1,
    per_call: true,
};

struct Both {
    world: World,
    ledger: Ledger,
    random: StdRng,
    channels: BTreeMap<u8, Channel>,
    /// Channels that were freed, whose vouchers are still about.
    old: Vec<Channel>,
    /// Vouchers of calls that failed: signed, never charged. Whoever has one may claim it.
    loose: Vec<(u8, VerifiedVoucher)>,
    /// What calls have cost, over all channels that are there, by channel.
    cost: BTreeMap<[u8; 32], u64>,
    /// How often the page was seen.
    sights: u64,
    tally: BTreeMap<&'static str, u32>,
}

impl Both {
    fn new(seed: u64) -> Self {
        let mut world = World::with(Setup { capacity: CAPACITY, ..Setup::default() });
        world.fund(&key("payee").pubkey(), 0);
        let mut both = Self {
            world,
            ledger: Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() }),
            random: StdRng::seed_from_u64(seed),
            channels: BTreeMap::new(),
            old: Vec::new(),
            loose: Vec::new(),
            cost: BTreeMap::new(),
            sights: 0,
            tally: BTreeMap::new(),
        };
        both.see();
        both
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// The ledger reads the page as it is.
    fn see(&mut self) {
        self.sights += 1;
        let view = self.world.page_view();
        let seen = PageSeen {
            address: self.world.page.to_bytes(),
            chain_slot: self.sights,
            header: &view.header,
            slots: &view.slots,
        };
        self.ledger.observe(&seen, Finality::Confirmed, self.world.now()).unwrap();
    }

    /// A slot with a channel.
    fn slot(&mut self) -> Option<u8> {
        let slots: Vec<u8> = self.channels.keys().copied().collect();
        slots.choose(&mut self.random).copied()
    }

    // --- what happens on chain

    fn open(&mut self) {
        let Some(slot) = (0..CAPACITY).find(|slot| !self.channels.contains_key(slot)) else { return };
        let deposit = self.random.random_range(MIN_DEPOSIT..20_000);
        let channel = self.world.open(slot, deposit);
        self.cost.insert(channel.id, 0);
        self.channels.insert(slot, channel);
        self.count("opened");
    }

    fn top_up(&mut self) {
        let Some(slot) = self.slot() else { return };
        let (channel, amount) = (&self.channels[&slot], self.random.random_range(1..5_000));
        let funder = channel.payer.pubkey();
        let source = self.world.fund(&funder, amount);
        let page = self.world.page;
        let addition = Addition { funder, source, page, slot, generation: channel.generation, amount };
        let instruction = TALLYBOOK.top_up(&self.world.book_view(), &addition);
        if self.world.send(&[instruction], &[&channel.payer]).is_ok() {
            self.count("topped up");
        }
    }

    fn request_close(&mut self) {
        let Some(slot) = self.slot() else { return };
        if self.world.request_close(&self.channels[&slot]).is_ok() {
            self.count("asked to leave");
        }
    }

    /// A stranger claims a voucher that was signed for a call that failed.
    fn claim_loose(&mut self) {
        let Some((slot, voucher)) = self.loose.choose(&mut self.random).copied() else { return };
        if self.world.claim(&Batch::from_signed([(slot, voucher)])).is_ok() {
            self.count("claimed by a stranger");
        }
    }

    /// The grace period ends, after the watcher has claimed all that waits.
    fn withdraw(&mut self) {
        self.settle();
        self.world.pass(GRACE_SECONDS);
        for (slot, status) in (0u8..).zip(self.world.page_view().slots.iter().map(|slot| slot.status())) {
            if status == Ok(Status::Closing) {
                let rows = [(slot, self.channels[&slot].payer.pubkey())];
                let instruction = TALLYBOOK.withdraw(&self.world.book_view(), &self.world.page, &rows);
                self.end(slot);
                self.world.send(&[instruction], &[]).unwrap();
                self.count("withdrawn");
            }
        }
        self.see();
    }

    /// Takes a channel out of the books of this test: all that its calls cost is settled.
    fn end(&mut self, slot: u8) {
        let channel = self.channels.remove(&slot).unwrap();
        let settled = self.world.page_view().slots[usize::from(slot)].settled.get();
        assert!(settled >= self.cost.remove(&channel.id).unwrap(), "accepted, and not settled");
        self.loose.retain(|(of, _)| *of != slot);
        self.old.push(channel);
    }

    // --- what is asked of the ledger

    /// A call: often right, often not.
    fn call(&mut self) {
        let Some(slot) = self.slot() else { return };
        let channel = &self.channels[&slot];
        let Some(seen) = self.ledger.channel(&channel.id) else { return };
        let rest = seen.deposit().less(seen.charged()).get();
        let amount = match self.random.random_range(0..8) {
            0 => rest,
            1 => rest + 1,
            2 => 0,
            _ => self.random.random_range(0..=rest / 2 + 1),
        };
        let off = if self.random.random_ratio(1, 8) { self.random.random_range(1..50) } else { 0 };
        let cumulative = Amount::new(seen.charged().get() + amount + off);
        let thief = SigningKey::from_bytes(key("thief").secret_bytes());
        let signer = if self.random.random_ratio(1, 12) { &thief } else { &channel.signer };
        let id =
            self.old.choose(&mut self.random).filter(|_| self.random.random_ratio(1, 12)).map_or(channel.id, |c| c.id);
        let signed = SignedVoucher::sign(signer, id, cumulative);
        let voucher = signed.verify(&signer.verifying_key().to_bytes()).unwrap();
        let now = self.world.now();
        match self.ledger.reserve(voucher, Amount::new(amount), now, now + 60) {
            Ok(_) => {
                assert!(self.would_settle(slot, voucher), "accepted, and the chain would not settle it");
                self.finish(slot, voucher, amount);
            }
            Err(refused) => {
                self.count(refused.rejection.name());
                if refused.rejection == Rejection::DepositExceeded {
                    // Unless somebody has put money in meanwhile that the ledger has not seen.
                    let deposit = self.world.page_view().slots[usize::from(slot)].deposit;
                    assert!(deposit > seen.deposit() || !self.would_settle(slot, voucher));
                }
            }
        }
    }

    /// The call is served for what it costs, or fails.
    fn finish(&mut self, slot: u8, voucher: VerifiedVoucher, amount: u64) {
        let (signed, now) = (voucher.voucher(), self.world.now());
        if self.random.random_ratio(1, 6) {
            self.ledger.release(signed).unwrap();
            self.loose.push((slot, voucher));
            return self.count("released");
        }
        let charge = if self.random.random() { amount } else { self.random.random_range(0..=amount) };
        let committed = self.ledger.commit(signed, Amount::new(charge), now).unwrap();
        assert_eq!(committed.charge.get(), charge);
        *self.cost.get_mut(&signed.channel_id).unwrap() += charge;
        self.count("charged");
    }

    /// Whether the chain, as it stands, settles all that the voucher says.
    fn would_settle(&mut self, slot: u8, voucher: VerifiedVoucher) -> bool {
        let instruction = Batch::from_signed([(slot, voucher)]).instruction(&self.world.page);
        let transaction = self.world.legacy_transaction(&[instruction], &[]);
        let Ok(tried) = self.world.svm.simulate_transaction(transaction) else { return false };
        let page = tried.post_accounts.into_iter().find(|(address, _)| *address == self.world.page).unwrap().1;
        let data = solana_account::Account::from(page).data;
        let settled = PageView::parse(self.world.page, &data).unwrap().slots[usize::from(slot)].settled;
        settled >= voucher.voucher().cumulative
    }

    /// All that waits is claimed: what the ledger plans, the chain takes as it is.
    fn settle(&mut self) {
        self.see();
        for bundle in self.ledger.plan(self.world.now(), &POLICY) {
            let [batch] = bundle.batches() else { panic!("one page: {bundle:?}") };
            assert_eq!(batch.page(), self.world.page.as_array());
            self.ledger.sent(batch.channel_ids());
            let signed = Batch::from_signed(batch.rows().iter().map(|row| (row.slot, row.voucher)));
            let is_below = batch.rows().iter().any(|row| row.is_below());
            let instruction = if is_below {
                let rows = signed.rows.iter().zip(batch.rows());
                let rows: Vec<_> = rows.map(|(signed, row)| BelowRow { signed: *signed, amount: row.amount }).collect();
                TALLYBOOK.claim_below(&self.world.page, &signed.scalar, &rows).unwrap()
            } else {
                signed.instruction(&self.world.page)
            };
            self.world.send(&[instruction], &[]).expect("a planned batch lands");
            let slots = self.world.page_view().slots;
            for row in batch.rows() {
                assert_eq!(slots[usize::from(row.slot)].settled, row.amount, "in full");
            }
            self.ledger.ended(batch.channel_ids(), &[], self.world.now());
            self.count(if is_below { "claimed below" } else { "claimed" });
        }
        self.see();
        let slots = self.world.page_view().slots;
        for (slot, channel) in &self.channels {
            assert!(slots[usize::from(*slot)].settled.get() >= self.cost[&channel.id], "accepted, and not settled");
        }
    }

    /// A channel leaves at once: its signer signs for what is charged, and the operator gives the rest back.
    fn leave(&mut self) {
        self.see();
        let Some(slot) = self.slot() else { return };
        let channel = &self.channels[&slot];
        let charged = self.ledger.channel(&channel.id).unwrap().charged();
        let signed = SignedVoucher::sign(&channel.signer, channel.id, charged);
        let voucher = signed.verify(&channel.signer.verifying_key().to_bytes()).unwrap();
        if self.ledger.leave(voucher, self.world.now()).is_err() {
            return;
        }
        let row = RefundRow { slot, generation: channel.generation, keep: charged.get() };
        let rows = [(row, channel.payer.pubkey())];
        let operator = key("operator");
        let claim = Batch::from_signed([(slot, voucher)]).instruction(&self.world.page);
        self.world.send(&[claim], &[]).unwrap();
        self.end(slot);
        let refund = TALLYBOOK.refund(&self.world.book_view(), &self.world.page, &operator.pubkey(), &rows);
        self.world.send(&[refund], &[&operator]).unwrap();
        assert_eq!(self.world.page_view().slots[usize::from(slot)].status(), Ok(Status::Free));
        self.see();
        self.count("left");
    }

    fn step(&mut self) {
        match self.random.random_range(0..30) {
            0..=2 => self.open(),
            3 => self.top_up(),
            4 => self.request_close(),
            5 => self.claim_loose(),
            6 => self.withdraw(),
            7 => self.leave(),
            8..=9 => self.settle(),
            10..=12 => self.see(),
            13 => self.world.pass(30),
            _ => self.call(),
        }
    }
}

#[test]
fn given_any_calls_when_the_ledger_accepts_them_then_the_chain_settles_all_that_they_cost() {
    let mut tally = BTreeMap::<_, u32>::new();
    for seed in 0..4 {
        let mut both = Both::new(0xd1ff + seed);
        (0..500).for_each(|_| both.step());
        both.settle();
        both.world.payout(1).unwrap();
        let claimed = both.world.page_view().header.claimed_total.get();
        assert_eq!(both.world.held_by(&key("payee").pubkey()), claimed);
        both.tally.into_iter().for_each(|(what, times)| *tally.entry(what).or_default() += times);
    }
    println!("{tally:?}");
    for what in ["charged", "released", "claimed", "claimed below", "claimed by a stranger", "withdrawn", "left"] {
        assert!(tally.get(what).is_some_and(|times| *times > 3), "{what}: {tally:?}");
    }
    for rejection in [Rejection::DepositExceeded, Rejection::WrongCumulative, Rejection::BadSignature] {
        assert!(tally.contains_key(rejection.name()), "{rejection:?}: {tally:?}");
    }
}
