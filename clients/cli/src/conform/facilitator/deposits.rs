//! Opening a channel, and adding to it, at the facilitator's expense.

use super::asking::{Desk, is_failed, is_invalid, is_settled, is_valid};
use super::purse::Purse;
use crate::conform::checks::{Checks, found};
use crate::conform::http::{Seen, judged};
use anyhow::{Result, bail};
use serde_json::Value;
use tallybook_rules::{Amount, Status};
use tallybook_wire::{ChannelPayload, Deposit, TransactionBytes};

/// Opens the channel; says whether there is one now.
pub(super) async fn open(desk: &Desk, purse: &mut Purse, checks: &mut Checks) -> Result<bool> {
    let (asked, opening) = (purse.asked(purse.price), purse.opening().await?);
    refusals(desk, purse, &opening, checks).await?;
    let seen = desk.ask("verify", &asked, &opening).await;
    checks.add("POST /verify: a deposit", "§7", "isValid true", judged(&seen, is_valid));
    let still_free = purse.slot().await?.status() == Ok(Status::Free);
    checks.add(
        "POST /verify of a deposit sends nothing",
        "§7",
        "the slot is still free",
        found(still_free, "it is taken"),
    );
    let first = settle(desk, purse, &opening, checks, "POST /settle: a deposit").await;
    let (slot, channel) = (purse.slot().await?, purse.channel);
    let is_ours = slot.generation == channel.generation
        && slot.payer == channel.payer.0
        && slot.signer == channel.signer.0
        && slot.deposit == purse.deposit
        && slot.status() == Ok(Status::Open);
    let expected = format!("slot {} is open, with {}", channel.slot, purse.deposit);
    checks.add("the deposit is on chain", "§3", expected, found(is_ours, format_args!("{slot:?}")));
    let again = desk.ask("settle", &asked, &opening).await;
    let same = judged(&again, |again| same_transaction(&first, again));
    checks.add("POST /settle: the same deposit again", "§7", "the same answer, the same transaction", same);
    let seen = desk.get(&format!("channels/{}", purse.id)).await;
    let shown = |seen: &Seen| {
        let deposit = seen.says("/deposit", purse.deposit.to_string());
        deposit && seen.says("/charged", "0") && seen.says("/settled", "0") && seen.says("/status", "open")
    };
    let expected = format!("deposit {}, charged 0: a deposit charges nothing", purse.deposit);
    checks.add("GET /channels/{id}", "§7", expected, judged(&seen, shown));
    Ok(is_ours)
}

/// Sends a deposit until its outcome is known.
async fn settle(
    desk: &Desk,
    purse: &Purse,
    payload: &ChannelPayload,
    checks: &mut Checks,
    name: &str,
) -> Result<Seen, String> {
    /// More often the outcome stays unknown.
    const TRIES: u32 = 20;
    let mut seen = desk.ask("settle", &purse.asked(purse.price), payload).await;
    for _ in 0..TRIES {
        if !seen.as_ref().is_ok_and(|seen| is_failed(seen, "settlement_pending")) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        seen = desk.ask("settle", &purse.asked(purse.price), payload).await;
    }
    let named = |seen: &Seen| is_settled(seen) && !seen.says("/transaction", "");
    checks.add(name, "§7", "success true, with the transaction's name", judged(&seen, named));
    seen
}

fn same_transaction(first: &Result<Seen, String>, again: &Seen) -> bool {
    let name = |seen: &Seen| seen.json().get("transaction").and_then(Value::as_str).map(str::to_owned);
    is_settled(again) && first.as_ref().is_ok_and(|first| name(first) == name(again))
}

/// Deposits that are not what they say.
async fn refusals(desk: &Desk, purse: &Purse, opening: &ChannelPayload, checks: &mut Checks) -> Result<()> {
    let ChannelPayload::Deposit { channel, voucher, deposit } = opening else { bail!("no deposit") };
    let asked = purse.asked(purse.price);
    let more = Deposit { amount: deposit.amount.plus(Amount::new(1))?, ..deposit.clone() };
    let unsigned = Deposit { transaction: without_signatures(&deposit.transaction)?, ..deposit.clone() };
    let beyond = purse.signed(purse.price.plus(Amount::new(1))?);
    for (name, payload, reason) in [
        (
            "the transaction moves another amount",
            ChannelPayload::Deposit { channel: *channel, voucher: *voucher, deposit: more },
            "deposit_mismatch",
        ),
        (
            "the payer has not signed",
            ChannelPayload::Deposit { channel: *channel, voucher: *voucher, deposit: unsigned },
            "payer_signature_missing",
        ),
        (
            "the first voucher is not the price",
            ChannelPayload::Deposit { channel: *channel, voucher: beyond, deposit: deposit.clone() },
            "wrong_cumulative",
        ),
    ] {
        let seen = desk.ask("verify", &asked, &payload).await;
        let refused = judged(&seen, |seen| is_invalid(seen, reason));
        checks.add(&format!("POST /verify: a deposit, {name}"), "§7", format_args!("isValid false, {reason}"), refused);
    }
    Ok(())
}

/// The transaction with zeros for every signature.
fn without_signatures(transaction: &TransactionBytes) -> Result<TransactionBytes> {
    let mut read = tallybook_chain::transaction::from_bytes(transaction.as_bytes())?;
    read.signatures.iter_mut().for_each(|signature| *signature = Default::default());
    Ok(TransactionBytes::new(tallybook_chain::transaction::to_bytes(&read)?)?)
}

/// Adds as much again to the deposit.
pub(super) async fn top_up(desk: &Desk, purse: &mut Purse, checks: &mut Checks) -> Result<()> {
    let seen = desk.get(&format!("channels/{}", purse.id)).await;
    let charged = seen.ok().and_then(|seen| {
        let json = seen.json();
        tallybook_wire::decimal::parse(json.get("charged")?.as_str()?).ok()
    });
    let Some(charged) = charged else {
        checks.leave_out("POST /settle: a top-up", "§7", "the deposit rises", "what was charged is not known");
        return Ok(());
    };
    let before = purse.slot().await?.deposit;
    let (asked, addition) = (purse.asked(purse.price), purse.addition(charged).await?);
    let seen = desk.ask("verify", &asked, &addition).await;
    checks.add("POST /verify: a top-up", "§7", "isValid true", judged(&seen, is_valid));
    let first = settle(desk, purse, &addition, checks, "POST /settle: a top-up").await;
    let risen = before.plus(purse.deposit)?;
    let now = purse.slot().await?.deposit;
    checks.add("the top-up is on chain", "§5", format_args!("a deposit of {risen}"), found(now == risen, now));
    let again = desk.ask("settle", &asked, &addition).await;
    let same = judged(&again, |again| same_transaction(&first, again));
    checks.add("POST /settle: the same top-up again", "§7", "the same answer, the same transaction", same);
    let now = purse.slot().await?.deposit;
    checks.add("a top-up lands once", "§7", format_args!("a deposit of {risen}"), found(now == risen, now));
    Ok(())
}
