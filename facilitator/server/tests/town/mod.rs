//! A chain that stands still with two books and any number of channels, and a server of it in a process of its own.

use crate::house;
use serde_json::{Value, json};
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_chain::account::{BOOK_DISCRIMINATOR, PAGE_DISCRIMINATOR};
use tallybook_chain::address::TOKEN_PROGRAM;
use tallybook_chain::{Address, PROGRAM_ID, address};
use tallybook_facilitator::{Config, Facilitator};
use tallybook_rules::signing::{SignedVoucher, channel_id, page_domain};
use tallybook_rules::{Amount, Book, Opening, Page, PageHeader, Slot};
use tallybook_settler::{
    Account, Blockhash, Chain, ChainError, Commitment, Height, Simulation, Snapshot, Spent, Statuses,
};
use tallybook_store::SqliteStore;
use tallybook_wire::{ChannelPayload, FacilitatorRequest, Key, Offer, PaymentPayload, Voucher};

const CAPACITY: u8 = 96;
/// What the server prints before its address.
const LISTENING: &str = "listening at ";
/// The environment variable with the server's settings.
const SETTINGS: &str = "TALLYBOOK_LOAD_SERVER";

/// Two books whose pages are full of channels of one signer; each channel has a payer of its own. What is not in the books is
/// never answered for.
#[derive(Clone)]
pub(crate) struct Town {
    books: Vec<Address>,
    /// Ids, by book, in the order of pages and slots.
    ids: Vec<Vec<[u8; 32]>>,
    accounts: Arc<BTreeMap<Address, Vec<u8>>>,
}

impl Town {
    /// With `pages` in the first book, and one in the second.
    fn new(pages: u32) -> Self {
        let (mut books, mut ids, mut accounts) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (number, pages) in [(1, pages), (2, 1)] {
            let (payee, mint) = (Address::from([number; 32]), Address::from([9; 32]));
            let book_address = address::book(&PROGRAM_ID, &payee, &mint, 0).0;
            let mut book = Book {
                payee: payee.to_bytes(),
                mint: mint.to_bytes(),
                token_program: TOKEN_PROGRAM.to_bytes(),
                operator: [3; 32],
                genesis_hash: house::GENESIS_HASH,
                min_deposit: Amount::new(1_000),
                grace_seconds: 900,
                next_page: pages,
                decimals: 6,
                leg_count: 1,
                version: Book::VERSION,
                ..Book::default()
            };
            book.legs[0].basis_points = 10_000;
            accounts.insert(book_address, [&BOOK_DISCRIMINATOR[..], bytemuck::bytes_of(&book)].concat());
            let mut of_book = Vec::new();
            for index in 0..pages {
                let (page, data) = full_page(&book_address, index, &mut of_book);
                accounts.insert(page, data);
            }
            books.push(book_address);
            ids.push(of_book);
        }
        Self { books, ids, accounts: Arc::new(accounts) }
    }

    /// How many there are in the first book.
    pub(crate) fn channels(&self) -> usize {
        self.ids[0].len()
    }
}

fn full_page(book: &Address, index: u32, ids: &mut Vec<[u8; 32]>) -> (Address, Vec<u8>) {
    let address = address::page(&PROGRAM_ID, book, index).0;
    let domain = page_domain(&PROGRAM_ID.to_bytes(), &house::GENESIS_HASH, &address.to_bytes());
    let version = PageHeader::VERSION;
    let mut header = PageHeader {
        book: book.to_bytes(),
        page_domain: domain,
        index,
        capacity: CAPACITY,
        version,
        ..PageHeader::default()
    };
    let mut slots = vec![Slot::default(); usize::from(CAPACITY)];
    let signer = house::key(0).verifying_key().to_bytes();
    for slot in 0..CAPACITY {
        let mut payer = [7; 32];
        payer[..4].copy_from_slice(&index.to_le_bytes());
        payer[4] = slot;
        let opening = Opening { payer, signer, generation: 1, deposit: Amount::new(10_000) };
        Page { header: &mut header, slots: &mut slots }.open(slot, &opening, Amount::new(1), 0).unwrap();
        ids.push(channel_id(&domain, slot, 1, &payer, &signer));
    }
    (address, [&PAGE_DISCRIMINATOR[..], bytemuck::bytes_of(&header), bytemuck::cast_slice(&slots)].concat())
}

impl Chain for Town {
    async fn accounts(&self, addresses: &[Address], _: Commitment) -> Result<Snapshot, ChainError> {
        if addresses.iter().any(|address| !self.accounts.contains_key(address)) {
            return std::future::pending().await;
        }
        let account = |address| {
            self.accounts.get(address).map(|data| Account { lamports: 1, owner: PROGRAM_ID, data: data.clone() })
        };
        Ok(Snapshot { slot: 100, accounts: addresses.iter().map(account).collect() })
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        Ok(Blockhash { hash: Hash::new_from_array([4; 32]), last_valid_height: 150 })
    }

    async fn height(&self) -> Result<Height, ChainError> {
        std::future::pending().await
    }

    async fn simulate(&self, _: &VersionedTransaction) -> Result<Simulation, ChainError> {
        std::future::pending().await
    }

    async fn send(&self, _: &VersionedTransaction) -> Result<(), ChainError> {
        std::future::pending().await
    }

    async fn statuses(&self, _: &[Signature], _: bool) -> Result<Statuses, ChainError> {
        std::future::pending().await
    }

    async fn spent(&self, _: &Signature) -> Result<Option<Spent>, ChainError> {
        std::future::pending().await
    }

    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        Ok(house::GENESIS_HASH)
    }
}

/// `name=number` pairs.
fn settings(text: &str) -> Vec<(&str, u32)> {
    text.split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

fn pages(text: &str) -> u32 {
    settings(text).into_iter().find(|(name, _)| *name == "pages").map_or(1, |(_, pages)| pages)
}

fn configure(config: &mut Config, text: &str) {
    let limits = &mut config.limits;
    for (name, value) in settings(text) {
        match name {
            "requests_in_flight" => limits.requests_in_flight = value,
            "payer_requests_in_flight" => limits.payer_requests_in_flight = value,
            "payer_requests_per_second" => limits.payer_requests_per_second = value,
            "book_requests_in_flight" => limits.book_requests_in_flight = value,
            "book_requests_per_second" => limits.book_requests_per_second = value,
            "deposits_in_flight" => limits.deposits_in_flight = value,
            "queue" => limits.queue = value,
            "head_seconds" => limits.head_seconds = value,
            "body_seconds" => limits.body_seconds = value,
            "request_seconds" => limits.request_seconds = value,
            "files" => drop(rlimit::setrlimit(rlimit::Resource::NOFILE, value.into(), value.into())),
            "pages" => {}
            other => panic!("{other} is no setting"),
        }
    }
}

/// The server, until its input ends; nothing where nobody has started it.
pub(crate) async fn serve() {
    let Ok(text) = std::env::var(SETTINGS) else { return };
    let (town, folder) = (Town::new(pages(&text)), tempfile::tempdir().unwrap());
    let mut config = house::config(folder.path(), &town.books[0]);
    config.books = town.books.iter().map(|book| Key(book.to_bytes())).collect();
    config.chain.poll_milliseconds = 60_000;
    configure(&mut config, &text);
    config.check().unwrap();
    let store = SqliteStore::open(config.database.path().unwrap()).unwrap();
    let facilitator = Facilitator::start_with(config, town, Box::new(store)).await.unwrap();
    println!("{LISTENING}{}", facilitator.local_addr());
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.unwrap().unwrap();
}

/// The other process. Ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) town: Town,
    offers: Vec<Offer>,
    /// What each channel was charged, by book and channel.
    charged: Mutex<HashMap<(usize, usize), u64>>,
    http: reqwest::Client,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop((self.process.kill(), self.process.wait()));
    }
}

impl Server {
    pub(crate) async fn start(settings: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "server", "--nocapture"]).env(SETTINGS, settings);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().split_once(LISTENING).map(|(_, address)| address.to_owned()));
        let address = address.expect("the server has not started").parse().unwrap();
        // What it says later nobody reads: its pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let (town, http) = (Town::new(pages(settings)), reqwest::Client::new());
        let mut offers = Vec::new();
        for book in &town.books {
            let url = format!("http://{address}/books/{book}/offer");
            offers.push(http.get(url).send().await.unwrap().json().await.unwrap());
        }
        Self { address, town, offers, charged: Mutex::default(), http, process }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the process has in memory, in bytes.
    pub(crate) async fn memory(&self) -> u64 {
        // What was freed a moment ago may not be given back yet.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn request(&self, book: usize, payload: ChannelPayload) -> Vec<u8> {
        let requirements = self.offers[book].priced(Amount::new(1), NonZeroU32::new(60).unwrap());
        let request = FacilitatorRequest::new(PaymentPayload::new(requirements.clone(), payload), requirements);
        serde_json::to_vec(&request).unwrap()
    }

    fn voucher(&self, book: usize, channel: usize, cumulative: u64) -> Voucher {
        SignedVoucher::sign(&house::key(0), self.town.ids[book][channel], Amount::new(cumulative)).into()
    }

    /// The body of a call of one base unit.
    pub(crate) fn call(&self, book: usize, channel: usize, cumulative: u64) -> Vec<u8> {
        self.request(book, ChannelPayload::Voucher { voucher: self.voucher(book, channel, cumulative) })
    }

    /// The body of a wish to leave a channel that was charged so much.
    pub(crate) fn refund(&self, book: usize, channel: usize, charged: u64) -> Vec<u8> {
        let voucher = self.voucher(book, channel, charged);
        self.request(book, ChannelPayload::Refund { voucher, transaction: None })
    }

    pub(crate) async fn ask(&self, path: &str, body: Vec<u8>) -> (u16, Value) {
        house::answer(self.http.post(self.url(path)).body(body).timeout(Duration::from_secs(30))).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        house::answer(self.http.get(self.url(path))).await
    }

    /// A call of a channel of the first book.
    pub(crate) async fn pay(&self, channel: usize) {
        self.pay_once(0, channel).await.unwrap();
    }

    /// A call, or what its beginning was refused with. What was begun must end.
    pub(crate) async fn pay_once(&self, book: usize, channel: usize) -> Result<(), (u16, Value)> {
        let place = (book, channel);
        let cumulative = self.charged.lock().unwrap().get(&place).copied().unwrap_or_default() + 1;
        let call = self.call(book, channel, cumulative);
        let (status, verified) = self.ask("/verify", call.clone()).await;
        if status != 200 || verified["isValid"] != json!(true) {
            return Err((status, verified));
        }
        let (status, settled) = self.ask("/settle", call).await;
        assert_eq!((status, &settled["success"]), (200, &json!(true)), "{settled}");
        self.charged.lock().unwrap().insert(place, cumulative);
        Ok(())
    }

    /// A call that comes back whenever it is told to.
    pub(crate) async fn pay_in_the_end(&self, book: usize, channel: usize) {
        while let Err((status, refusal)) = self.pay_once(book, channel).await {
            assert_eq!(status, 429, "{refusal}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

pub(crate) fn megabytes(bytes: u64) -> u64 {
    bytes >> 20
}
