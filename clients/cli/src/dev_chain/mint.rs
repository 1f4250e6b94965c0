use super::DevChain;
use anyhow::{Context, Result};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_system_interface::instruction::{create_account, transfer};
use spl_token_interface::instruction::{initialize_mint2, mint_to_checked};
use std::sync::atomic::{AtomicU64, Ordering};
use tallybook_chain::TokenAccountView;
use tallybook_chain::address::{TOKEN_PROGRAM, associated_token_account};
use tallybook_chain::transaction::create_token_account;
use tallybook_rules::Amount;

/// Bytes of a mint account of SPL Token.
const MINT_BYTES: usize = 82;
/// Keys funded in one transaction: as many as fit with three instructions each.
const FUNDED_AT_ONCE: usize = 6;

/// A token of SPL Token, like USDC unless it was made with other decimals. The chain's faucet may mint it.
pub struct DevMint {
    address: Address,
    decimals: u8,
    minted: AtomicU64,
}

impl DevMint {
    /// As USDC has it.
    pub const DECIMALS: u8 = 6;

    /// Creates the mint at `key`'s address, with the decimals of USDC.
    pub async fn create(chain: &DevChain, key: &Keypair) -> Result<Self> {
        Self::with_decimals(chain, key, Self::DECIMALS).await
    }

    /// Creates the mint at `key`'s address.
    pub async fn with_decimals(chain: &DevChain, key: &Keypair, decimals: u8) -> Result<Self> {
        let rent = chain.rpc().get_minimum_balance_for_rent_exemption(MINT_BYTES).await?;
        let faucet = chain.faucet().pubkey();
        let mint = key.pubkey();
        let instructions = [
            create_account(&faucet, &mint, rent, u64::try_from(MINT_BYTES)?, &TOKEN_PROGRAM),
            initialize_mint2(&TOKEN_PROGRAM, &mint, &faucet, None, decimals)?,
        ];
        chain.send(&instructions, &[key]).await.context("creating the mint")?;
        Ok(Self { address: mint, decimals, minted: AtomicU64::new(0) })
    }

    /// The mint's address.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// All that was ever minted, in base units.
    pub fn minted(&self) -> Amount {
        Amount::new(self.minted.load(Ordering::Relaxed))
    }

    /// Gives each of `owners` lamports and tokens, both possibly nothing, and makes its token account.
    pub async fn fund(&self, chain: &DevChain, owners: &[Address], lamports: u64, tokens: Amount) -> Result<()> {
        for some in owners.chunks(FUNDED_AT_ONCE) {
            let mut instructions = Vec::new();
            for owner in some {
                instructions.extend(self.funding(chain, owner, lamports, tokens)?);
            }
            chain.send(&instructions, &[]).await.context("funding keys")?;
            let minted = tokens.times(u64::try_from(some.len())?)?;
            self.minted.fetch_add(minted.get(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn funding(&self, chain: &DevChain, owner: &Address, lamports: u64, tokens: Amount) -> Result<Vec<Instruction>> {
        let faucet = chain.faucet().pubkey();
        let account = self.account_of(owner);
        let mut instructions = vec![create_token_account(&faucet, owner, &self.address, &TOKEN_PROGRAM)];
        if lamports > 0 {
            instructions.push(transfer(&faucet, owner, lamports));
        }
        if !tokens.is_zero() {
            let amount = tokens.get();
            let (mint, decimals) = (&self.address, self.decimals);
            instructions.push(mint_to_checked(&TOKEN_PROGRAM, mint, &account, &faucet, &[], amount, decimals)?);
        }
        Ok(instructions)
    }

    /// The associated token account of `owner`.
    pub fn account_of(&self, owner: &Address) -> Address {
        associated_token_account(owner, &self.address, &TOKEN_PROGRAM)
    }

    /// What `owner` holds in its associated token account; nothing when there is none.
    pub async fn held_by(&self, chain: &DevChain, owner: &Address) -> Result<Amount> {
        let account =
            chain.rpc().get_account_with_commitment(&self.account_of(owner), chain.rpc().commitment()).await?.value;
        Ok(account.and_then(|account| TokenAccountView::parse(&account.data)).map_or(Amount::ZERO, |view| view.amount))
    }
}
