use crate::chain::{Blockhash, Chain};
use crate::pace::Pace;
use crate::rpc::RpcChain;
use crate::table::Tables;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_ledger::Attempt;
use tallybook_rules::Rejection;

/// What the sponsor is willing to pay, and how patiently it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What is offered for own transactions, in micro-lamports a compute unit.
    pub compute_price: u64,
    /// The highest compute limit of a deposit that is paid for, in units.
    pub max_compute_units: u32,
    /// The highest price of a deposit that is paid for, in micro-lamports a unit.
    pub max_compute_price: u64,
    /// Make a payee's missing token account, at the sponsor's expense (about 0.002 SOL of rent, once a payee).
    pub create_payee_accounts: bool,
    /// Make a lookup table for each page (about 0.004 SOL of rent, once a page): 23 claims in a transaction, else 19.
    pub make_tables: bool,
    /// How often the chain is asked, and for how long.
    pub pace: Pace,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            compute_price: 1_000,
            max_compute_units: 200_000,
            max_compute_price: 50_000,
            create_payee_accounts: false,
            make_tables: true,
            pace: Pace::default(),
        }
    }
}

/// The sponsor's hand on the chain: it checks and co-signs deposits, claims and pays out, closes together with an
/// operator, and reads pages. It moves nobody's money anywhere but where the program sends it.
///
/// Holds the sponsor's key, so it has no `Debug`.
pub struct Settler<C = RpcChain> {
    chain: C,
    sponsor: Keypair,
    settings: Settings,
    tables: Tables,
}

impl<C: Chain> Settler<C> {
    /// A settler that pays with `sponsor`.
    pub fn new(chain: C, sponsor: Keypair, settings: Settings) -> Self {
        Self { chain, sponsor, settings, tables: Tables::default() }
    }

    /// Who pays the fees.
    pub fn sponsor(&self) -> Address {
        self.sponsor.pubkey()
    }

    /// Names the cluster.
    pub async fn genesis_hash(&self) -> Result<[u8; 32], Rejection> {
        Ok(self.chain.genesis_hash().await?)
    }

    /// The newest confirmed blockhash.
    pub async fn latest_blockhash(&self) -> Result<Blockhash, Rejection> {
        Ok(self.chain.latest_blockhash().await?)
    }

    pub(crate) const fn chain(&self) -> &C {
        &self.chain
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The sponsor's signature over a message. Ed25519 is deterministic: the same message is the same transaction.
    pub(crate) fn sign(&self, message: &VersionedMessage) -> Signature {
        self.sponsor.sign_message(&message.serialize())
    }

    /// A transaction that the sponsor alone signs.
    pub(crate) fn signed(&self, message: VersionedMessage) -> VersionedTransaction {
        VersionedTransaction { signatures: vec![self.sign(&message)], message }
    }
}

/// What is recorded of a transaction; `None` for one without a signature.
pub(crate) fn attempt_of(transaction: &VersionedTransaction, last_valid_block_height: u64) -> Option<Attempt> {
    transaction.signatures.first().map(|signature| Attempt { signature: (*signature).into(), last_valid_block_height })
}
