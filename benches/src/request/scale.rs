//! How much memory a channel takes, and how long a start with many takes. Each is measured in a process of its own.

use crate::request::world::{BookPage, NOW, PRICE, World};
use std::path::Path;
use std::time::{Duration, Instant};
use tallybook_ledger::{Change, ChannelRecord, Finality, LastCall, Ledger, Place, Settings};
use tallybook_sequencer::Desk;
use tallybook_store::{MemoryStore, SqliteStore, VoucherStore};

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Resident bytes for each of so many channels of the ledger, with a voucher each or none.
pub fn ledger_bytes(channels: usize, vouchers: bool) -> f64 {
    let world = World::new(channels);
    let before = resident();
    let mut ledger = world.ledger();
    for channel in world.channels.iter().filter(|_| vouchers) {
        let voucher = channel.voucher(1);
        let verified = voucher.verify(&channel.key.verifying_key().to_bytes()).unwrap();
        ledger.reserve(verified, PRICE, NOW, NOW + 60).unwrap();
        ledger.commit(&voucher, PRICE, NOW).unwrap();
    }
    let bytes = (resident() - before) as f64 / channels as f64;
    assert_eq!(ledger.len(), channels);
    bytes
}

/// Resident bytes for each of so many channels that a desk has seen: of the ledger, and of the list of signers beside it.
pub fn desk_bytes(channels: usize) -> f64 {
    let world = World::new(channels);
    let before = resident();
    let mut desk = Desk::new(Ledger::new(Settings::default()), Box::new(MemoryStore::default()));
    desk.observe(world.pages.iter().map(BookPage::seen), Finality::Confirmed);
    let bytes = (resident() - before) as f64 / channels as f64;
    assert_eq!(desk.ledger.len(), channels);
    bytes
}

/// Fills a store with so many channels.
pub fn fill(path: &Path, channels: usize) {
    let world = World::new(channels);
    let mut store = SqliteStore::open(path).unwrap();
    let mut changes = Vec::new();
    let slots = world.pages.iter().flat_map(|page| (0u8..).zip(&page.slots).map(|(at, slot)| (page.address, at, slot)));
    for (channel, (page, at, slot)) in world.channels.iter().zip(slots) {
        let voucher = channel.voucher(1);
        let last = LastCall { cumulative: PRICE, signature: voucher.signature, charge: Some(PRICE) };
        changes.push(Change::Channel(ChannelRecord {
            place: Place { page: page.to_bytes(), slot: at, generation: slot.generation },
            payer: slot.payer,
            signer: slot.signer,
            voucher,
            charged: PRICE,
            last: Some(last),
            unsettled_since: NOW,
            leaving_since: 0,
        }));
        if changes.len() == 10_000 {
            store.commit(&changes).unwrap();
            changes.clear();
        }
    }
    store.commit(&changes).unwrap();
}

/// How long it takes to open it, and the resident bytes for each channel then.
pub fn start(path: &Path) -> (Duration, f64) {
    let (began, before) = (Instant::now(), resident());
    let store = SqliteStore::open(path).unwrap();
    let (desk, _) = Desk::open(Box::new(store), Settings::default()).unwrap();
    let (took, bytes) = (began.elapsed(), resident() - before);
    (took, bytes as f64 / desk.ledger.unmet() as f64)
}

/// How long it takes from there until all of its channels were met on chain, their vouchers verified.
pub fn meet(path: &Path, channels: usize) -> Duration {
    let world = World::new(channels);
    let store = SqliteStore::open(path).unwrap();
    let (mut desk, _) = Desk::open(Box::new(store), Settings::default()).unwrap();
    let began = Instant::now();
    desk.observe(world.pages.iter().map(BookPage::seen), Finality::Confirmed);
    let took = began.elapsed();
    assert_eq!((desk.ledger.len(), desk.ledger.unmet()), (channels, 0));
    took
}
