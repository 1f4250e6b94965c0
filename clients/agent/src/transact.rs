//! The transactions that an agent signs: deposits that a sponsor pays for, and its own ways in and out.

use crate::error::AgentError;
use crate::terms::Confirmed;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{VersionedMessage, legacy};
use solana_signature::Signature as SolanaSignature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::time::Duration;
use tallybook_chain::instruction::{Addition, NewChannel};
use tallybook_chain::transaction::{compute_unit_limit, to_bytes};
use tallybook_chain::{Address, deposit};
use tallybook_rpc::{Chain, ChainError, View};
use tallybook_rules::Amount;
use tallybook_wire::{Channel, Key, Signature, TransactionBytes};

/// Compute for one of our own instructions.
const OWN_COMPUTE_UNITS: u32 = 100_000;
/// What one signature costs; our own transactions have at most two, and offer no price for compute.
const LAMPORTS_PER_SIGNATURE: u64 = 5_000;

/// A channel to be, and the transaction that opens it once the sponsor has signed too.
pub(crate) struct Opening {
    pub(crate) id: Key,
    pub(crate) parts: Channel,
    pub(crate) transaction: TransactionBytes,
}

/// The channel that the wallet opens in this place.
pub(crate) fn new_channel(
    wallet: &Keypair,
    signer: Key,
    confirmed: &Confirmed,
    (slot, generation): (u8, u32),
    amount: Amount,
) -> NewChannel {
    NewChannel {
        payer: wallet.pubkey(),
        source: confirmed.source,
        operator: None,
        page: confirmed.page.address,
        slot,
        generation,
        signer: signer.0,
        deposit: amount.get(),
    }
}

/// Builds and signs the deposit.
pub(crate) fn open(
    wallet: &Keypair,
    signer: Key,
    confirmed: &Confirmed,
    (slot, generation): (u8, u32),
    amount: Amount,
    fee_payer: Key,
    blockhash: Hash,
) -> Result<Opening, AgentError> {
    let new = new_channel(wallet, signer, confirmed, (slot, generation), amount);
    let id = deposit::expected_channel_id(&confirmed.page, &new).map_err(AgentError::Unreadable)?;
    let message = deposit::message(&confirmed.book, &new, &id, &Address::from(fee_payer.0), blockhash);
    let transaction = sign(message, &[wallet])?.1;
    let parts = Channel {
        payer: new.payer.to_bytes().into(),
        signer,
        book: confirmed.book.address.to_bytes().into(),
        page: confirmed.page.address.to_bytes().into(),
        slot,
        generation,
    };
    Ok(Opening { id: id.into(), parts, transaction })
}

/// Builds and signs an addition to the deposit of an open channel.
pub(crate) fn top_up(
    wallet: &Keypair,
    confirmed: &Confirmed,
    (id, parts): (Key, &Channel),
    amount: Amount,
    fee_payer: Key,
    blockhash: Hash,
) -> Result<TransactionBytes, AgentError> {
    let addition = Addition {
        funder: wallet.pubkey(),
        source: confirmed.source,
        page: confirmed.page.address,
        slot: parts.slot,
        generation: parts.generation,
        amount: amount.get(),
    };
    let message = deposit::top_up_message(&confirmed.book, &addition, &id.0, &fee_payer.0.into(), blockhash);
    Ok(sign(message, &[wallet])?.1)
}

/// Puts the signatures that we have at their places; those of others stay empty. Says the first of all: the transaction's
/// name.
fn sign(message: VersionedMessage, keys: &[&Keypair]) -> Result<(Signature, TransactionBytes), AgentError> {
    let bytes = message.serialize();
    let signers = usize::from(message.header().num_required_signatures);
    let signature = |address: &Address| {
        let ours = keys.iter().find(|key| key.pubkey() == *address);
        ours.map(|key| key.sign_message(&bytes)).unwrap_or_default()
    };
    let signatures: Vec<SolanaSignature> = message.static_account_keys().iter().take(signers).map(signature).collect();
    let name = signatures.first().copied().unwrap_or_default();
    let transaction = to_bytes(&VersionedTransaction { signatures, message }).map_err(AgentError::Unreadable)?;
    Ok((Signature(*name.as_array()), TransactionBytes::new(transaction).map_err(AgentError::Unreadable)?))
}

/// One instruction in a transaction, signed by whom we have the keys of.
pub(crate) struct Prepared {
    signature: Signature,
    last_valid_height: u64,
    transaction: TransactionBytes,
}

/// Wraps `instruction`, signed by `wallet` alone, which pays the fee.
pub(crate) async fn prepare<C: Chain>(
    chain: &C,
    wallet: &Keypair,
    instruction: Instruction,
) -> Result<Prepared, AgentError> {
    prepare_for(chain, instruction, &wallet.pubkey(), &[wallet]).await
}

/// Wraps `instruction`, its fee paid by `fee_payer`, signed by `keys` as far as they have to.
pub(crate) async fn prepare_for<C: Chain>(
    chain: &C,
    instruction: Instruction,
    fee_payer: &Address,
    keys: &[&Keypair],
) -> Result<Prepared, AgentError> {
    let blockhash = chain.latest_blockhash().await?;
    let instructions = [compute_unit_limit(OWN_COMPUTE_UNITS), instruction];
    let message = legacy::Message::new_with_blockhash(&instructions, Some(fee_payer), &blockhash.hash);
    let (signature, transaction) = sign(VersionedMessage::Legacy(message), keys)?;
    Ok(Prepared { signature, last_valid_height: blockhash.last_valid_height, transaction })
}

impl Prepared {
    /// The last block height at which it can land.
    pub(crate) const fn last_valid_height(&self) -> u64 {
        self.last_valid_height
    }

    /// The transaction.
    pub(crate) fn into_transaction(self) -> TransactionBytes {
        self.transaction
    }

    /// Sends it, and waits until it is confirmed, failed or expired.
    pub(crate) async fn run<C: Chain>(self, chain: &C) -> Result<Signature, AgentError> {
        const POLL: Duration = Duration::from_millis(400);
        const POLLS: u32 = 300;
        const POLLS_PER_RESEND: u32 = 5;
        /// Questions in a row without an answer after which no more are asked.
        const SILENCES: u32 = 5;
        let Self { signature, last_valid_height, transaction } = self;
        match chain.send(transaction.as_bytes()).await {
            // Looked at and refused: it was not passed on. (But for one that a node has had twice.)
            Err(ChainError::Refused { method, message }) if !message.contains("already been processed") => {
                return Err(ChainError::Refused { method, message }.into());
            }
            // The answer was lost, and with it whether the transaction is on its way: it is asked for.
            Err(error) => tracing::debug!(%error, "sent, with no good answer"),
            Ok(()) => {}
        }
        let mut silent = 0u32;
        for poll in 1..=POLLS {
            let refused = |message| ChainError::Refused { method: "the transaction", message };
            match outcome(chain, &signature, last_valid_height).await {
                Ok(Outcome::Landed(outcome)) => {
                    return outcome.map(|()| signature).map_err(|error| refused(error).into());
                }
                Ok(Outcome::Expired) => return Err(refused("it expired before it landed: try again".to_owned()).into()),
                Ok(Outcome::Unknown) => silent = 0,
                Err(error) => {
                    tracing::debug!(%error, "outcome unknown");
                    silent = silent.saturating_add(1);
                }
            }
            if silent >= SILENCES {
                break;
            }
            if poll % POLLS_PER_RESEND == 0 {
                // A node that has it already, or lost it, makes no difference to the outcome that is asked for above.
                if let Err(error) = chain.send(transaction.as_bytes()).await {
                    tracing::debug!(%error, "sending again");
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Err(ChainError::Pending(signature).into())
    }
}

/// What the chain says of a transaction.
enum Outcome {
    Landed(Result<(), String>),
    /// It never will.
    Expired,
    Unknown,
}

/// Asks the chain, in this order: what has not landed once it is too late never will.
async fn outcome<C: Chain>(chain: &C, signature: &Signature, last_valid_height: u64) -> Result<Outcome, ChainError> {
    let too_late = chain.latest_blockhash().await?.is_past(last_valid_height);
    Ok(match chain.status(signature).await? {
        Some(outcome) => Outcome::Landed(outcome),
        None if too_late => Outcome::Expired,
        None => Outcome::Unknown,
    })
}

/// Refuses to try what the wallet has no lamports for.
pub(crate) async fn check_lamports<C: Chain>(chain: &C, wallet: &Address) -> Result<(), AgentError> {
    let accounts = chain.accounts(&[*wallet], View::CONFIRMED).await?;
    let held = accounts.list.into_iter().next().flatten().map_or(0, |account| account.lamports);
    if held < LAMPORTS_PER_SIGNATURE {
        Err(AgentError::NoLamports { held, wallet: Key(wallet.to_bytes()) })
    } else {
        Ok(())
    }
}
