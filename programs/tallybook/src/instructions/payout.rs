use super::Outcome;
use crate::error::Failure;
use crate::events::PaidOut;
use crate::state::{Book, Page, change};
use crate::vault::{Payment, Vault};
use anchor_lang::prelude::*;
use tallybook_rules::{self as rules, Amount, Leg, Rejection};

/// Anybody moves what was claimed to its recipients.
///
/// One writable token account follows for each named leg, in ascending order: the recipient's associated one, or any of
/// the recipient's if it signs. Recipients that sign for that follow the token accounts.
#[derive(Accounts)]
pub struct Payout<'info> {
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

/// Pays each leg whose bit is set in `legs` all that it is owed.
///
/// A leg whose account cannot be paid now (missing, frozen, given away, asking for a memo) is left out and stays owed:
/// one recipient never keeps the others, or the claim before, from going through.
pub(crate) fn payout<'info>(ctx: Context<'info, Payout<'info>>, legs: u8) -> Outcome {
    let accounts = ctx.accounts;
    let book = accounts.book.load()?;
    let book = book.rules()?;
    let vault = Vault::new(book, &accounts.page, &accounts.vault, &accounts.mint, &accounts.token_program)?;
    let count = count_legs(book, legs)?;
    let (destinations, recipients) =
        ctx.remaining_accounts.split_at_checked(count).ok_or(Rejection::AccountCountMismatch)?;
    let named = (0u8..).zip(book.legs()).filter(|(at, _)| legs & 1 << at != 0);
    let mut payments = Vec::with_capacity(count);
    let (mut paid_legs, mut paid) = (0u8, Amount::ZERO);
    change(&accounts.page, |page| {
        for ((at, leg), to) in named.zip(destinations) {
            check_destination(leg, to, recipients)?;
            if vault.can_pay(to, Some(&leg.recipient))? {
                let amount = page.header.pay(usize::from(at), leg)?;
                paid = paid.plus(amount)?;
                paid_legs |= 1 << at;
                payments.push(Payment { to, amount });
            }
        }
        Ok(())
    })?;
    vault.pay(&payments)?;
    emit!(PaidOut { page: accounts.page.key(), legs: paid_legs, amount: paid.get() });
    Ok(())
}

/// How many legs the bit mask names. [`Rejection::AccountCountMismatch`] for none, or for one that the book does not have.
fn count_legs(book: &rules::Book, mask: u8) -> Outcome<usize> {
    let legs = u32::try_from(book.legs().len()).map_err(|_| Rejection::Overflow)?;
    if mask == 0 || mask.checked_shr(legs) != Some(0) {
        return Err(Rejection::AccountCountMismatch.into());
    }
    Ok(usize::try_from(mask.count_ones()).map_err(|_| Rejection::Overflow)?)
}

/// The account is the leg's own, or the leg's recipient signs for another one.
pub(super) fn check_destination(leg: &Leg, to: &AccountInfo<'_>, recipients: &[AccountInfo<'_>]) -> Outcome {
    let signs = |recipient: &AccountInfo<'_>| recipient.is_signer && *recipient.key.as_array() == leg.recipient;
    if *to.key.as_array() == leg.account || recipients.iter().any(signs) {
        Ok(())
    } else {
        Err(Rejection::WrongRecipientAccount.into())
    }
}
