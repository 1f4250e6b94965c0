use crate::chain::{Blockhash, Chain, Commitment, Failure, Simulation, Spent};
use crate::fees::FeePolicy;
use crate::pace::Pace;
use crate::purse::Purse;
use crate::rpc::RpcChain;
use crate::shapes::{ShapeChoice, Shapes};
use crate::table::Tables;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
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
    purse: Purse,
    settings: Settings,
    tables: Tables,
    shapes: Shapes,
}

impl<C: Chain> Settler<C> {
    /// A settler that pays with `sponsor`.
    pub fn new(chain: C, sponsor: Keypair, settings: Settings) -> Self {
        Self::with_claim_sponsors(chain, sponsor, Vec::new(), settings)
    }

    /// One that pays with `sponsor` for what it was asked to, and for claims with the keys of `claiming`, if there are any:
    /// pages are spread over them, so that their claims do not wait for one write lock. Whoever of them has no SOL is stood in
    /// for by the next, and by the sponsor at last.
    pub fn with_claim_sponsors(chain: C, sponsor: Keypair, claiming: Vec<Keypair>, settings: Settings) -> Self {
        let purse = Purse::new(sponsor, claiming);
        Self { chain, purse, settings, tables: Tables::default(), shapes: Shapes::default() }
    }

    /// Who pays the fees of what others ask for: deposits, refunds, pages, payments.
    pub fn sponsor(&self) -> Address {
        self.purse.sponsor()
    }

    /// Names the cluster.
    pub async fn genesis_hash(&self) -> Result<[u8; 32], Rejection> {
        Ok(self.chain.genesis_hash().await?)
    }

    /// The newest confirmed blockhash.
    pub async fn latest_blockhash(&self) -> Result<Blockhash, Rejection> {
        Ok(self.chain.latest_blockhash().await?)
    }

    /// What the sponsor and those who pay for claims hold, in lamports, the sponsor first. Who could not pay and holds enough
    /// again is asked to pay again.
    pub async fn balances(&self) -> Result<Vec<(Address, u64)>, Rejection> {
        let addresses = self.purse.addresses();
        let accounts = self.chain.accounts(&addresses, Commitment::Confirmed).await?.accounts;
        let held = accounts.into_iter().map(|account| account.map_or(0, |account| account.lamports));
        let lamports: Vec<u64> = held.collect();
        self.purse.holds(&lamports);
        Ok(addresses.into_iter().zip(lamports).collect())
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

    /// True when the chain has last refused transactions because one of the keys that pay cannot pay for them.
    pub fn is_out_of_funds(&self) -> bool {
        self.purse.is_one_broke()
    }

    /// Runs a transaction on the confirmed state, and notes whether its fee payer could pay for it.
    pub(crate) async fn simulate(&self, transaction: &VersionedTransaction) -> Result<Simulation, Rejection> {
        let simulation = self.chain.simulate(transaction).await?;
        let out_of_funds = simulation.failure.as_ref().is_some_and(Failure::is_of_fee_payers_funds);
        match (self.purse.note(&transaction.message, out_of_funds), &simulation.failure) {
            (Some(sponsor), failure) if out_of_funds => {
                tracing::error!(%sponsor, ?failure, "the sponsor has too little SOL: send some to its address");
            }
            (Some(sponsor), _) => tracing::info!(%sponsor, "the sponsor has SOL again"),
            (None, _) => {}
        }
        Ok(simulation)
    }

    pub(crate) const fn chain(&self) -> &C {
        &self.chain
    }

    pub(crate) const fn purse(&self) -> &Purse {
        &self.purse
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

    /// The signature over a message of whoever pays for it. Ed25519 is deterministic: the same message is the same transaction.
    pub(crate) fn sign(&self, message: &VersionedMessage) -> Signature {
        self.purse.sign(message)
    }

    /// A transaction that its fee payer alone signs.
    pub(crate) fn signed(&self, message: VersionedMessage) -> VersionedTransaction {
        VersionedTransaction { signatures: vec![self.sign(&message)], message }
    }
}

/// What is recorded of a transaction; `None` for one without a signature.
pub(crate) fn attempt_of(transaction: &VersionedTransaction, last_valid_block_height: u64) -> Option<Attempt> {
    transaction.signatures.first().map(|signature| Attempt { signature: (*signature).into(), last_valid_block_height })
}
