//! How planning grows: which claims go into which transaction, among 10^4, 10^5 and 10^6 channels.
//!
//! `cargo bench --profile dev --bench planner`, or with `-- --quick` a hundredth of that in some seconds. Every channel has a voucher of
//! its own, verified as in service. Compare the ratios between machines, not the times.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench measures and prints; no money is in it"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use tallybook_benches::planner::{Plan, Planner, Size};
use tallybook_ledger::{Bundle, Capacity, Finality, Ledger, Load, PageSeen, Policy, Settings};
use tallybook_rules::signing::{SignedVoucher, SigningKey, VerifiedVoucher, channel_id, page_domain};
use tallybook_rules::{Amount, MAX_CAPACITY, Opening, Page, PageHeader, Slot};

const NOW: i64 = 1_800_000_000;
const AGE: i64 = 3_600;
const RUNS: usize = 5;
/// What waits in each channel.
const CHARGED: u64 = 500;

/// Counts what is allocated now, and the most there was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; it only counts, and leaves the work to the system's"
)]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

fn address(page: u64) -> [u8; 32] {
    let mut address = [7; 32];
    // Spread, as addresses are.
    address[..8].copy_from_slice(&page.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    address
}

/// A page full of open channels of one signer.
fn page(number: u64, signer: [u8; 32]) -> (PageHeader, Vec<Slot>) {
    let page_domain = page_domain(&[1; 32], &[2; 32], &address(number));
    let book = [u8::try_from(number % 16).unwrap(); 32];
    let version = PageHeader::VERSION;
    let mut header = PageHeader { book, page_domain, capacity: MAX_CAPACITY, version, ..PageHeader::default() };
    let mut slots = vec![Slot::default(); usize::from(MAX_CAPACITY)];
    for slot in 0..MAX_CAPACITY {
        let opening = Opening { payer: [slot; 32], signer, generation: 1, deposit: Amount::new(1_000_000) };
        Page { header: &mut header, slots: &mut slots }.open(slot, &opening, Amount::new(1), NOW).unwrap();
    }
    (header, slots)
}

fn voucher(key: &SigningKey, header: &PageHeader, slot: u8, amount: u64) -> VerifiedVoucher {
    let signer = key.verifying_key().to_bytes();
    let id = channel_id(&header.page_domain, slot, 1, &[slot; 32], &signer);
    SignedVoucher::sign(key, id, Amount::new(amount)).verify(&signer).unwrap()
}

/// A ledger of so many full pages, every channel of them charged; on all cores, since signing takes longest.
fn ledger(pages: u64, key: &SigningKey) -> Ledger {
    let settings = Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() };
    let mut ledger = Ledger::new(settings);
    let signer = key.verifying_key().to_bytes();
    let numbers: Vec<u64> = (0..pages).collect();
    let cores = thread::available_parallelism().map_or(2, usize::from);
    for some in numbers.chunks(64 * cores) {
        let made: Vec<_> = thread::scope(|scope| {
            let parts = some.chunks(64).map(|part| {
                scope.spawn(move || {
                    let made = part.iter().map(|number| {
                        let (header, slots) = page(*number, signer);
                        let vouchers = (0..MAX_CAPACITY).map(|slot| voucher(key, &header, slot, CHARGED));
                        (*number, header, slots, vouchers.collect::<Vec<_>>())
                    });
                    made.collect::<Vec<_>>()
                })
            });
            parts.collect::<Vec<_>>().into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        for (number, header, slots, vouchers) in made {
            let seen = PageSeen { address: address(number), chain_slot: 1, header: &header, slots: &slots };
            ledger.observe(&seen, Finality::Confirmed, NOW).unwrap();
            for voucher in vouchers {
                ledger.adopt(voucher, Amount::new(CHARGED), NOW).unwrap();
            }
        }
    }
    ledger
}

/// Transactions of version 1, of books with one leg and one mint; nothing is due but by age.
fn policy() -> Policy {
    let load = |bytes, addresses, compute_units| Load { bytes, addresses, compute_units };
    Policy {
        rows_per_batch: 94,
        rows_per_batch_below: 81,
        capacity: Capacity {
            limit: load(4_096, 64, 1_400_000),
            transaction: load(250, 4, 1_000),
            book: load(64, 2, 0),
            page: load(114, 2, 14_000),
            row: load(39, 0, 9_500),
            row_below: load(45, 0, 9_500),
            pages: 96,
        },
        due_amount: Amount::MAX_DEPOSIT,
        due_age_seconds: AGE,
        due_rows: usize::MAX,
        per_call: false,
    }
}

/// Plans some times over; nothing is taken up, so that each run has the same to do.
fn plan(ledger: &mut Ledger, now: i64, policy: &Policy, channels: u64) -> Plan {
    let (mut runs, mut rows, mut transactions, mut looks) = (Vec::new(), 0, 0, 0);
    for _ in 0..RUNS {
        let before = ledger.looks();
        let began = Instant::now();
        let bundles = ledger.plan(now, policy);
        runs.push(began.elapsed().as_secs_f64());
        looks = ledger.looks() - before;
        rows = bundles.iter().map(Bundle::rows).sum();
        transactions = bundles.len();
    }
    let n_log_n = channels as f64 * (channels as f64).log2();
    let median_seconds = median(&runs);
    Plan {
        rows: rows as u64,
        transactions: transactions as u64,
        looks,
        looks_per_n_log_n: looks as f64 / n_log_n,
        nanoseconds_per_n_log_n: median_seconds * 1e9 / n_log_n,
        median_seconds,
        runs,
    }
}

fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn measure(pages: u64, key: &SigningKey) -> Size {
    let channels = pages * u64::from(MAX_CAPACITY);
    let before = held();
    let mut ledger = ledger(pages, key);
    let ledger_bytes = held() - before;
    let policy = policy();
    // The first plan with a policy sorts pages by its thresholds, once.
    assert!(ledger.plan(NOW, &policy).is_empty());
    let nothing_due = plan(&mut ledger, NOW + AGE - 1, &policy, channels);

    MOST.store(held(), Ordering::Relaxed);
    let before = held();
    drop(ledger.plan(NOW + AGE, &policy));
    let plan_bytes = MOST.load(Ordering::Relaxed) - before;
    let all_due = plan(&mut ledger, NOW + AGE, &policy, channels);

    // One page in a hundred has one base unit more than the others.
    for number in (0..pages).step_by(100) {
        let (header, _) = page(number, key.verifying_key().to_bytes());
        let voucher = voucher(key, &header, 0, CHARGED + 1);
        ledger.adopt(voucher, Amount::new(CHARGED + 1), NOW).unwrap();
    }
    let due_amount = Amount::new(u64::from(MAX_CAPACITY) * CHARGED + 1);
    let policy = Policy { due_amount, ..policy };
    drop(ledger.plan(NOW, &policy));
    let one_in_a_hundred = plan(&mut ledger, NOW, &policy, channels);
    ledger.check().unwrap();

    let each = |bytes: usize| bytes as f64 / channels as f64;
    Size {
        channels,
        all_due,
        one_in_a_hundred,
        nothing_due,
        ledger_bytes_per_channel: each(ledger_bytes),
        plan_bytes_per_channel: each(plan_bytes),
    }
}

/// A ratio of the most channels divided by that of the fewest.
fn growth(sizes: &[Size], of: impl Fn(&Plan) -> f64) -> f64 {
    of(&sizes[sizes.len() - 1].all_due) / of(&sizes[0].all_due)
}

fn is_noisy(plan: &Plan) -> bool {
    let most = plan.runs.iter().copied().fold(0.0, f64::max);
    let least = plan.runs.iter().copied().fold(f64::INFINITY, f64::min);
    (most - least) / plan.median_seconds > 0.2
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let key = SigningKey::from_bytes(&[5; 32]);
    let pages: &[u64] = if quick { &[2, 11, 105] } else { &[105, 1_042, 10_417] };
    println!(
        "| channels | due | rows | transactions | looks ÷ n·log n | ns ÷ n·log n | ms | ledger B/channel | plan B/channel |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|---:|---:|");
    let sizes: Vec<Size> = pages.iter().map(|pages| measure(*pages, &key)).collect();
    for size in &sizes {
        for (name, plan) in
            [("all", &size.all_due), ("1 page in 100", &size.one_in_a_hundred), ("nothing", &size.nothing_due)]
        {
            println!(
                "| {} | {name} | {} | {} | {:.4} | {:.3} | {:.3} | {:.0} | {:.0} |",
                size.channels,
                plan.rows,
                plan.transactions,
                plan.looks_per_n_log_n,
                plan.nanoseconds_per_n_log_n,
                plan.median_seconds * 1e3,
                size.ledger_bytes_per_channel,
                size.plan_bytes_per_channel,
            );
        }
    }
    let report = Planner {
        work_growth: growth(&sizes, |plan| plan.looks_per_n_log_n),
        time_growth: growth(&sizes, |plan| plan.nanoseconds_per_n_log_n),
        noisy: sizes.iter().any(|size| is_noisy(&size.all_due)),
        sizes,
    };
    println!(
        "\nper n·log n, of the most channels beside the fewest: {:.2} of the work, {:.2} of the time{}",
        report.work_growth,
        report.time_growth,
        if report.noisy { " (noisy)" } else { "" }
    );
    if let Some(folder) = std::env::var_os("TALLYBOOK_REPORT") {
        let file = std::path::Path::new(&folder).join("planner.json");
        std::fs::write(file, serde_json::to_string_pretty(&report).unwrap()).unwrap();
    }
}
