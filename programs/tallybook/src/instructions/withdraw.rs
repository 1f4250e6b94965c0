use super::Outcome;
use crate::error::Failure;
use crate::events::Withdrawn;
use crate::state::{Book, Page, change, now};
use crate::vault::{Payment, Vault};
use anchor_lang::prelude::*;
use tallybook_rules::{self as rules, Rejection, Returned};

/// Anybody ends closing channels whose grace period is over.
///
/// One token account follows for each slot, in their order: the payer's associated one, or any of the mint if the payer
/// signs. Where nothing is unspent any account will do.
#[derive(Accounts)]
pub struct Withdraw<'info> {
    /// A payer that names another account than its associated one for its own slots.
    pub payer: Option<Signer<'info>>,
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

/// Frees each slot and returns what its payer did not spend. A slot whose payer cannot be paid now is skipped.
pub(crate) fn withdraw<'info>(ctx: Context<'info, Withdraw<'info>>, slots: &[u8]) -> Outcome {
    let accounts = ctx.accounts;
    let book = accounts.book.load()?;
    let vault = Vault::new(book.rules()?, &accounts.page, &accounts.vault, &accounts.mint, &accounts.token_program)?;
    let destinations = ctx.remaining_accounts;
    if slots.is_empty() || slots.len() != destinations.len() {
        return Err(Rejection::AccountCountMismatch.into());
    }
    let signer = accounts.payer.as_ref().map(|payer| payer.key.as_array());
    let now = now()?;

    let mut payments = Vec::with_capacity(slots.len());
    change(&accounts.page, |page| {
        for (slot, to) in slots.iter().zip(destinations) {
            let transition = |page: &mut rules::Page<'_>| page.withdraw(*slot, now);
            let Some(returned) = give_back(page, *slot, transition, &vault, to, signer)? else {
                continue;
            };
            payments.push(Payment { to, amount: returned.amount });
            emit!(Withdrawn { page: accounts.page.key(), slot: *slot, returned: returned.amount.get() });
        }
        Ok(())
    })?;
    vault.pay(&payments)
}

/// Makes a transition that returns money of a slot to its payer, unless `to` cannot be paid now: then nothing is changed,
/// and the answer is `None`. [`Rejection::WrongRecipientAccount`] when `to` is not where that payer's money may go:
/// its associated token account, or any of the mint if the payer is the `signer`.
pub(super) fn give_back<'info>(
    page: &mut rules::Page<'_>,
    slot: u8,
    transition: impl FnOnce(&mut rules::Page<'_>) -> core::result::Result<Returned, Rejection>,
    vault: &Vault<'_, 'info>,
    to: &AccountInfo<'info>,
    signer: Option<&[u8; 32]>,
) -> Outcome<Option<Returned>> {
    let (header_before, slot_before) = (*page.header, *page.slot(slot)?);
    let returned = transition(page)?;
    if returned.amount.is_zero() {
        return Ok(Some(returned));
    }
    let owner = if signer == Some(&returned.payer) {
        None
    } else if *to.key == vault.associated_account(&returned.payer) {
        Some(&returned.payer)
    } else {
        return Err(Rejection::WrongRecipientAccount.into());
    };
    if vault.can_pay(to, owner)? {
        return Ok(Some(returned));
    }
    (*page.header, *page.slot(slot)?) = (header_before, slot_before);
    Ok(None)
}
