//! The signature alone on all processors, and the whole decision in process: verified, decided, durable.

use crate::request::world::{PRICE, World};
use ed25519_dalek::{Signature, VerifyingKey};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallybook_ledger::{Finality, Ledger, Settings};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_sequencer::{Desk, Sequencer};
use tallybook_store::SqliteStore;

/// `verify_strict` alone, so many in all, on every processor: signatures a second.
pub fn verify_per_second(world: &World, calls: usize, cores: usize) -> f64 {
    let work: Vec<(VerifyingKey, SignedVoucher)> = (0..calls / cores)
        .map(|call| &world.channels[call % world.channels.len()])
        .map(|channel| (channel.key.verifying_key(), channel.voucher(1)))
        .collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                for (key, voucher) in &work {
                    let signature = Signature::from_bytes(&voucher.signature);
                    key.verify_strict(&voucher.message(), &signature).unwrap();
                }
            });
        }
    });
    (work.len() * cores) as f64 / began.elapsed().as_secs_f64()
}

/// A sequencer over the world and a new file.
pub fn sequencer(world: &World, path: &Path) -> Sequencer {
    let store = SqliteStore::open(path).unwrap();
    let ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
    let mut desk = Desk::new(ledger, Box::new(store));
    desk.observe(world.pages.iter().map(|page| page.seen()), Finality::Confirmed);
    Sequencer::start(desk, 4_096).unwrap().0
}

/// What callers that pay from a channel each have seen: how long all took, and each reserving and committing.
#[derive(Clone, Default, Debug)]
pub struct Accepted {
    /// All of it.
    pub took: Duration,
    /// Each reservation, verifying included, in nanoseconds.
    pub reserve_nanos: Vec<u64>,
    /// Each commit, in nanoseconds.
    pub commit_nanos: Vec<u64>,
}

/// So many callers, each with the vouchers of so many calls of its own channel.
pub fn scripts(world: &World, callers: usize, calls: std::ops::Range<u64>) -> Vec<Vec<SignedVoucher>> {
    let callers = world.channels.iter().take(callers);
    callers.map(|channel| calls.clone().map(|call| channel.voucher(call)).collect()).collect()
}

/// Reserves and commits all of it, every caller waiting for each answer.
pub async fn accept(sequencer: &Sequencer, book: [u8; 32], scripts: Vec<Vec<SignedVoucher>>) -> Accepted {
    let sequencer = Arc::new(sequencer.clone());
    let began = Instant::now();
    let callers: Vec<_> = scripts
        .into_iter()
        .map(|script| {
            let sequencer = Arc::clone(&sequencer);
            tokio::spawn(async move {
                let mut accepted = Accepted::default();
                for voucher in script {
                    let began = Instant::now();
                    sequencer.reserve(voucher, book, PRICE, 60).await.unwrap();
                    let reserved = began.elapsed();
                    sequencer.commit(voucher, book, PRICE).await.unwrap();
                    accepted.reserve_nanos.push(nanos(reserved));
                    accepted.commit_nanos.push(nanos(began.elapsed() - reserved));
                }
                accepted
            })
        })
        .collect();
    let mut all = Accepted::default();
    for caller in callers {
        let one = caller.await.unwrap();
        all.reserve_nanos.extend(one.reserve_nanos);
        all.commit_nanos.extend(one.commit_nanos);
    }
    all.took = began.elapsed();
    all
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}
