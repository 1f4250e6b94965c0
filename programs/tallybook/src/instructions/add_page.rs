use super::Outcome;
use crate::create::{create_account, write_account};
use crate::error::Failure;
use crate::events::PageAdded;
use crate::state::{Book, PAGE_SEED, Page};
use crate::vault::NewVault;
use crate::verify::Runtime;
use anchor_lang::prelude::*;
use anchor_spl::associated_token::AssociatedToken;
use tallybook_rules::{PageHeader, Rejection, voucher::page_domain};

/// The payee or the operator adds the next page, and its vault.
#[derive(Accounts)]
#[instruction(index: u32)]
pub struct AddPage<'info> {
    /// The book's payee or operator.
    pub authority: Signer<'info>,
    /// Pays the rent of page and vault.
    #[account(mut)]
    pub rent_payer: Signer<'info>,
    /// The book.
    #[account(
        mut,
        has_one = mint @ Failure::Rejected(Rejection::WrongMint),
        has_one = token_program @ Failure::Rejected(Rejection::WrongTokenProgram),
    )]
    pub book: AccountLoader<'info, Book>,
    /// CHECK: created here, at the address that the seeds make.
    #[account(mut, seeds = [PAGE_SEED, book.key().as_ref(), &index.to_le_bytes()], bump)]
    pub page: UncheckedAccount<'info>,
    /// CHECK: created here, if it is not there yet, and looked at by `NewVault::create`.
    #[account(mut)]
    pub vault: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub mint: UncheckedAccount<'info>,
    /// CHECK: the book's.
    pub token_program: UncheckedAccount<'info>,
    /// Creates the vault.
    pub associated_token_program: Program<'info, AssociatedToken>,
    /// Creates the page.
    pub system_program: Program<'info, System>,
}

/// Counts the book's pages up, creates the page and its vault.
pub(crate) fn add_page(ctx: Context<'_, AddPage<'_>>, index: u32, capacity: u8) -> Outcome {
    let accounts = ctx.accounts;
    let page_bytes = PageHeader::account_size(capacity)?;
    let genesis_hash = {
        let mut book = accounts.book.load_mut()?;
        let rules = book.rules()?;
        if rules.next_page != index {
            return Err(Rejection::WrongPageIndex.into());
        }
        let authority = accounts.authority.key.to_bytes();
        if authority != rules.payee && authority != rules.operator {
            return Err(Rejection::WrongAuthority.into());
        }
        book.next_page = index.checked_add(1).ok_or(Rejection::Overflow)?;
        book.genesis_hash
    };
    let header = PageHeader {
        book: accounts.book.key().to_bytes(),
        page_domain: page_domain::<Runtime>(crate::ID.as_array(), &genesis_hash, accounts.page.key.as_array()),
        vault: accounts.vault.key.to_bytes(),
        rent_payer: accounts.rent_payer.key.to_bytes(),
        index,
        capacity,
        version: PageHeader::VERSION,
        bump: ctx.bumps.page,
        ..PageHeader::default()
    };

    let seeds: [&[u8]; 4] = [PAGE_SEED, &header.book, &index.to_le_bytes(), &[header.bump]];
    create_account(&accounts.page, &accounts.rent_payer, &accounts.system_program, page_bytes, &seeds)?;
    write_account::<Page>(&accounts.page, bytemuck::bytes_of(&header))?;
    NewVault {
        vault: &accounts.vault,
        page: &accounts.page,
        rent_payer: &accounts.rent_payer,
        mint: &accounts.mint,
        token_program: &accounts.token_program,
        associated_token_program: &accounts.associated_token_program,
        system_program: &accounts.system_program,
    }
    .create()?;
    emit!(PageAdded { book: accounts.book.key(), page: accounts.page.key(), index, capacity });
    Ok(())
}
