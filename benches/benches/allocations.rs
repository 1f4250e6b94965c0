//! How much a paid call allocates beside an unpaid one, from the bytes of its header to the answer: `cargo bench -p
//! tallybook-benches --bench allocations`. A count, not a time: it is the same on every machine, however busy.
//!
//! Everything in this process counts, so also the writer's thread with its commits, each of one call here.

#![expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only counts, and hands on")]
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench measures and prints; no money is in it"
)]

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tallybook_benches::request::house::{EMBEDDED, House, UNPAID};
use tallybook_benches::request::world::{World, payment_header};
use tower::ServiceExt;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(size: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    BYTES.fetch_add(size as u64, Relaxed);
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Calls before those that are counted: what is kept for good finds its room.
const FIRST: u64 = 500;
const COUNTED: u64 = 1_000;

fn main() {
    let world = World::new(1_024);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let house = runtime.block_on(House::open(&world, folder.path()));
    println!("allocated by a call, {COUNTED} of them one after another");
    for (name, path) in [("unpaid", UNPAID), ("paid, with a ledger of the server's own", EMBEDDED)] {
        let calls = (1..=FIRST + COUNTED).map(|call| (path == EMBEDDED).then(|| header(&house, &world, call)));
        let calls: Vec<_> = calls.collect();
        let (first, counted) = calls.split_at(FIRST as usize);
        let (times, bytes) = runtime.block_on(async {
            run(&house.routes, path, first).await;
            let before = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
            run(&house.routes, path, counted).await;
            (ALLOCATIONS.load(Relaxed) - before.0, BYTES.load(Relaxed) - before.1)
        });
        let each = |all: u64| all as f64 / COUNTED as f64;
        println!("  {name:<44} {:>8.1} times {:>10.0} bytes", each(times), each(bytes));
    }
}

fn header(house: &House, world: &World, call: u64) -> HeaderValue {
    payment_header(&house.offer, world.channels.first().unwrap().voucher(call))
}

async fn run(routes: &Router, path: &str, calls: &[Option<HeaderValue>]) {
    for payment in calls {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        if let Some(payment) = payment {
            request.headers_mut().insert("payment-signature", payment.clone());
        }
        let response = routes.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        axum::body::to_bytes(response.into_body(), 1_024).await.unwrap();
    }
}
