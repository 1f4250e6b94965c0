//! Small pieces of transactions, and their bytes on the wire.

use crate::address::{ASSOCIATED_TOKEN_PROGRAM, MEMO_PROGRAM, SYSTEM_PROGRAM, associated_token_account};
use solana_address::Address;
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_instruction::{AccountMeta, Instruction};
use solana_transaction::versioned::VersionedTransaction;
use tallybook_rules::Rejection;

/// The most bytes of a legacy or v0 transaction (IPv6's minimum MTU less headers).
pub const MAX_TRANSACTION_BYTES: usize = 1_232;

/// Asks for at most `units` of compute.
pub fn compute_unit_limit(units: u32) -> Instruction {
    ComputeBudgetInstruction::set_compute_unit_limit(units)
}

/// Offers `micro_lamports` for each unit of compute.
pub fn compute_unit_price(micro_lamports: u64) -> Instruction {
    ComputeBudgetInstruction::set_compute_unit_price(micro_lamports)
}

/// A memo, signed by nobody in particular.
pub fn memo(text: &str) -> Instruction {
    Instruction { program_id: MEMO_PROGRAM, accounts: Vec::new(), data: text.as_bytes().to_vec() }
}

/// Creates the associated token account of `owner` unless it exists; `rent_payer` signs.
pub fn create_token_account(
    rent_payer: &Address,
    owner: &Address,
    mint: &Address,
    token_program: &Address,
) -> Instruction {
    const CREATE_IDEMPOTENT: u8 = 1;
    Instruction {
        program_id: ASSOCIATED_TOKEN_PROGRAM,
        accounts: vec![
            AccountMeta::new(*rent_payer, true),
            AccountMeta::new(associated_token_account(owner, mint, token_program), false),
            AccountMeta::new_readonly(*owner, false),
            AccountMeta::new_readonly(*mint, false),
            AccountMeta::new_readonly(SYSTEM_PROGRAM, false),
            AccountMeta::new_readonly(*token_program, false),
        ],
        data: vec![CREATE_IDEMPOTENT],
    }
}

/// The bytes of a transaction as nodes take them; [`Rejection::RequestTooLarge`] beyond 1,232.
pub fn to_bytes(transaction: &VersionedTransaction) -> Result<Vec<u8>, Rejection> {
    let bytes = wincode::serialize(transaction).map_err(|_| Rejection::MalformedPayload)?;
    if bytes.len() > MAX_TRANSACTION_BYTES { Err(Rejection::RequestTooLarge) } else { Ok(bytes) }
}

/// Reads a transaction: all of the bytes, and in the one encoding that nodes write.
/// [`Rejection::RequestTooLarge`] beyond 1,232 bytes, [`Rejection::MalformedPayload`] otherwise.
pub fn from_bytes(bytes: &[u8]) -> Result<VersionedTransaction, Rejection> {
    if bytes.len() > MAX_TRANSACTION_BYTES {
        return Err(Rejection::RequestTooLarge);
    }
    let transaction: VersionedTransaction = wincode::deserialize(bytes).map_err(|_| Rejection::MalformedPayload)?;
    // Writing it again finds trailing bytes and every second way to write a length.
    if to_bytes(&transaction)? != bytes || transaction.sanitize().is_err() {
        return Err(Rejection::MalformedPayload);
    }
    Ok(transaction)
}
