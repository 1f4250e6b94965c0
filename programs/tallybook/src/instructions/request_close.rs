use super::Outcome;
use crate::error::Failure;
use crate::events::CloseRequested;
use crate::state::{Book, Page, change, now};
use anchor_lang::prelude::*;
use tallybook_rules::Rejection;

/// A payer asks to leave.
#[derive(Accounts)]
pub struct RequestClose<'info> {
    /// The channel's payer.
    pub payer: Signer<'info>,
    /// The book, for its grace period.
    pub book: AccountLoader<'info, Book>,
    /// The page of the channel.
    #[account(mut, has_one = book @ Failure::Rejected(Rejection::WrongBook))]
    pub page: AccountLoader<'info, Page>,
}

/// Begins the grace period.
pub(crate) fn request_close(ctx: Context<'_, RequestClose<'_>>, slot: u8, generation: u32) -> Outcome {
    let accounts = ctx.accounts;
    let grace_seconds = accounts.book.load()?.rules()?.grace_seconds;
    let now = now()?;
    let payer = accounts.payer.key.as_array();
    let closing_at =
        change(&accounts.page, |page| Ok(page.request_close(slot, generation, payer, grace_seconds, now)?))?;
    emit!(CloseRequested { page: accounts.page.key(), slot, generation, closing_at });
    Ok(())
}
