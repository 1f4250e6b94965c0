//! Transactions that the sponsor builds and pays for, and that a book's operator looks at and signs before they are sent.
//! The facilitator never holds the operator's key.

use crate::chain::Chain;
use crate::claim::limit_for;
use crate::deposit::{refusal, verifies};
use crate::send::{Fate, Journal, fate};
use crate::settler::{Settler, attempt_of};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::shape::{Budget, MAX_COMPUTE_UNITS, Shape, message};
use tallybook_chain::transaction::{from_bytes, to_bytes};
use tallybook_ledger::Attempt;
use tallybook_rules::Rejection;

/// A transaction without signatures. Kept until the operator's comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// The transaction with empty signatures, as it goes over the wire.
    pub bytes: Vec<u8>,
    /// The last block height at which it can land.
    pub last_valid_height: u64,
    operator: Address,
    message: VersionedMessage,
}

/// A prepared transaction that is confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// The transaction.
    pub attempt: Attempt,
    /// The slot of its block: read the page as of this slot or later.
    pub slot: u64,
}

impl<C: Chain> Settler<C> {
    /// Compute limit, compute price and `instructions`, which `operator` is to sign: simulated, so that the limit fits.
    /// What the program says against it comes as its own rejection.
    pub(crate) async fn prepare(&self, operator: Address, instructions: &[Instruction]) -> Result<Prepared, Rejection> {
        let blockhash = self.latest_blockhash().await?;
        let compute_price = self.compute_price(&[self.sponsor()]).await;
        let compile = |compute_units: u32| {
            let budget = Budget { compute_units, compute_price };
            message(Shape::V0, &self.sponsor(), instructions, None, &budget, blockhash.hash)
        };
        let simulation = self.simulate(&unsigned(compile(MAX_COMPUTE_UNITS)?)).await?;
        if let Some(failure) = simulation.failure {
            return Err(refusal(&failure));
        }
        let transaction = unsigned(compile(limit_for(simulation.compute_units))?);
        Ok(Prepared {
            bytes: to_bytes(&transaction)?,
            last_valid_height: blockhash.last_valid_height,
            operator,
            message: transaction.message,
        })
    }

    /// The signature of the transaction once the sponsor has signed it, which is also its name.
    pub fn prepared_signature(&self, prepared: &Prepared) -> [u8; 64] {
        self.sign(&prepared.message).into()
    }

    /// Takes the prepared transaction back with the operator's signature, co-signs and sends it, and waits for it to be
    /// confirmed. `previous` is what the journal recorded for it before, if anything.
    ///
    /// [`Rejection::RequirementsMismatch`] for another transaction than the prepared one, [`Rejection::WrongAuthority`]
    /// without the operator's valid signature; then as [`Settler::send_deposit`].
    pub async fn send_prepared<J: Journal>(
        &self,
        prepared: &Prepared,
        signed: &[u8],
        previous: Option<Attempt>,
        journal: &J,
    ) -> Result<Closed, Rejection> {
        let transaction = self.co_signed(&check_signed(prepared, signed)?);
        let attempt = attempt_of(&transaction, prepared.last_valid_height).ok_or(Rejection::MalformedPayload)?;
        let sent_before = previous.is_some_and(|previous| previous.signature == attempt.signature);
        let decided = if sent_before { fate(self.chain(), &attempt).await?.decided() } else { None };
        let decided = match decided {
            Some(decided) => decided,
            // Not sent yet, or not seen: the same transaction again does no harm.
            None => self.record_and_send(&transaction, &attempt, journal).await?,
        };
        match decided {
            Fate::Landed { slot, .. } => {
                journal.billed(attempt.signature);
                Ok(Closed { attempt, slot })
            }
            Fate::Failed { failure, .. } => {
                journal.billed(attempt.signature);
                Err(refusal(&failure))
            }
            Fate::Expired => Err(Rejection::DepositExpired),
            Fate::Unknown => Err(Rejection::SettlementPending),
        }
    }
}

/// The very message that was prepared, with the operator's signature.
fn check_signed(prepared: &Prepared, signed: &[u8]) -> Result<VersionedTransaction, Rejection> {
    let transaction = from_bytes(signed)?;
    if transaction.message != prepared.message {
        return Err(Rejection::RequirementsMismatch);
    }
    if !verifies(&transaction, &prepared.operator) {
        return Err(Rejection::WrongAuthority);
    }
    Ok(transaction)
}

/// A transaction with the right number of empty signatures.
fn unsigned(message: VersionedMessage) -> VersionedTransaction {
    let signers = usize::from(message.header().num_required_signatures);
    VersionedTransaction { signatures: vec![Signature::default(); signers], message }
}
