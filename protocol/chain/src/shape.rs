//! What transactions look like: three shapes, from the oldest to the one with most room.

use crate::transaction::{MAX_TRANSACTION_BYTES, compute_unit_limit, compute_unit_price};
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_message::v1::{MAX_ADDRESSES, MAX_TRANSACTION_SIZE, Message, TransactionConfig};
use solana_message::{AddressLookupTableAccount, Message as LegacyMessage, VersionedMessage, v0};
use solana_transaction::versioned::VersionedTransaction;
use std::fmt;
use tallybook_rules::Rejection;

/// The most compute units that a transaction may ask for.
pub const MAX_COMPUTE_UNITS: u32 = 1_400_000;
/// What each signature costs, in lamports.
pub const SIGNATURE_LAMPORTS: u64 = 5_000;
/// Bytes of accounts that a transaction of version 1 may load: it has to say so, and loads none otherwise. Room for the
/// program and both token programs beside as many pages as can be named.
const LOADED_BYTES: u32 = 8 << 20;
/// Micro-lamports in a lamport.
const MICRO: u64 = 1_000_000;

/// The shape of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Shape {
    /// The oldest: every address in full.
    Legacy,
    /// Version 0: addresses may come from lookup tables.
    V0,
    /// Version 1 (SIMD-0385): larger, without lookup tables, its compute limits in its header.
    V1,
}

impl Shape {
    /// The most bytes of a serialized transaction.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Legacy | Self::V0 => MAX_TRANSACTION_BYTES,
            Self::V1 => MAX_TRANSACTION_SIZE,
        }
    }

    /// The most accounts that a transaction may name: 64 may be locked at once, however they are named.
    pub fn max_addresses(self) -> usize {
        usize::from(MAX_ADDRESSES)
    }

    /// Its name in configurations and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::V0 => "v0",
            Self::V1 => "v1",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a transaction asks for beside its instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The most compute units that it may use.
    pub compute_units: u32,
    /// What is bid for each of them, in micro-lamports.
    pub compute_price: u64,
}

impl Budget {
    /// The priority fee: the price of all units asked for, used or not, rounded up to a lamport.
    pub fn priority_lamports(&self) -> u64 {
        let micro = u128::from(self.compute_price).saturating_mul(u128::from(self.compute_units));
        u64::try_from(micro.div_ceil(u128::from(MICRO))).unwrap_or(u64::MAX)
    }
}

/// A message of this shape that `fee_payer` pays for. A legacy or v0 one begins with two instructions for the budget, see
/// [`first_instruction`]; one of version 1 has it in its header.
///
/// [`Rejection::MalformedRows`] when it cannot be written down at all. Whether it fits is said by [`bytes_too_many`].
pub fn message(
    shape: Shape,
    fee_payer: &Address,
    instructions: &[Instruction],
    table: Option<&AddressLookupTableAccount>,
    budget: &Budget,
    blockhash: Hash,
) -> Result<VersionedMessage, Rejection> {
    let budgeted = || {
        let head = [compute_unit_limit(budget.compute_units), compute_unit_price(budget.compute_price)];
        [&head, instructions].concat()
    };
    match shape {
        Shape::Legacy => {
            let message = LegacyMessage::new_with_blockhash(&budgeted(), Some(fee_payer), &blockhash);
            Ok(VersionedMessage::Legacy(message))
        }
        Shape::V0 => {
            let tables: Vec<_> = table.into_iter().cloned().collect();
            v0::Message::try_compile(fee_payer, &budgeted(), &tables, blockhash)
                .map(VersionedMessage::V0)
                .map_err(|_| Rejection::MalformedRows)
        }
        Shape::V1 => {
            let config = TransactionConfig::empty()
                .with_compute_unit_limit(budget.compute_units)
                .with_loaded_accounts_data_size_limit(LOADED_BYTES)
                .with_priority_fee(budget.priority_lamports());
            Message::try_compile_with_config(fee_payer, instructions, blockhash, config)
                .map(VersionedMessage::V1)
                .map_err(|_| Rejection::MalformedRows)
        }
    }
}

/// The number of the first instruction that is not for the budget.
pub const fn first_instruction(shape: Shape) -> usize {
    match shape {
        Shape::Legacy | Shape::V0 => 2,
        Shape::V1 => 0,
    }
}

/// How many bytes a transaction has beyond what its shape allows; 0 when it fits. `usize::MAX` when it names too many
/// accounts, or cannot be serialized.
pub fn bytes_too_many(transaction: &VersionedTransaction) -> usize {
    let shape = match transaction.message {
        VersionedMessage::Legacy(_) => Shape::Legacy,
        VersionedMessage::V0(_) => Shape::V0,
        VersionedMessage::V1(_) => Shape::V1,
    };
    let message = &transaction.message;
    let looked_up = message.address_table_lookups().unwrap_or_default().iter();
    let indexes = looked_up.flat_map(|table| table.writable_indexes.iter().chain(&table.readonly_indexes));
    let looked_up = indexes.count();
    if message.static_account_keys().len().saturating_add(looked_up) > shape.max_addresses() {
        return usize::MAX;
    }
    wincode::serialize(transaction).map_or(usize::MAX, |bytes| bytes.len().saturating_sub(shape.max_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::memo;

    const PAYER: Address = Address::new_from_array([1; 32]);
    const BUDGET: Budget = Budget { compute_units: 300_000, compute_price: 50_000 };

    fn transaction(shape: Shape, memos: &[usize]) -> VersionedTransaction {
        let memos: Vec<_> = memos.iter().map(|bytes| memo(&"m".repeat(*bytes))).collect();
        let message = message(shape, &PAYER, &memos, None, &BUDGET, Hash::default()).unwrap();
        VersionedTransaction { signatures: vec![Default::default()], message }
    }

    #[test]
    fn given_each_shape_when_a_transaction_grows_then_it_fits_up_to_its_last_byte() {
        for shape in [Shape::Legacy, Shape::V0, Shape::V1] {
            let empty = wincode::serialize(&transaction(shape, &[1_000])).unwrap().len() - 1_000;
            let most = shape.max_bytes() - empty;
            assert_eq!(bytes_too_many(&transaction(shape, &[most])), 0, "{shape}");
            assert_eq!(bytes_too_many(&transaction(shape, &[most + 1])), 1, "{shape}");
            assert!(transaction(shape, &[most]).sanitize().is_ok(), "{shape}");
        }
    }

    #[test]
    fn given_more_than_64_accounts_when_named_then_it_does_not_fit_whatever_its_bytes() {
        let mut many = memo("m");
        let named = |number: u8| solana_instruction::AccountMeta::new(Address::new_from_array([number; 32]), false);
        many.accounts = (100..162).map(named).collect();
        let of = |instruction: &Instruction| {
            let instructions = std::slice::from_ref(instruction);
            let message = message(Shape::V1, &PAYER, instructions, None, &BUDGET, Hash::default()).unwrap();
            VersionedTransaction { signatures: vec![Default::default()], message }
        };
        assert_eq!(bytes_too_many(&of(&many)), 0);
        many.accounts.push(named(162));
        assert_eq!(bytes_too_many(&of(&many)), usize::MAX);
    }

    #[test]
    fn given_a_price_when_the_priority_fee_is_said_then_it_is_that_of_all_units_rounded_up() {
        assert_eq!(BUDGET.priority_lamports(), 15_000);
        assert_eq!(Budget { compute_price: 1, ..BUDGET }.priority_lamports(), 1);
        assert_eq!(Budget { compute_price: 0, ..BUDGET }.priority_lamports(), 0);
        assert_eq!(Budget { compute_units: u32::MAX, compute_price: u64::MAX }.priority_lamports(), u64::MAX);
    }
}
