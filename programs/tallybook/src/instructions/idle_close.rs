use super::Outcome;
use crate::error::Failure;
use crate::events::IdleClosed;
use crate::state::{Book, Page, change, now};
use anchor_lang::prelude::*;
use tallybook_rules::Rejection;

/// The payee, the operator or who paid the page's rent begins to close a channel that nobody uses.
#[derive(Accounts)]
pub struct IdleClose<'info> {
    /// The book's payee or operator, or the page's rent payer.
    pub authority: Signer<'info>,
    /// The book, for its terms.
    pub book: AccountLoader<'info, Book>,
    /// The page of the channel.
    #[account(mut, has_one = book @ Failure::Rejected(Rejection::WrongBook))]
    pub page: AccountLoader<'info, Page>,
}

/// Begins the grace period, if the channel was idle for as long as the book says.
pub(crate) fn idle_close(ctx: Context<'_, IdleClose<'_>>, slot: u8, generation: u32) -> Outcome {
    let accounts = ctx.accounts;
    let terms = {
        let book = accounts.book.load()?;
        let book = book.rules()?;
        let authority = accounts.authority.key.as_array();
        if ![&book.payee, &book.operator, &accounts.page.load()?.rules()?.rent_payer].contains(&authority) {
            return Err(Rejection::WrongAuthority.into());
        }
        book.terms()
    };
    let now = now()?;
    let closing_at = change(&accounts.page, |page| Ok(page.idle_close(slot, generation, &terms, now)?))?;
    emit!(IdleClosed { page: accounts.page.key(), slot, generation, closing_at });
    Ok(())
}
