//! Tallybook on chain: prepaid payment channels, claimed in half-aggregated batches.
//!
//! The program is thin. What a transition means is in [`tallybook_rules`], which the ledger off chain calls too; here an
//! instruction loads its accounts, decides by the rules, stores, and moves tokens. Reading path: [`state`] (the bytes),
//! [`instructions`] (one file each), `verify` (the claim check), `vault` (the only token transfers), [`mod@error`].
//!
//! What an auditor may want to know first:
//!
//! * Nobody has power over anybody's money by role: there is no administrator, no pause, no fee and no treasury. Whoever
//!   holds the upgrade authority of a deployment has all power, as with every upgradeable program.
//! * A page is written in two places: where it is added, and in `state::change`, which ends in `Page::check`; it ends in
//!   `close_page`. A book is written where it is made, its page counter in `add_page`, its operator in `set_operator`. Whatever
//!   moves tokens ends in `PageHeader::check_vault`, over the vault's real balance.
//! * Tokens leave a vault in `vault::Vault::pay` only, by amounts that a transition of the rules has booked before; and in
//!   `vault::Vault::close`, once no channel is left and every leg was paid.
//! * Money of a payer goes to the payer's associated account, or where the payer signs; money of a leg to the leg's
//!   account, or where its recipient signs. No instruction takes such an address as an argument.
//! * `unsafe` is in `verify` alone: volatile access to local arrays, and a syscall behind a feature.
#![allow(
    missing_docs,
    unexpected_cfgs,
    reason = "Anchor's macros make public items without docs (ours have them) and ask for cfgs that only Solana's toolchains know"
)]

pub mod error;
pub mod events;
pub mod instructions;
pub mod state;

mod create;
mod mint;
mod vault;
mod verify;

use anchor_lang::prelude::*;
use instructions::*;

declare_id!("Eis2qMZ5ku5ZubGRsjYXVmaKDwzseonmDJjq6QepXp5h");

// Whom to tell of a weakness: explorers and `query-security-txt` read it out of the deployed program.
#[cfg(not(feature = "no-entrypoint"))]
solana_security_txt::security_txt! {
    name: "Tallybook",
    project_url: env!("CARGO_PKG_REPOSITORY"),
    contacts: concat!("link:", env!("CARGO_PKG_REPOSITORY"), "/security/advisories/new"),
    policy: concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/SECURITY.md"),
    preferred_languages: "en",
    source_code: env!("CARGO_PKG_REPOSITORY"),
    source_release: env!("CARGO_PKG_VERSION"),
    auditors: "None"
}

/// The instructions, by their one-byte discriminators. Numbers from 32 on belong to later versions.
#[program]
pub mod tallybook {
    use super::*;
    use tallybook_rules::{Amount, Opening};

    /// A payee makes a book: fixed terms, splits and token, and an operator.
    #[instruction(discriminator = 1)]
    #[expect(clippy::too_many_arguments, reason = "they are the instruction's fields")]
    pub fn init_book(
        ctx: Context<InitBook>,
        book_id: u16,
        genesis_hash: [u8; 32],
        grace_seconds: u32,
        max_idle_seconds: u32,
        min_deposit: u64,
        open_policy: u8,
        operator: Pubkey,
        splits: Vec<Split>,
    ) -> Result<()> {
        let offer = Offer {
            genesis_hash,
            terms: terms(grace_seconds, max_idle_seconds, min_deposit, open_policy),
            operator,
            splits,
        };
        Ok(instructions::init_book(ctx, book_id, &offer)?)
    }

    /// The payee or the operator adds the book's next page, with its vault.
    #[instruction(discriminator = 2)]
    pub fn add_page(ctx: Context<AddPage>, index: u32, capacity: u8) -> Result<()> {
        Ok(instructions::add_page(ctx, index, capacity)?)
    }

    /// A payer opens a channel in a free slot and funds it.
    #[instruction(discriminator = 3)]
    pub fn open(ctx: Context<Open>, slot: u8, generation: u32, signer: Pubkey, deposit: u64) -> Result<()> {
        let opening = Opening {
            payer: ctx.accounts.payer.key().to_bytes(),
            signer: signer.to_bytes(),
            generation,
            deposit: Amount::new(deposit),
        };
        Ok(instructions::open(ctx, slot, &opening)?)
    }

    /// Anybody adds to the deposit of an open channel.
    #[instruction(discriminator = 4)]
    pub fn top_up(ctx: Context<TopUp>, slot: u8, generation: u32, amount: u64) -> Result<()> {
        Ok(instructions::top_up(ctx, slot, generation, Amount::new(amount))?)
    }

    /// Anybody settles a batch of vouchers, by one aggregate scalar and a row for each.
    #[instruction(discriminator = 5)]
    pub fn claim(ctx: Context<Claim>, batch: Batch) -> Result<()> {
        Ok(instructions::claim(ctx, &batch)?)
    }

    /// Anybody settles a batch of vouchers, each up to an amount that is at most what was signed.
    #[instruction(discriminator = 6)]
    pub fn claim_below(ctx: Context<Claim>, batch: Batch) -> Result<()> {
        Ok(instructions::claim_below(ctx, &batch)?)
    }

    /// Anybody pays out what was claimed, to the legs whose bits are set (bit 0 is the payee's).
    #[instruction(discriminator = 7)]
    pub fn payout<'info>(ctx: Context<'info, Payout<'info>>, legs: u8) -> Result<()> {
        Ok(instructions::payout(ctx, legs)?)
    }

    /// A payer begins to leave: the grace period starts.
    #[instruction(discriminator = 8)]
    pub fn request_close(ctx: Context<RequestClose>, slot: u8, generation: u32) -> Result<()> {
        Ok(instructions::request_close(ctx, slot, generation)?)
    }

    /// Anybody returns what is unspent after the grace period, and frees the slots.
    #[instruction(discriminator = 9)]
    pub fn withdraw<'info>(ctx: Context<'info, Withdraw<'info>>, slots: Vec<u8>) -> Result<()> {
        Ok(instructions::withdraw(ctx, &slots)?)
    }

    /// The payee or the operator returns unclaimed money at once.
    #[instruction(discriminator = 10)]
    pub fn refund<'info>(ctx: Context<'info, Refund<'info>>, rows: Vec<RefundRow>) -> Result<()> {
        Ok(instructions::refund(ctx, &rows)?)
    }

    /// The payee, the operator or the page's rent payer begins to close a channel that nobody has used for long.
    #[instruction(discriminator = 11)]
    pub fn idle_close(ctx: Context<IdleClose>, slot: u8, generation: u32) -> Result<()> {
        Ok(instructions::idle_close(ctx, slot, generation)?)
    }

    /// The payee names another operator.
    #[instruction(discriminator = 12)]
    pub fn set_operator(ctx: Context<SetOperator>, operator: Pubkey) -> Result<()> {
        Ok(instructions::set_operator(ctx, operator)?)
    }

    /// The payee or the page's rent payer closes a page without channels: what is left goes to the payee, the rent back.
    #[instruction(discriminator = 13)]
    pub fn close_page(ctx: Context<ClosePage>) -> Result<()> {
        Ok(instructions::close_page(ctx)?)
    }
}
