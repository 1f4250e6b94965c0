use super::Outcome;
use crate::error::Failure;
use crate::events::OperatorSet;
use crate::state::Book;
use anchor_lang::prelude::*;
use tallybook_rules::Rejection;

/// The payee names another operator.
#[derive(Accounts)]
pub struct SetOperator<'info> {
    /// The book's payee.
    pub payee: Signer<'info>,
    /// The book.
    #[account(mut, has_one = payee @ Failure::Rejected(Rejection::WrongAuthority))]
    pub book: AccountLoader<'info, Book>,
}

/// Replaces the operator; the one before has no power from then on.
pub(crate) fn set_operator(ctx: Context<'_, SetOperator<'_>>, operator: Pubkey) -> Outcome {
    let accounts = ctx.accounts;
    {
        let mut book = accounts.book.load_mut()?;
        book.rules()?;
        book.operator = operator;
    }
    emit!(OperatorSet { book: accounts.book.key(), operator });
    Ok(())
}
