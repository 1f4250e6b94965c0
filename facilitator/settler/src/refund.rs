//! The cooperative close: exactly what was charged is claimed and the rest goes back to the payer at once, in one transaction
//! that the book's operator signs and the sponsor pays for. The facilitator never holds the operator's key.

use crate::chain::{Chain, Commitment, Snapshot};
use crate::prepared::Prepared;
use crate::settler::Settler;
use solana_address::Address;
use solana_instruction::Instruction;
use tallybook_chain::instruction::{Instructions, RefundRow};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, TokenAccountView};
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

impl<C: Chain> Settler<C> {
    /// Builds the transaction of a cooperative close, and simulates it.
    ///
    /// [`Rejection::SlotFree`] when the channel is over, [`Rejection::WrongRecipientAccount`] when the payer has no usable
    /// token account (the sponsor never makes one), else what the program says.
    pub async fn refund_transaction(&self, refund: &Refund<'_>) -> Result<Prepared, Rejection> {
        self.check_payers_account(refund).await?;
        self.prepare(refund.book.operator(), &instructions(refund)?).await
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

/// The claim of the voucher unless the chain has as much, and the refund.
fn instructions(refund: &Refund<'_>) -> Result<Vec<Instruction>, Rejection> {
    let (book, page) = (refund.book, refund.page);
    let slot = page.slot(refund.slot)?;
    if page.channel_id(refund.slot).is_none() {
        return Err(Rejection::SlotFree);
    }
    let program = Instructions::new(PROGRAM_ID);
    let mut instructions = Vec::with_capacity(2);
    if refund.keep().min(slot.deposit) > slot.settled {
        let nonce = *halves(&refund.voucher.voucher().signature).0;
        let row = Row { slot: refund.slot, cumulative: refund.keep(), nonce };
        instructions.push(program.claim(&page.address, &aggregate(&[*refund.voucher])?, &[row])?);
    }
    let row = RefundRow { slot: refund.slot, generation: slot.generation, keep: refund.keep().get() };
    instructions.push(program.refund(book, &page.address, &book.operator(), &[(row, Address::from(slot.payer))]));
    Ok(instructions)
}

#[cfg(test)]
mod tests;
