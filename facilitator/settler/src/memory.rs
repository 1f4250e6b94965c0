//! A chain in memory whose faults are the point: answers get lost, nodes lag, transactions never land. It runs claims
//! with the real rules; what the program does besides is tested on a real chain.

#![expect(clippy::arithmetic_side_effects, reason = "numbers of a test, far from every limit")]

use crate::chain::{
    Account, Blockhash, Chain, ChainError, Commitment, Failure, Height, Landing, Simulation, Snapshot, Spent, Statuses,
};
use crate::pace::Pace;
use crate::send::Journal;
use crate::settler::{Settings, Settler};
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::error::InstructionError;
use solana_keypair::Keypair;
use solana_rpc_client_api::client_error::TransactionError;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tallybook_chain::account::{BOOK_DISCRIMINATOR, PAGE_DISCRIMINATOR};
use tallybook_chain::address::TOKEN_PROGRAM;
use tallybook_chain::instruction::discriminator;
use tallybook_chain::{BookView, PROGRAM_ID, PageView, address};
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

#[derive(Default)]
pub(crate) struct State {
    pub(crate) accounts: BTreeMap<Address, Account>,
    pub(crate) page: Option<PageView>,
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
    /// The payout fails.
    pub(crate) payout_fails: bool,
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
    /// The rows of the claim in a transaction, and whether it pays out.
    fn read(transaction: &VersionedTransaction) -> (Vec<Row>, Option<u8>) {
        let (mut rows, mut payout) = (Vec::new(), None);
        for (at, instruction) in (0u8..).zip(transaction.message.instructions()) {
            match instruction.data.split_first() {
                Some((&discriminator::CLAIM, claim)) if claim.len() > 32 => {
                    rows = split_claim(claim).unwrap().1.iter().map(Row::from_bytes).collect();
                }
                Some((&discriminator::CLAIM_BELOW, claim)) => {
                    let below = split_claim(claim).unwrap().1.iter().map(BelowRow::from_bytes);
                    rows = below.map(|row| Row { cumulative: row.amount, ..row.signed }).collect();
                }
                Some((&discriminator::PAYOUT, _)) => payout = Some(at),
                _ => {}
            }
        }
        (rows, payout)
    }

    fn refuses(&self, transaction: &VersionedTransaction) -> Option<Failure> {
        if self.no_tables && transaction.message.address_table_lookups().is_some_and(|tables| !tables.is_empty()) {
            return Some(Failure(TransactionError::AddressLookupTableNotFound));
        }
        let (rows, payout) = Self::read(transaction);
        let custom = |rejection: Rejection| InstructionError::Custom(6000 + u32::from(rejection.code()));
        if rows.iter().any(|row| self.poisoned.contains(&row.slot)) {
            let error = custom(Rejection::SignatureMismatch);
            return Some(Failure(TransactionError::InstructionError(2, error)));
        }
        payout
            .filter(|_| self.payout_fails)
            .map(|at| Failure(TransactionError::InstructionError(at, InstructionError::Custom(17))))
    }

    fn land(&mut self, transaction: &VersionedTransaction, fails: bool) {
        let signature = transaction.signatures[0];
        if self.landed.contains_key(&signature) {
            return;
        }
        self.slot += 1;
        self.height += 1;
        let failure = fails.then_some(Failure(TransactionError::InstructionError(2, InstructionError::Custom(6042))));
        if let (false, Some(page)) = (fails, &mut self.page) {
            let (rows, payout) = Self::read(transaction);
            let mut writing = Page { header: &mut page.header, slots: &mut page.slots };
            for row in &rows {
                writing.claim(row.slot, row.cumulative, 0).unwrap();
            }
            self.claimed.push(rows.iter().map(|row| row.slot).collect());
            self.paid_out += usize::from(payout.is_some());
        }
        let landing = Landing { slot: self.slot, commitment: Commitment::Confirmed, failure };
        self.landed.insert(signature, landing);
    }
}

impl Chain for MemoryChain {
    async fn accounts(&self, addresses: &[Address], _: Commitment) -> Result<Snapshot, ChainError> {
        self.answer(|state| Snapshot {
            slot: state.slot,
            accounts: addresses
                .iter()
                .map(|one| match &state.page {
                    Some(page) if page.address == *one => Some(page_account(page)),
                    _ => state.accounts.get(one).cloned(),
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
            if state.lands_meanwhile {
                state.land(transaction, false);
            }
            let taken = InstructionError::Custom(6000 + u32::from(Rejection::SlotTaken.code()));
            let refuses_open = (state.lands_meanwhile || state.refuses_opens)
                .then_some(Failure(TransactionError::InstructionError(2, taken)));
            Simulation { failure: refuses_open.or_else(|| state.refuses(transaction)), compute_units: 100_000 }
        })
    }

    async fn send(&self, transaction: &VersionedTransaction) -> Result<(), ChainError> {
        self.answer(|state| {
            state.sent.push(transaction.signatures[0]);
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
        let book_address = address::book(&PROGRAM_ID, &payee, &mint, 0).0;
        let page_address = address::page(&PROGRAM_ID, &book_address, 0).0;
        let account = address::associated_token_account(&payee, &mint, &TOKEN_PROGRAM);
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
            state.page =
                Some(PageView { address: page_address, header, slots: vec![Slot::default(); usize::from(capacity)] });
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

    /// Opens a channel in `slot` and signs a voucher of `cumulative` for it.
    pub(crate) fn channel(&self, slot: u8, deposit: u64, cumulative: u64) -> ClaimRow {
        let key = SigningKey::from_bytes(&[100 + slot; 32]);
        let mut state = self.chain.state();
        let page = state.page.as_mut().unwrap();
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
        let page = state.page.as_mut().unwrap();
        change(&mut Page { header: &mut page.header, slots: &mut page.slots })
    }

    pub(crate) fn page_view(&self) -> PageView {
        self.chain.state().page.clone().unwrap()
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
