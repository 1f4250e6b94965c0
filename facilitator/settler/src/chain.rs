//! What the settler asks of a Solana node, as a trait of few methods.
//!
//! An answer is evidence only together with the slot it was given at: nodes lag behind one another, and a load balancer
//! may ask a different one each time. The answer to a *send* is never evidence; what became of a transaction is asked.

use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::error::InstructionError;
use solana_rpc_client_api::client_error::TransactionError;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::future::Future;
use tallybook_rules::Rejection;

/// How settled a node's answer has to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Commitment {
    /// Executed by the node; may still be dropped. Never enough to act on.
    Processed,
    /// Voted for by two thirds of the stake.
    Confirmed,
    /// Rooted: 31 confirmed blocks on top.
    Finalized,
}

/// An account as it was at some slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// What it holds, rent included.
    pub lamports: u64,
    /// The program that owns it.
    pub owner: Address,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Accounts in the order in which they were asked for; `None` where there is no account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The slot of the bank that answered.
    pub slot: u64,
    /// One entry for each address.
    pub accounts: Vec<Option<Account>>,
}

/// A blockhash to build on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blockhash {
    /// The hash.
    pub hash: Hash,
    /// The last block height at which a transaction with it can land.
    pub last_valid_height: u64,
}

/// How far the finalized chain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Height {
    /// The finalized slot.
    pub slot: u64,
    /// Blocks up to it; less than the slot, since slots are skipped.
    pub block: u64,
}

/// What a simulated transaction would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Simulation {
    /// Why it would fail, if it would.
    pub failure: Option<Failure>,
    /// Compute units it used.
    pub compute_units: u64,
}

/// Where a transaction landed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Landing {
    /// The slot of its block.
    pub slot: u64,
    /// How settled that block is.
    pub commitment: Commitment,
    /// Why it failed, if it did: then it changed nothing but took its fee.
    pub failure: Option<Failure>,
}

/// Where transactions landed, in the order in which they were asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statuses {
    /// The slot of the bank that answered: `None` below says nothing of later slots.
    pub slot: u64,
    /// `None` where the node knows of none.
    pub landings: Vec<Option<Landing>>,
}

/// What a landed transaction cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spent {
    /// What its fee payer had less afterwards, in lamports: the fee, and any rent that it paid.
    pub lamports: u64,
    /// Compute units used.
    pub compute_units: u64,
}

/// The reason why a transaction failed, or would.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub TransactionError);

impl Failure {
    /// The number of the instruction that failed, if one did.
    pub const fn instruction(&self) -> Option<u8> {
        if let TransactionError::InstructionError(at, _) = self.0 { Some(at) } else { None }
    }

    /// The program's rejection, if the program gave one.
    pub fn rejection(&self) -> Option<Rejection> {
        if let TransactionError::InstructionError(_, InstructionError::Custom(code)) = self.0 {
            Rejection::from_anchor(code)
        } else {
            None
        }
    }

    /// The node does not take the blockhash: too old, or too new for it.
    pub fn is_unknown_blockhash(&self) -> bool {
        self.0 == TransactionError::BlockhashNotFound
    }

    /// The fee payer's balance does not cover the fee, or the rent that the transaction would have it pay.
    pub const fn is_of_fee_payers_funds(&self) -> bool {
        matches!(
            self.0,
            TransactionError::AccountNotFound
                | TransactionError::InsufficientFundsForFee
                | TransactionError::InsufficientFundsForRent { account_index: 0 }
        )
    }

    /// The transaction is on chain already, so its status is what counts.
    pub fn is_already_processed(&self) -> bool {
        self.0 == TransactionError::AlreadyProcessed
    }
}

/// The node was not reached, was too slow, or refused to answer: nothing is known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the chain cannot be asked: {0}")]
pub struct ChainError(pub String);

impl From<ChainError> for Rejection {
    fn from(error: ChainError) -> Self {
        tracing::warn!(%error, "no answer from the chain");
        Self::ChainUnavailable
    }
}

/// A Solana node. Every method has a time limit of its own, and may be asked again.
pub trait Chain: Send + Sync + 'static {
    /// At most 100 accounts at once.
    fn accounts(
        &self,
        addresses: &[Address],
        commitment: Commitment,
    ) -> impl Future<Output = Result<Snapshot, ChainError>> + Send;

    /// The newest confirmed blockhash.
    fn latest_blockhash(&self) -> impl Future<Output = Result<Blockhash, ChainError>> + Send;

    /// How far the finalized chain is.
    fn height(&self) -> impl Future<Output = Result<Height, ChainError>> + Send;

    /// Runs a transaction on the confirmed state; signatures are not looked at.
    fn simulate(
        &self,
        transaction: &VersionedTransaction,
    ) -> impl Future<Output = Result<Simulation, ChainError>> + Send;

    /// Hands a transaction over, once. The answer proves nothing either way.
    fn send(&self, transaction: &VersionedTransaction) -> impl Future<Output = Result<(), ChainError>> + Send;

    /// Where at most 256 transactions landed; `history` looks beyond the last few minutes.
    fn statuses(
        &self,
        signatures: &[Signature],
        history: bool,
    ) -> impl Future<Output = Result<Statuses, ChainError>> + Send;

    /// What a confirmed transaction cost; `None` when the node does not have it (yet, or any more).
    fn spent(&self, signature: &Signature) -> impl Future<Output = Result<Option<Spent>, ChainError>> + Send;

    /// What transactions that write to these accounts (at most 128) had to bid in each of the recent blocks, in micro-lamports
    /// a compute unit. Nothing from a node that does not say.
    fn recent_prices(&self, _written: &[Address]) -> impl Future<Output = Result<Vec<u64>, ChainError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Names the cluster.
    fn genesis_hash(&self) -> impl Future<Output = Result<[u8; 32], ChainError>> + Send;
}
