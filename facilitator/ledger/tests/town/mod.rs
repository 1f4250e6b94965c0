//! Many pages, whose channels have each one paid call.
#![allow(dead_code, reason = "each test file uses its own part")]

use tallybook_ledger::{Finality, Ledger, PageSeen, Settings};
use tallybook_rules::signing::{SignedVoucher, SigningKey, channel_id, page_domain};
use tallybook_rules::{Amount, Opening, Page, PageHeader, Slot};

pub(crate) struct Town {
    pub(crate) ledger: Ledger,
    pub(crate) now: i64,
    key: SigningKey,
}

impl Town {
    pub(crate) fn new() -> Self {
        let settings = Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() };
        Self { ledger: Ledger::new(settings), now: 1_000, key: SigningKey::from_bytes(&[5; 32]) }
    }

    /// A page with as many channels as slots, each charged 1 base unit and its slot's number.
    pub(crate) fn page(&mut self, address: [u8; 32], book: [u8; 32], channels: u8) {
        self.open(address, book, channels);
        for slot in 0..channels {
            self.pay(&address, slot, 1 + u64::from(slot));
        }
    }

    /// The same before anything is charged.
    pub(crate) fn open(&mut self, address: [u8; 32], book: [u8; 32], channels: u8) {
        let signer = self.key.verifying_key().to_bytes();
        let page_domain = page_domain(&[1; 32], &[2; 32], &address);
        let mut header =
            PageHeader { book, page_domain, capacity: channels, version: PageHeader::VERSION, ..PageHeader::default() };
        let mut slots = vec![Slot::default(); usize::from(channels)];
        for slot in 0..channels {
            let opening = Opening { payer: [slot; 32], signer, generation: 1, deposit: Amount::new(10_000) };
            let mut page = Page { header: &mut header, slots: &mut slots };
            page.open(slot, &opening, Amount::new(1), self.now).unwrap();
        }
        let seen = PageSeen { address, chain_slot: 1, header: &header, slots: &slots };
        self.ledger.observe(&seen, Finality::Confirmed, self.now).unwrap();
    }

    /// The channel in a slot has cost `amount` in all; says its id.
    pub(crate) fn pay(&mut self, page: &[u8; 32], slot: u8, amount: u64) -> [u8; 32] {
        let signer = self.key.verifying_key().to_bytes();
        let id = channel_id(&page_domain(&[1; 32], &[2; 32], page), slot, 1, &[slot; 32], &signer);
        let amount = Amount::new(amount);
        let voucher = SignedVoucher::sign(&self.key, id, amount).verify(&signer).unwrap();
        self.ledger.adopt(voucher, amount, self.now).unwrap();
        id
    }
}
