//! What it costs to accept a voucher, beside the one thing that cannot be saved: checking its signature.
//!
//! `cargo measure`. Every row is measured in this run on this machine; what to
//! compare between machines is the last column.

#![allow(
    clippy::unwrap_used,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench measures and prints; no money is in it"
)]

use ed25519_dalek::{Signature, VerifyingKey};
use std::time::{Duration, Instant};
use tallybook_ledger::{Change, Finality, Ledger, PageSeen, Settings};
use tallybook_rules::signing::{SignedVoucher, SignerKey, SigningKey, VerifiedVoucher, channel_id, verify_all};
use tallybook_rules::{Amount, MAX_CAPACITY, Opening, Page, PageHeader, Slot};
use tallybook_store::{SqliteStore, VoucherStore};

const VOUCHERS: usize = 4_096;
const PRICE: u64 = 500;
const NOW: i64 = 1_800_000_000;

/// A page full of channels, and the vouchers of many calls to each, signed beforehand.
struct World {
    header: PageHeader,
    slots: Vec<Slot>,
    vouchers: Vec<(SignedVoucher, [u8; 32])>,
}

impl World {
    fn new() -> Self {
        let mut header = PageHeader { capacity: MAX_CAPACITY, version: PageHeader::VERSION, ..PageHeader::default() };
        let mut slots = vec![Slot::default(); usize::from(MAX_CAPACITY)];
        let mut channels = Vec::new();
        for at in 0..MAX_CAPACITY {
            let key = SigningKey::from_bytes(&[at + 1; 32]);
            let signer = key.verifying_key().to_bytes();
            let opening = Opening { payer: [at; 32], signer, generation: 1, deposit: Amount::new(1_000_000_000) };
            let mut page = Page { header: &mut header, slots: &mut slots };
            page.open(at, &opening, Amount::new(1), NOW).unwrap();
            channels.push((key, channel_id(&header.page_domain, at, 1, &opening.payer, &signer), signer));
        }
        let vouchers = (0..VOUCHERS)
            .map(|call| {
                let (key, id, signer) = &channels[call % channels.len()];
                let calls = 1 + u64::try_from(call / channels.len()).unwrap();
                (SignedVoucher::sign(key, *id, Amount::new(calls * PRICE)), *signer)
            })
            .collect();
        Self { header, slots, vouchers }
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
        let seen = PageSeen { address: [1; 32], chain_slot: 1, header: &self.header, slots: &self.slots };
        ledger.observe(&seen, Finality::Confirmed, NOW).unwrap();
        ledger
    }

    fn verified(&self) -> impl Iterator<Item = VerifiedVoucher> {
        self.vouchers.iter().map(|(voucher, signer)| voucher.verify(signer).unwrap())
    }
}

/// Reserve and commit, as the sequencer does; gives what is to be written.
fn accept(ledger: &mut Ledger, voucher: VerifiedVoucher) -> Change {
    ledger.reserve(voucher, Amount::new(PRICE), NOW, NOW + 60).unwrap();
    Change::Channel(ledger.commit(voucher.voucher(), Amount::new(PRICE), NOW).unwrap().change.unwrap())
}

fn measure(run: impl FnOnce()) -> Duration {
    let began = Instant::now();
    run();
    began.elapsed()
}

fn main() {
    let world = World::new();
    let signature = measure(|| assert_eq!(world.verified().count(), VOUCHERS));
    let report = |name: &str, took: Duration| {
        let micros = took.as_secs_f64() * 1e6 / VOUCHERS as f64;
        let ratio = took.as_secs_f64() / signature.as_secs_f64();
        println!("{name:<44} {micros:>9.1} µs {:>11.0} /s {ratio:>9.2}", 1e6 / micros);
    };
    println!("{:<44} {:>12} {:>13} {:>9}", "one voucher, one core", "time", "rate", "× Ed25519");
    report("the signature alone, its key decoded too", signature);
    let keyed: Vec<_> =
        world.vouchers.iter().map(|(voucher, signer)| (*voucher, SignerKey::decode(signer).unwrap())).collect();
    let strict: Vec<_> = world.vouchers.iter().map(|(_, signer)| VerifyingKey::from_bytes(signer).unwrap()).collect();
    let took = measure(|| {
        for ((voucher, _), key) in keyed.iter().zip(&strict) {
            key.verify_strict(&voucher.message(), &Signature::from_bytes(&voucher.signature)).unwrap();
        }
    });
    report("verify_strict, its key decoded before", took);
    for group in [1, 2, 4, 8, 16, 32, 64, 128] {
        let took = measure(|| keyed.chunks(group).for_each(|some| assert!(verify_all(some).together)));
        report(&format!("signatures in groups of {group}"), took);
    }
    for (group, forged) in [(32, 1), (32, 32)] {
        let mut keyed = keyed.clone();
        for some in keyed.chunks_mut(group) {
            some.iter_mut().take(forged).for_each(|(voucher, _)| voucher.cumulative = Amount::new(1));
        }
        let took = measure(|| keyed.chunks(group).for_each(|some| assert!(!verify_all(some).together)));
        report(&format!("signatures in groups of {group}, {forged} of them forged"), took);
    }

    let mut ledger = world.ledger();
    report("signature + ledger", measure(|| world.verified().for_each(|voucher| drop(accept(&mut ledger, voucher)))));

    for group in [1, 16, 256] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("vouchers.sqlite")).unwrap();
        let mut ledger = world.ledger();
        let mut waiting = Vec::with_capacity(group);
        let took = measure(|| {
            for voucher in world.verified() {
                waiting.push(accept(&mut ledger, voucher));
                if waiting.len() == group {
                    store.commit(&waiting).unwrap();
                    waiting.clear();
                }
            }
        });
        report(&format!("signature + ledger + durable, {group} a commit"), took);
    }
}
