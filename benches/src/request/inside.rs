//! The signature alone on all processors, and the whole decision in process: verified, decided, durable.

use crate::request::load::{self, Threads};
use crate::request::world::{Channel, PRICE, World};
use ed25519_dalek::Signature;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallybook_ledger::{Finality, Ledger, Settings};
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SignerKey, verify_all};
use tallybook_sequencer::{Desk, Sequencer};
use tallybook_store::SqliteStore;

/// A signature checked again and again on every processor.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Signatures a second, all processors together.
    pub per_second: f64,
    /// What each takes of a processor, in microseconds.
    pub micros: f64,
}

/// `verify_strict` alone, so many in all, with the key decoded beforehand.
pub fn verify(world: &World, calls: usize, cores: usize) -> Rate {
    let work = work(world, calls / cores, |channel| channel.key.verifying_key());
    on_all(work.len(), cores, || {
        for (key, voucher) in &work {
            let signature = Signature::from_bytes(&voucher.signature);
            key.verify_strict(&voucher.message(), &signature).unwrap();
        }
    })
}

/// The same in groups, as the sequencer checks them.
pub fn verify_in_groups(world: &World, calls: usize, cores: usize, group: usize) -> Rate {
    let key = |channel: &Channel| SignerKey::decode(&channel.key.verifying_key().to_bytes()).unwrap();
    let work: Vec<_> = work(world, calls / cores, key).into_iter().map(|(key, voucher)| (voucher, key)).collect();
    on_all(work.len(), cores, || work.chunks(group).for_each(|some| assert!(verify_all(some).together)))
}

fn work<K>(world: &World, calls: usize, key: impl Fn(&Channel) -> K) -> Vec<(K, SignedVoucher)> {
    let channels = (0..calls).map(|call| &world.channels[call % world.channels.len()]);
    channels.map(|channel| (key(channel), channel.voucher(1))).collect()
}

/// Runs this on every processor at once; it does so many each time.
fn on_all(many: usize, cores: usize, run: impl Fn() + Sync) -> Rate {
    let began = Instant::now();
    let on_cpu: Duration = std::thread::scope(|scope| {
        let timed = || {
            run();
            load::on_cpu()
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(timed)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let all = (many * cores) as f64;
    Rate { per_second: all / began.elapsed().as_secs_f64(), micros: on_cpu.as_secs_f64() * 1e6 / all }
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
    /// Time of all threads on a processor.
    pub on_cpu: Duration,
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
    let (began, before) = (Instant::now(), Threads::now());
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
    (all.took, all.on_cpu) = (began.elapsed(), Threads::now().since(&before));
    all
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}
