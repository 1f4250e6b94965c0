//! The transactions of a page, from the node.

use crate::connection::NoAnswer;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use indicatif::ProgressBar;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_client::GetConfirmedSignaturesForAddress2Config;
use solana_client::rpc_config::{RpcTransactionConfig, UiTransactionEncoding};
use solana_client::rpc_response::{EncodedTransactionWithStatusMeta, UiInstruction, UiTransactionStatusMeta};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::Arc;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::event::{Event, claimed_rows};
use tallybook_rules::Amount;
use tokio::task::JoinSet;

/// The most signatures that a node lists at once.
const SIGNATURES_AT_ONCE: usize = 1_000;
/// The most transactions of one page that are read.
const MAX_TRANSACTIONS: usize = 1_000_000;
/// Transactions that are asked for at the same time.
const ASKED_AT_ONCE: usize = 8;

/// A transaction that went through, as the chain recorded it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Its signature.
    pub signature: Signature,
    /// The chain's slot that it is in.
    pub chain_slot: u64,
    /// The chain's time of it, in Unix seconds; 0 where the node does not know.
    pub at: i64,
    /// Who paid for it.
    pub fee_payer: Address,
    /// The network's fee, in lamports.
    pub fee_lamports: u64,
    /// What the program did in it, in order.
    pub steps: Vec<Step>,
}

/// What one instruction of the program did to one page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// As it told.
    pub event: Event,
    /// For a claim: up to what it settles each slot that it names.
    pub rows: Vec<(u8, Amount)>,
}

/// The transactions that touched `account` and went through, oldest first, none above `last_slot`: an account that was read
/// at that slot shows all of them.
pub async fn transactions_of(
    rpc: &Arc<RpcClient>,
    account: &Address,
    last_slot: u64,
    bar: &ProgressBar,
) -> Result<Vec<Recorded>> {
    let listed = signatures_of(rpc, account).await?.into_iter().rev();
    let signatures: Vec<Signature> = listed
        .filter(|listed| listed.went_through && listed.chain_slot <= last_slot)
        .map(|one| one.signature)
        .collect();
    bar.inc_length(u64::try_from(signatures.len())?);
    let mut asked = JoinSet::new();
    let mut recorded: Vec<Option<Recorded>> = vec![None; signatures.len()];
    for (at, signature) in signatures.into_iter().enumerate() {
        if asked.len() >= ASKED_AT_ONCE {
            keep(&mut recorded, asked.join_next().await)?;
            bar.inc(1);
        }
        let rpc = Arc::clone(rpc);
        asked.spawn(async move { (at, transaction(&rpc, signature).await) });
    }
    while let Some(answer) = asked.join_next().await {
        keep(&mut recorded, Some(answer))?;
        bar.inc(1);
    }
    Ok(recorded.into_iter().flatten().collect())
}

type Answer = Result<(usize, Result<Recorded>), tokio::task::JoinError>;

fn keep(recorded: &mut [Option<Recorded>], answer: Option<Answer>) -> Result<()> {
    let (at, read) = answer.context("no transaction was asked for")??;
    *recorded.get_mut(at).context("a transaction that was not asked for")? = Some(read?);
    Ok(())
}

/// A transaction, as nodes list it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) signature: Signature,
    /// The chain's slot that it is in.
    chain_slot: u64,
    /// False when the chain recorded it as failed.
    went_through: bool,
}

/// All transactions that touched `account`, newest first. Fails where there are more than anybody would read.
pub(crate) async fn signatures_of(rpc: &RpcClient, account: &Address) -> Result<Vec<Listed>> {
    let mut signatures = Vec::new();
    let mut before = None;
    loop {
        let config = GetConfirmedSignaturesForAddress2Config {
            before,
            limit: Some(SIGNATURES_AT_ONCE),
            commitment: Some(rpc.commitment()),
            ..GetConfirmedSignaturesForAddress2Config::default()
        };
        let listed = rpc.get_signatures_for_address_with_config(account, config).await.context(NoAnswer)?;
        for status in &listed {
            let signature = status.signature.parse().context("the node lists what is no signature")?;
            before = Some(signature);
            signatures.push(Listed { signature, chain_slot: status.slot, went_through: status.err.is_none() });
        }
        ensure!(signatures.len() <= MAX_TRANSACTIONS, "{account} has more than {MAX_TRANSACTIONS} transactions");
        if listed.len() < SIGNATURES_AT_ONCE {
            return Ok(signatures);
        }
    }
}

async fn transaction(rpc: &RpcClient, signature: Signature) -> Result<Recorded> {
    let config = RpcTransactionConfig {
        encoding: Some(UiTransactionEncoding::Base64),
        commitment: Some(rpc.commitment()),
        max_supported_transaction_version: Some(1),
    };
    let found = rpc.get_transaction_with_config(&signature, config).await;
    let found = found.with_context(|| {
        format!(
            "the node lists the transaction {signature}, and does not have it: ask one that keeps the whole history"
        )
    })?;
    let when = (found.slot, found.block_time.unwrap_or_default());
    recorded(signature, when, found.transaction).with_context(|| format!("reading the transaction {signature}"))
}

fn recorded(
    signature: Signature,
    (chain_slot, at): (u64, i64),
    found: EncodedTransactionWithStatusMeta,
) -> Result<Recorded> {
    let meta = found.meta.context("the node kept no record of its effects")?;
    let transaction = found.transaction.decode().context("it cannot be decoded")?;
    let fee_payer = *transaction.message.static_account_keys().first().context("it has no fee payer")?;
    let fee_lamports = meta.fee;
    let logs: Vec<String> = Option::from(meta.log_messages.clone()).context("the node kept no logs")?;
    let mut claims = claims_in(&transaction, meta)?.into_iter();
    let mut steps = Vec::new();
    for event in events_in(&logs)? {
        let rows = if matches!(event, Event::Claimed(_)) {
            claims.next().context("it tells of a claim that is not in it")?
        } else {
            Vec::new()
        };
        steps.push(Step { event, rows });
    }
    ensure!(claims.next().is_none(), "it does not tell of a claim that is in it: its logs are cut");
    Ok(Recorded { signature, chain_slot, at, fee_payer, fee_lamports, steps })
}

/// The rows of each claim, in the order in which the claims ran.
fn claims_in(transaction: &VersionedTransaction, meta: UiTransactionStatusMeta) -> Result<Vec<Vec<(u8, Amount)>>> {
    let mut keys: Vec<String> = transaction.message.static_account_keys().iter().map(ToString::to_string).collect();
    if let Some(loaded) = Option::from(meta.loaded_addresses) {
        let solana_client::rpc_response::UiLoadedAddresses { writable, readonly } = loaded;
        keys.extend(writable.into_iter().chain(readonly));
    }
    let program = PROGRAM_ID.to_string();
    let is_ours = |index: u8| keys.get(usize::from(index)) == Some(&program);
    let inner = Option::<Vec<_>>::from(meta.inner_instructions).unwrap_or_default();
    let mut claims = Vec::new();
    for (at, outer) in (0u8..).zip(transaction.message.instructions()) {
        if is_ours(outer.program_id_index) {
            claims.extend(claimed_rows(&outer.data));
        }
        for instruction in inner.iter().filter(|inner| inner.index == at).flat_map(|inner| &inner.instructions) {
            let UiInstruction::Compiled(instruction) = instruction else {
                bail!("the node shows inner instructions in a form that was not asked for")
            };
            if is_ours(instruction.program_id_index) {
                claims.extend(claimed_rows(&bs58::decode(&instruction.data).into_vec()?));
            }
        }
    }
    Ok(claims)
}

/// What the program, and nobody else, told of in these logs.
fn events_in(logs: &[String]) -> Result<Vec<Event>> {
    let program = PROGRAM_ID.to_string();
    let mut running: Vec<&str> = Vec::new();
    let mut events = Vec::new();
    for line in logs {
        if let Some(data) = line.strip_prefix("Program data: ") {
            if running.last() == Some(&program.as_str()) {
                let bytes = BASE64_STANDARD.decode(data).context("a log of the program is not base64")?;
                events
                    .push(Event::from_bytes(&bytes).context("the program tells of something that is not known here")?);
            }
        } else if line == "Log truncated" {
            bail!("its logs are cut");
        } else if let Some(rest) = line.strip_prefix("Program ") {
            let mut words = rest.split(' ');
            match (words.next(), words.next()) {
                (Some(id), Some("invoke")) => running.push(id),
                (Some(_), Some("success")) => drop(running.pop()),
                _ => {}
            }
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[String]) -> Result<Vec<Event>> {
        events_in(lines)
    }

    #[test]
    fn given_logs_of_several_programs_when_read_then_only_what_ours_tells_counts() {
        let mut bytes = vec![12];
        bytes.extend([7; 64]);
        let data = BASE64_STANDARD.encode(&bytes);
        let said = format!("Program data: {data}");
        let invoke = |id: &str, depth: u8| format!("Program {id} invoke [{depth}]");
        let success = |id: &str| format!("Program {id} success");
        let (ours, other) = (PROGRAM_ID.to_string(), Address::from([3; 32]).to_string());
        let logs = [
            // Somebody else says the same: it is not believed,
            invoke(&other, 1),
            said.clone(),
            invoke(&ours, 2),
            "Program log: Instruction: SetOperator".to_owned(),
            said.clone(),
            format!("Program {ours} consumed 500 of 1000 compute units"),
            success(&ours),
            // nor after ours has returned to it.
            said,
            success(&other),
        ];
        assert_eq!(lines(&logs).unwrap().len(), 1);
        let cut = [logs[0].clone(), "Log truncated".to_owned()];
        assert!(lines(&cut).unwrap_err().to_string().contains("cut"));
    }
}
