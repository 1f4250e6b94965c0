//! The cooperative close: the facilitator prepares it, and only the book's operator can sign it.

use super::asking::{Desk, is_failed, is_invalid, is_settled, is_valid};
use super::purse::Purse;
use crate::conform::checks::{Checks, found};
use crate::conform::http::{Seen, judged};
use anyhow::{Context, Result, ensure};
use solana_keypair::Keypair;
use solana_message::compiled_instruction::CompiledInstruction;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::address::COMPUTE_BUDGET_PROGRAM;
use tallybook_chain::instruction::{Instructions, RefundRow, discriminator};
use tallybook_chain::transaction::{from_bytes, to_bytes};
use tallybook_chain::{Address, PROGRAM_ID};
use tallybook_rules::{Amount, Status};
use tallybook_wire::{ChannelPayload, TransactionBytes};

/// Closes the channel, as far as there is an operator's key to do it with.
pub(super) async fn close(desk: &Desk, purse: &Purse, operator: Option<&Keypair>, checks: &mut Checks) -> Result<()> {
    let asked = purse.asked(purse.price);
    let seen = desk.get(&format!("channels/{}", purse.id)).await;
    let json = seen.map(|seen| seen.json()).unwrap_or_default();
    let charged = json.get("charged").and_then(|charged| tallybook_wire::decimal::parse(charged.as_str()?).ok());
    let charged = charged.context("what was charged is not known: the channel stays open")?;
    let voucher = purse.signed(charged);
    let refund = |transaction| ChannelPayload::Refund { voucher, transaction };
    let seen = desk.ask("verify", &asked, &refund(None)).await;
    let proposed = seen.as_ref().ok().and_then(transaction);
    let expected = "isValid true, with the unsigned closing transaction";
    checks.add("POST /verify: a refund", "§7", expected, judged(&seen, |seen| is_valid(seen) && proposed.is_some()));
    let next = purse.voucher(charged.plus(purse.price)?);
    let seen = desk.ask("verify", &asked, &next).await;
    let leaving = judged(&seen, |seen| is_invalid(seen, "channel_closing"));
    checks.add("a channel that leaves takes no more calls", "§7", "isValid false, channel_closing", leaving);
    let Some(proposed) = proposed else { return Ok(()) };
    let transaction = look_at(&proposed, purse, charged);
    let expected = "at most one claim of the page, and the refund that keeps what was charged, sponsored";
    checks.add(
        "the closing transaction",
        "§7",
        expected,
        transaction.as_ref().map(|_| ()).map_err(ToString::to_string),
    );
    let seen = desk.ask("settle", &asked, &refund(Some(proposed))).await;
    let unsigned = judged(&seen, |seen| seen.json().get("success") == Some(&false.into()));
    checks.add("POST /settle: a refund that the operator has not signed", "§7", "success false", unsigned);
    let (name, expected) = ("POST /settle: a refund", "success true, and the slot is free again");
    let (Some(operator), Ok(transaction)) = (operator, transaction) else {
        checks.leave_out(name, "§7", expected, "name the book's --operator");
        return Ok(());
    };
    ensure!(operator.pubkey() == purse.book.operator(), "--operator is not the operator of the book");
    let signed = sign(transaction, operator)?;
    let mut seen = desk.ask("settle", &asked, &refund(Some(signed.clone()))).await;
    for _ in 0..20 {
        if !seen.as_ref().is_ok_and(|seen| is_failed(seen, "settlement_pending")) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        seen = desk.ask("settle", &asked, &refund(Some(signed.clone()))).await;
    }
    checks.add(name, "§7", expected, judged(&seen, is_settled));
    let slot = purse.slot().await?;
    let over = slot.status() == Ok(Status::Free) || slot.generation != purse.channel.generation;
    // What was charged may have been claimed before, or stays until it is: all the rest is back.
    let rest = slot.deposit.less(charged);
    checks.add("the rest is back on chain", "§5", "a free slot", found(over, format_args!("{rest} still in the slot")));
    Ok(())
}

/// The transaction in an answer.
fn transaction(seen: &Seen) -> Option<TransactionBytes> {
    serde_json::from_value(seen.json().pointer("/extra/transaction")?.clone()).ok()
}

/// Takes it apart: an operator signs nothing else than this.
fn look_at(proposed: &TransactionBytes, purse: &Purse, charged: Amount) -> Result<VersionedTransaction> {
    let transaction = from_bytes(proposed.as_bytes())?;
    let message = &transaction.message;
    let keys = message.static_account_keys();
    let program = |instruction: &CompiledInstruction| keys.get(usize::from(instruction.program_id_index)).copied();
    let accounts = |instruction: &CompiledInstruction| -> Option<Vec<Address>> {
        instruction.accounts.iter().map(|at| keys.get(usize::from(*at)).copied()).collect()
    };
    let tables = message.address_table_lookups().is_some_and(|tables| !tables.is_empty());
    ensure!(!tables, "it names accounts by lookup tables");
    ensure!(keys.first().is_some_and(|payer| *payer != purse.book.operator()), "the operator would pay its fee");
    let (budget, ours): (Vec<_>, Vec<_>) =
        message.instructions().iter().partition(|instruction| program(instruction) == Some(COMPUTE_BUDGET_PROGRAM));
    ensure!(budget.iter().all(|instruction| instruction.accounts.is_empty()), "its compute budget touches accounts");
    let (refund, claims) = ours.split_last().context("it does nothing")?;
    let page = Address::from(purse.channel.page.0);
    let is_claim = |instruction: &&CompiledInstruction| {
        let kind = instruction.data.first();
        program(instruction) == Some(PROGRAM_ID)
            && [discriminator::CLAIM, discriminator::CLAIM_BELOW].iter().any(|claim| kind == Some(claim))
            && accounts(instruction) == Some(vec![page])
    };
    ensure!(claims.len() <= 1 && claims.iter().all(is_claim), "something else than a claim of the page");
    let row = RefundRow { slot: purse.channel.slot, generation: purse.channel.generation, keep: charged.get() };
    let (operator, payer) = (purse.book.operator(), purse.channel.payer.0.into());
    let wanted = Instructions::new(PROGRAM_ID).refund(&purse.book, &page, &operator, &[(row, payer)]);
    let wanted_accounts = wanted.accounts.iter().map(|account| account.pubkey).collect();
    ensure!(
        program(refund) == Some(PROGRAM_ID) && refund.data == wanted.data && accounts(refund) == Some(wanted_accounts),
        "another refund than the one that keeps what was charged"
    );
    Ok(transaction)
}

fn sign(mut transaction: VersionedTransaction, operator: &Keypair) -> Result<TransactionBytes> {
    let at = transaction.message.static_account_keys().iter().position(|key| *key == operator.pubkey());
    let at = at.context("the operator is no signer of it")?;
    let signature = operator.sign_message(&transaction.message.serialize());
    *transaction.signatures.get_mut(at).context("the operator is no signer of it")? = signature;
    Ok(TransactionBytes::new(to_bytes(&transaction)?)?)
}
