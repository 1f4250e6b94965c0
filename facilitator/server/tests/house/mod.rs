//! A facilitator over real HTTP and a real file, and a chain that stands still: a book with one page, nothing lands.
#![allow(dead_code, reason = "each test file uses its own part")]

use serde_json::{Value, json};
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tallybook_chain::account::{BOOK_DISCRIMINATOR, PAGE_DISCRIMINATOR};
use tallybook_chain::address::TOKEN_PROGRAM;
use tallybook_chain::{Address, PROGRAM_ID, address};
use tallybook_facilitator::{Config, Facilitator};
use tallybook_rules::signing::{SignedVoucher, SigningKey, channel_id, page_domain};
use tallybook_rules::{Amount, Book, Opening, Page, PageHeader, Slot};
use tallybook_settler::{
    Account, Blockhash, Chain, ChainError, Commitment, Height, Simulation, Snapshot, Spent, Statuses,
};
use tallybook_store::{SqliteStore, VoucherStore};
use tallybook_wire::{ChannelPayload, FacilitatorRequest, Offer, PaymentPayload, PaymentRequirements};

pub(crate) const GENESIS_HASH: [u8; 32] = [9; 32];
pub(crate) const SLOTS: u8 = 4;
/// Another payee's book, without pages, whose channels never close for idleness.
pub(crate) const OTHER_BOOK: Address = Address::new_from_array([77; 32]);

pub(crate) fn other_book(book: &Book) -> Book {
    Book { payee: [78; 32], next_page: 0, max_idle_seconds: 0, ..*book }
}

/// What the chain shows.
pub(crate) struct State {
    pub(crate) header: PageHeader,
    pub(crate) slots: Vec<Slot>,
    pub(crate) slot: u64,
    /// What a simulation says; none while the chain does not answer to one.
    pub(crate) simulation: Option<Simulation>,
    /// It does not answer who asks for several pages with the one that stands among them.
    pub(crate) hides_several: bool,
}

#[derive(Clone)]
pub(crate) struct StillChain {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) book: Book,
    pub(crate) book_address: Address,
    pub(crate) page_address: Address,
}

impl StillChain {
    pub(crate) fn new() -> Self {
        let (payee, mint) = (Address::from([1; 32]), Address::from([2; 32]));
        let book_address = address::book(&PROGRAM_ID, &payee, &mint, 0).0;
        let page_address = address::page(&PROGRAM_ID, &book_address, 0).0;
        let mut book = Book {
            payee: payee.to_bytes(),
            mint: mint.to_bytes(),
            token_program: TOKEN_PROGRAM.to_bytes(),
            operator: [3; 32],
            genesis_hash: GENESIS_HASH,
            min_deposit: Amount::new(1_000),
            grace_seconds: 900,
            max_idle_seconds: 86_400,
            next_page: 1,
            decimals: 6,
            leg_count: 1,
            version: Book::VERSION,
            ..Book::default()
        };
        book.legs[0].basis_points = 10_000;
        let header = PageHeader {
            book: book_address.to_bytes(),
            page_domain: page_domain(&PROGRAM_ID.to_bytes(), &GENESIS_HASH, &page_address.to_bytes()),
            capacity: SLOTS,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        let state = State {
            header,
            slots: vec![Slot::default(); usize::from(SLOTS)],
            slot: 100,
            simulation: None,
            hides_several: false,
        };
        Self { state: Arc::new(Mutex::new(state)), book, book_address, page_address }
    }

    /// Opens a channel of 10,000 in a slot.
    pub(crate) fn open(&self, slot: u8) -> [u8; 32] {
        let mut state = self.state.lock().unwrap();
        let State { header, slots, slot: now, .. } = &mut *state;
        *now += 1;
        let opening = Opening {
            payer: [slot + 50; 32],
            signer: key(slot).verifying_key().to_bytes(),
            generation: slots[usize::from(slot)].generation + 1,
            deposit: Amount::new(10_000),
        };
        let id = channel_id(&header.page_domain, slot, opening.generation, &opening.payer, &opening.signer);
        Page { header, slots }.open(slot, &opening, Amount::new(1), 0).unwrap();
        id
    }

    pub(crate) fn request_close(&self, slot: u8) {
        let mut state = self.state.lock().unwrap();
        let State { header, slots, slot: now, .. } = &mut *state;
        *now += 1;
        let at = slots[usize::from(slot)];
        Page { header, slots }.request_close(slot, at.generation, &at.payer, 900, 1_000).unwrap();
    }

    fn account(&self, address: &Address) -> Option<Account> {
        let state = self.state.lock().unwrap();
        let data = if *address == OTHER_BOOK {
            [&BOOK_DISCRIMINATOR[..], bytemuck::bytes_of(&other_book(&self.book))].concat()
        } else if *address == self.book_address {
            [&BOOK_DISCRIMINATOR[..], bytemuck::bytes_of(&self.book)].concat()
        } else if *address == self.page_address {
            let header = bytemuck::bytes_of(&state.header);
            [&PAGE_DISCRIMINATOR[..], header, bytemuck::cast_slice(&state.slots)].concat()
        } else {
            return None;
        };
        Some(Account { lamports: 1, owner: PROGRAM_ID, data })
    }
}

fn still<T>() -> Result<T, ChainError> {
    Err(ChainError("this chain stands still".to_owned()))
}

impl Chain for StillChain {
    async fn accounts(&self, addresses: &[Address], _: Commitment) -> Result<Snapshot, ChainError> {
        let State { slot, hides_several, .. } = *self.state.lock().unwrap();
        if hides_several && addresses.len() > 1 && addresses.contains(&self.page_address) {
            return still();
        }
        Ok(Snapshot { slot, accounts: addresses.iter().map(|address| self.account(address)).collect() })
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        Ok(Blockhash { hash: Hash::new_from_array([4; 32]), last_valid_height: 150 })
    }

    async fn height(&self) -> Result<Height, ChainError> {
        still()
    }

    async fn simulate(&self, _: &VersionedTransaction) -> Result<Simulation, ChainError> {
        self.state.lock().unwrap().simulation.clone().map_or_else(still, Ok)
    }

    async fn send(&self, _: &VersionedTransaction) -> Result<(), ChainError> {
        still()
    }

    async fn statuses(&self, _: &[Signature], _: bool) -> Result<Statuses, ChainError> {
        still()
    }

    async fn spent(&self, _: &Signature) -> Result<Option<Spent>, ChainError> {
        still()
    }

    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        Ok(GENESIS_HASH)
    }
}

/// The key of the channel in a slot.
pub(crate) fn key(slot: u8) -> SigningKey {
    SigningKey::from_bytes(&[slot + 100; 32])
}

/// Makes a sponsor's keypair file.
pub(crate) fn write_keypair(path: &Path, mode: u32) {
    let keypair = SigningKey::from_bytes(&[5; 32]).to_keypair_bytes();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(path).unwrap();
    serde_json::to_writer(file, &keypair.to_vec()).unwrap();
}

/// A configuration that is good, with a folder for its files.
pub(crate) fn config(folder: &Path, book: &Address) -> Config {
    let sponsor = folder.join("sponsor.json");
    write_keypair(&sponsor, 0o600);
    let mut config = Config::from_toml(&format!(
        "listen = '127.0.0.1:0'\ndatabase = '{}'\nrpc_url = 'http://127.0.0.1:1'\nsponsor = '{}'\nbooks = ['{book}', '{OTHER_BOOK}']",
        folder.join("vouchers.db").display(),
        sponsor.display(),
    ))
    .unwrap();
    config.chain.poll_milliseconds = 50;
    config.limits.drain_seconds = 1;
    config
}

pub(crate) struct House {
    pub(crate) chain: StillChain,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) facilitator: Facilitator,
    pub(crate) http: reqwest::Client,
    pub(crate) offer: Offer,
}

impl House {
    /// With channels in the slots 0 and 1.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("vouchers.db")).unwrap();
        Self::over(change, Box::new(store), folder).await
    }

    pub(crate) async fn over(
        change: impl FnOnce(&mut Config),
        store: Box<dyn VoucherStore>,
        folder: tempfile::TempDir,
    ) -> Self {
        let chain = StillChain::new();
        chain.open(0);
        chain.open(1);
        let mut config = config(folder.path(), &chain.book_address);
        change(&mut config);
        let facilitator = Facilitator::start_with(config.clone(), chain.clone(), store).await.unwrap();
        let http = reqwest::Client::new();
        let url = format!("http://{}/books/{}/offer", facilitator.local_addr(), chain.book_address);
        let offer = http.get(url).send().await.unwrap().json().await.unwrap();
        Self { chain, folder, config, facilitator, http, offer }
    }

    /// Ends, and starts again over the same file.
    pub(crate) async fn restart(self) -> Self {
        self.facilitator.shutdown().await.unwrap();
        let store = SqliteStore::open(self.config.database.path().unwrap()).unwrap();
        let started = Facilitator::start_with(self.config.clone(), self.chain.clone(), Box::new(store));
        Self { facilitator: started.await.unwrap(), ..self }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.facilitator.local_addr())
    }

    pub(crate) fn id(&self, slot: u8) -> [u8; 32] {
        let state = self.chain.state.lock().unwrap();
        let at = &state.slots[usize::from(slot)];
        channel_id(&state.header.page_domain, slot, at.generation, &at.payer, &at.signer)
    }

    pub(crate) fn voucher(&self, slot: u8, cumulative: u64) -> SignedVoucher {
        SignedVoucher::sign(&key(slot), self.id(slot), Amount::new(cumulative))
    }

    pub(crate) fn requirements(&self, amount: u64) -> PaymentRequirements {
        self.offer.priced(Amount::new(amount), NonZeroU32::new(60).unwrap())
    }

    /// A call of `amount`, paid by a voucher of `cumulative`.
    pub(crate) fn call(&self, slot: u8, cumulative: u64, amount: u64) -> FacilitatorRequest {
        let payload = ChannelPayload::Voucher { voucher: self.voucher(slot, cumulative).into() };
        let requirements = self.requirements(amount);
        FacilitatorRequest::new(PaymentPayload::new(requirements.clone(), payload), requirements)
    }

    pub(crate) async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        answer(self.http.post(self.url(path)).body(body)).await
    }

    pub(crate) async fn post(&self, path: &str, request: &FacilitatorRequest) -> (u16, Value) {
        self.post_raw(path, serde_json::to_vec(request).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(self.url(path))).await
    }

    /// The reason of a refused payment, which is an answer with status 200.
    pub(crate) async fn reason(&self, path: &str, request: &FacilitatorRequest) -> String {
        let (status, answer) = self.post(path, request).await;
        assert_eq!(status, 200, "{answer}");
        let (ok, reason, message) = match path {
            "/verify" => ("isValid", "invalidReason", "invalidMessage"),
            _ => ("success", "errorReason", "errorMessage"),
        };
        assert_eq!(answer[ok], json!(false), "{answer}");
        assert!(answer[message].as_str().unwrap().ends_with('.'), "a sentence says what to do");
        answer[reason].as_str().unwrap().to_owned()
    }

    /// Reserved and committed.
    pub(crate) async fn pay(&self, slot: u8, cumulative: u64, amount: u64) {
        let call = self.call(slot, cumulative, amount);
        let (status, verified) = self.post("/verify", &call).await;
        assert_eq!((status, &verified["isValid"]), (200, &json!(true)), "{verified}");
        let (status, settled) = self.post("/settle", &call).await;
        assert_eq!((status, &settled["success"]), (200, &json!(true)), "{settled}");
    }

    pub(crate) async fn charged(&self, slot: u8) -> String {
        let id = tallybook_wire::Key(self.id(slot));
        let (status, view) = self.get(&format!("/channels/{id}")).await;
        assert_eq!(status, 200, "{view}");
        view["charged"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}
