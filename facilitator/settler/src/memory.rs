//! A chain in memory whose faults are the point: answers get lost, nodes lag, transactions never land. It runs claims
//! with the real rules; what the program does besides is tested on a real chain.

#![expect(clippy::arithmetic_side_effects, reason = "numbers of a test, far from every limit")]

mod house;

use house::page_account;
pub(crate) use house::{GENESIS_HASH, House, token_account};

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
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// Cannot pay a fee.
    pub(crate) broke: BTreeSet<Address>,
    /// Who paid for what was sent, in order.
    pub(crate) payers: Vec<Address>,
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
        if self.broke.contains(&transaction.message.static_account_keys()[0]) {
            return Some(Failure(TransactionError::InsufficientFundsForFee));
        }
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
            state.payers.push(transaction.message.static_account_keys()[0]);
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
