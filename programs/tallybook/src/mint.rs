//! Which mints a book can have.

use crate::error::Failure;
use anchor_lang::prelude::*;
use anchor_spl::token_2022::spl_token_2022::{
    extension::{BaseStateWithExtensions, ExtensionType, StateWithExtensions},
    state::Mint,
};
use tallybook_rules::Rejection;

/// Extensions that only describe a token. Any other could tax, freeze, take, hide or redirect what a channel holds.
const ALLOWED: [ExtensionType; 6] = [
    ExtensionType::MetadataPointer,
    ExtensionType::TokenMetadata,
    ExtensionType::GroupPointer,
    ExtensionType::TokenGroup,
    ExtensionType::GroupMemberPointer,
    ExtensionType::TokenGroupMember,
];

/// The decimals of an initialised mint of this token program without extensions that channels do not allow.
///
/// [`Rejection::WrongMint`] when it is none of that program, [`Rejection::MintNotSupported`] for its extensions. Once is
/// enough: extensions that are not allowed can only be added before a mint is initialised, and a mint can be closed and
/// made anew only by one of them.
pub(crate) fn supported_decimals(mint: &AccountInfo<'_>, token_program: &Pubkey) -> core::result::Result<u8, Failure> {
    if mint.owner != token_program {
        return Err(Rejection::WrongMint.into());
    }
    let data = mint.try_borrow_data()?;
    let mint = StateWithExtensions::<Mint>::unpack(&data).map_err(|_| Rejection::WrongMint)?;
    let extensions = mint.get_extension_types().map_err(|_| Rejection::MintNotSupported)?;
    if extensions.iter().all(|extension| ALLOWED.contains(extension)) {
        Ok(mint.base.decimals)
    } else {
        Err(Rejection::MintNotSupported.into())
    }
}
