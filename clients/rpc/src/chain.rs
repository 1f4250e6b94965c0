use crate::sight::{Accounts, Blockhash, View};
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
