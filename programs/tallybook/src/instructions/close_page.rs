use super::Outcome;
use super::payout::check_destination;
use crate::error::Failure;
use crate::events::PageClosed;
use crate::state::{Book, Page, change};
use crate::vault::Vault;
use anchor_lang::prelude::*;
use tallybook_rules::{Leg, Rejection};

/// The payee or who paid the page's rent closes a page that is not used any more, and its vault.
#[derive(Accounts)]
pub struct ClosePage<'info> {
    /// The book's payee or the page's rent payer.
    pub authority: Signer<'info>,
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
        has_one = rent_payer @ Failure::Rejected(Rejection::WrongAccount),
    )]
    pub page: AccountLoader<'info, Page>,
    /// CHECK: the page's.
    #[account(mut)]
    pub vault: UncheckedAccount<'info>,
    /// CHECK: the page's; the rent goes back to it.
    #[account(mut)]
    pub rent_payer: UncheckedAccount<'info>,
    /// CHECK: the payee's associated token account, or any of the payee's if the payee is the authority. It is looked at
    /// where something is left in the vault.
    #[account(mut)]
    pub payee_account: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub mint: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub token_program: UncheckedAccount<'info>,
}

/// Gives what is left in the vault to the payee, and the rent back to who paid it.
///
/// What is left once nothing is owed is the dust of shares that were rounded down, and tokens sent there from outside. The
/// page's number is never given again, so that no voucher of it ever meets another page.
pub(crate) fn close_page(ctx: Context<'_, ClosePage<'_>>) -> Outcome {
    let accounts = ctx.accounts;
    let book = accounts.book.load()?;
    let book = book.rules()?;
    let vault = Vault::new(book, &accounts.page, &accounts.vault, &accounts.mint, &accounts.token_program)?;
    let authority = accounts.authority.key;
    if *authority.as_array() != book.payee && authority != accounts.rent_payer.key {
        return Err(Rejection::WrongAuthority.into());
    }
    let legs = book.legs();
    let payee: &Leg = legs.first().ok_or(Rejection::InvariantBroken)?;
    check_destination(payee, &accounts.payee_account, &[accounts.authority.to_account_info()])?;
    let index = change(&accounts.page, |page| {
        page.header.check_closable(legs)?;
        Ok(page.header.index)
    })?;
    let left = vault.close(&accounts.payee_account, &payee.recipient, &accounts.rent_payer)?;
    accounts.page.close(accounts.rent_payer.to_account_info())?;
    emit!(PageClosed { book: accounts.book.key(), page: accounts.page.key(), index, left: left.get() });
    Ok(())
}
