//! A page's life, told transaction by transaction, for tests.
#![allow(clippy::arithmetic_side_effects, reason = "a test says what it expects")]

use super::read::{Recorded, Step};
use super::replay::PageHistory;
use anyhow::Result;
use solana_address::Address;
use solana_signature::Signature;
use tallybook_chain::BookView;
use tallybook_chain::event::{Claimed, Event, Opened, PageClosed, PaidOut, Refunded, ToppedUp, Withdrawn};
use tallybook_rules::{Amount, Book, Leg};

pub(crate) const PAGE: [u8; 32] = [9; 32];

/// What was told so far.
#[derive(Default)]
pub(crate) struct Town {
    pub(crate) told: Vec<Recorded>,
    claimed: u64,
}

impl Town {
    /// A book whose payee gets 60 % and a split 40 %.
    pub(crate) fn book() -> BookView {
        let leg =
            |recipient: u8, basis_points| Leg { recipient: [recipient; 32], account: [recipient; 32], basis_points };
        let mut state = Book {
            payee: [1; 32],
            mint: [2; 32],
            decimals: 6,
            leg_count: 2,
            version: Book::VERSION,
            ..Book::default()
        };
        (state.legs[0], state.legs[1]) = (leg(1, 6_000), leg(4, 4_000));
        BookView { address: Address::from([8; 32]), state }
    }

    /// By which transaction it was told, the last being number 0.
    pub(crate) fn signature(&self, back: usize) -> Signature {
        self.told[self.told.len() - 1 - back].signature
    }

    fn tell(&mut self, event: Event, rows: Vec<(u8, Amount)>) {
        let number = u8::try_from(self.told.len() + 1).unwrap();
        self.told.push(Recorded {
            signature: Signature::from([number; 64]),
            chain_slot: u64::from(number),
            at: 1_000 + i64::from(number),
            fee_payer: Address::from([7; 32]),
            fee_lamports: 5_000,
            steps: vec![Step { event, rows }],
        });
    }

    pub(crate) fn open(&mut self, slot: u8, generation: u32, deposit: u64) {
        let (payer, signer) = ([slot; 32], [slot; 32]);
        self.tell(Event::Opened(Opened { page: PAGE, slot, generation, payer, signer, deposit }), Vec::new());
    }

    pub(crate) fn top_up(&mut self, slot: u8, amount: u64, deposit: u64) {
        self.tell(Event::ToppedUp(ToppedUp { page: PAGE, slot, generation: 1, amount, deposit }), Vec::new());
    }

    /// A claim of rows that add so much.
    pub(crate) fn claim(&mut self, rows: &[(u8, u64)], added: u64) {
        self.claimed += added;
        let count = u8::try_from(rows.len()).unwrap();
        let event = Claimed { page: PAGE, rows: count, added, claimed_total: self.claimed };
        self.tell(Event::Claimed(event), rows.iter().map(|(slot, up_to)| (*slot, Amount::new(*up_to))).collect());
    }

    pub(crate) fn pay_out(&mut self, legs: u8, amount: u64) {
        self.tell(Event::PaidOut(PaidOut { page: PAGE, legs, amount }), Vec::new());
    }

    pub(crate) fn refund(&mut self, slot: u8, generation: u32, returned: u64) {
        self.tell(Event::Refunded(Refunded { page: PAGE, slot, generation, returned }), Vec::new());
    }

    pub(crate) fn withdraw(&mut self, slot: u8, returned: u64) {
        self.tell(Event::Withdrawn(Withdrawn { page: PAGE, slot, returned }), Vec::new());
    }

    pub(crate) fn close(&mut self, left: u64) {
        self.tell(Event::PageClosed(PageClosed { book: [8; 32], page: PAGE, index: 0, left }), Vec::new());
    }

    pub(crate) fn replay(&self) -> Result<PageHistory> {
        PageHistory::replay(&Self::book(), Address::from(PAGE), &self.told)
    }
}
