//! A real chain behind a bad line.

use solana_address::Address;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tallybook_settler::{
    Blockhash, Chain, ChainError, Commitment, Height, RpcChain, Simulation, Snapshot, Spent, Statuses,
};

/// Counts down the faults that are left of each kind.
#[derive(Default)]
pub(crate) struct Faults {
    /// Sends that never reach the chain, though the node says that it took them.
    pub(crate) dropped: AtomicU32,
    /// Sends that do reach it, and whose answer is lost.
    pub(crate) lost_answers: AtomicU32,
    /// Questions of any kind that are refused for being too many.
    pub(crate) refused: AtomicU32,
    /// Every second account read comes from a node that is behind.
    pub(crate) stale: bool,
    pub(crate) last: Mutex<Option<Snapshot>>,
    pub(crate) reads: AtomicU32,
}

#[derive(Clone)]
pub(crate) struct FaultyChain {
    pub(crate) inner: RpcChain,
    pub(crate) faults: Arc<Faults>,
}

/// Takes one fault, if there is one left.
fn take(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl FaultyChain {
    fn line(&self) -> Result<&RpcChain, ChainError> {
        if take(&self.faults.refused) { Err(ChainError("429 too many requests".into())) } else { Ok(&self.inner) }
    }
}

impl Chain for FaultyChain {
    async fn accounts(&self, addresses: &[Address], commitment: Commitment) -> Result<Snapshot, ChainError> {
        let fresh = self.line()?.accounts(addresses, commitment).await?;
        let odd = self.faults.reads.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let last = self.faults.last.lock().unwrap().replace(fresh.clone());
        match last {
            Some(last) if self.faults.stale && odd && last.accounts.len() == addresses.len() => Ok(last),
            _ => Ok(fresh),
        }
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        self.line()?.latest_blockhash().await
    }

    async fn height(&self) -> Result<Height, ChainError> {
        self.line()?.height().await
    }

    async fn simulate(&self, transaction: &VersionedTransaction) -> Result<Simulation, ChainError> {
        self.line()?.simulate(transaction).await
    }

    async fn send(&self, transaction: &VersionedTransaction) -> Result<(), ChainError> {
        if take(&self.faults.dropped) {
            return Ok(());
        }
        self.inner.send(transaction).await?;
        if take(&self.faults.lost_answers) {
            return Err(ChainError("connection reset".into()));
        }
        Ok(())
    }

    async fn statuses(&self, signatures: &[Signature], history: bool) -> Result<Statuses, ChainError> {
        self.line()?.statuses(signatures, history).await
    }

    async fn spent(&self, signature: &Signature) -> Result<Option<Spent>, ChainError> {
        self.line()?.spent(signature).await
    }

    async fn recent_prices(&self, written: &[Address]) -> Result<Vec<u64>, ChainError> {
        self.line()?.recent_prices(written).await
    }

    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        self.line()?.genesis_hash().await
    }
}
