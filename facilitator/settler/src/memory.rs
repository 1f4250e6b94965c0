//! A chain in memory whose faults are the point: answers get lost, nodes lag, transactions never land. It runs claims
//! with the real rules; what the program does besides is tested on a real chain.

#![expect(clippy::arithmetic_side_effects, reason = "numbers of a test, far from every limit")]

use crate::chain::{
    Account, Blockhash, Chain, ChainError, Commitment, Failure, Height, Landing, Simulation, Snapshot, Spent, Statuses,
};
use crate::pace::Pace;
use crate::send::Journal;
use crate::settler::{Settings, Settler};
use solana_address::{Address, address};
use solana_hash::Hash;
use solana_instruction::error::InstructionError;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_rpc_client_api::client_error::TransactionError;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tallybook_chain::account::{BOOK_DISCRIMINATOR, PAGE_DISCRIMINATOR};
use tallybook_chain::address::TOKEN_PROGRAM;
use tallybook_chain::instruction::discriminator;
use tallybook_chain::{BookView, PROGRAM_ID, PageView, address as addresses};
use tallybook_ledger::{Attempt, ClaimRow};
use tallybook_rules::half_aggregation::{BelowRow, Row, split_claim};
use tallybook_rules::signing::{SignedVoucher, SigningKey, page_domain};
use tallybook_rules::{Amount, Book, Leg, Opening, Page, PageHeader, Rejection, Slot};

/// What happens to a transaction that is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It lands, but the answer to the send is lost.
    LostAnswer,
    /// The node takes it, and it never lands.
    Dropped,
    /// It lands and fails on chain.
    Fails,
}

/// What a node makes of transactions of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum V1 {
    #[default]
    Taken,
    /// It cannot read them, and answers with an error.
    Unreadable,
    /// It reads them and says that they are not supported.
    Unsupported,
    /// The node that simulates takes them, the one that they are sent to cannot read them.
    UnreadableWhenSent,
}

/// What an instruction does that was sent.
enum Done {
    Claim(Address, Vec<Row>),
    Payout(Address),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) accounts: BTreeMap<Address, Account>,
    pub(crate) pages: BTreeMap<Address, PageView>,
    pub(crate) slot: u64,
    pub(crate) height: u64,
    /// Blocks that pass with every question for the height.
    pub(crate) blocks_a_question: u64,
    /// How far the node that gives statuses is behind.
    pub(crate) statuses_behind: u64,
    /// How many questions of any kind stay unanswered.
    pub(crate) unanswered: u32,
    /// For the next sends, in order; after that everything lands.
    pub(crate) faults: VecDeque<Fault>,
    /// Slots whose rows the program refuses, though the page shows nothing wrong.
    pub(crate) poisoned: Vec<u8>,
    /// Somebody beside sends what is being simulated, so that the simulation meets what it itself does.
    pub(crate) lands_meanwhile: bool,
    /// Every slot is taken, says the program.
    pub(crate) refuses_opens: bool,
    /// The node does not know of any lookup table.
    pub(crate) no_tables: bool,
    /// The payout fails, in these pages.
    pub(crate) payout_fails: Vec<Address>,
    /// Pages whose claims the program refuses.
    pub(crate) poisoned_pages: Vec<Address>,
    /// What becomes of transactions of version 1 where their gate is open.
    pub(crate) v1: V1,
    /// How many transactions were simulated.
    pub(crate) simulated: u32,
    /// What the node says of recent prices.
    pub(crate) prices: Vec<u64>,
    pub(crate) landed: BTreeMap<Signature, Landing>,
    /// Slots claimed, by landed transaction.
    pub(crate) claimed: Vec<Vec<u8>>,
    pub(crate) paid_out: usize,
    pub(crate) sent: Vec<Signature>,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryChain(Arc<Mutex<State>>);

impl MemoryChain {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn answer<T>(&self, answer: impl FnOnce(&mut State) -> T) -> Result<T, ChainError> {
        let mut state = self.state();
        if state.unanswered > 0 {
            state.unanswered -= 1;
            return Err(ChainError("429 too many requests".into()));
        }
        Ok(answer(&mut state))
    }
}

impl State {
    /// The claims and payouts in a transaction, each with its number.
    fn read(transaction: &VersionedTransaction) -> Vec<(u8, Done)> {
        let keys = transaction.message.static_account_keys();
        let mut done = Vec::new();
        for (at, instruction) in (0u8..).zip(transaction.message.instructions()) {
            // A page in a lookup table has an index beyond the keys; then it is the only one.
            let named = |account: usize| keys.get(usize::from(instruction.accounts[account])).copied();
            let page = |account| named(account).unwrap_or_default();
            match instruction.data.split_first() {
                Some((&discriminator::CLAIM, claim)) if claim.len() > 32 => {
                    let rows = split_claim(claim).unwrap().1.iter().map(Row::from_bytes).collect();
                    done.push((at, Done::Claim(page(0), rows)));
                }
                Some((&discriminator::CLAIM_BELOW, claim)) => {
                    let below = split_claim(claim).unwrap().1.iter().map(BelowRow::from_bytes);
                    let rows = below.map(|row| Row { cumulative: row.amount, ..row.signed }).collect();
                    done.push((at, Done::Claim(page(0), rows)));
                }
                Some((&discriminator::PAYOUT, _)) => done.push((at, Done::Payout(page(1)))),
                _ => {}
            }
        }
        done
    }

    fn page_mut(&mut self, page: &Address) -> Option<&mut PageView> {
        let first = *self.pages.keys().next()?;
        self.pages.get_mut(if *page == Address::default() { &first } else { page })
    }

    fn refuses(&self, transaction: &VersionedTransaction) -> Option<Failure> {
        if self.no_tables && transaction.message.address_table_lookups().is_some_and(|tables| !tables.is_empty()) {
            return Some(Failure(TransactionError::AddressLookupTableNotFound));
        }
        if is_v1(transaction) && self.v1 == V1::Unsupported {
            return Some(Failure(TransactionError::UnsupportedVersion));
        }
        let custom = |rejection: Rejection| InstructionError::Custom(6000 + u32::from(rejection.code()));
        Self::read(transaction).into_iter().find_map(|(at, done)| {
            let error = match done {
                Done::Claim(page, rows) => {
                    let bad = rows.iter().any(|row| self.poisoned.contains(&row.slot));
                    (bad || self.poisoned_pages.contains(&page)).then(|| custom(Rejection::SignatureMismatch))
                }
                Done::Payout(page) => self.payout_fails.contains(&page).then_some(InstructionError::Custom(17)),
            };
            Some(Failure(TransactionError::InstructionError(at, error?)))
        })
    }

    fn land(&mut self, transaction: &VersionedTransaction, fails: bool) {
        let signature = transaction.signatures[0];
        if self.landed.contains_key(&signature) {
            return;
        }
        self.slot += 1;
        self.height += 1;
        let at = if is_v1(transaction) { 0 } else { 2 };
        let failure = fails.then_some(Failure(TransactionError::InstructionError(at, InstructionError::Custom(6042))));
        for (_, done) in Self::read(transaction).into_iter().filter(|_| !fails) {
            match done {
                Done::Claim(page, rows) => {
                    if let Some(page) = self.page_mut(&page) {
                        let mut writing = Page { header: &mut page.header, slots: &mut page.slots };
                        for row in &rows {
                            writing.claim(row.slot, row.cumulative, 0).unwrap();
                        }
                    }
                    self.claimed.push(rows.iter().map(|row| row.slot).collect());
                }
                Done::Payout(_) => self.paid_out += 1,
            }
        }
        let landing = Landing { slot: self.slot, commitment: Commitment::Confirmed, failure };
        self.landed.insert(signature, landing);
    }
}

fn is_v1(transaction: &VersionedTransaction) -> bool {
    matches!(transaction.message, VersionedMessage::V1(_))
}

impl Chain for MemoryChain {
    async fn accounts(&self, addresses: &[Address], _: Commitment) -> Result<Snapshot, ChainError> {
        self.answer(|state| Snapshot {
            slot: state.slot,
            accounts: addresses
                .iter()
                .map(|one| match state.pages.get(one) {
                    Some(page) => Some(page_account(page)),
                    None => state.accounts.get(one).cloned(),
                })
                .collect(),
        })
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        self.answer(|state| Blockhash {
            hash: Hash::new_from_array([u8::try_from(state.height % 251).unwrap(); 32]),
            last_valid_height: state.height + 150,
        })
    }

    async fn height(&self) -> Result<Height, ChainError> {
        self.answer(|state| {
            state.height += state.blocks_a_question;
            state.slot += state.blocks_a_question;
            Height { slot: state.slot, block: state.height }
        })
    }

    async fn simulate(&self, transaction: &VersionedTransaction) -> Result<Simulation, ChainError> {
        self.answer(|state| {
            state.simulated += 1;
            if is_v1(transaction) && state.v1 == V1::Unreadable {
                return Err(ChainError("failed to deserialize".into()));
            }
            if state.lands_meanwhile {
                state.land(transaction, false);
            }
            let taken = InstructionError::Custom(6000 + u32::from(Rejection::SlotTaken.code()));
            let refuses_open = (state.lands_meanwhile || state.refuses_opens)
                .then_some(Failure(TransactionError::InstructionError(2, taken)));
            Ok(Simulation { failure: refuses_open.or_else(|| state.refuses(transaction)), compute_units: 100_000 })
        })?
    }

    async fn send(&self, transaction: &VersionedTransaction) -> Result<(), ChainError> {
        self.answer(|state| {
            state.sent.push(transaction.signatures[0]);
            if is_v1(transaction) && state.v1 == V1::UnreadableWhenSent {
                return Err(ChainError("failed to deserialize".into()));
            }
            let fault = state.faults.pop_front();
            if fault != Some(Fault::Dropped) {
                state.land(transaction, fault == Some(Fault::Fails));
            }
            match fault {
                Some(Fault::LostAnswer) => Err(ChainError("connection reset".into())),
                _ => Ok(()),
            }
        })?
    }

    async fn statuses(&self, signatures: &[Signature], _: bool) -> Result<Statuses, ChainError> {
        self.answer(|state| Statuses {
            slot: state.slot - state.statuses_behind,
            landings: signatures.iter().map(|one| state.landed.get(one).cloned()).collect(),
        })
    }

    async fn spent(&self, _: &Signature) -> Result<Option<Spent>, ChainError> {
        self.answer(|_| Some(Spent { lamports: 5_000, compute_units: 100_000 }))
    }

    async fn recent_prices(&self, _: &[Address]) -> Result<Vec<u64>, ChainError> {
        self.answer(|state| state.prices.clone())
    }

    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        self.answer(|_| GENESIS_HASH)
    }
}

pub(crate) const GENESIS_HASH: [u8; 32] = [9; 32];

/// A book of one leg with a page of `capacity` slots, all free, and the settler that serves it.
pub(crate) struct House {
    pub(crate) chain: MemoryChain,
    pub(crate) settler: Settler<MemoryChain>,
    pub(crate) book: BookView,
    pub(crate) page: Address,
    pub(crate) notes: Notes,
}

impl House {
    pub(crate) fn new(capacity: u8) -> Self {
        let payee = Address::new_from_array([1; 32]);
        let mint = Address::new_from_array([2; 32]);
        let book_address = addresses::book(&PROGRAM_ID, &payee, &mint, 0).0;
        let page_address = addresses::page(&PROGRAM_ID, &book_address, 0).0;
        let account = addresses::associated_token_account(&payee, &mint, &TOKEN_PROGRAM);
        let mut state = Book {
            payee: payee.to_bytes(),
            mint: mint.to_bytes(),
            token_program: TOKEN_PROGRAM.to_bytes(),
            operator: [3; 32],
            genesis_hash: GENESIS_HASH,
            min_deposit: Amount::new(1_000),
            grace_seconds: 900,
            next_page: 1,
            decimals: 6,
            leg_count: 1,
            version: Book::VERSION,
            ..Book::default()
        };
        state.legs[0] = Leg { recipient: payee.to_bytes(), account: account.to_bytes(), basis_points: 10_000 };
        let book = BookView { address: book_address, state };
        let header = PageHeader {
            book: book_address.to_bytes(),
            page_domain: page_domain(&PROGRAM_ID.to_bytes(), &GENESIS_HASH, &page_address.to_bytes()),
            vault: book.vault(&page_address).to_bytes(),
            capacity,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        let chain = MemoryChain::default();
        {
            let mut state = chain.state();
            (state.slot, state.height) = (1_000, 900);
            let slots = vec![Slot::default(); usize::from(capacity)];
            state.pages.insert(page_address, PageView { address: page_address, header, slots });
            state.accounts.insert(account, token_account(&mint, &payee, false));
            state.accounts.insert(book_address, book_account(&book));
        }
        let settings = Settings {
            make_tables: false,
            pace: Pace {
                first: Duration::from_millis(1),
                slowest: Duration::from_millis(2),
                resend: Duration::from_millis(4),
                patience: Duration::from_millis(400),
            },
            ..Settings::default()
        };
        Self {
            settler: Settler::new(chain.clone(), Keypair::new_from_array([5; 32]), settings),
            chain,
            book,
            page: page_address,
            notes: Notes::default(),
        }
    }

    /// Another page of the book, as large as the first.
    pub(crate) fn add_page(&self, index: u32) -> Address {
        let address = addresses::page(&PROGRAM_ID, &self.book.address, index).0;
        let first = self.page_view();
        let page_domain = page_domain(&PROGRAM_ID.to_bytes(), &GENESIS_HASH, &address.to_bytes());
        let vault = self.book.vault(&address).to_bytes();
        let PageHeader { book, capacity, version, .. } = first.header;
        let header = PageHeader { book, capacity, version, page_domain, vault, index, ..PageHeader::default() };
        let slots = vec![Slot::default(); first.slots.len()];
        self.chain.state().pages.insert(address, PageView { address, header, slots });
        address
    }

    /// Another settler, with other settings.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = *self.settler.settings();
        change(&mut settings);
        self.settler = Settler::new(self.chain.clone(), Keypair::new_from_array([5; 32]), settings);
    }

    /// The gate of transactions of version 1 is open from `slot` on.
    pub(crate) fn open_v1(&self, slot: u64) {
        let data = [&[1], slot.to_le_bytes().as_slice()].concat();
        let gate = Account { owner: address!("Feature111111111111111111111111111111111111"), data };
        let key = address!("txv1aq4pp281K9um3tnPgkfX8UqtFT6wcVW3hNezGLL");
        self.chain.state().accounts.insert(key, gate);
    }

    /// Opens a channel in `slot` and signs a voucher of `cumulative` for it.
    pub(crate) fn channel(&self, slot: u8, deposit: u64, cumulative: u64) -> ClaimRow {
        self.channel_in(&self.page, slot, deposit, cumulative)
    }

    pub(crate) fn channel_in(&self, page: &Address, slot: u8, deposit: u64, cumulative: u64) -> ClaimRow {
        let key = SigningKey::from_bytes(&[100 + slot; 32]);
        let mut state = self.chain.state();
        let page = state.pages.get_mut(page).unwrap();
        let opening = Opening {
            payer: [50 + slot; 32],
            signer: key.verifying_key().to_bytes(),
            generation: page.slots[usize::from(slot)].generation + 1,
            deposit: Amount::new(deposit),
        };
        let mut writing = Page { header: &mut page.header, slots: &mut page.slots };
        writing.open(slot, &opening, Amount::new(1), 0).unwrap();
        let id = page.channel_id(slot).unwrap();
        let voucher = SignedVoucher::sign(&key, id, Amount::new(cumulative));
        ClaimRow {
            slot,
            voucher: voucher.verify(&opening.signer).unwrap(),
            amount: Amount::new(cumulative),
            settled: Amount::ZERO,
            deposit: Amount::new(deposit),
        }
    }

    /// Lets the page be changed by its own transitions.
    pub(crate) fn on_page<T>(&self, change: impl FnOnce(&mut Page<'_>) -> T) -> T {
        let mut state = self.chain.state();
        let page = state.pages.get_mut(&self.page).unwrap();
        change(&mut Page { header: &mut page.header, slots: &mut page.slots })
    }

    pub(crate) fn page_view(&self) -> PageView {
        self.chain.state().pages[&self.page].clone()
    }
}

fn book_account(book: &BookView) -> Account {
    Account { owner: PROGRAM_ID, data: [&BOOK_DISCRIMINATOR[..], bytemuck::bytes_of(&book.state)].concat() }
}

fn page_account(page: &PageView) -> Account {
    let header = bytemuck::bytes_of(&page.header);
    Account { owner: PROGRAM_ID, data: [&PAGE_DISCRIMINATOR[..], header, bytemuck::cast_slice(&page.slots)].concat() }
}

pub(crate) fn token_account(mint: &Address, owner: &Address, frozen: bool) -> Account {
    let mut data = vec![0; 165];
    data[..32].copy_from_slice(mint.as_ref());
    data[32..64].copy_from_slice(owner.as_ref());
    data[108] = if frozen { 2 } else { 1 };
    Account { owner: TOKEN_PROGRAM, data }
}

/// A journal in memory.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) attempts: Mutex<Vec<Attempt>>,
    /// The pages of each claim transaction.
    pub(crate) pages: Mutex<Vec<Vec<[u8; 32]>>>,
    pub(crate) bills: Mutex<Vec<[u8; 64]>>,
    /// The disk is full.
    pub(crate) fails: Mutex<bool>,
}

impl Journal for Notes {
    async fn record(&self, attempt: Attempt) -> Result<(), Rejection> {
        if *self.fails.lock().unwrap() {
            return Err(Rejection::StoreUnavailable);
        }
        self.attempts.lock().unwrap().push(attempt);
        Ok(())
    }

    async fn record_for(&self, attempt: Attempt, pages: &[[u8; 32]]) -> Result<(), Rejection> {
        self.pages.lock().unwrap().push(pages.to_vec());
        self.record(attempt).await
    }

    async fn table(&self, _: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        Ok(None)
    }

    async fn keep_table(&self, _: &[u8; 32], _: &[u8; 32]) -> Result<(), Rejection> {
        Ok(())
    }

    fn billed(&self, signature: [u8; 64]) {
        self.bills.lock().unwrap().push(signature);
    }

    fn billed_for_accounts(&self, signature: [u8; 64]) {
        self.bills.lock().unwrap().push(signature);
    }
}
