//! From a signed transaction to a decision.
//!
//! A transaction is recorded before it is sent, sent again and again while its blockhash is valid, and decided by the
//! chain alone: it landed (and worked or failed), or it *provably* never will. Everything else is unknown, and asked
//! for again later, also after a restart.
//!
//! Only then is another transaction for the same thing signed. Should one ever land beside another (a confirmed block
//! rolled back, which has not happened), no money is lost: claims settle up to a target and payouts up to what is
//! owed, so that the second adds nothing.

use crate::chain::{Chain, ChainError, Commitment, Failure, Height, Landing, Statuses};
use crate::pace::{Pace, jittered};
use crate::settler::Settler;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::future::Future;
use tallybook_ledger::Attempt;
use tallybook_rules::Rejection;
use tokio::time::Instant;

/// What must be durable before a transaction leaves the house. Kept by the caller, for one batch, deposit or refund.
pub trait Journal: Send + Sync {
    /// Called before the first send of each transaction. An `Err` stops the sending.
    fn record(&self, attempt: Attempt) -> impl Future<Output = Result<(), Rejection>> + Send;

    /// The same for a transaction that claims or pays out in these pages, which are several where batches share one.
    fn record_for(&self, attempt: Attempt, _pages: &[[u8; 32]]) -> impl Future<Output = Result<(), Rejection>> + Send {
        self.record(attempt)
    }

    /// The lookup table that was made for a page, if one was. A hint: it is checked on chain before it is used.
    fn table(&self, page: &[u8; 32]) -> impl Future<Output = Result<Option<[u8; 32]>, Rejection>> + Send;

    /// Called before the table is made.
    fn keep_table(&self, page: &[u8; 32], table: &[u8; 32]) -> impl Future<Output = Result<(), Rejection>> + Send;

    /// Called when a transaction has landed at the sponsor's expense, worked or failed, whose cost is in no
    /// [`tallybook_ledger::Outcome`]: ask [`Settler::spent`]. For what was recorded here. Nothing to do for who keeps no
    /// accounts.
    fn billed(&self, _signature: [u8; 64]) {}

    /// The same for a lookup table or a payee's token account, which claims have made on their way.
    fn billed_for_accounts(&self, _signature: [u8; 64]) {}
}

/// What became of a recorded transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Not known yet: ask again.
    Unknown,
    /// It did not land, and never will: its blockhash has expired on the finalized chain.
    Expired,
    /// It is in a confirmed or finalized block and worked.
    Landed {
        /// The slot of the block.
        slot: u64,
        /// How settled the block is.
        commitment: Commitment,
    },
    /// It is in a confirmed or finalized block and failed: it took its fee and changed nothing.
    Failed {
        /// The slot of the block.
        slot: u64,
        /// Why.
        failure: Failure,
    },
}

impl Fate {
    /// The fate, unless it is unknown.
    pub fn decided(self) -> Option<Self> {
        (self != Self::Unknown).then_some(self)
    }
}

/// Decides from answers, in this order: how far the finalized chain was, then where the transaction is.
///
/// Expired is proved by two things together: a finalized block beyond the last valid height, and a node that has seen at
/// least that block and knows of no such transaction.
pub fn decide(attempt: &Attempt, height: Option<Height>, statuses: &Statuses) -> Fate {
    match statuses.landings.first().cloned().flatten() {
        Some(Landing { commitment, .. }) if commitment < Commitment::Confirmed => Fate::Unknown,
        Some(Landing { slot, failure: Some(failure), .. }) => Fate::Failed { slot, failure },
        Some(Landing { slot, commitment, .. }) => Fate::Landed { slot, commitment },
        None => match height {
            Some(height) if height.block > attempt.last_valid_block_height && statuses.slot >= height.slot => {
                Fate::Expired
            }
            _ => Fate::Unknown,
        },
    }
}

/// Asks the chain what became of a transaction. Sends nothing.
pub async fn fate<C: Chain>(chain: &C, attempt: &Attempt) -> Result<Fate, ChainError> {
    let height = chain.height().await?;
    let statuses = chain.statuses(&[Signature::from(attempt.signature)], true).await?;
    Ok(decide(attempt, Some(height), &statuses))
}

impl<C: Chain> Settler<C> {
    /// What became of each of `attempts`, in their order; for a restart. Sends nothing.
    pub async fn resolve(&self, attempts: &[Attempt]) -> Result<Vec<Fate>, Rejection> {
        let mut fates = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            fates.push(fate(self.chain(), attempt).await?);
        }
        Ok(fates)
    }

    /// Records the transaction, then sends it until it is decided or the patience for it is over.
    pub(crate) async fn record_and_send<J: Journal>(
        &self,
        transaction: &VersionedTransaction,
        attempt: &Attempt,
        journal: &J,
    ) -> Result<Fate, Rejection> {
        journal.record(*attempt).await?;
        Ok(send_until_decided(self.chain(), transaction, attempt, &self.settings().pace).await)
    }
}

/// Sends the same transaction until it is decided. What the node says to a send is not listened to.
pub async fn send_until_decided<C: Chain>(
    chain: &C,
    transaction: &VersionedTransaction,
    attempt: &Attempt,
    pace: &Pace,
) -> Fate {
    send_and_count(chain, transaction, attempt, pace).await.0
}

/// As [`send_until_decided`]; says too how many of the sends the node took, by its own word.
pub(crate) async fn send_and_count<C: Chain>(
    chain: &C,
    transaction: &VersionedTransaction,
    attempt: &Attempt,
    pace: &Pace,
) -> (Fate, u32) {
    let signature = Signature::from(attempt.signature);
    let deadline = deadline(pace);
    let mut taken = 0u32;
    loop {
        match chain.send(transaction).await {
            Ok(()) => taken = taken.saturating_add(1),
            Err(error) => tracing::debug!(%signature, %error, "sent, with no good answer"),
        }
        if let Some(decided) = watch(chain, attempt, pace, deadline).await.decided() {
            return (decided, taken);
        }
        if Instant::now() >= deadline {
            return (Fate::Unknown, taken);
        }
        // Not seen: expired for certain, or to be sent again.
        match fate(chain, attempt).await {
            Ok(Fate::Unknown) => {}
            Ok(decided) => return (decided, taken),
            Err(error) => tracing::debug!(%signature, %error, "outcome unknown"),
        }
    }
}

/// Asks for the status, at a growing pace, until it is time to send again.
pub(crate) async fn watch<C: Chain>(chain: &C, attempt: &Attempt, pace: &Pace, deadline: Instant) -> Fate {
    let until = Instant::now().checked_add(pace.resend).unwrap_or(deadline).min(deadline);
    let mut pause = pace.first;
    loop {
        match chain.statuses(&[Signature::from(attempt.signature)], false).await {
            Ok(statuses) => {
                if let Some(decided) = decide(attempt, None, &statuses).decided() {
                    return decided;
                }
            }
            Err(error) => tracing::debug!(%error, "status unknown"),
        }
        if Instant::now() >= until {
            return Fate::Unknown;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = pace.after(pause);
    }
}

/// The end of the patience, from now.
pub(crate) fn deadline(pace: &Pace) -> Instant {
    let now = Instant::now();
    now.checked_add(pace.patience).unwrap_or(now)
}

#[cfg(test)]
mod tests;
