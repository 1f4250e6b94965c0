use super::Outcome;
use super::withdraw::give_back;
use crate::error::Failure;
use crate::events::Refunded;
use crate::state::{Book, Page, change};
use crate::vault::{Payment, Vault};
use anchor_lang::prelude::*;
use tallybook_rules::{self as rules, Amount, Rejection};

/// The payee or the operator gives unclaimed money back at once.
///
/// One token account follows for each row, in their order: the payer's associated one. Where nothing goes back any
/// account will do.
#[derive(Accounts)]
pub struct Refund<'info> {
    /// The book's payee or operator.
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
    )]
    pub page: AccountLoader<'info, Page>,
    /// CHECK: the page's.
    #[account(mut)]
    pub vault: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub mint: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub token_program: UncheckedAccount<'info>,
}

/// What is to remain of one channel.
#[derive(AnchorSerialize, AnchorDeserialize, Clone, Copy, Debug)]
pub struct RefundRow {
    /// The slot.
    pub slot: u8,
    /// The channel's generation; a row of an earlier one does nothing.
    pub generation: u32,
    /// What the deposit is lowered to, if that is more than is settled, in base units.
    pub keep: u64,
}

/// Lowers each deposit and returns the difference. A row whose payer cannot be paid now is skipped.
pub(crate) fn refund<'info>(ctx: Context<'info, Refund<'info>>, rows: &[RefundRow]) -> Outcome {
    let accounts = ctx.accounts;
    let book = accounts.book.load()?;
    let book = book.rules()?;
    let vault = Vault::new(book, &accounts.page, &accounts.vault, &accounts.mint, &accounts.token_program)?;
    let authority = accounts.authority.key.as_array();
    if *authority != book.payee && *authority != book.operator {
        return Err(Rejection::WrongAuthority.into());
    }
    let destinations = ctx.remaining_accounts;
    if rows.is_empty() || rows.len() != destinations.len() {
        return Err(Rejection::AccountCountMismatch.into());
    }

    let mut payments = Vec::with_capacity(rows.len());
    change(&accounts.page, |page| {
        for (row, to) in rows.iter().zip(destinations) {
            let transition = |page: &mut rules::Page<'_>| page.refund(row.slot, row.generation, Amount::new(row.keep));
            let Some(returned) = give_back(page, row.slot, transition, &vault, to, None)? else {
                continue;
            };
            payments.push(Payment { to, amount: returned.amount });
            emit!(Refunded {
                page: accounts.page.key(),
                slot: row.slot,
                generation: row.generation,
                returned: returned.amount.get(),
            });
        }
        Ok(())
    })?;
    vault.pay(&payments)
}
