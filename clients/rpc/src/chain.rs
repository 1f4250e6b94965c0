use solana_hash::Hash;
use std::future::Future;
use tallybook_chain::Address;
use tallybook_wire::Signature;

/// Why the chain could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The endpoint did not answer.
    #[error("the RPC endpoint did not answer {method}: {source}; check the URL, or try later")]
    Unreachable {
        /// What was asked.
        method: &'static str,
        /// Why.
        source: reqwest::Error,
    },
    /// The endpoint is asked too often, or cannot serve now.
    #[error(
        "the RPC endpoint answered {method} with HTTP {status}: it is busy, or limits you; try later, or use another endpoint"
    )]
    Busy {
        /// What was asked.
        method: &'static str,
        /// Its status.
        status: u16,
    },
    /// The endpoint answered something else.
    #[error("the RPC endpoint answered {method} with something else than the documented JSON: use another endpoint")]
    Unreadable {
        /// What was asked.
        method: &'static str,
    },
    /// The endpoint has not seen the slot that [`View::not_before`] asks for.
    #[error("the RPC endpoint has not seen slot {wanted} yet: ask again in a moment, or use another endpoint")]
    Behind {
        /// The slot.
        wanted: u64,
    },
    /// The endpoint or the chain refused.
    #[error("the chain refused {method}: {message}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// What it said, shortened.
        message: String,
    },
    /// A transaction was sent and is neither confirmed nor expired.
    #[error("the transaction {0} was sent and its outcome is not known yet: ask again")]
    Pending(Signature),
}

/// An account as the chain has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// The program that owns it.
    pub owner: Address,
    /// What it holds of the chain's own currency, in lamports.
    pub lamports: u64,
    /// Its data.
    pub data: Vec<u8>,
}

/// Accounts, and how old the picture is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accounts {
    /// The slot of the chain at which they were read; the oldest one where it took several questions.
    pub context_slot: u64,
    /// In the order asked for; `None` where there is none.
    pub list: Vec<Option<Account>>,
}

/// How sure of a state one wants to be.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Commitment {
    /// Voted for by two thirds of the stake.
    #[default]
    Confirmed,
    /// Can never be undone.
    Finalized,
}

impl Commitment {
    /// As the endpoint names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
        }
    }
}

/// Which state of the chain is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct View {
    /// How sure.
    pub commitment: Commitment,
    /// Not before this slot: an endpoint that is behind refuses with [`ChainError::Behind`].
    pub min_context_slot: Option<u64>,
}

impl View {
    /// The newest confirmed state that the endpoint has.
    pub const CONFIRMED: Self = Self { commitment: Commitment::Confirmed, min_context_slot: None };
    /// The newest finalized state that the endpoint has.
    pub const FINALIZED: Self = Self { commitment: Commitment::Finalized, min_context_slot: None };

    /// The same, but not before `slot`.
    #[must_use]
    pub const fn not_before(self, slot: u64) -> Self {
        Self { min_context_slot: Some(slot), ..self }
    }
}

/// A blockhash and until when it can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blockhash {
    /// The hash.
    pub hash: Hash,
    /// The last block height at which a transaction with it can land.
    pub last_valid_height: u64,
}

impl Blockhash {
    /// For how many blocks a blockhash can be used.
    pub const LIFETIME_BLOCKS: u64 = 150;

    /// True when a transaction that was valid up to `height` can land no more, now that this is the latest blockhash.
    pub const fn is_past(&self, height: u64) -> bool {
        self.last_valid_height > height.saturating_add(Self::LIFETIME_BLOCKS)
    }
}

/// The chain, as far as a client needs it.
pub trait Chain: Send + Sync + 'static {
    /// The cluster's genesis hash.
    fn genesis_hash(&self) -> impl Future<Output = Result<[u8; 32], ChainError>> + Send;
    /// Accounts, any number of them, in the state that `view` asks for.
    fn accounts(&self, addresses: &[Address], view: View) -> impl Future<Output = Result<Accounts, ChainError>> + Send;
    /// The latest confirmed blockhash.
    fn latest_blockhash(&self) -> impl Future<Output = Result<Blockhash, ChainError>> + Send;
    /// Sends a signed transaction.
    fn send(&self, transaction: &[u8]) -> impl Future<Output = Result<(), ChainError>> + Send;
    /// Whether a transaction is confirmed: `None` unknown, `Some(Err)` landed and failed.
    fn status(
        &self,
        signature: &Signature,
    ) -> impl Future<Output = Result<Option<Result<(), String>>, ChainError>> + Send;
}
