use super::Outcome;
use crate::error::Failure;
use crate::events::ToppedUp;
use crate::state::{Book, Page, change};
use crate::vault::Vault;
use anchor_lang::prelude::*;
use tallybook_rules::{Amount, Rejection};

/// Anybody adds to a channel's deposit. What is not spent goes back to the channel's payer, whoever put it in.
#[derive(Accounts)]
pub struct TopUp<'info> {
    /// Who gives the money: the payer, or anybody for it.
    pub funder: Signer<'info>,
    /// The book.
    #[account(
        has_one = mint @ Failure::Rejected(Rejection::WrongMint),
        has_one = token_program @ Failure::Rejected(Rejection::WrongTokenProgram),
    )]
    pub book: AccountLoader<'info, Book>,
    /// A page of the book.
    #[account(
        mut,
        has_one = book @ Failure::Rejected(Rejection::WrongBook),
        has_one = vault @ Failure::Rejected(Rejection::WrongVault),
    )]
    pub page: AccountLoader<'info, Page>,
    /// CHECK: an account that the funder may transfer from; the token program's to check.
    #[account(mut)]
    pub source: UncheckedAccount<'info>,
    /// CHECK: the page's.
    #[account(mut)]
    pub vault: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub mint: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub token_program: UncheckedAccount<'info>,
}

/// Raises the deposit and takes the money.
pub(crate) fn top_up(ctx: Context<'_, TopUp<'_>>, slot: u8, generation: u32, amount: Amount) -> Outcome {
    let accounts = ctx.accounts;
    let book = accounts.book.load()?;
    let vault = Vault::new(book.rules()?, &accounts.page, &accounts.vault, &accounts.mint, &accounts.token_program)?;
    let deposit = change(&accounts.page, |page| {
        page.top_up(slot, generation, amount)?;
        Ok(page.slot(slot)?.deposit)
    })?;
    vault.receive(amount, &accounts.source, &accounts.funder)?;
    emit!(ToppedUp { page: accounts.page.key(), slot, generation, amount: amount.get(), deposit: deposit.get() });
    Ok(())
}
