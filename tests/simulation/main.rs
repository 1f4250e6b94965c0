//! A world under one seed: agents, a resource server, the facilitator, the chain, its nodes, the disk and the clocks, and
//! everything that can go wrong between them.
//!
//! What is real: the facilitator as a whole (routes, ledger, sequencer, settlement, watcher), its store in SQLite, its
//! settler, and the program in LiteSVM. What is simulated around it: time ([`virtual_time`]), chain and forks ([`chain`]),
//! nodes ([`endpoint`]), disk ([`disk`]), network ([`line`]), whoever buys ([`agent`]) and sells ([`shop`]), and somebody
//! who settles beside ([`rival`]). One thread and one seed decide all of it, so that a seed is the same life each time.
//! What must hold is in [`laws`].
//!
//! ```text
//! cargo test --workspace --test simulation
//! TALLYBOOK_SEED=17 cargo test --workspace --test simulation      replays the world 17, and shows how it went
//! TALLYBOOK_SEEDS=10000 cargo test --workspace --test simulation  lives through ten thousand
//! ```
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test says what it expects, and counts far from every limit"
)]

mod agent;
mod chain;
mod disk;
mod endpoint;
mod ground;
mod laws;
mod line;
mod rival;
mod shop;
mod trace;
mod truth;
mod virtual_time;
mod world;

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use truth::Counts;
use world::Ended;

/// Worlds of one run, unless `TALLYBOOK_SEEDS` says otherwise.
const SEEDS: u64 = 400;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Lives a world on a thread of its own, which has that world's time.
fn live(seed: u64) -> Ended {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(world::prepare);
    std::thread::spawn(move || world::live(seed)).join().unwrap_or_else(|_| panic!("the world {seed} has panicked"))
}

fn fail(seed: u64, ended: &Ended) -> ! {
    let broken = ended.broken.as_deref().unwrap_or("nothing is broken");
    panic!(
        "{}\nworld {seed}: {broken}\nagain: TALLYBOOK_SEED={seed} cargo test --workspace --test simulation",
        ended.last.join("\n"),
    );
}

#[test]
fn given_any_seed_when_its_world_is_lived_then_no_law_is_broken() {
    if let Some(seed) = number("TALLYBOOK_SEED") {
        let ended = live(seed);
        if ended.broken.is_some() {
            fail(seed, &ended);
        }
        eprintln!("{}\n{:?}", ended.last.join("\n"), ended.counts);
        return;
    }
    let first = number("TALLYBOOK_FIRST_SEED").unwrap_or(0);
    let last = first + number("TALLYBOOK_SEEDS").unwrap_or(SEEDS);
    let workers = number("TALLYBOOK_WORKERS").unwrap_or(2);
    let next = AtomicU64::new(first);
    let began = Instant::now();
    let sums = std::sync::Mutex::new((Counts::default(), 0));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        return;
                    }
                    let ended = live(seed);
                    if ended.broken.is_some() {
                        next.store(last, Ordering::Relaxed);
                        fail(seed, &ended);
                    }
                    let mut sums = sums.lock().unwrap();
                    sums.0.add(&ended.counts);
                    // Whatever their order, so that two runs can be compared.
                    sums.1 ^= u64::from_le_bytes(ended.hash[..8].try_into().unwrap());
                }
            });
        }
    });
    let (counts, sum) = sums.into_inner().unwrap();
    eprintln!("{} worlds in {:?}, sum {sum:016x}: {counts:?}", last - first, began.elapsed());
}

#[test]
fn given_one_seed_when_its_world_is_lived_twice_then_every_line_of_its_trace_is_the_same() {
    for seed in 0..10 {
        let (once, again) = (live(seed), live(seed));
        let differs = once.last.iter().zip(&again.last).find(|(one, other)| one != other);
        assert_eq!((once.hash, once.lines), (again.hash, again.lines), "seed {seed}, at {differs:?}");
    }
    assert_ne!(live(3).hash, live(4).hash);
}
