//! The chain of one world: blocks of the real program, with forks.
//!
//! Transactions that were handed over land when their time has come, in the block of that time, unless their blockhash is
//! too old by then, or they have landed on this fork before. A roll back takes the last blocks away; their transactions may
//! come again in later ones, or never. What the accounts were at each block is kept, so that nodes can be behind.

use crate::ground::{FIRST_SLOT, Ground};
use crate::trace::Trace;
use crate::virtual_time::{BEGIN_SECONDS, now};
use litesvm::LiteSVM;
use rand::Rng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use solana_account::Account;
use solana_address::Address;
use solana_clock::Clock;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::TransactionError;
use solana_transaction::versioned::VersionedTransaction;
use std::collections::{BTreeMap, HashMap};
use tallybook_chain::{PageView, TokenAccountView};

/// How long a slot takes, in milliseconds.
pub(crate) const SLOT_MILLISECONDS: u64 = 400;
/// Slots that are not final yet.
pub(crate) const FINALITY_SLOTS: u64 = 32;
/// For how many blocks a blockhash is good.
pub(crate) const BLOCKHASH_BLOCKS: u64 = 150;
/// Slots without a block, before the first: heights and slots are not the same.
const SKIPPED_SLOTS: u64 = 77;

/// What landed in one slot, and what stood afterwards.
struct Block {
    slot: u64,
    accounts: BTreeMap<Address, Option<Account>>,
    landed: Vec<Landed>,
}

struct Landed {
    transaction: VersionedTransaction,
    failure: Option<TransactionError>,
    compute_units: u64,
    lamports: u64,
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) slot: u64,
    pub(crate) failure: Option<TransactionError>,
    pub(crate) compute_units: u64,
    pub(crate) lamports: u64,
}

/// The chain.
pub(crate) struct SimChain {
    svm: LiteSVM,
    pub(crate) page: Address,
    token_accounts: Vec<Address>,
    /// What was there before any block wrote to it.
    before: BTreeMap<Address, Option<Account>>,
    blocks: Vec<Block>,
    /// By the time at which they land, in the order of coming.
    pending: BTreeMap<(u64, u64), VersionedTransaction>,
    counter: u64,
    blockhashes: HashMap<Hash, u64>,
    /// How often anything has changed.
    pub(crate) changes: u64,
    /// How often blocks were taken back.
    pub(crate) forks: u64,
    pub(crate) trace: Trace,
}

impl SimChain {
    pub(crate) fn new(ground: &Ground, trace: Trace) -> Self {
        Self {
            svm: ground.svm.clone(),
            page: ground.page,
            token_accounts: ground.accounts.clone(),
            before: BTreeMap::new(),
            blocks: Vec::new(),
            pending: BTreeMap::new(),
            counter: 0,
            blockhashes: HashMap::new(),
            changes: 0,
            forks: 0,
            trace,
        }
    }

    /// The slot of the newest block, which no vote has confirmed yet.
    pub(crate) fn tip() -> u64 {
        slot_at(now())
    }

    pub(crate) fn confirmed_slot() -> u64 {
        Self::tip() - 1
    }

    pub(crate) fn finalized_slot() -> u64 {
        Self::tip() - FINALITY_SLOTS
    }

    pub(crate) const fn height_of(slot: u64) -> u64 {
        slot - SKIPPED_SLOTS
    }

    /// A blockhash of a slot, which transactions can be built on from now on, with its last valid height.
    pub(crate) fn blockhash(&mut self, slot: u64) -> (Hash, u64) {
        let digest: [u8; 32] =
            Sha256::new().chain_update(slot.to_le_bytes()).chain_update(self.forks.to_le_bytes()).finalize().into();
        let hash = Hash::new_from_array(digest);
        self.blockhashes.insert(hash, slot);
        (hash, Self::height_of(slot) + BLOCKHASH_BLOCKS)
    }

    /// Whether a transaction on this blockhash can land in a block of `slot`.
    pub(crate) fn is_recent(&self, hash: &Hash, slot: u64) -> bool {
        self.blockhashes.get(hash).is_some_and(|of| *of <= slot && slot <= of + BLOCKHASH_BLOCKS)
    }

    /// Takes a transaction that is to land at a time.
    pub(crate) fn take(&mut self, transaction: VersionedTransaction, at: u64) {
        self.counter += 1;
        self.pending.insert((at, self.counter), transaction);
    }

    /// Lands all whose time has come. True when a block has changed something.
    pub(crate) fn catch_up(&mut self) -> bool {
        let mut landed = false;
        while let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= now()) {
            let (at, _) = *entry.key();
            let transaction = entry.remove();
            landed |= self.land(transaction, slot_at(at));
        }
        landed
    }

    fn land(&mut self, transaction: VersionedTransaction, slot: u64) -> bool {
        let slot = self.blocks.last().map_or(slot, |last| last.slot.max(slot));
        let signature = transaction.signatures[0];
        let is_recent = self.is_recent(transaction.message.recent_blockhash(), slot);
        if !is_recent || self.status(&signature, slot).is_some() || !is_signed(&transaction) {
            return false;
        }
        let mut clock = self.svm.get_sysvar::<Clock>();
        (clock.slot, clock.unix_timestamp) = (slot, unix_seconds(slot));
        self.svm.set_sysvar(&clock);
        let keys: Vec<Address> = transaction.message.static_account_keys().to_vec();
        let payer = keys[0];
        let tokens = self.token_accounts.clone();
        for address in keys.iter().chain(&tokens).chain([&self.page.clone()]) {
            if !self.before.contains_key(address) {
                self.before.insert(*address, self.svm.get_account(address));
            }
        }
        let lamports = self.svm.get_balance(&payer).unwrap_or_default();
        let (failure, compute_units) = match self.svm.send_transaction(transaction.clone()) {
            Ok(done) => (None, done.compute_units_consumed),
            Err(failed) => (Some(failed.err), failed.meta.compute_units_consumed),
        };
        if failure.as_ref().is_some_and(|failure| !matches!(failure, TransactionError::InstructionError(..))) {
            self.trace.note(format_args!("chain: not included: {failure:?}"));
            return false;
        }
        let lamports = lamports.saturating_sub(self.svm.get_balance(&payer).unwrap_or_default());
        self.trace.note(format_args!("chain: slot {slot} {} {failure:?}", short(&signature)));
        let accounts = self.before.keys().map(|address| (*address, self.svm.get_account(address))).collect();
        self.changes += 1;
        let landed = Landed { transaction, failure, compute_units, lamports };
        match self.blocks.last_mut().filter(|last| last.slot == slot) {
            Some(block) => {
                block.accounts = accounts;
                block.landed.push(landed);
            }
            None => self.blocks.push(Block { slot, accounts, landed: vec![landed] }),
        }
        true
    }

    /// Takes back the blocks of the last `slots` slots, final ones never. What was in them comes again later, or not.
    pub(crate) fn roll_back(&mut self, slots: u64, random: &mut StdRng) -> bool {
        let first = (Self::tip().saturating_sub(slots)).max(Self::finalized_slot() + 1);
        let at = self.blocks.partition_point(|block| block.slot < first);
        if at == self.blocks.len() {
            return false;
        }
        let gone: Vec<Block> = self.blocks.split_off(at);
        self.forks += 1;
        self.changes += 1;
        self.blockhashes.retain(|_, of| *of < first);
        let base = self.blocks.last().map(|block| block.accounts.clone()).unwrap_or_default();
        for (address, before) in &self.before {
            let account = base.get(address).unwrap_or(before).clone().unwrap_or_default();
            self.svm.set_account(*address, account).expect("an account that was there");
        }
        self.trace.note(format_args!("chain: roll back to before slot {first}: {} blocks", gone.len()));
        for landed in gone.into_iter().flat_map(|block| block.landed) {
            if random.random_ratio(3, 4) {
                self.take(landed.transaction, now() + random.random_range(0..20_000));
            }
        }
        true
    }

    /// An account as it stood at a slot.
    pub(crate) fn account(&self, address: &Address, slot: u64) -> Option<Account> {
        let at = self.blocks.partition_point(|block| block.slot <= slot);
        let block = at.checked_sub(1).map(|at| &self.blocks[at]);
        if let Some(known) = block.and_then(|block| block.accounts.get(address)) {
            return known.clone();
        }
        // First written later, or never.
        self.before.get(address).cloned().unwrap_or_else(|| self.svm.get_account(address))
    }

    /// Where a transaction landed, as far as a node at `slot` knows.
    pub(crate) fn status(&self, signature: &Signature, slot: u64) -> Option<Status> {
        self.blocks.iter().rev().filter(|block| block.slot <= slot).find_map(|block| {
            let landed = block.landed.iter().find(|landed| landed.transaction.signatures[0] == *signature)?;
            Some(Status {
                slot: block.slot,
                failure: landed.failure.clone(),
                compute_units: landed.compute_units,
                lamports: landed.lamports,
            })
        })
    }

    /// Runs a transaction on the newest state: what stops it, and what it uses.
    pub(crate) fn simulate(&self, transaction: &VersionedTransaction) -> (Option<TransactionError>, u64) {
        match self.svm.simulate_transaction(transaction.clone()) {
            Ok(done) => (None, done.meta.compute_units_consumed),
            Err(failed) => (Some(failed.err), failed.meta.compute_units_consumed),
        }
    }

    /// The page as it stands in the newest block.
    pub(crate) fn page_view(&self) -> PageView {
        let account = self.svm.get_account(&self.page).expect("the page is never closed here");
        PageView::parse(self.page, &account.data).expect("a page")
    }

    /// What a token account holds in the newest block.
    pub(crate) fn tokens(&self, account: &Address) -> u64 {
        let account = self.svm.get_account(account);
        account.and_then(|account| TokenAccountView::parse(&account.data)).map_or(0, |view| view.amount.get())
    }

    /// All tokens of all accounts.
    pub(crate) fn all_tokens(&self) -> u64 {
        self.token_accounts.iter().map(|account| self.tokens(account)).sum()
    }
}

fn is_signed(transaction: &VersionedTransaction) -> bool {
    let message = transaction.message.serialize();
    let keys = transaction.message.static_account_keys();
    let needed = usize::from(transaction.message.header().num_required_signatures);
    let mut signed = transaction.signatures.iter().zip(keys);
    transaction.signatures.len() == needed && signed.all(|(signature, key)| signature.verify(key.as_ref(), &message))
}

fn slot_at(milliseconds: u64) -> u64 {
    FIRST_SLOT + milliseconds / SLOT_MILLISECONDS
}

/// The chain's own time in a block of this slot.
pub(crate) fn unix_seconds(slot: u64) -> i64 {
    let seconds = (slot - FIRST_SLOT) * SLOT_MILLISECONDS / 1_000;
    BEGIN_SECONDS + i64::try_from(seconds).expect("a short life")
}

pub(crate) fn short(signature: &Signature) -> String {
    signature.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
