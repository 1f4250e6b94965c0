//! Sending a transaction and learning its outcome from the chain.

use anyhow::{Context, Result, anyhow, bail};
use solana_client::client_error::{ClientError, ClientErrorKind};
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_config::RpcSendTransactionConfig;
use solana_client::rpc_request::{RpcError, RpcResponseErrorData};
use solana_commitment_config::CommitmentConfig;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::Transaction;
use std::time::Duration;
use tallybook_rules::Rejection;

const POLL: Duration = Duration::from_millis(20);
/// Longer than any blockhash lives.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(120);
/// Questions in a row without an answer after which no more are asked.
const SILENCES: u32 = 5;
/// The pause after a question without an answer.
const SILENCE_PAUSE: Duration = Duration::from_millis(500);
/// Where the clock sysvar keeps `unix_timestamp`: after slot, epoch start, epoch and leader schedule epoch.
const UNIX_TIMESTAMP_OFFSET: usize = 32;

/// Sends `instructions` in one transaction, paid by `fee_payer` and signed by `signers` too, and waits until it is
/// confirmed. Fails with the chain's reason in words.
pub async fn send(
    rpc: &RpcClient,
    instructions: &[Instruction],
    fee_payer: &Keypair,
    signers: &[&Keypair],
) -> Result<Signature> {
    let (blockhash, last_valid_height) =
        rpc.get_latest_blockhash_with_commitment(rpc.commitment()).await.context("the chain does not answer")?;
    let message = Message::new_with_blockhash(instructions, Some(&fee_payer.pubkey()), &blockhash);
    let mut transaction = Transaction::new_unsigned(message);
    let mut keys = vec![fee_payer];
    keys.extend(signers.iter().filter(|key| key.pubkey() != fee_payer.pubkey()));
    transaction.try_sign(&keys, blockhash)?;
    let config = RpcSendTransactionConfig {
        preflight_commitment: Some(rpc.commitment().commitment),
        ..RpcSendTransactionConfig::default()
    };
    let signature = transaction.signatures.first().copied().context("a transaction without a signer")?;
    match rpc.send_transaction_with_config(&transaction, config).await {
        Ok(_) => {}
        // Looked at and refused: it was not passed on. (But for one that a node has had twice.)
        Err(error) if is_refusal(&error) => return Err(refusal(error)),
        // The answer was lost, and with it whether the transaction is on its way: it is asked for.
        Err(error) => tracing::debug!(%error, "sent, with no good answer"),
    }
    confirm(rpc, &signature, Some(last_valid_height)).await?;
    Ok(signature)
}

fn is_refusal(error: &ClientError) -> bool {
    matches!(
        error.kind(),
        ClientErrorKind::RpcError(RpcError::RpcResponseError { message, .. }) if !message.contains("already been processed")
    )
}

/// Waits until the chain says that a transaction is confirmed, or that it can land no more: after `last_valid_height`, if
/// that is known. A node that does not answer is asked again until the patience is over.
pub async fn confirm(rpc: &RpcClient, signature: &Signature, last_valid_height: Option<u64>) -> Result<()> {
    let deadline = tokio::time::Instant::now().checked_add(CONFIRM_TIMEOUT).context("a time out of range")?;
    let mut silent = 0u32;
    loop {
        match outcome(rpc, signature, last_valid_height).await {
            Ok(Some(outcome)) => return outcome,
            Ok(None) => silent = 0,
            Err(error) => {
                tracing::debug!(%error, "outcome unknown");
                silent = silent.saturating_add(1);
                tokio::time::sleep(SILENCE_PAUSE).await;
            }
        }
        if silent >= SILENCES || tokio::time::Instant::now() >= deadline {
            bail!(
                "the transaction {signature} was sent, and the chain has not said what became of it: look it up before you \
                 try again"
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What the chain says of a transaction, if it does. Asked in this order: what has not landed once it is too late never
/// will, and a node that is behind the one that said so is not believed.
async fn outcome(
    rpc: &RpcClient,
    signature: &Signature,
    last_valid_height: Option<u64>,
) -> Result<Option<Result<()>>, ClientError> {
    let too_late_since = match last_valid_height {
        Some(last) => {
            let info = rpc.get_epoch_info_with_commitment(CommitmentConfig::finalized()).await?;
            (info.block_height > last).then_some(info.absolute_slot)
        }
        None => None,
    };
    let statuses = rpc.get_signature_statuses(&[*signature]).await?;
    Ok(match statuses.value.into_iter().next().flatten() {
        Some(status) if status.satisfies_commitment(rpc.commitment()) => Some(status.err.map_or(Ok(()), |error| {
            Err(anyhow!("the transaction {signature} failed: {}", in_words(&format!("{error:?}"))))
        })),
        None if too_late_since.is_some_and(|slot| statuses.context.slot >= slot) => {
            Some(Err(anyhow!("the transaction {signature} did not land before its blockhash expired: try again")))
        }
        Some(_) | None => None,
    })
}

/// The chain's clock in Unix seconds.
pub async fn chain_clock(rpc: &RpcClient) -> Result<i64> {
    const CLOCK: solana_address::Address = solana_address::address!("SysvarC1ock11111111111111111111111111111111");
    let data = rpc.get_account_data(&CLOCK).await?;
    data.get(UNIX_TIMESTAMP_OFFSET..)
        .and_then(|rest| rest.first_chunk())
        .map(|bytes| i64::from_le_bytes(*bytes))
        .context("the chain's clock is unreadable")
}

/// A refusal before sending, in words: the program's own rejection where there is one.
fn refusal(error: ClientError) -> anyhow::Error {
    if let ClientErrorKind::RpcError(RpcError::RpcResponseError { message, data, .. }) = error.kind() {
        let logs = match data {
            RpcResponseErrorData::SendTransactionPreflightFailure(simulated) => simulated.logs.clone(),
            RpcResponseErrorData::Empty | RpcResponseErrorData::NodeUnhealthy { .. } => None,
        };
        let last = logs.unwrap_or_default().into_iter().rfind(|line| line.starts_with("Program log: "));
        let more = match (rejection_in(message), last) {
            (None, Some(line)) => format!(" ({line})"),
            (Some(_), _) | (_, None) => String::new(),
        };
        return anyhow!("the chain refuses the transaction: {}{more}", in_words(message));
    }
    anyhow::Error::new(error).context("the transaction could not be sent")
}

/// Explains the program's error number in a text of the chain.
fn in_words(text: &str) -> String {
    rejection_in(text).map_or_else(|| text.to_owned(), |rejection| rejection.to_string())
}

/// The program's own rejection in a text of the chain: `custom program error: 0x…` or `Custom(…)`.
fn rejection_in(text: &str) -> Option<Rejection> {
    let hexadecimal = || {
        let (_, rest) = text.split_once("custom program error: 0x")?;
        u32::from_str_radix(rest.split(|c: char| !c.is_ascii_hexdigit()).next()?, 16).ok()
    };
    let decimal = || {
        let (_, rest) = text.split_once("Custom(")?;
        rest.split(')').next()?.parse().ok()
    };
    hexadecimal().or_else(decimal).and_then(Rejection::from_anchor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_error_becomes_its_sentence() {
        let text = "Transaction simulation failed: Error processing Instruction 2: custom program error: 0x1785";
        assert_eq!(in_words(text), Rejection::SlotTaken.to_string());
        let text = "InstructionError(2, Custom(6021))";
        assert_eq!(in_words(text), Rejection::SlotTaken.to_string());
        assert_eq!(in_words("Blockhash not found"), "Blockhash not found");
    }
}
