use super::Outcome;
use crate::create::{create_account, write_account};
use crate::events::BookMade;
use crate::mint::supported_decimals;
use crate::state::{BOOK_SEED, Book, DISCRIMINATOR_BYTES};
use crate::vault::associated_account;
use anchor_lang::prelude::*;
use anchor_spl::token_interface::TokenInterface;
use tallybook_rules::{self as rules, Amount, Leg, MAX_LEGS, Rejection, Terms};

/// A payee makes a book.
#[derive(Accounts)]
#[instruction(book_id: u16)]
pub struct InitBook<'info> {
    /// Who is paid. Signs, or a stranger could take the address and set hostile terms.
    pub payee: Signer<'info>,
    /// Pays the book's rent.
    #[account(mut)]
    pub rent_payer: Signer<'info>,
    /// CHECK: created here, at the address that the seeds make.
    #[account(mut, seeds = [BOOK_SEED, payee.key().as_ref(), mint.key().as_ref(), &book_id.to_le_bytes()], bump)]
    pub book: UncheckedAccount<'info>,
    /// CHECK: looked at by `supported_decimals`.
    pub mint: UncheckedAccount<'info>,
    /// SPL Token or Token-2022: the owner of the mint.
    pub token_program: Interface<'info, TokenInterface>,
    /// Creates the account.
    pub system_program: Program<'info, System>,
}

/// A recipient of a share of everything claimed.
#[derive(AnchorSerialize, AnchorDeserialize, Clone, Copy, Debug)]
pub struct Split {
    /// Who is paid.
    pub recipient: Pubkey,
    /// The share.
    pub basis_points: u16,
}

/// The arguments of `init_book` after the book's number.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) genesis_hash: [u8; 32],
    pub(crate) terms: Terms,
    pub(crate) operator: Pubkey,
    pub(crate) splits: Vec<Split>,
}

/// Checks terms, splits and mint, and creates the book.
pub(crate) fn init_book(ctx: Context<'_, InitBook<'_>>, book_id: u16, offer: &Offer) -> Outcome {
    let accounts = ctx.accounts;
    offer.terms.check()?;
    let splits: Vec<_> = offer.splits.iter().map(|split| (split.recipient.to_bytes(), split.basis_points)).collect();
    let payee = accounts.payee.key();
    let payee_share = rules::Book::payee_share(payee.as_array(), &splits)?;
    let decimals = supported_decimals(&accounts.mint, accounts.token_program.key)?;

    let mut legs = [Leg::default(); MAX_LEGS];
    let shares = core::iter::once((payee.to_bytes(), payee_share)).chain(splits);
    let mut leg_count = 0u8;
    for (leg, (recipient, basis_points)) in legs.iter_mut().zip(shares) {
        let account = associated_account(&Pubkey::from(recipient), accounts.mint.key, accounts.token_program.key);
        *leg = Leg { recipient, account: account.to_bytes(), basis_points };
        leg_count = leg_count.checked_add(1).ok_or(Rejection::BadSplits)?;
    }
    let book = rules::Book {
        payee: payee.to_bytes(),
        mint: accounts.mint.key.to_bytes(),
        token_program: accounts.token_program.key.to_bytes(),
        operator: offer.operator.to_bytes(),
        rent_payer: accounts.rent_payer.key.to_bytes(),
        genesis_hash: offer.genesis_hash,
        min_deposit: offer.terms.min_deposit,
        grace_seconds: offer.terms.grace_seconds,
        max_idle_seconds: offer.terms.max_idle_seconds,
        next_page: 0,
        book_id,
        decimals,
        open_policy: offer.terms.open_policy,
        leg_count,
        version: rules::Book::VERSION,
        bump: ctx.bumps.book,
        legs,
        ..rules::Book::default()
    };

    create_account(
        &accounts.book,
        &accounts.rent_payer,
        &accounts.system_program,
        DISCRIMINATOR_BYTES.saturating_add(rules::Book::SIZE),
        &[BOOK_SEED, &book.payee, &book.mint, &book_id.to_le_bytes(), &[book.bump]],
    )?;
    write_account::<Book>(&accounts.book, bytemuck::bytes_of(&book))?;
    emit!(BookMade { book: accounts.book.key(), payee, mint: accounts.mint.key() });
    Ok(())
}

/// [`Terms`] out of the instruction's arguments.
pub(crate) const fn terms(grace_seconds: u32, max_idle_seconds: u32, min_deposit: u64, open_policy: u8) -> Terms {
    Terms { grace_seconds, max_idle_seconds, min_deposit: Amount::new(min_deposit), open_policy }
}
