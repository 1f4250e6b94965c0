//! Where the accounts are.

use solana_address::{Address, address};

/// The program on local chains. Its key is public and worthless: run `anchor keys sync` and rebuild for any other
/// cluster. Clients pin the id per cluster and never take it from the wire.
pub const PROGRAM_ID: Address = address!("Eis2qMZ5ku5ZubGRsjYXVmaKDwzseonmDJjq6QepXp5h");
/// The system program.
pub const SYSTEM_PROGRAM: Address = address!("11111111111111111111111111111111");
/// SPL Token.
pub const TOKEN_PROGRAM: Address = address!("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// Token-2022.
pub const TOKEN_2022_PROGRAM: Address = address!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/// SPL Associated Token Account.
pub const ASSOCIATED_TOKEN_PROGRAM: Address = address!("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
/// SPL Memo, version 3.
pub const MEMO_PROGRAM: Address = address!("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
/// The compute budget program.
pub const COMPUTE_BUDGET_PROGRAM: Address = address!("ComputeBudget111111111111111111111111111111");
/// Where the chain keeps its own time.
pub const CLOCK: Address = address!("SysvarC1ock11111111111111111111111111111111");

/// The book of `payee` for `mint`, by its number, with its bump.
pub fn book(program_id: &Address, payee: &Address, mint: &Address, book_id: u16) -> (Address, u8) {
    Address::find_program_address(&[b"book", payee.as_ref(), mint.as_ref(), &book_id.to_le_bytes()], program_id)
}

/// The page of a book, by its index, with its bump.
pub fn page(program_id: &Address, book: &Address, index: u32) -> (Address, u8) {
    Address::find_program_address(&[b"page", book.as_ref(), &index.to_le_bytes()], program_id)
}

/// The associated token account of `owner`; a page's vault is that of the page.
pub fn associated_token_account(owner: &Address, mint: &Address, token_program: &Address) -> Address {
    Address::find_program_address(&[owner.as_ref(), token_program.as_ref(), mint.as_ref()], &ASSOCIATED_TOKEN_PROGRAM).0
}
