//! Sending a transaction and learning its outcome from the chain.

use anyhow::{Context, Result, anyhow, bail};
use solana_client::client_error::{ClientError, ClientErrorKind};
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_config::RpcSendTransactionConfig;
use solana_client::rpc_request::{RpcError, RpcResponseErrorData};
use solana_commitment_config::CommitmentConfig;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::Transaction;
use std::time::Duration;
use tallybook_rules::Rejection;

const POLL: Duration = Duration::from_millis(20);
/// When no blockhash bounds the wait: longer than any blockhash lives.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(120);
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
    let blockhash = rpc.get_latest_blockhash().await.context("the chain does not answer")?;
    let message = Message::new_with_blockhash(instructions, Some(&fee_payer.pubkey()), &blockhash);
    let mut transaction = Transaction::new_unsigned(message);
    let mut keys = vec![fee_payer];
    keys.extend(signers.iter().filter(|key| key.pubkey() != fee_payer.pubkey()));
    transaction.try_sign(&keys, blockhash)?;
    let config = RpcSendTransactionConfig {
        preflight_commitment: Some(rpc.commitment().commitment),
        ..RpcSendTransactionConfig::default()
    };
    let signature = rpc.send_transaction_with_config(&transaction, config).await.map_err(refusal)?;
    confirm(rpc, &signature, Some(blockhash)).await?;
    Ok(signature)
}

/// Waits until the chain says that a transaction is confirmed, or that it can land no more.
pub async fn confirm(rpc: &RpcClient, signature: &Signature, blockhash: Option<Hash>) -> Result<()> {
    let deadline = tokio::time::Instant::now().checked_add(CONFIRM_TIMEOUT).context("a time out of range")?;
    loop {
        let expired = match &blockhash {
            Some(blockhash) => !rpc.is_blockhash_valid(blockhash, CommitmentConfig::processed()).await?,
            None => false,
        };
        let statuses = rpc.get_signature_statuses(&[*signature]).await?.value;
        match statuses.into_iter().next().flatten() {
            Some(status) if status.satisfies_commitment(rpc.commitment()) => {
                return status.err.map_or(Ok(()), |error| {
                    Err(anyhow!("the transaction {signature} failed: {}", in_words(&format!("{error:?}"))))
                });
            }
            Some(_) => {}
            None if expired => {
                bail!("the transaction {signature} did not land before its blockhash expired: try again")
            }
            None => {}
        }
        if tokio::time::Instant::now() >= deadline {
            bail!(
                "the chain has not confirmed {signature} in {} seconds: look it up before you try again",
                CONFIRM_TIMEOUT.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
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
