//! What is asked for, and what comes back: plain data.

use solana_hash::Hash;
use tallybook_chain::Address;

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
    /// Not before this slot: an endpoint that is behind refuses with [`ChainError::Behind`](crate::ChainError::Behind).
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
