//! A page and some channels on a chain that is no more than `rules`, a ledger over it, and keys.
#![allow(dead_code, reason = "each test file uses its own part")]

use tallybook_ledger::{
    Batch, Change, Channel, Committed, Event, Finality, Ledger, Observed, PageSeen, Refused, Settings,
};
use tallybook_rules::signing::{SignedVoucher, SigningKey, VerifiedVoucher, channel_id, page_domain};
use tallybook_rules::{Amount, Opening, Page, PageHeader, Rejection, Slot};

pub(crate) const PAGE: [u8; 32] = [7; 32];
pub(crate) const BOOK: [u8; 32] = [8; 32];
pub(crate) const GRACE: u32 = 900;
pub(crate) const START: i64 = 1_000;

pub(crate) fn units(amount: u64) -> Amount {
    Amount::new(amount)
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed.wrapping_add(1); 32])
}

pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) header: PageHeader,
    pub(crate) slots: Vec<Slot>,
    pub(crate) now: i64,
    pub(crate) chain_slot: u64,
}

impl World {
    /// A page of `capacity` free slots, seen by the ledger; every confirmed deposit is good for any amount.
    pub(crate) fn new(capacity: u8) -> Self {
        let header = PageHeader {
            book: BOOK,
            page_domain: page_domain(&[1; 32], &[2; 32], &PAGE),
            capacity,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        let settings = Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() };
        let mut world = Self {
            ledger: Ledger::new(settings),
            header,
            slots: vec![Slot::default(); usize::from(capacity)],
            now: START,
            chain_slot: 1,
        };
        world.see();
        world
    }

    pub(crate) fn page(&mut self) -> Page<'_> {
        Page { header: &mut self.header, slots: &mut self.slots }
    }

    pub(crate) fn observe(&mut self, finality: Finality) -> Observed {
        let seen = PageSeen { address: PAGE, chain_slot: self.chain_slot, header: &self.header, slots: &self.slots };
        self.ledger.observe(&seen, finality, self.now).unwrap()
    }

    /// The ledger reads the page as it is now; what it had read back is verified.
    pub(crate) fn see(&mut self) -> Vec<Event> {
        let events = self.see_unproven();
        assert_eq!(self.ledger.prove_all(), [[0; 32]; 0]);
        events
    }

    /// The same, and nothing is verified.
    pub(crate) fn see_unproven(&mut self) -> Vec<Event> {
        self.chain_slot += 1;
        self.observe(Finality::Confirmed).events
    }

    pub(crate) fn see_final(&mut self) -> Vec<Change> {
        self.observe(Finality::Final).changes
    }

    /// Opens a channel on chain without telling the ledger.
    pub(crate) fn open_unseen(&mut self, slot: u8, deposit: u64) -> [u8; 32] {
        let generation = self.slots[usize::from(slot)].generation + 1;
        let opening = Opening {
            payer: [slot; 32],
            signer: key(slot).verifying_key().to_bytes(),
            generation,
            deposit: units(deposit),
        };
        let now = self.now;
        self.page().open(slot, &opening, units(1), now).unwrap();
        self.id(slot)
    }

    pub(crate) fn open(&mut self, slot: u8, deposit: u64) -> [u8; 32] {
        let id = self.open_unseen(slot, deposit);
        self.see();
        id
    }

    pub(crate) fn id(&self, slot: u8) -> [u8; 32] {
        let at = &self.slots[usize::from(slot)];
        channel_id(&self.header.page_domain, slot, at.generation, &at.payer, &at.signer)
    }

    pub(crate) fn voucher(&self, slot: u8, cumulative: u64) -> VerifiedVoucher {
        let signer = key(slot);
        SignedVoucher::sign(&signer, self.id(slot), units(cumulative))
            .verify(signer.verifying_key().as_bytes())
            .unwrap()
    }

    pub(crate) fn reserve(&mut self, slot: u8, cumulative: u64, amount: u64) -> Result<Channel, Rejection> {
        let voucher = self.voucher(slot, cumulative);
        let (now, expires) = (self.now, self.now + 60);
        let reserved = self.ledger.reserve(voucher, units(amount), now, expires);
        reserved.map_err(|refused| refused.rejection)
    }

    /// Commits a call that costs `charge`.
    pub(crate) fn commit_for(&mut self, slot: u8, cumulative: u64, charge: u64) -> Result<Committed, Refused> {
        let voucher = *self.voucher(slot, cumulative).voucher();
        self.ledger.commit(&voucher, units(charge), self.now)
    }

    /// Commits a call that costs all that was reserved for it.
    pub(crate) fn commit(&mut self, slot: u8, cumulative: u64) -> Result<Committed, Refused> {
        let reserved = self.channel(slot).reserved(self.now).map_or(0, |reserved| reserved.amount.get());
        self.commit_for(slot, cumulative, reserved)
    }

    /// One whole call.
    pub(crate) fn pay(&mut self, slot: u8, amount: u64) -> Result<Change, Rejection> {
        self.pay_of(slot, amount, amount)
    }

    /// One whole call that costs `charge` of its ceiling.
    pub(crate) fn pay_of(&mut self, slot: u8, ceiling: u64, charge: u64) -> Result<Change, Rejection> {
        let id = self.id(slot);
        let charged = self.ledger.channel(&id).ok_or(Rejection::UnknownChannel)?.charged();
        let cumulative = charged.get() + ceiling;
        self.reserve(slot, cumulative, ceiling)?;
        let committed = self.commit_for(slot, cumulative, charge).map_err(|refused| refused.rejection)?;
        Ok(Change::Channel(committed.change.expect("a first commit is written")))
    }

    /// The chain takes a batch as the program does.
    pub(crate) fn land(&mut self, batch: &Batch) -> Amount {
        assert_eq!(batch.page(), &PAGE);
        let now = self.now;
        let mut sum = Amount::ZERO;
        for row in batch.rows() {
            assert!(row.amount <= row.voucher.voucher().cumulative);
            sum = sum.plus(self.page().claim(row.slot, row.amount, now).unwrap()).unwrap();
        }
        self.page().check().unwrap();
        sum
    }

    pub(crate) fn request_close(&mut self, slot: u8) {
        let (now, at) = (self.now, self.slots[usize::from(slot)]);
        self.page().request_close(slot, at.generation, &at.payer, GRACE, now).unwrap();
    }

    pub(crate) fn channel(&self, slot: u8) -> Channel {
        self.ledger.channel(&self.id(slot)).expect("the ledger knows the channel")
    }
}
