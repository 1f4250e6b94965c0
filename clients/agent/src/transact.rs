//! The transactions that an agent signs: the deposit that a sponsor pays for, and its own ways out.

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
use tallybook_chain::instruction::NewChannel;
use tallybook_chain::transaction::{compute_unit_limit, to_bytes};
use tallybook_chain::{Address, deposit};
use tallybook_rpc::{Chain, ChainError};
use tallybook_rules::Amount;
use tallybook_wire::{Channel, Key, Signature, TransactionBytes};

/// Compute for one of our own instructions.
const OWN_COMPUTE_UNITS: u32 = 100_000;

/// A channel to be, and the transaction that opens it once the sponsor has signed too.
pub(crate) struct Opening {
    pub(crate) id: Key,
    pub(crate) parts: Channel,
    pub(crate) transaction: TransactionBytes,
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
    let new = NewChannel {
        payer: wallet.pubkey(),
        source: confirmed.source,
        operator: None,
        page: confirmed.page.address,
        slot,
        generation,
        signer: signer.0,
        deposit: amount.get(),
    };
    let id = deposit::expected_channel_id(&confirmed.page, &new).map_err(AgentError::Unreadable)?;
    let message = deposit::message(&confirmed.book, &new, &id, &Address::from(fee_payer.0), blockhash);
    let transaction = TransactionBytes::new(sign(wallet, message)?.1).map_err(AgentError::Unreadable)?;
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

/// Puts the wallet's signature at its place; the places of others stay empty.
fn sign(wallet: &Keypair, message: VersionedMessage) -> Result<(Signature, Vec<u8>), AgentError> {
    let signature = wallet.sign_message(&message.serialize());
    let signers = usize::from(message.header().num_required_signatures);
    let signatures = message
        .static_account_keys()
        .iter()
        .take(signers)
        .map(|key| if *key == wallet.pubkey() { signature } else { SolanaSignature::default() });
    let transaction = VersionedTransaction { signatures: signatures.collect(), message };
    let bytes = to_bytes(&transaction).map_err(AgentError::Unreadable)?;
    Ok((Signature(*signature.as_array()), bytes))
}

/// Sends `instruction` with the wallet as payer of the fee, and waits until it is confirmed, failed or expired.
pub(crate) async fn run<C: Chain>(
    chain: &C,
    wallet: &Keypair,
    instruction: Instruction,
) -> Result<Signature, AgentError> {
    const POLL: Duration = Duration::from_millis(400);
    const POLLS: u32 = 300;
    const POLLS_PER_RESEND: u32 = 5;
    let blockhash = chain.latest_blockhash().await?;
    let instructions = [compute_unit_limit(OWN_COMPUTE_UNITS), instruction];
    let message = legacy::Message::new_with_blockhash(&instructions, Some(&wallet.pubkey()), &blockhash.hash);
    let (signature, bytes) = sign(wallet, VersionedMessage::Legacy(message))?;
    chain.send(&bytes).await?;
    for poll in 1..=POLLS {
        let refused = |message| ChainError::Refused { method: "the transaction", message };
        // Asked in this order: what has not landed once it is too late never will.
        let too_late = chain.latest_blockhash().await?.is_past(blockhash.last_valid_height);
        match chain.status(&signature).await? {
            Some(outcome) => return outcome.map(|()| signature).map_err(|error| refused(error).into()),
            None if too_late => {
                return Err(refused("it expired before it landed: try again".to_owned()).into());
            }
            None if poll % POLLS_PER_RESEND == 0 => {
                // A node that has it already, or lost it, makes no difference to the outcome that is asked for above.
                if let Err(error) = chain.send(&bytes).await {
                    tracing::debug!(%error, "sending again");
                }
            }
            None => {}
        }
        tokio::time::sleep(POLL).await;
    }
    Err(ChainError::Pending(signature).into())
}
