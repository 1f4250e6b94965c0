//! What the chain itself says about the demo: who holds what, and what the sponsor's transactions were and cost.

use super::ground::Ground;
use crate::dev_chain::DevChain;
use crate::history::read::signatures_of;
use anyhow::{Context, Result};
use solana_address::Address;
use solana_client::rpc_config::{RpcTransactionConfig, UiTransactionEncoding};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::instruction::discriminator;
use tallybook_rules::Amount;
use tallybook_rules::half_aggregation::{ROW_BYTES, SCALAR_BYTES};

/// What a transaction of the sponsor did, by the instructions in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Opened a channel.
    Open,
    /// Claimed vouchers and paid the payee.
    Claim,
    /// Closed a channel together with its payer, claiming first where something was left to claim.
    Refund,
    /// Something else, such as making a lookup table.
    Other,
}

/// One transaction of the sponsor, as the chain recorded it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// What it did.
    pub kind: Kind,
    /// Vouchers that it claimed.
    pub rows: u64,
    /// The network's fee.
    pub fee_lamports: u64,
    /// What the sponsor had less of afterwards: the fee, and rent where there was some.
    pub spent_lamports: u64,
    /// False when the chain recorded it as failed.
    pub succeeded: bool,
}

/// All transactions that `sponsor` paid for.
pub(super) async fn transactions_of(chain: &DevChain, sponsor: &Address) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    for listed in signatures_of(chain.rpc(), sponsor).await? {
        sent.extend(transaction(chain, sponsor, &listed.signature).await.context(listed.signature)?);
    }
    Ok(sent)
}

/// Nothing for a transaction that somebody else paid for, such as the funding of the sponsor's key.
async fn transaction(chain: &DevChain, sponsor: &Address, signature: &Signature) -> Result<Option<Sent>> {
    let config = RpcTransactionConfig {
        encoding: Some(UiTransactionEncoding::Base64),
        commitment: Some(chain.rpc().commitment()),
        max_supported_transaction_version: Some(1),
    };
    let recorded = chain.rpc().get_transaction_with_config(signature, config).await?.transaction;
    let meta = recorded.meta.context("the chain kept no record of its effects")?;
    let transaction = recorded.transaction.decode().context("it cannot be decoded")?;
    if transaction.message.static_account_keys().first() != Some(sponsor) {
        return Ok(None);
    }
    let (kind, rows) = classify(&transaction);
    let balance = |balances: &[u64]| balances.first().copied().unwrap_or_default();
    Ok(Some(Sent {
        kind,
        rows,
        fee_lamports: meta.fee,
        spent_lamports: balance(&meta.pre_balances).saturating_sub(balance(&meta.post_balances)),
        succeeded: meta.err.is_none(),
    }))
}

fn classify(transaction: &VersionedTransaction) -> (Kind, u64) {
    let keys = transaction.message.static_account_keys();
    let ours = transaction
        .message
        .instructions()
        .iter()
        .filter(|instruction| keys.get(usize::from(instruction.program_id_index)) == Some(&PROGRAM_ID));
    let (mut kind, mut rows) = (Kind::Other, 0u64);
    for instruction in ours {
        match instruction.data.first() {
            Some(&discriminator::OPEN) => kind = Kind::Open,
            Some(&discriminator::REFUND) => kind = Kind::Refund,
            Some(&discriminator::CLAIM) => {
                let claimed = instruction.data.len().saturating_sub(1).saturating_sub(SCALAR_BYTES) / ROW_BYTES;
                rows = rows.saturating_add(u64::try_from(claimed).unwrap_or(u64::MAX));
                if kind == Kind::Other {
                    kind = Kind::Claim;
                }
            }
            Some(&discriminator::PAYOUT) if kind == Kind::Other => kind = Kind::Claim,
            _ => {}
        }
    }
    (kind, rows)
}

/// Who holds how much of the mint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holdings {
    /// The payee.
    pub payee: Amount,
    /// Each agent, in order.
    pub agents: Vec<Amount>,
    /// The page's vault.
    pub vault: Amount,
    /// The facilitator's sponsor, which never holds any.
    pub facilitator: Amount,
}

impl Holdings {
    /// Reads them from the chain.
    pub async fn read(ground: &Ground, agents: &[Address]) -> Result<Self> {
        let held_by = async |owner: &Address| ground.mint.held_by(&ground.chain, owner).await;
        let mut held = Vec::with_capacity(agents.len());
        for agent in agents {
            held.push(held_by(agent).await?);
        }
        Ok(Self {
            payee: held_by(&ground.payee).await?,
            agents: held,
            vault: held_by(&ground.page).await?,
            facilitator: held_by(&ground.sponsor).await?,
        })
    }

    /// What all agents hold together.
    pub fn agents_in_all(&self) -> Result<Amount> {
        Ok(self.agents.iter().try_fold(Amount::ZERO, |sum, amount| sum.plus(*amount))?)
    }

    /// What everybody holds together.
    pub fn in_all(&self) -> Result<Amount> {
        Ok(self.payee.plus(self.vault)?.plus(self.facilitator)?.plus(self.agents_in_all()?)?)
    }
}
