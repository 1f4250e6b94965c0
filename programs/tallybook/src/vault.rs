//! The vault of a page: the only place where tokens move.

use crate::error::Failure;
use crate::state::{PAGE_SEED, Page};
use anchor_lang::prelude::*;
use anchor_lang::solana_program::instruction::Instruction;
use anchor_lang::solana_program::program::invoke_signed_unchecked;
use anchor_spl::associated_token::{self, AssociatedToken};
use anchor_spl::token::accessor;
use anchor_spl::token_2022::spl_token_2022::{
    extension::{BaseStateWithExtensions, PodStateWithExtensions, memo_transfer::MemoTransfer},
    instruction::TokenInstruction,
    pod::PodAccount,
    state::AccountState,
};
use tallybook_rules::{Amount, Book, Rejection};

type Outcome<T> = core::result::Result<T, Failure>;

/// The accounts of an instruction that moves tokens.
#[derive(Clone, Copy)]
pub(crate) struct Vault<'a, 'info> {
    page: &'a AccountLoader<'info, Page>,
    account: &'a AccountInfo<'info>,
    mint: &'a AccountInfo<'info>,
    token_program: &'a AccountInfo<'info>,
    /// Decimals of the mint.
    decimals: u8,
}

impl<'a, 'info> Vault<'a, 'info> {
    /// Takes accounts that belong together, as their constraints have said: the book names mint and token program, the page
    /// names book and vault. [`Rejection::WrongAccount`] if the page has another layout version.
    pub(crate) fn new(
        book: &Book,
        page: &'a AccountLoader<'info, Page>,
        account: &'a AccountInfo<'info>,
        mint: &'a AccountInfo<'info>,
        token_program: &'a AccountInfo<'info>,
    ) -> Outcome<Self> {
        page.load()?.rules()?;
        Ok(Self { page, account, mint, token_program, decimals: book.decimals })
    }

    /// Takes `amount` out of a payer's account, by the payer's signature, and measures that all of it arrived
    /// ([`Rejection::DepositNotReceived`]).
    pub(crate) fn receive(
        &self,
        amount: Amount,
        source: &AccountInfo<'info>,
        payer: &AccountInfo<'info>,
    ) -> Outcome<()> {
        let before = balance(self.account)?;
        self.transfer(source, self.account, payer).send(amount, &[])?;
        let after = balance(self.account)?;
        if before.plus(amount)? != after {
            return Err(Rejection::DepositNotReceived.into());
        }
        self.check()
    }

    /// Pays each amount to its account, by the page's signature. The page must not be borrowed.
    pub(crate) fn pay(&self, payments: &[Payment<'_, 'info>]) -> Outcome<()> {
        self.as_page(|seeds| {
            let mut due = payments.iter().filter(|payment| !payment.amount.is_zero());
            let Some(first) = due.next() else { return Ok(()) };
            let mut transfer = self.transfer(self.account, first.to, self.page.as_ref());
            transfer.send(first.amount, seeds)?;
            due.try_for_each(|payment| {
                transfer.turn_to(payment.to);
                transfer.send(payment.amount, seeds)
            })
        })?;
        self.check()
    }

    /// Moves all that is left to the payee's account `to`, closes the vault, and says how much it was. The page must not be
    /// borrowed, and owe nobody. [`Rejection::WrongRecipientAccount`] if there is something left that `to` cannot take.
    pub(crate) fn close(
        &self,
        to: &AccountInfo<'info>,
        payee: &[u8; 32],
        rent_payer: &AccountInfo<'info>,
    ) -> Outcome<Amount> {
        self.check()?;
        let left = balance(self.account)?;
        if !left.is_zero() && !self.can_pay(to, Some(payee))? {
            return Err(Rejection::WrongRecipientAccount.into());
        }
        self.as_page(|seeds| {
            if !left.is_zero() {
                self.transfer(self.account, to, self.page.as_ref()).send(left, seeds)?;
            }
            let instruction = Instruction {
                program_id: *self.token_program.key,
                accounts: vec![
                    AccountMeta::new(*self.account.key, false),
                    AccountMeta::new(*rent_payer.key, false),
                    AccountMeta::new_readonly(self.page.key(), true),
                ],
                data: TokenInstruction::CloseAccount.pack(),
            };
            let accounts = [self.account.clone(), rent_payer.clone(), self.page.to_account_info()];
            Ok(invoke_signed_unchecked(&instruction, &accounts, seeds)?)
        })?;
        Ok(left)
    }

    /// Does what takes the page's signature, by its seeds.
    fn as_page(&self, act: impl FnOnce(&[&[&[u8]]]) -> Outcome<()>) -> Outcome<()> {
        let (book, index, bump) = {
            let page = self.page.load()?;
            (page.book, page.index_bytes(), [page.bump])
        };
        let seeds: [&[u8]; 4] = [PAGE_SEED, book.as_ref(), &index, &bump];
        act(&[&seeds])
    }

    /// Whether money can be sent to this account now: an account of the book's mint, of its token program, initialised,
    /// not frozen, not the vault itself, asking for no memo, and `owner`'s where that matters.
    pub(crate) fn can_pay(&self, to: &AccountInfo<'info>, owner: Option<&[u8; 32]>) -> Outcome<bool> {
        if to.owner != self.token_program.key || to.key == self.account.key || !to.is_writable {
            return Ok(false);
        }
        let data = to.try_borrow_data()?;
        let Ok(state) = PodStateWithExtensions::<PodAccount>::unpack(&data) else {
            return Ok(false);
        };
        Ok(state.base.mint == *self.mint.key
            && state.base.state == u8::from(AccountState::Initialized)
            && owner.is_none_or(|owner| state.base.owner.as_array() == owner)
            && !state.get_extension::<MemoTransfer>().is_ok_and(|memo| memo.require_incoming_transfer_memos.into()))
    }

    /// The associated token account of `owner` for the book's mint.
    pub(crate) fn associated_account(&self, owner: &[u8; 32]) -> Pubkey {
        associated_account(&Pubkey::from(*owner), self.mint.key, self.token_program.key)
    }

    /// The vault holds at least what the page owes, or [`Rejection::VaultShort`].
    fn check(&self) -> Outcome<()> {
        let balance = balance(self.account)?;
        Ok(self.page.load()?.rules()?.check_vault(balance)?)
    }

    /// From one account to another, by the authority's signature.
    fn transfer(
        &self,
        from: &AccountInfo<'info>,
        to: &AccountInfo<'info>,
        authority: &AccountInfo<'info>,
    ) -> Transfer<'info> {
        let accounts = [from.clone(), self.mint.clone(), to.clone(), authority.clone()];
        Transfer { token_program: *self.token_program.key, decimals: self.decimals, accounts }
    }
}

/// The token program's number of `TransferChecked`; amount and decimals follow it.
const TRANSFER_CHECKED: u8 = 12;

/// What the token program is called with: the same for many recipients.
struct Transfer<'info> {
    token_program: Pubkey,
    decimals: u8,
    /// From, mint, to, authority.
    accounts: [AccountInfo<'info>; 4],
}

impl<'info> Transfer<'info> {
    /// The next amount goes to this account.
    fn turn_to(&mut self, recipient: &AccountInfo<'info>) {
        let [_, _, to, _] = &mut self.accounts;
        to.clone_from(recipient);
    }

    fn send(&self, amount: Amount, seeds: &[&[&[u8]]]) -> Outcome<()> {
        let [from, mint, to, authority] = &self.accounts;
        let [a, b, c, d, e, f, g, h] = amount.get().to_le_bytes();
        let instruction = Instruction {
            program_id: self.token_program,
            accounts: vec![
                AccountMeta::new(*from.key, false),
                AccountMeta::new_readonly(*mint.key, false),
                AccountMeta::new(*to.key, false),
                AccountMeta::new_readonly(*authority.key, true),
            ],
            data: vec![TRANSFER_CHECKED, a, b, c, d, e, f, g, h, self.decimals],
        };
        // Unchecked: no account is borrowed here, which `invoke_signed` would spend compute units to find out.
        Ok(invoke_signed_unchecked(&instruction, &self.accounts, seeds)?)
    }
}

/// An amount on its way out of the vault.
pub(crate) struct Payment<'a, 'info> {
    pub(crate) to: &'a AccountInfo<'info>,
    pub(crate) amount: Amount,
}

/// What is needed to create a page's vault.
pub(crate) struct NewVault<'a, 'info> {
    pub(crate) vault: &'a AccountInfo<'info>,
    pub(crate) page: &'a AccountInfo<'info>,
    pub(crate) rent_payer: &'a AccountInfo<'info>,
    pub(crate) mint: &'a AccountInfo<'info>,
    pub(crate) token_program: &'a AccountInfo<'info>,
    pub(crate) associated_token_program: &'a Program<'info, AssociatedToken>,
    pub(crate) system_program: &'a AccountInfo<'info>,
}

impl NewVault<'_, '_> {
    /// Creates the page's associated token account. Its address is predictable, so a stranger may have created it
    /// before: that is fine as long as the page alone has any power over it, else [`Rejection::WrongVault`].
    pub(crate) fn create(&self) -> Outcome<()> {
        if *self.vault.key != associated_account(self.page.key, self.mint.key, self.token_program.key) {
            return Err(Rejection::WrongVault.into());
        }
        associated_token::create_idempotent(CpiContext::new(
            self.associated_token_program.key(),
            associated_token::Create {
                payer: self.rent_payer.clone(),
                associated_token: self.vault.clone(),
                authority: self.page.clone(),
                mint: self.mint.clone(),
                system_program: self.system_program.clone(),
                token_program: self.token_program.clone(),
            },
        ))?;
        let data = self.vault.try_borrow_data()?;
        let state = PodStateWithExtensions::<PodAccount>::unpack(&data).map_err(|_| Rejection::WrongVault)?.base;
        let is_ours = self.vault.owner == self.token_program.key
            && state.owner == *self.page.key
            && state.mint == *self.mint.key
            && state.delegate.is_none()
            && state.close_authority.is_none();
        if is_ours { Ok(()) } else { Err(Rejection::WrongVault.into()) }
    }
}

/// The address of `owner`'s associated token account.
pub(crate) fn associated_account(owner: &Pubkey, mint: &Pubkey, token_program: &Pubkey) -> Pubkey {
    associated_token::get_associated_token_address_with_program_id(owner, mint, token_program)
}

/// What a token account holds.
fn balance(account: &AccountInfo<'_>) -> Outcome<Amount> {
    Ok(Amount::new(accessor::amount(account)?))
}
