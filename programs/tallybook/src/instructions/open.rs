use super::Outcome;
use crate::error::Failure;
use crate::events::Opened;
use crate::state::{Book, Page, change, now};
use crate::vault::Vault;
use crate::verify::check_signer;
use anchor_lang::prelude::*;
use tallybook_rules::{self as rules, OpenPolicy, Opening, Rejection};

/// A payer opens a channel.
#[derive(Accounts)]
pub struct Open<'info> {
    /// Who funds the channel, and gets back what is unspent.
    pub payer: Signer<'info>,
    /// The book's operator, where its open policy asks for it.
    pub operator: Option<Signer<'info>>,
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
    /// CHECK: an account that the payer may transfer from; the token program's to check.
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

/// Opens the slot and takes the deposit.
pub(crate) fn open(ctx: Context<'_, Open<'_>>, slot: u8, opening: &Opening) -> Outcome {
    let accounts = ctx.accounts;
    let book = accounts.book.load()?;
    let book = book.rules()?;
    let vault = Vault::new(book, &accounts.page, &accounts.vault, &accounts.mint, &accounts.token_program)?;
    let now = now()?;
    // In order of precedence: what the slot says, whether the operator agrees, the deposit, the voucher key.
    change(&accounts.page, |page| {
        page.vacant(slot, opening.generation)?;
        check_policy(book, accounts.operator.as_ref())?;
        page.open(slot, opening, book.min_deposit, now)?;
        Ok(check_signer(&opening.signer)?)
    })?;
    vault.receive(opening.deposit, &accounts.source, &accounts.payer)?;
    emit!(Opened {
        page: accounts.page.key(),
        slot,
        generation: opening.generation,
        payer: Pubkey::from(opening.payer),
        signer: Pubkey::from(opening.signer),
        deposit: opening.deposit.get(),
    });
    Ok(())
}

/// The operator has signed where the book asks for it, else [`Rejection::OperatorMustSign`].
fn check_policy(book: &rules::Book, operator: Option<&Signer<'_>>) -> Outcome {
    match OpenPolicy::from_byte(book.open_policy)? {
        OpenPolicy::Anyone => Ok(()),
        OpenPolicy::OperatorCoSigns => match operator {
            Some(operator) if *operator.key.as_array() == book.operator => Ok(()),
            Some(_) | None => Err(Rejection::OperatorMustSign.into()),
        },
    }
}
