//! What a facilitator is asked, in any order, by payers, payees, strangers and the chain: the ledger against the program's
//! own transitions.
//!
//! What is refused changes nothing; what is accepted settles; what is planned lands for exactly what it says; the four
//! numbers stay in order and none ever falls; and no token is made or lost.

use super::input::{Input, edited};
use std::collections::BTreeMap;
use tallybook_ledger::{Batch, Bundle, Channel, ChannelRecord, Finality, Ledger, PageSeen, Policy, Refused, Settings};
use tallybook_rules::signing::{
    SignedVoucher, SigningKey, VerifiedVoucher, aggregate, channel_id, page_domain, verify_aggregate,
};
use tallybook_rules::{Amount, Opening, Page, PageHeader, Rejection, Slot, Status};

const SLOTS: u8 = 2;
const GRACE: u32 = 900;
/// Steps of one life: enough to open, pay, leave and come back.
const MAX_STEPS: usize = 48;

/// Steps until the bytes run out.
pub(crate) fn ledger(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        let before = world.channels();
        world.step(&mut input);
        world.check(&before);
    }
    world.restart();
    world.settle_all();
}

struct World {
    header: PageHeader,
    slots: Vec<Slot>,
    ledger: Ledger,
    now: i64,
    chain_slot: u64,
    /// True while the ledger has seen the page as it is.
    is_seen: bool,
    /// What a store would have.
    disk: BTreeMap<[u8; 32], ChannelRecord>,
    put_in: u64,
    given_back: u64,
}

impl World {
    fn new() -> Self {
        let header = PageHeader {
            book: [8; 32],
            page_domain: page_domain(&[1; 32], &[2; 32], &[7; 32]),
            capacity: SLOTS,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        let settings = Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() };
        let slots = vec![Slot::default(); usize::from(SLOTS)];
        let (ledger, disk) = (Ledger::new(settings), BTreeMap::new());
        let mut world =
            Self { header, slots, ledger, now: 1_000, chain_slot: 1, is_seen: false, disk, put_in: 0, given_back: 0 };
        world.see();
        world
    }

    fn page(&mut self) -> Page<'_> {
        self.is_seen = false;
        Page { header: &mut self.header, slots: &mut self.slots }
    }

    fn at(&self, slot: u8) -> Slot {
        self.slots[usize::from(slot)]
    }

    fn see(&mut self) {
        self.chain_slot += 1;
        let seen = PageSeen { address: [7; 32], chain_slot: self.chain_slot, header: &self.header, slots: &self.slots };
        self.ledger.observe(&seen, Finality::Confirmed, self.now).expect("a page that the rules wrote");
        self.ledger.observe(&seen, Finality::Final, self.now).expect("a page that the rules wrote");
        self.is_seen = true;
    }

    fn id(&self, slot: u8) -> [u8; 32] {
        let at = self.at(slot);
        channel_id(&self.header.page_domain, slot, at.generation, &at.payer, &at.signer)
    }

    fn channel(&self, slot: u8) -> Option<Channel> {
        self.ledger.channel(&self.id(slot))
    }

    fn channels(&self) -> Vec<Channel> {
        let mut channels: Vec<Channel> = self.ledger.channels().collect();
        channels.sort_by_key(|channel| *channel.id());
        channels
    }

    /// A voucher of the slot's channel, perhaps with bytes of its signature changed: then it must not verify.
    fn voucher(&self, slot: u8, cumulative: u64, input: &mut Input<'_>) -> Option<VerifiedVoucher> {
        let key = key(slot);
        let honest = SignedVoucher::sign(&key, self.id(slot), Amount::new(cumulative));
        let bytes = if input.below(8) == 7 { edited(&honest.signature, input) } else { honest.signature.to_vec() };
        let signature: [u8; 64] = bytes.try_into().expect("as long as before");
        let verified = SignedVoucher { signature, ..honest }.verify(key.verifying_key().as_bytes());
        assert_eq!(verified.is_ok(), signature == honest.signature, "Ed25519 signs in one way");
        verified.ok()
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (kind, slot) = (input.below(18), input.below(SLOTS));
        let (now, at) = (self.now, self.at(slot));
        match kind {
            0 => self.open(slot, input.amount()),
            1 => {
                let amount = input.amount();
                if self.page().top_up(slot, at.generation, Amount::new(amount)).is_ok() {
                    self.put_in += amount;
                }
            }
            2 => {
                let _ = self.page().request_close(slot, at.generation, &at.payer, GRACE, now);
            }
            3 => {
                let back = self.page().withdraw(slot, now);
                self.given_back += back.map_or(0, |back| back.amount.get());
            }
            4 => {
                let keep = Amount::new(input.amount());
                let back = self.page().refund(slot, at.generation, keep);
                self.given_back += back.map_or(0, |back| back.amount.get());
            }
            5 => self.stranger(slot),
            6 => self.see(),
            7 => self.now += i64::from(input.u16() % 2_048),
            8..=10 => self.reserve(slot, input),
            11..=12 => self.commit(slot, input),
            13 => {
                if let Some(held) = self.channel(slot).and_then(|channel| channel.reserved(now)) {
                    self.ledger.release(held.voucher.voucher()).expect("a channel that is there");
                }
            }
            14 => {
                let (signed, charged) = (input.amount(), Amount::new(input.amount()));
                let Some(voucher) = self.voucher(slot, signed, input) else { return };
                let adopted = self.tried(|ledger| ledger.adopt(voucher, charged, now));
                self.keep(adopted.and_then(|adopted| adopted.change));
            }
            15 => {
                let charged = self.channel(slot).map_or(0, |channel| channel.charged().get());
                let Some(voucher) = self.voucher(slot, charged + u64::from(input.below(2)), input) else { return };
                let left = self.tried(|ledger| ledger.leave(voucher, now));
                self.keep(left.and_then(|left| left.change));
            }
            16 => self.settle_all(),
            _ => self.restart(),
        }
    }

    fn open(&mut self, slot: u8, deposit: u64) {
        let opening = Opening {
            payer: [slot; 32],
            signer: key(slot).verifying_key().to_bytes(),
            generation: self.at(slot).generation + 1,
            deposit: Amount::new(deposit),
        };
        let now = self.now;
        if self.page().open(slot, &opening, Amount::new(1), now).is_ok() {
            self.put_in += deposit;
        }
    }

    /// Whoever holds a voucher may claim all of it.
    fn stranger(&mut self, slot: u8) {
        let Some(channel) = self.channel(slot) else { return };
        let held = channel.reserved(self.now).map(|held| *held.voucher.voucher());
        let Some(voucher) = held.or(channel.newest().copied()) else { return };
        let now = self.now;
        let _ = self.page().claim(slot, voucher.cumulative, now);
    }

    /// Asks the ledger; a refusal changes nothing.
    fn tried<T>(&mut self, ask: impl FnOnce(&mut Ledger) -> Result<T, Refused>) -> Option<T> {
        let before = self.channels();
        let answer = ask(&mut self.ledger);
        if answer.is_err() {
            assert_eq!(self.channels(), before, "what is refused changes nothing");
        }
        answer.ok()
    }

    fn reserve(&mut self, slot: u8, input: &mut Input<'_>) {
        let charged = self.channel(slot).map_or(0, |channel| channel.charged().get());
        let (amount, off) = (input.amount(), input.below(4).saturating_sub(2));
        let Some(cumulative) = charged.checked_add(amount).and_then(|sum| sum.checked_add(u64::from(off))) else {
            return;
        };
        let Some(voucher) = self.voucher(slot, cumulative, input) else { return };
        let now = self.now;
        let reserved = self.tried(|ledger| ledger.reserve(voucher, Amount::new(amount), now, now + 60));
        let Some(channel) = reserved else { return };
        assert!(off == 0 && amount > 0, "exactly what was charged and the price");
        let mut seen = *channel.on_chain();
        assert!(seen.claim(voucher.voucher().cumulative, now).is_ok());
        assert_eq!(seen.settled, voucher.voucher().cumulative, "accepted, and the chain would settle less");
        if self.is_seen {
            let mut real = self.at(slot);
            assert!(real.claim(voucher.voucher().cumulative, now).is_ok());
            assert_eq!(real.settled, voucher.voucher().cumulative);
        }
    }

    fn commit(&mut self, slot: u8, input: &mut Input<'_>) {
        let now = self.now;
        let Some(held) = self.channel(slot).and_then(|channel| channel.reserved(now)) else { return };
        let part = u64::from(input.below(18));
        let charge = held.amount.get().checked_mul(part).map_or(held.amount.get(), |sum| sum / 16);
        let voucher = *held.voucher.voucher();
        let committed = self.tried(|ledger| ledger.commit(&voucher, Amount::new(charge), now));
        let Some(committed) = committed else { return };
        assert!(charge <= held.amount.get(), "never more than was reserved");
        assert_eq!(committed.charge, Amount::new(charge));
        self.keep(committed.change);
        let again = self.tried(|ledger| ledger.commit(&voucher, Amount::new(u64::MAX), now)).expect("the same answer");
        assert_eq!((again.charge, again.change), (Amount::new(charge), None), "charged once");
    }

    fn keep(&mut self, record: Option<ChannelRecord>) {
        if let Some(record) = record {
            self.disk.insert(record.voucher.channel_id, record);
        }
    }

    /// Everything that waits is claimed, as the program does it.
    fn settle_all(&mut self) {
        self.see();
        let policy = Policy { per_call: true, due_age_seconds: 0, ..Policy::default() };
        let bundles = self.ledger.plan(self.now, &policy);
        for batch in bundles.iter().flat_map(Bundle::batches) {
            self.land(batch);
        }
        self.see();
        let left = self.ledger.plan(self.now, &policy);
        assert!(left.is_empty(), "nothing waits after everything has landed");
        for channel in self.channels() {
            let due = channel.charged().min(channel.deposit());
            assert!(channel.settled() >= due || channel.newest().is_none(), "charged, and not settled");
        }
    }

    fn land(&mut self, batch: &Batch) {
        let vouchers: Vec<VerifiedVoucher> = batch.rows().iter().map(|row| row.voucher).collect();
        let scalar = aggregate(&vouchers).expect("planned vouchers aggregate");
        let plain: Vec<_> = vouchers.iter().map(|voucher| (*voucher.voucher(), *voucher.signer())).collect();
        assert_eq!(verify_aggregate(&plain, &scalar), Ok(()), "planned, and refused by the program's check");
        let now = self.now;
        for row in batch.rows() {
            assert_eq!(self.page().claim(row.slot, row.amount, now), Ok(row.gain()), "a row gains what it says");
            assert_eq!(self.page().claim(row.slot, row.amount, now), Ok(Amount::ZERO), "and only once");
        }
    }

    /// A crash: the ledger is gone, the disk is there.
    fn restart(&mut self) {
        self.see();
        let before = self.channels();
        let settings = Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() };
        self.ledger = Ledger::new(settings);
        for record in self.disk.values() {
            assert_eq!(self.ledger.restore(*record), Ok(()), "what was written is good");
        }
        self.see();
        assert!(self.ledger.prove_all().is_empty(), "and verifies");
        let after = self.channels();
        let numbers =
            |channel: &Channel| (*channel.id(), channel.settled(), channel.charged(), channel.signed(), channel.gain());
        assert_eq!(
            before.iter().map(numbers).collect::<Vec<_>>(),
            after.iter().map(numbers).collect::<Vec<_>>(),
            "a crash loses nothing that was answered"
        );
    }

    fn check(&self, before: &[Channel]) {
        let (mut header, mut slots) = (self.header, self.slots.clone());
        assert_eq!(Page { header: &mut header, slots: &mut slots }.check(), Ok(()));
        let held = self.header.outstanding.get() + self.header.claimed_total.get();
        assert_eq!(held, self.put_in - self.given_back, "no token is made or lost");
        assert_eq!(self.ledger.check(), Ok(()), "every channel is sound, and what waits is what a count gives");
        for old in before {
            if let Some(new) = self.ledger.channel(old.id()) {
                assert!(
                    new.settled() >= old.settled() && new.charged() >= old.charged() && new.signed() >= old.signed()
                );
            }
        }
        for slot in &self.slots {
            assert!(slot.status() != Ok(Status::Free) || slot.deposit.is_zero());
            assert_ne!(slot.check(), Err(Rejection::InvariantBroken));
        }
    }
}

fn key(slot: u8) -> SigningKey {
    SigningKey::from_bytes(&[slot + 1; 32])
}
