//! Paid calls. The agent makes the payments, so that its limits hold and its journal knows of each; they are sent from here, so
//! that what becomes of the same payment again can be seen.

use super::shop::{Shop, offer, reason, receipt, required};
use crate::conform::checks::{Checks, found};
use crate::conform::http::{Seen, judged};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tallybook_agent::{Agent, AgentError, Answered, Payment};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{AnswerExtra, ChannelPayload, Key, PAYMENT_METER, Reason, SettleResponse, VoucherState};

/// Makes all of these checks.
pub(super) async fn pay(shop: &Shop, agent: &Agent, checks: &mut Checks) -> Result<(), AgentError> {
    let Some(first) = call(shop, agent, checks, "a first paid call").await? else { return Ok(()) };
    // The first call opened a channel, or found one: from here on it is paid by voucher.
    let Some(payment) = next_payment(shop, agent).await? else {
        checks.leave_out("a second paid call", "§8", "paid by voucher", "it is not asked for money any more");
        return Ok(());
    };
    tampered(shop, &payment, checks).await;
    let Some(second) = answered(shop, payment, checks, "a second paid call").await? else { return Ok(()) };
    let charged = |paid: &Paid| paid.extra.channel_state.map(|state| state.charged_cumulative_amount);
    let same_channel = first.channel == second.channel;
    let total = charged(&first).zip(second.extra.charged_amount).and_then(|(before, cost)| before.plus(cost).ok());
    let risen = !same_channel || (total.is_some() && total == charged(&second));
    let expected = "charged in all = charged before + chargedAmount";
    checks.add("what is charged adds up", "§8", expected, found(risen, format_args!("{:?}", second.extra)));
    again(shop, &second, checks).await;
    close(agent, second.channel, checks).await
}

/// A call that was paid, with what paid it.
struct Paid {
    seen: Seen,
    header: reqwest::header::HeaderValue,
    channel: Key,
    extra: AnswerExtra,
    signed: Amount,
}

/// A payment for the next call; none where nothing is asked for.
async fn next_payment(shop: &Shop, agent: &Agent) -> Result<Option<Payment>, AgentError> {
    let Some(required) = shop.ask().await.ok().and_then(|seen| required(&seen)) else { return Ok(None) };
    agent.pay(Method::GET, shop.url.clone(), HeaderMap::new(), &required).await.map(Some)
}

async fn call(shop: &Shop, agent: &Agent, checks: &mut Checks, name: &str) -> Result<Option<Paid>, AgentError> {
    match next_payment(shop, agent).await? {
        Some(payment) => answered(shop, payment, checks, name).await,
        None => Ok(None),
    }
}

/// Sends a payment until its call is over, and looks at the receipt.
async fn answered(
    shop: &Shop,
    mut payment: Payment,
    checks: &mut Checks,
    name: &str,
) -> Result<Option<Paid>, AgentError> {
    let wallet = payment.payload().accepted.clone();
    loop {
        let (header, voucher) = (payment.header().clone(), *payment.payload().payload.voucher());
        let seen = match shop.present(header.clone()).await {
            Ok(seen) => seen,
            Err(_) => {
                payment = payment.lost().await?;
                continue;
            }
        };
        match payment.answered(response(&seen)).await? {
            Answered::Again(next) => payment = *next,
            Answered::Final(_) => {
                let expected = "a success, with PAYMENT-RESPONSE: success, payer, channelState";
                let extra = match receipt(&seen) {
                    Some(SettleResponse::Settled { extra, network, .. }) if network == wallet.network => Some(extra),
                    Some(_) | None => None,
                };
                let within = extra.as_ref().is_some_and(|extra| {
                    is_receipt(extra, &voucher.channel_id, wallet.amount, voucher.max_claimable_amount)
                });
                let stream =
                    if seen.headers.contains_key(PAYMENT_METER) { " (a stream: name a URL that is none)" } else { "" };
                let came = format!("{}{stream}, receipt {:?}", seen.status, receipt(&seen));
                checks.add(name, "§7", expected, found(seen.status.is_success() && within, came));
                let channel = voucher.channel_id;
                return Ok(extra.map(|extra| Paid {
                    seen,
                    header,
                    channel,
                    extra,
                    signed: voucher.max_claimable_amount,
                }));
            }
        }
    }
}

/// Whether a receipt says what was paid: at most the price, at most what was signed.
fn is_receipt(extra: &AnswerExtra, channel: &Key, price: Amount, signed: Amount) -> bool {
    let state = extra.channel_state.is_some_and(|state| {
        state.channel_id == *channel && state.charged_cumulative_amount <= signed && signed <= state.balance
    });
    state && extra.charged_amount.is_some_and(|cost| cost <= price)
}

/// The answer, as the agent reads it.
fn response(seen: &Seen) -> http::Response<Vec<u8>> {
    let mut response = http::Response::new(seen.body.clone());
    *response.status_mut() = seen.status;
    *response.headers_mut() = seen.headers.clone();
    response
}

/// The good payment, spoilt in one place each time: refused by name, and nothing is charged.
async fn tampered(shop: &Shop, payment: &Payment, checks: &mut Checks) {
    let Ok(good) = serde_json::to_value(payment.payload()) else { return };
    let ChannelPayload::Voucher { voucher } = payment.payload().payload else {
        return checks.leave_out("a tampered payment", "§8", "refused by name", "this one is no voucher");
    };
    let mut signature = voucher.signature;
    signature.0[0] ^= 1;
    let more = voucher.max_claimable_amount.plus(Amount::new(1)).unwrap_or_default().to_string();
    for (name, pointer, value, expected) in [
        ("another signature", "/payload/voucher/signature", json!(signature), "bad_signature"),
        ("another amount than was signed", "/payload/voucher/maxClaimableAmount", json!(more), "bad_signature"),
        ("another channel than was signed", "/payload/voucher/channelId", json!(Key([0xee; 32])), "unknown_channel"),
    ] {
        let mut payment = good.clone();
        if let Some(member) = payment.pointer_mut(pointer) {
            *member = value;
        }
        let seen = shop.present_json(&payment).await;
        let refused = judged(&seen, |seen| seen.status.as_u16() == 402 && reason(seen).as_deref() == Some(expected));
        checks.add(&format!("our payment, with {name}"), "§8", format_args!("402 {expected}"), refused);
    }
}

/// The payment that was taken, again: for the same, and for something else.
async fn again(shop: &Shop, paid: &Paid, checks: &mut Checks) {
    let seen = shop.present(paid.header.clone()).await;
    let same = judged(&seen, |seen| {
        let charged = |seen: &Seen| match receipt(seen) {
            Some(SettleResponse::Settled { extra, .. }) => {
                extra.channel_state.map(|state| state.charged_cumulative_amount)
            }
            Some(SettleResponse::Failed { .. }) | None => None,
        };
        seen.status == paid.seen.status && seen.body == paid.seen.body && charged(seen) == charged(&paid.seen)
    });
    checks.add("the same payment for the same request", "§8", "the stored answer and receipt: charged once", same);
    let seen = shop.present_elsewhere(paid.header.clone()).await;
    let used = Reason::from(Rejection::VoucherUsed);
    let refused = judged(&seen, |seen| {
        // A route may have another price for it.
        let names = [used.name(), Rejection::WrongPrice.name(), Rejection::RequirementsMismatch.name()];
        seen.status.as_u16() == 402 && reason(seen).is_some_and(|reason| names.contains(&reason.as_str()))
    });
    checks.add("the same payment for another request", "§8", "402 voucher_used: never a second payment", refused);
    let corrected = judged(&seen, |seen| reason(seen).as_deref() != Some(used.name()) || is_corrected(seen, paid));
    checks.add("its correction", "§8", "channelState as charged, voucherState that the client has signed", corrected);
}

/// Whether a 402 says where the channel stands after the call that was paid last.
fn is_corrected(seen: &Seen, paid: &Paid) -> bool {
    let Some(extra) = offer(seen).map(|offer| offer.extra) else { return false };
    let state = extra.channel_state.zip(paid.extra.channel_state);
    let charged = state.is_some_and(|(told, known)| {
        told.channel_id == paid.channel && told.charged_cumulative_amount == known.charged_cumulative_amount
    });
    charged && extra.voucher_state.is_some_and(|voucher| is_ours(&voucher, paid))
}

/// Whether a voucher that is shown is the one that paid last.
fn is_ours(shown: &VoucherState, paid: &Paid) -> bool {
    let payment: Option<Value> = tallybook_wire::read_header(paid.header.as_bytes()).ok();
    let signature = payment.and_then(|payment| payment.pointer("/payload/voucher/signature").cloned());
    shown.signed_max_claimable == paid.signed && signature == Some(json!(shown.signature))
}

/// The way out with the server's help.
async fn close(agent: &Agent, channel: Key, checks: &mut Checks) -> Result<(), AgentError> {
    let (name, expected) = ("the cooperative close", "the rest is back on chain at once");
    match agent.close(channel).await {
        Ok(_) => checks.add(name, "§7", expected, Ok(())),
        Err(error) => checks.add(
            name,
            "§7",
            expected,
            Err(format!("{error}; the channel {channel} stays: see `tallybook channel list`")),
        ),
    }
    Ok(())
}
