//! Clients' transactions that the sponsor pays for and that are checked elsewhere: simulated, co-signed, sent and asked
//! for. What they do is for whoever checked them to know.

use crate::chain::{Account, Chain, Commitment, Failure};
use crate::send::{Fate, Journal};
use crate::settler::{Settler, attempt_of};
use solana_address::Address;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_ledger::Attempt;
use tallybook_rules::Rejection;

impl<C: Chain> Settler<C> {
    /// Asks the chain what such a transaction would do now, as it stands: signatures are not looked at and its blockhash is
    /// not replaced. The reason why it would fail, if it would.
    pub async fn simulate_sponsored(&self, transaction: &VersionedTransaction) -> Result<Option<Failure>, Rejection> {
        Ok(self.simulate(transaction).await?.failure)
    }

    /// What is to be recorded of such a transaction before it is sent: its name once the sponsor has signed it, which its
    /// message alone decides, and a height beyond which it cannot land. The hash in it is the client's; whatever it is, it
    /// is no newer than the newest, so it expires no later.
    pub async fn sponsored_attempt(&self, transaction: &VersionedTransaction) -> Result<Attempt, Rejection> {
        let newest = self.latest_blockhash().await?.last_valid_height;
        attempt_of(&self.co_signed(transaction), newest).ok_or(Rejection::MalformedPayload)
    }

    /// Co-signs such a transaction, records it, and sends it until it is decided or the patience is over. The same
    /// transaction again is the same one on chain, and lands once.
    pub async fn send_sponsored<J: Journal>(
        &self,
        transaction: &VersionedTransaction,
        attempt: &Attempt,
        journal: &J,
    ) -> Result<Fate, Rejection> {
        let fate = self.record_and_send(&self.co_signed(transaction), attempt, journal).await?;
        if matches!(fate, Fate::Landed { .. } | Fate::Failed { .. }) {
            journal.billed(attempt.signature);
        }
        Ok(fate)
    }

    /// One account as the confirmed chain has it.
    pub async fn account(&self, address: &Address) -> Result<Option<Account>, Rejection> {
        Ok(self.chain().accounts(&[*address], Commitment::Confirmed).await?.accounts.into_iter().next().flatten())
    }

    /// Blocks up to the finalized one: what was valid up to a lower height can land no more.
    pub async fn finalized_height(&self) -> Result<u64, Rejection> {
        Ok(self.chain().height().await?.block)
    }
}
