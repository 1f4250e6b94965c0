//! Creating the program's own accounts.

use crate::error::Failure;
use anchor_lang::prelude::*;
use anchor_lang::system_program::{self, Allocate, Assign, Transfer};

/// Creates the account of a program-derived address: rent, space, owner.
///
/// In three steps that also work for an address that already holds lamports, so that nobody can keep a book or a page
/// from being made by sending it some (Anchor's `init` needs a newer system instruction for that case).
pub(crate) fn create_account<'info>(
    new: &AccountInfo<'info>,
    rent_payer: &AccountInfo<'info>,
    system_program: &Program<'info, System>,
    bytes: usize,
    seeds: &[&[u8]],
) -> core::result::Result<(), Failure> {
    let missing = Rent::get()?.minimum_balance(bytes).saturating_sub(new.lamports());
    if missing > 0 {
        let transfer = Transfer { from: rent_payer.clone(), to: new.clone() };
        system_program::transfer(CpiContext::new(system_program.key(), transfer), missing)?;
    }
    let signer = [seeds];
    let allocate = Allocate { account_to_allocate: new.clone() };
    let bytes = u64::try_from(bytes).map_err(|_| ProgramError::InvalidArgument)?;
    system_program::allocate(CpiContext::new_with_signer(system_program.key(), allocate, &signer), bytes)?;
    let assign = Assign { account_to_assign: new.clone() };
    system_program::assign(CpiContext::new_with_signer(system_program.key(), assign, &signer), &crate::ID)?;
    Ok(())
}

/// Writes the discriminator and then `state` into a new account. What follows stays zero.
pub(crate) fn write_account<T: Discriminator>(
    account: &AccountInfo<'_>,
    state: &[u8],
) -> core::result::Result<(), Failure> {
    let mut data = account.try_borrow_mut_data()?;
    let (discriminator, rest) =
        data.split_at_mut_checked(T::DISCRIMINATOR.len()).ok_or(ProgramError::AccountDataTooSmall)?;
    let (place, _) = rest.split_at_mut_checked(state.len()).ok_or(ProgramError::AccountDataTooSmall)?;
    discriminator.copy_from_slice(T::DISCRIMINATOR);
    place.copy_from_slice(state);
    Ok(())
}
