//! What the program tells those who listen: one compact event for each change.
//!
//! An event's one-byte discriminator is the number of the instruction that emits it; `claim_below` emits that of `claim`.

use anchor_lang::prelude::*;

/// A book was made.
#[event(discriminator = [1])]
pub struct BookMade {
    /// The book.
    pub book: Pubkey,
    /// Its payee.
    pub payee: Pubkey,
    /// Its mint.
    pub mint: Pubkey,
}

/// A page was added.
#[event(discriminator = [2])]
pub struct PageAdded {
    /// The book.
    pub book: Pubkey,
    /// The page.
    pub page: Pubkey,
    /// Its number.
    pub index: u32,
    /// Its slots.
    pub capacity: u8,
}

/// A channel was opened.
#[event(discriminator = [3])]
pub struct Opened {
    /// The page.
    pub page: Pubkey,
    /// The slot.
    pub slot: u8,
    /// The slot's generation from now on.
    pub generation: u32,
    /// Who funded it.
    pub payer: Pubkey,
    /// Whose vouchers bind it.
    pub signer: Pubkey,
    /// What was put in, in base units.
    pub deposit: u64,
}

/// Somebody added to a channel's deposit.
#[event(discriminator = [4])]
pub struct ToppedUp {
    /// The page.
    pub page: Pubkey,
    /// The slot.
    pub slot: u8,
    /// Its generation.
    pub generation: u32,
    /// What was added, in base units.
    pub amount: u64,
    /// The deposit from now on, in base units.
    pub deposit: u64,
}

/// A batch was claimed.
#[event(discriminator = [5])]
pub struct Claimed {
    /// The page.
    pub page: Pubkey,
    /// Rows of the batch.
    pub rows: u8,
    /// By how much they raised what is settled, in base units.
    pub added: u64,
    /// All that was ever claimed from the page, in base units.
    pub claimed_total: u64,
}

/// Claimed money was paid out.
#[event(discriminator = [7])]
pub struct PaidOut {
    /// The page.
    pub page: Pubkey,
    /// The legs that were paid, a bit each; a leg that was named and is not here stays owed.
    pub legs: u8,
    /// What they were paid together, in base units.
    pub amount: u64,
}

/// A payer asked to leave.
#[event(discriminator = [8])]
pub struct CloseRequested {
    /// The page.
    pub page: Pubkey,
    /// The slot.
    pub slot: u8,
    /// Its generation.
    pub generation: u32,
    /// When it may be withdrawn, in Unix seconds; claim before.
    pub closing_at: i64,
}

/// A closing channel was withdrawn: its slot is free.
#[event(discriminator = [9])]
pub struct Withdrawn {
    /// The page.
    pub page: Pubkey,
    /// The slot.
    pub slot: u8,
    /// What went back to the payer, in base units.
    pub returned: u64,
}

/// Unclaimed money of a channel was given back.
#[event(discriminator = [10])]
pub struct Refunded {
    /// The page.
    pub page: Pubkey,
    /// The slot.
    pub slot: u8,
    /// The channel's generation.
    pub generation: u32,
    /// What went back to the payer, in base units.
    pub returned: u64,
}

/// A channel that nobody used began to close.
#[event(discriminator = [11])]
pub struct IdleClosed {
    /// The page.
    pub page: Pubkey,
    /// The slot.
    pub slot: u8,
    /// Its generation.
    pub generation: u32,
    /// When it may be withdrawn, in Unix seconds; claim before.
    pub closing_at: i64,
}

/// The payee named another operator.
#[event(discriminator = [12])]
pub struct OperatorSet {
    /// The book.
    pub book: Pubkey,
    /// The operator from now on.
    pub operator: Pubkey,
}

/// A page and its vault were closed.
#[event(discriminator = [13])]
pub struct PageClosed {
    /// The book.
    pub book: Pubkey,
    /// The page.
    pub page: Pubkey,
    /// Its number.
    pub index: u32,
    /// Dust and donations that went to the payee, in base units.
    pub left: u64,
}
