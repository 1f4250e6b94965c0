use crate::chain::{Blockhash, Chain, Commitment, Failure, Simulation, Spent};
use crate::fees::FeePolicy;
use crate::pace::Pace;
use crate::rpc::RpcChain;
use crate::shapes::{ShapeChoice, Shapes};
use crate::table::Tables;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tallybook_ledger::Attempt;
use tallybook_rules::Rejection;

/// How often it is looked for what a transaction cost.
const SPENT_LOOKS: u32 = 6;
/// How long it is looked for: claims wait for it, and it is only for the accounts.
const SPENT_PATIENCE: Duration = Duration::from_secs(5);

/// What the sponsor is willing to pay, and how patiently it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What is bid for compute in own transactions.
    pub fees: FeePolicy,
    /// Which shape claims have.
    pub shape: ShapeChoice,
    /// The highest compute limit of a deposit that is paid for, in units.
    pub max_compute_units: u32,
    /// The highest price of a deposit that is paid for, in micro-lamports a unit.
    pub max_compute_price: u64,
    /// Make a payee's missing token account, at the sponsor's expense (about 0.002 SOL of rent, once a payee).
    pub create_payee_accounts: bool,
    /// Make a lookup table for each page (about 0.003 SOL of rent, once a page) where the chain takes no transactions of
    /// version 1: 23 claims in a transaction, else 19.
    pub make_tables: bool,
    /// How often the chain is asked, and for how long.
    pub pace: Pace,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fees: FeePolicy::default(),
            shape: ShapeChoice::default(),
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
    shapes: Shapes,
    out_of_funds: AtomicBool,
}

impl<C: Chain> Settler<C> {
    /// A settler that pays with `sponsor`.
    pub fn new(chain: C, sponsor: Keypair, settings: Settings) -> Self {
        Self {
            chain,
            sponsor,
            settings,
            tables: Tables::default(),
            shapes: Shapes::default(),
            out_of_funds: AtomicBool::new(false),
        }
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

    /// What the sponsor holds, in lamports.
    pub async fn lamports(&self) -> Result<u64, Rejection> {
        let snapshot = self.chain.accounts(&[self.sponsor()], Commitment::Confirmed).await?;
        Ok(snapshot.accounts.into_iter().next().flatten().map_or(0, |account| account.lamports))
    }

    /// What a landed transaction cost, from the balances that the chain recorded; none when the node does not show it in time.
    pub async fn spent(&self, signature: &[u8; 64]) -> Option<Spent> {
        let signature = Signature::from(*signature);
        let looked = tokio::time::timeout(SPENT_PATIENCE, self.look_for_spent(&signature)).await.ok().flatten();
        if looked.is_none() {
            tracing::warn!(%signature, "landed, but what it cost is not known");
        }
        looked
    }

    async fn look_for_spent(&self, signature: &Signature) -> Option<Spent> {
        let mut pause = self.settings.pace.first;
        // A node may know that a transaction landed some moments before it can show it.
        for _ in 0..SPENT_LOOKS {
            if let Ok(Some(spent)) = self.chain.spent(signature).await {
                return Some(spent);
            }
            tokio::time::sleep(pause).await;
            pause = self.settings.pace.after(pause);
        }
        None
    }

    /// True when the chain has last refused the sponsor's transactions because the sponsor cannot pay for them.
    pub fn is_out_of_funds(&self) -> bool {
        self.out_of_funds.load(Ordering::Relaxed)
    }

    /// Runs a transaction on the confirmed state, and notes whether the sponsor could pay for it.
    pub(crate) async fn simulate(&self, transaction: &VersionedTransaction) -> Result<Simulation, Rejection> {
        let simulation = self.chain.simulate(transaction).await?;
        let out_of_funds = simulation.failure.as_ref().is_some_and(Failure::is_of_fee_payers_funds);
        let before = self.out_of_funds.swap(out_of_funds, Ordering::Relaxed);
        if out_of_funds {
            let (sponsor, failure) = (self.sponsor(), &simulation.failure);
            tracing::error!(%sponsor, ?failure, "the sponsor has too little SOL: send some to its address");
        } else if before {
            tracing::info!(sponsor = %self.sponsor(), "the sponsor has SOL again");
        }
        Ok(simulation)
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

    pub(crate) const fn shapes(&self) -> &Shapes {
        &self.shapes
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
