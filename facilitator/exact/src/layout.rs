//! What the instructions of a payment are.

use solana_address::{Address, address};
use tallybook_chain::NamedInstruction;
use tallybook_chain::address::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM};

/// Assertions that wallets put into transactions to protect their users.
pub(crate) const LIGHTHOUSE_PROGRAM: Address = address!("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95");

/// Number of `TransferChecked` in both token programs.
const TRANSFER_CHECKED: u8 = 12;

/// A transfer of tokens.
pub(crate) struct Transfer {
    pub(crate) token_program: Address,
    pub(crate) source: Address,
    pub(crate) mint: Address,
    pub(crate) destination: Address,
    pub(crate) authority: Address,
    pub(crate) amount: u64,
}

impl Transfer {
    /// A `TransferChecked` with its four accounts. More accounts would be the signers of a shared authority, or what a
    /// transfer hook reads.
    pub(crate) fn of(named: &NamedInstruction<'_>) -> Option<Self> {
        let [source, mint, destination, authority] = *named.accounts.as_slice() else { return None };
        let [number, amount @ .., _decimals] = named.data else { return None };
        let amount = u64::from_le_bytes(amount.try_into().ok()?);
        let is_it = is_token_program(&named.program) && *number == TRANSFER_CHECKED;
        is_it.then_some(Self { token_program: named.program, source, mint, destination, authority, amount })
    }
}

/// The owner of what is moved, if this is an instruction of a token program that could move something.
pub(crate) fn owner(named: &NamedInstruction<'_>) -> Option<Address> {
    if is_token_program(&named.program) { named.accounts.get(3).copied() } else { None }
}

fn is_token_program(program: &Address) -> bool {
    *program == TOKEN_PROGRAM || *program == TOKEN_2022_PROGRAM
}
