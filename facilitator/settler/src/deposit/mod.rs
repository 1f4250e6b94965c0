//! Deposits at the sponsor's expense: [`check`] decides, here they are sent.

mod check;
#[cfg(test)]
mod tests;

pub(crate) use check::verifies;
pub use check::{Caps, CheckedDeposit, DepositKind, ExpectedDeposit, check};

use crate::chain::{Chain, Commitment, Failure};
use crate::send::{Fate, Journal, deadline, fate, watch};
use crate::settler::{Settler, attempt_of};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_ledger::Attempt;
use tallybook_rules::{Rejection, Slot};

/// A channel that is open on chain, as read back after its deposit, an opening or a top-up, was confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The transaction.
    pub attempt: Attempt,
    /// The chain's slot at which the page was read.
    pub chain_slot: u64,
    /// The channel.
    pub state: Slot,
}

impl<C: Chain> Settler<C> {
    /// Checks a deposit transaction against its payload; see [`check`]. Asks nobody.
    pub fn check_deposit(&self, bytes: &[u8], expected: &ExpectedDeposit<'_>) -> Result<CheckedDeposit, Rejection> {
        let caps = Caps {
            fee_payer: self.sponsor(),
            max_compute_units: self.settings().max_compute_units,
            max_compute_price: self.settings().max_compute_price,
        };
        check(bytes, expected, &caps)
    }

    /// The signature of the transaction once the sponsor has signed it, which is also its name.
    pub fn deposit_signature(&self, deposit: &CheckedDeposit) -> [u8; 64] {
        self.sign(&deposit.transaction.message).into()
    }

    /// Asks the chain what the deposit would do; sends nothing. What the program says comes as its own rejection.
    pub async fn simulate_deposit(&self, deposit: &CheckedDeposit) -> Result<(), Rejection> {
        let simulation = self.simulate(&deposit.transaction).await?;
        simulation.failure.map_or(Ok(()), |failure| Err(refusal(&failure)))
    }

    /// Co-signs and sends a deposit, waits for it to be confirmed, and reads the channel back.
    ///
    /// The same deposit again is the same transaction, so it is asked for first and never paid twice. `previous` is
    /// what the journal recorded for it before, if anything: only with it can its expiry be proved.
    ///
    /// [`Rejection::SettlementPending`] while the outcome is unknown (ask again), [`Rejection::DepositExpired`] when it
    /// provably never lands, else what the program said.
    pub async fn send_deposit<J: Journal>(
        &self,
        deposit: &CheckedDeposit,
        previous: Option<Attempt>,
        journal: &J,
    ) -> Result<Opened, Rejection> {
        let transaction = self.co_signed(&deposit.transaction);
        // The hash is the client's. Whatever it is, it is no newer than the newest, so it expires no later.
        let newest = self.latest_blockhash().await?.last_valid_height;
        let attempt = attempt_of(&transaction, newest).ok_or(Rejection::MalformedDeposit)?;
        let attempt = previous.filter(|previous| previous.signature == attempt.signature).unwrap_or(attempt);
        let decided = match fate(self.chain(), &attempt).await?.decided() {
            Some(decided) => decided,
            None => self.send_checked(deposit, &transaction, &attempt, previous, journal).await?,
        };
        if matches!(decided, Fate::Landed { .. } | Fate::Failed { .. }) {
            journal.billed(attempt.signature);
        }
        match decided {
            Fate::Landed { slot, .. } => self.read_back(deposit, attempt, slot).await,
            Fate::Failed { failure, .. } => Err(refusal(&failure)),
            Fate::Expired => Err(Rejection::DepositExpired),
            Fate::Unknown => Err(Rejection::SettlementPending),
        }
    }

    /// Sends what has not been seen on chain. A deposit that would fail is not sent, so that no fee is lost on it.
    async fn send_checked<J: Journal>(
        &self,
        deposit: &CheckedDeposit,
        transaction: &VersionedTransaction,
        attempt: &Attempt,
        previous: Option<Attempt>,
        journal: &J,
    ) -> Result<Fate, Rejection> {
        let sent_before = match deposit.kind() {
            DepositKind::Opening => previous.is_some(),
            // There may have been another one of the same channel.
            DepositKind::TopUp => previous.is_some_and(|previous| previous.signature == attempt.signature),
        };
        let Some(failure) = self.simulate(transaction).await?.failure else {
            return self.record_and_send(transaction, attempt, journal).await;
        };
        // Perhaps it fails because it has just landed, sent by an earlier call or one beside this.
        match fate(self.chain(), attempt).await?.decided() {
            Some(decided) => Ok(decided),
            None if sent_before || self.is_seen(attempt).await? || self.is_open(deposit).await? => {
                // In a block that is not confirmed yet, or sent and not seen: it is watched, and not sent again.
                let pace = &self.settings().pace;
                Ok(watch(self.chain(), attempt, pace, deadline(pace)).await)
            }
            None => Err(refusal(&failure)),
        }
    }

    /// True when a node has seen the transaction in a block, confirmed or not.
    async fn is_seen(&self, attempt: &Attempt) -> Result<bool, Rejection> {
        let statuses = self.chain().statuses(&[Signature::from(attempt.signature)], false).await?;
        Ok(statuses.landings.first().is_some_and(Option::is_some))
    }

    /// True when the page shows the channel that the deposit opens. (A channel that is topped up is open anyway.)
    async fn is_open(&self, deposit: &CheckedDeposit) -> Result<bool, Rejection> {
        if deposit.kind() == DepositKind::TopUp {
            return Ok(false);
        }
        let new = deposit.new_channel();
        let (_, page) = self.read_page(&new.page, 0, Commitment::Confirmed).await?;
        Ok(page.channel_id(new.slot) == Some(*deposit.channel_id()))
    }

    /// The transaction with the sponsor's signature in the fee payer's place.
    pub(crate) fn co_signed(&self, transaction: &VersionedTransaction) -> VersionedTransaction {
        let mut transaction = transaction.clone();
        let signature = self.sign(&transaction.message);
        if let Some(first) = transaction.signatures.first_mut() {
            *first = signature;
        }
        transaction
    }

    /// The page must show the channel that was deposited.
    async fn read_back(&self, deposit: &CheckedDeposit, attempt: Attempt, slot: u64) -> Result<Opened, Rejection> {
        let new = deposit.new_channel();
        let (chain_slot, page) = self.read_page(&new.page, slot, Commitment::Confirmed).await?;
        if page.channel_id(new.slot) != Some(*deposit.channel_id()) {
            // It was opened, and is over already: a deposit that is repeated after its channel's end.
            return Err(Rejection::SlotFree);
        }
        Ok(Opened { attempt, chain_slot, state: *page.slot(new.slot)? })
    }
}

/// What a client is told of a failure: the program's own word if there is one.
pub(crate) fn refusal(failure: &Failure) -> Rejection {
    if failure.is_unknown_blockhash() {
        return Rejection::DepositExpired;
    }
    tracing::info!(%failure, "the chain refuses");
    failure.rejection().unwrap_or(Rejection::SimulationFailed)
}
