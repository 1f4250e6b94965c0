//! How much memory a channel takes, and how long a start with many takes. Each is measured in a process of its own.

use crate::request::house;
use crate::request::world::{BookPage, NOW, PRICE, World, question};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tallybook_ledger::{Change, ChannelRecord, Finality, LastCall, Ledger, Place, Settings};
use tallybook_sequencer::{Desk, Sequencer};
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

/// Fills a store with so many channels, each after its first call.
pub fn fill(path: &Path, channels: usize) {
    fill_with(path, &World::new(channels));
}

/// The same with a world's channels.
pub fn fill_with(path: &Path, world: &World) {
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

/// How long it takes from there until all of its channels were met on chain and their vouchers verified, and the longest that
/// somebody who asked the desk meanwhile had to wait for it.
pub fn meet(path: &Path, channels: usize) -> (Duration, Duration) {
    let world = World::new(channels);
    let store = SqliteStore::open(path).unwrap();
    let (desk, _) = Desk::open(Box::new(store), Settings::default()).unwrap();
    let (sequencer, _) = Sequencer::start(desk, 64).unwrap();
    let began = Instant::now();
    let asking = sequencer.clone();
    let longest = std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        loop {
            let asked = Instant::now();
            let left = block_on(asking.insist(|desk| desk.ledger.unmet() > 0 || desk.ledger.has_unproven())).unwrap();
            longest = longest.max(asked.elapsed());
            if !left {
                return longest;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let pages: Vec<_> = world.pages.iter().map(BookPage::seen).collect();
    block_on(sequencer.meet(&pages, &pages)).unwrap();
    let longest = longest.join().unwrap();
    let took = began.elapsed();
    let met = block_on(sequencer.insist(|desk| (desk.ledger.len(), desk.ledger.unmet()))).unwrap();
    assert_eq!(met, (channels, 0));
    (took, longest)
}

/// A book's node, for others, until this process is ended; says its address.
pub fn node(channels: usize) {
    let world = World::new(channels);
    block_on(async {
        println!("http://{}", crate::request::node::serve(&world).await);
        std::future::pending::<()>().await;
    });
}

/// A facilitator over the store in a folder and the node of the file `node` in it, until this process is ended; says its
/// address.
pub fn serve(folder: &Path) {
    let node = std::fs::read_to_string(folder.join("node")).unwrap();
    block_on(async {
        let facilitator = house::facilitator(&World::new(0).address, folder, &node).await;
        println!("{}", facilitator.local_addr());
        std::future::pending::<()>().await;
    });
}

/// Pays from a channel of a book of so many whose pages a facilitator has not read yet: the one in the middle.
pub fn pay_from_the_middle(facilitator: SocketAddr, channels: usize) {
    block_on(async {
        let offer = house::offer(facilitator, &World::new(0).address.to_string()).await;
        // The node's world has the same channels under the same numbers.
        let voucher = World::channel(channels / 2).voucher(2);
        let answer = house::ask(facilitator, "POST", "/verify", &question(&offer, voucher)).await;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["isValid"], true, "{answer}");
    });
}

/// How many pages a facilitator has not read since its start.
pub fn unread_pages(facilitator: SocketAddr) -> u64 {
    let health = block_on(house::ask(facilitator, "GET", "/health", &[]));
    let health: serde_json::Value = serde_json::from_slice(&health).unwrap();
    health["unreadPages"].as_u64().unwrap_or(0)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}
