//! The cooperative close: exactly what was charged is claimed and the rest goes back to the payer at once, in one transaction
//! that the book's operator signs and the sponsor pays for. The facilitator never holds the operator's key.

use crate::chain::{Chain, Commitment, Snapshot};
use crate::claim::{MAX_COMPUTE_UNITS, limit_for, message};
use crate::deposit::{refusal, verifies};
use crate::send::{Fate, Journal, fate};
use crate::settler::{Settler, attempt_of};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::instruction::{Instructions, RefundRow};
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price, from_bytes, to_bytes};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, TokenAccountView};
use tallybook_ledger::Attempt;
use tallybook_rules::half_aggregation::Row;
use tallybook_rules::signing::{VerifiedVoucher, aggregate, halves};
use tallybook_rules::{Amount, Rejection};

/// A channel to be closed by agreement.
#[derive(Clone, Copy, Debug)]
pub struct Refund<'a> {
    /// Its book.
    pub book: &'a BookView,
    /// Its page, as read last.
    pub page: &'a PageView,
    /// Its slot.
    pub slot: u8,
    /// The voucher that the payer leaves with, over exactly what was charged. It is claimed first unless the chain has as
    /// much already, and what it says stays with the payee.
    pub voucher: &'a VerifiedVoucher,
}

impl Refund<'_> {
    /// What the payee keeps, as a total.
    fn keep(&self) -> Amount {
        self.voucher.voucher().cumulative
    }
}

/// The unsigned transaction of a cooperative close. Kept until the operator's signature comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedRefund {
    /// The transaction with empty signatures, as it goes over the wire.
    pub bytes: Vec<u8>,
    /// The last block height at which it can land.
    pub last_valid_height: u64,
    operator: Address,
    message: VersionedMessage,
}

/// A refund that is confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// The transaction.
    pub attempt: Attempt,
    /// The slot of its block: read the page as of this slot or later.
    pub slot: u64,
}

impl<C: Chain> Settler<C> {
    /// Builds the transaction of a cooperative close, and simulates it.
    ///
    /// [`Rejection::SlotFree`] when the channel is over, [`Rejection::WrongRecipientAccount`] when the payer has no usable
    /// token account (the sponsor never makes one), else what the program says.
    pub async fn refund_transaction(&self, refund: &Refund<'_>) -> Result<PreparedRefund, Rejection> {
        self.check_payers_account(refund).await?;
        let blockhash = self.latest_blockhash().await?;
        let compile = |units: u32| {
            let instructions = instructions(refund, units, self.settings().compute_price)?;
            message(&self.sponsor(), &instructions, None, blockhash.hash)
        };
        let simulation = self.chain().simulate(&unsigned(compile(MAX_COMPUTE_UNITS)?)).await?;
        if let Some(failure) = simulation.failure {
            return Err(refusal(&failure));
        }
        let transaction = unsigned(compile(limit_for(simulation.compute_units))?);
        Ok(PreparedRefund {
            bytes: to_bytes(&transaction)?,
            last_valid_height: blockhash.last_valid_height,
            operator: refund.book.operator(),
            message: transaction.message,
        })
    }

    /// Takes the prepared transaction back with the operator's signature, co-signs and sends it, and waits for it to be
    /// confirmed. `previous` is what the journal recorded for it before, if anything.
    ///
    /// [`Rejection::RequirementsMismatch`] for another transaction than the prepared one, [`Rejection::WrongAuthority`]
    /// without the operator's valid signature; then as [`Settler::send_deposit`].
    pub async fn send_refund<J: Journal>(
        &self,
        prepared: &PreparedRefund,
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
            Fate::Landed { slot, .. } => Ok(Closed { attempt, slot }),
            Fate::Failed { failure, .. } => Err(refusal(&failure)),
            Fate::Expired => Err(Rejection::DepositExpired),
            Fate::Unknown => Err(Rejection::SettlementPending),
        }
    }

    /// A refund skips a payer whose account cannot take it; better to say so than to send a transaction that does
    /// nothing.
    async fn check_payers_account(&self, refund: &Refund<'_>) -> Result<(), Rejection> {
        let (book, slot) = (refund.book, refund.page.slot(refund.slot)?);
        let payer = Address::from(slot.payer);
        let address = book.token_account(&payer);
        let Snapshot { accounts, .. } = self.chain().accounts(&[address], Commitment::Confirmed).await?;
        let account = accounts.into_iter().next().flatten();
        let usable = account
            .filter(|account| account.owner == book.token_program())
            .and_then(|account| TokenAccountView::parse(&account.data))
            .is_some_and(|token| token.mint == book.mint() && token.owner == payer && !token.frozen);
        // Where everything was charged nothing goes back, so no account is needed.
        if usable || slot.deposit <= refund.keep() { Ok(()) } else { Err(Rejection::WrongRecipientAccount) }
    }
}

/// The very message that was prepared, with the operator's signature.
fn check_signed(prepared: &PreparedRefund, signed: &[u8]) -> Result<VersionedTransaction, Rejection> {
    let transaction = from_bytes(signed)?;
    if transaction.message != prepared.message {
        return Err(Rejection::RequirementsMismatch);
    }
    if !verifies(&transaction, &prepared.operator) {
        return Err(Rejection::WrongAuthority);
    }
    Ok(transaction)
}

/// Compute limit, compute price, the claim of the voucher unless the chain has as much, the refund.
fn instructions(refund: &Refund<'_>, compute_units: u32, compute_price: u64) -> Result<Vec<Instruction>, Rejection> {
    let (book, page) = (refund.book, refund.page);
    let slot = page.slot(refund.slot)?;
    if page.channel_id(refund.slot).is_none() {
        return Err(Rejection::SlotFree);
    }
    let program = Instructions::new(PROGRAM_ID);
    let mut instructions = vec![compute_unit_limit(compute_units), compute_unit_price(compute_price)];
    if refund.keep().min(slot.deposit) > slot.settled {
        let nonce = *halves(&refund.voucher.voucher().signature).0;
        let row = Row { slot: refund.slot, cumulative: refund.keep(), nonce };
        instructions.push(program.claim(&page.address, &aggregate(&[*refund.voucher])?, &[row])?);
    }
    let row = RefundRow { slot: refund.slot, generation: slot.generation, keep: refund.keep().get() };
    instructions.push(program.refund(book, &page.address, &book.operator(), &[(row, Address::from(slot.payer))]));
    Ok(instructions)
}

/// A transaction with the right number of empty signatures.
fn unsigned(message: VersionedMessage) -> VersionedTransaction {
    let signers = usize::from(message.header().num_required_signatures);
    VersionedTransaction { signatures: vec![Signature::default(); signers], message }
}

#[cfg(test)]
mod tests;
