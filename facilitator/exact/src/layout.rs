//! Instructions of a message, by position.

use crate::Fault;
use solana_address::{Address, address};
use solana_message::VersionedMessage;
use solana_message::compiled_instruction::CompiledInstruction;
use tallybook_chain::address::{COMPUTE_BUDGET_PROGRAM, MEMO_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM};

/// Assertions that wallets put into transactions to protect their users.
pub(crate) const LIGHTHOUSE_PROGRAM: Address = address!("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95");

/// Number of `SetComputeUnitLimit`.
const SET_LIMIT: u8 = 2;
/// Number of `SetComputeUnitPrice`.
const SET_PRICE: u8 = 3;
/// Number of `TransferChecked` in both token programs.
const TRANSFER_CHECKED: u8 = 12;

/// An instruction with its accounts by address.
pub(crate) struct Named<'a> {
    pub(crate) program: Address,
    pub(crate) accounts: Vec<Address>,
    pub(crate) data: &'a [u8],
}

impl<'a> Named<'a> {
    fn read(keys: &[Address], compiled: &'a CompiledInstruction) -> Option<Self> {
        let key = |at: &u8| keys.get(usize::from(*at)).copied();
        Some(Self {
            program: key(&compiled.program_id_index)?,
            accounts: compiled.accounts.iter().map(key).collect::<Option<_>>()?,
            data: &compiled.data,
        })
    }

    pub(crate) fn is_memo(&self) -> bool {
        self.program == MEMO_PROGRAM
    }

    /// Whether it names somebody, as an account or as its program.
    pub(crate) fn names(&self, who: &Address) -> bool {
        self.program == *who || self.accounts.contains(who)
    }

    /// What follows the number of a compute budget instruction: exactly so many bytes.
    fn budget<const N: usize>(&self, number: u8) -> Option<[u8; N]> {
        let (found, argument) = self.data.split_first()?;
        let is_it = self.program == COMPUTE_BUDGET_PROGRAM && *found == number && self.accounts.is_empty();
        argument.try_into().ok().filter(|_| is_it)
    }

    /// The units of a compute limit.
    pub(crate) fn compute_limit(&self) -> Option<u32> {
        self.budget(SET_LIMIT).map(u32::from_le_bytes)
    }

    /// The micro-lamports a unit of a compute price.
    pub(crate) fn compute_price(&self) -> Option<u64> {
        self.budget(SET_PRICE).map(u64::from_le_bytes)
    }

    /// The owner of what is moved, if this is an instruction of a token program that could move something.
    pub(crate) fn owner(&self) -> Option<Address> {
        if self.is_token_program() { self.accounts.get(3).copied() } else { None }
    }

    fn is_token_program(&self) -> bool {
        self.program == TOKEN_PROGRAM || self.program == TOKEN_2022_PROGRAM
    }

    /// A `TransferChecked` with its four accounts. More accounts would be the signers of a shared authority, or what a
    /// transfer hook reads.
    pub(crate) fn transfer(&self) -> Option<Transfer> {
        let [source, mint, destination, authority] = *self.accounts.as_slice() else { return None };
        let [number, amount @ .., _decimals] = self.data else { return None };
        let amount = u64::from_le_bytes(amount.try_into().ok()?);
        let is_it = self.is_token_program() && *number == TRANSFER_CHECKED;
        is_it.then_some(Transfer { token_program: self.program, source, mint, destination, authority, amount })
    }
}

/// A transfer of tokens.
pub(crate) struct Transfer {
    pub(crate) token_program: Address,
    pub(crate) source: Address,
    pub(crate) mint: Address,
    pub(crate) destination: Address,
    pub(crate) authority: Address,
    pub(crate) amount: u64,
}

/// All instructions of a message without lookup tables; [`Fault::Undecodable`] where one names an account that is not
/// there.
pub(crate) fn instructions(message: &VersionedMessage) -> Result<Vec<Named<'_>>, Fault> {
    let keys = message.static_account_keys();
    let named = message.instructions().iter().map(|compiled| Named::read(keys, compiled));
    named.collect::<Option<_>>().ok_or(Fault::Undecodable)
}
