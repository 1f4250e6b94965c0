//! A book full of channels, their keys, and payments signed beforehand.

use axum::http::HeaderValue;
use tallybook_chain::address::{self, TOKEN_PROGRAM};
use tallybook_chain::{Address, PROGRAM_ID};
use tallybook_ledger::{Finality, Ledger, PageSeen, Settings};
use tallybook_rules::signing::{SignedVoucher, SigningKey, channel_id, page_domain};
use tallybook_rules::{Amount, Book, Opening, Page, PageHeader, Slot};
use tallybook_wire::{ChannelPayload, FacilitatorRequest, Offer, PaymentPayload, header};

/// What a call costs, in base units.
pub const PRICE: Amount = Amount::new(500);
/// The same as a paywall's owner writes it.
pub const PRICE_TEXT: &str = "$0.0005";
/// The cluster's genesis hash.
pub const GENESIS_HASH: [u8; 32] = [9; 32];
/// When it is, in Unix seconds, where that is asked.
pub const NOW: i64 = 1_800_000_000;
/// Slots of a page.
const CAPACITY: u8 = 96;

/// A page with its address, as the chain shows it.
#[derive(Clone, Debug)]
pub struct BookPage {
    /// Its address.
    pub address: Address,
    /// Its totals.
    pub header: PageHeader,
    /// Its channels.
    pub slots: Vec<Slot>,
}

impl BookPage {
    /// A page without channels.
    pub fn empty(book: &Address, index: u32) -> Self {
        let address = address::page(&PROGRAM_ID, book, index).0;
        let header = PageHeader {
            book: book.to_bytes(),
            page_domain: page_domain(&PROGRAM_ID.to_bytes(), &GENESIS_HASH, &address.to_bytes()),
            index,
            capacity: CAPACITY,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        Self { address, header, slots: vec![Slot::default(); usize::from(CAPACITY)] }
    }

    /// Opens a channel of 1,000 tokens in a slot; gives its id.
    pub fn open(&mut self, at: u8, payer: [u8; 32], signer: [u8; 32]) -> [u8; 32] {
        let opening = Opening { payer, signer, generation: 1, deposit: Amount::new(1_000_000_000) };
        let mut page = Page { header: &mut self.header, slots: &mut self.slots };
        page.open(at, &opening, Amount::new(1), NOW).unwrap();
        channel_id(&self.header.page_domain, at, 1, &payer, &signer)
    }

    /// As the ledger looks at it.
    pub fn seen(&self) -> PageSeen<'_> {
        PageSeen { address: self.address.to_bytes(), chain_slot: 1, header: &self.header, slots: &self.slots }
    }
}

/// A channel, whose signer we are.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its id.
    pub id: [u8; 32],
    /// Signs its vouchers.
    pub key: SigningKey,
}

impl Channel {
    /// The voucher of the call of this number, from 1, when each costs [`PRICE`].
    pub fn voucher(&self, call: u64) -> SignedVoucher {
        SignedVoucher::sign(&self.key, self.id, Amount::new(PRICE.get() * call))
    }
}

/// A book of some pages, with channels in the first slots.
#[derive(Clone, Debug)]
pub struct World {
    /// The book's address.
    pub address: Address,
    /// The book.
    pub book: Book,
    /// Its pages.
    pub pages: Vec<BookPage>,
    /// Its channels.
    pub channels: Vec<Channel>,
}

impl World {
    /// With so many channels.
    pub fn new(channels: usize) -> Self {
        Self::of_book(0, channels)
    }

    /// The same of another book of the payee's, by its number.
    pub fn of_book(book_id: u16, channels: usize) -> Self {
        let (payee, mint) = (Address::from([1; 32]), Address::from([2; 32]));
        let address = address::book(&PROGRAM_ID, &payee, &mint, book_id).0;
        let mut pages = Vec::new();
        let mut all = Vec::with_capacity(channels);
        for number in 0..channels {
            let at = u8::try_from(number % usize::from(CAPACITY)).unwrap();
            if at == 0 {
                pages.push(BookPage::empty(&address, u32::try_from(pages.len()).unwrap()));
            }
            let (seed, key) = Self::key(number);
            let id = pages.last_mut().unwrap().open(at, seed, key.verifying_key().to_bytes());
            all.push(Channel { id, key });
        }
        let mut book = Book {
            payee: payee.to_bytes(),
            mint: mint.to_bytes(),
            token_program: TOKEN_PROGRAM.to_bytes(),
            operator: [3; 32],
            genesis_hash: GENESIS_HASH,
            min_deposit: Amount::new(1_000),
            grace_seconds: 900,
            max_idle_seconds: 86_400,
            next_page: u32::try_from(pages.len()).unwrap(),
            decimals: 6,
            leg_count: 1,
            book_id,
            version: Book::VERSION,
            ..Book::default()
        };
        book.legs[0].basis_points = 10_000;
        Self { address, book, pages, channels: all }
    }

    /// The payer of a channel, and the key of its signer.
    fn key(number: usize) -> ([u8; 32], SigningKey) {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
        (seed, SigningKey::from_bytes(&seed))
    }

    /// The channel of a number, without the world around it.
    pub fn channel(number: usize) -> Channel {
        let capacity = usize::from(CAPACITY);
        let (index, at) = (u32::try_from(number / capacity).unwrap(), u8::try_from(number % capacity).unwrap());
        let (seed, key) = Self::key(number);
        let id = BookPage::empty(&Self::new(0).address, index).open(at, seed, key.verifying_key().to_bytes());
        Channel { id, key }
    }

    /// A ledger that has seen all of it, final.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(Settings { credit: Amount::MAX_DEPOSIT, ..Settings::default() });
        self.pages.iter().for_each(|page| drop(ledger.observe(&page.seen(), Finality::Confirmed, NOW).unwrap()));
        ledger
    }
}

/// The payment of a call, as an agent makes it.
pub fn payment(offer: &Offer, voucher: SignedVoucher) -> PaymentPayload {
    let accepted = offer.priced(PRICE, 60.try_into().unwrap());
    PaymentPayload::new(accepted, ChannelPayload::Voucher { voucher: voucher.into() })
}

/// The header that carries it.
pub fn payment_header(offer: &Offer, voucher: SignedVoucher) -> HeaderValue {
    header(&payment(offer, voucher)).unwrap()
}

/// The body of `/verify` and `/settle` for it.
pub fn question(offer: &Offer, voucher: SignedVoucher) -> Vec<u8> {
    let payment = payment(offer, voucher);
    let requirements = payment.accepted.clone();
    serde_json::to_vec(&FacilitatorRequest::new(payment, requirements)).unwrap()
}
