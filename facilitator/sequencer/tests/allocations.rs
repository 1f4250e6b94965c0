//! A call allocates nothing where it is verified and decided: a count, which unlike a time is the same on every machine.
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only counts, and hands on")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tallybook_ledger::{Attempt, BatchRecord, Change, ChannelRecord, Finality, Ledger, PageSeen, Purpose, Settings};
use tallybook_rules::signing::{SignedVoucher, SigningKey, channel_id};
use tallybook_rules::{Amount, Opening, Page, PageHeader, Slot};
use tallybook_sequencer::{Desk, Sequencer};
use tallybook_store::{KeptChannel, Row, Spending, StoreFailure, Stored, VoucherStore};

thread_local! {
    /// What this thread has allocated. What the writer does on its own thread, in groups, is not a call's.
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    // A thread that ends may free what it has no counter for any more.
    let _counted = ALLOCATED.try_with(|allocated| allocated.set(allocated.get().saturating_add(1)));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

/// A disk that takes everything and keeps nothing.
struct NoDisk;

impl VoucherStore for NoDisk {
    fn load_each(&mut self, _: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
        Ok(Stored::default())
    }

    fn commit(&mut self, _: &[Change]) -> Result<(), StoreFailure> {
        Ok(())
    }

    fn channel(&mut self, _: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
        Ok(None)
    }

    fn batches(&mut self, _: Option<u64>, _: u32) -> Result<Vec<BatchRecord>, StoreFailure> {
        Ok(Vec::new())
    }

    fn last_attempt(&mut self, _: Purpose) -> Result<Option<Attempt>, StoreFailure> {
        Ok(None)
    }

    fn spent(&mut self, _: &[u8; 32]) -> Result<Spending, StoreFailure> {
        Ok(Spending::default())
    }

    fn spent_for_others_since(&mut self, _: i64) -> Result<u64, StoreFailure> {
        Ok(0)
    }

    fn each_row(&mut self, _: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure> {
        Ok(())
    }
}

#[test]
fn given_a_channel_that_pays_again_and_again_when_counted_then_its_calls_allocate_nothing() {
    let mut header = PageHeader { capacity: 1, version: PageHeader::VERSION, ..PageHeader::default() };
    let mut slots = [Slot::default()];
    let key = SigningKey::from_bytes(&[5; 32]);
    let signer = key.verifying_key().to_bytes();
    let opening = Opening { payer: [6; 32], signer, generation: 1, deposit: Amount::new(1_000_000) };
    Page { header: &mut header, slots: &mut slots }.open(0, &opening, Amount::new(1), 1).unwrap();
    let id = channel_id(&header.page_domain, 0, 1, &opening.payer, &signer);
    let ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
    let mut desk = Desk::new(ledger, Box::new(NoDisk));
    desk.observe([PageSeen { address: [7; 32], chain_slot: 1, header: &header, slots: &slots }], Finality::Confirmed);
    let (sequencer, _thread) = Sequencer::start(desk, 8).unwrap();
    let vouchers: Vec<_> = (1..=200).map(|call| SignedVoucher::sign(&key, id, Amount::new(call * 5))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pay = async |voucher: SignedVoucher| {
        sequencer.reserve(voucher, header.book, Amount::new(5), 60).await.unwrap();
        sequencer.commit(voucher, header.book, Amount::new(5)).await.unwrap();
    };
    let (first, then) = vouchers.split_at(100);
    let allocated = runtime.block_on(async {
        // What is kept for good finds its room.
        for voucher in first {
            pay(*voucher).await;
        }
        let before = ALLOCATED.get();
        for voucher in then {
            pay(*voucher).await;
        }
        ALLOCATED.get() - before
    });
    assert_eq!(allocated, 0, "by a hundred calls");
}
