//! What can be checked of a facilitator without money.

use super::asking::{Desk, is_failed, is_invalid, is_refused, needed, request};
use crate::conform::checks::{Checks, found};
use crate::conform::http::{Seen, judged};
use anyhow::Result;
use core::num::NonZeroU32;
use serde_json::{Value, json};
use solana_address::Address;
use tallybook_chain::PROGRAM_ID;
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_wire::{ChannelPayload, Key, MAX_BODY_BYTES, Network, Offer, PaymentRequirements, SCHEME, read_body};

/// The price of a call that nobody pays for.
const PRICE: Amount = Amount::new(10);
/// An address that nobody has: that of no book, payee or page.
const NOBODY: Key = Key([0xee; 32]);

/// Makes all of these checks.
pub(super) async fn look(desk: &mut Desk, book: Option<Address>, checks: &mut Checks) -> Result<()> {
    // Whoever does not answer this answers nothing.
    let supported = needed(desk.get("supported").await)?;
    let fee_payer = look_at_kinds(&supported, checks);
    let health = desk.get("health").await;
    let is_health = |seen: &Seen| ["ok", "degraded", "draining"].iter().any(|word| seen.says("/status", *word));
    let expected = "200, status ok, degraded or draining";
    checks.add("GET /health", "§7", expected, judged(&health, |seen| seen.status.is_success() && is_health(seen)));
    unknown(desk, checks).await;
    unreadable(desk, checks).await;
    token(desk, checks).await;
    let Some(book) = book else {
        checks.leave_out("GET /books/{book}/offer", "§7", "a whole offer", "name a --book that it serves");
        return Ok(());
    };
    let seen = desk.get(&format!("books/{book}/offer")).await;
    desk.offer = look_at_offer(&seen, &book, fee_payer, checks);
    if let Some(offer) = desk.offer.clone() {
        payments(desk, &offer.priced(PRICE, NonZeroU32::MIN.saturating_add(59)), checks).await;
    }
    Ok(())
}

/// `GET /supported`; the sponsor that it names.
fn look_at_kinds(seen: &Seen, checks: &mut Checks) -> Option<Key> {
    let json = seen.json();
    let kinds = json.get("kinds").and_then(Value::as_array).cloned().unwrap_or_default();
    let ours = kinds.into_iter().find(|kind| kind.get("scheme").and_then(Value::as_str) == Some(SCHEME));
    let key = |member: &str| -> Option<Key> { ours.as_ref()?.get("extra")?.get(member)?.as_str()?.parse().ok() };
    let network = ours.as_ref().and_then(|kind| kind.get("network")?.as_str()?.parse::<Network>().ok());
    let is_v2 = ours.as_ref().is_some_and(|kind| kind.get("x402Version") == Some(&json!(2)));
    let whole = is_v2 && network.is_some() && key("genesisHash").is_some();
    let named = key("feePayer").zip(key("programId")).filter(|_| whole && seen.status.is_success());
    let expected = format!("a kind of {SCHEME}: x402Version 2, network, feePayer, programId, genesisHash");
    checks.add("GET /supported", "§7", expected, found(named.is_some(), seen));
    let (fee_payer, program) = named?;
    let pinned = Key(PROGRAM_ID.to_bytes());
    checks.add("its program is the pinned one", "§7", pinned, found(program == pinned, program));
    let signers = json.get("signers").and_then(Value::as_object).cloned().unwrap_or_default();
    let listed = signers.values().filter_map(Value::as_array).flatten().any(|key| *key == json!(fee_payer));
    checks.add("its sponsor is among the signers", "§7", fee_payer, found(listed, json!(signers)));
    Some(fee_payer)
}

fn look_at_offer(
    seen: &Result<Seen, String>,
    book: &Address,
    fee_payer: Option<Key>,
    checks: &mut Checks,
) -> Option<Offer> {
    let offer: Option<Offer> = seen.as_ref().ok().and_then(|seen| read_body(&seen.body).ok());
    let (name, expected) = ("GET /books/{book}/offer", "200, and all that a 402 needs");
    checks.add(name, "§7", expected, judged(seen, |seen| seen.status.is_success() && offer.is_some()));
    let offer = offer?;
    let extra = &offer.extra;
    let faults = [
        (extra.book.0 != book.to_bytes(), "it is of another book"),
        (fee_payer.is_some_and(|fee_payer| fee_payer != extra.fee_payer), "its feePayer is not that of /supported"),
        (!(900..=2_592_000).contains(&extra.withdraw_delay), "withdrawDelay is no grace period"),
        (extra.min_deposit.is_zero() || extra.min_deposit > Amount::MAX_DEPOSIT, "minDeposit is out of range"),
        (extra.slot >= 96, "no page has such a slot"),
        (extra.generation == 0, "no slot has the generation 0 once it is open"),
    ];
    let fault = faults.iter().find(|(is_fault, _)| *is_fault);
    checks.add(
        "the offer's terms",
        "§2",
        "within what a book may say",
        fault.map_or(Ok(()), |(_, why)| Err((*why).to_owned())),
    );
    Some(offer)
}

/// What nobody has.
async fn unknown(desk: &Desk, checks: &mut Checks) {
    for (path, name, reason) in [
        (format!("books/{NOBODY}/offer"), "the offer of a book that it does not serve", "unknown_book"),
        (format!("channels/{NOBODY}"), "a channel that there is not", "unknown_channel"),
    ] {
        let seen = desk.get(&path).await;
        checks.add(name, "§7", format_args!("404 {reason}"), judged(&seen, |seen| is_refused(seen, &[404], reason)));
    }
    let seen = desk.get("channels/nonsense").await;
    let refused = judged(&seen, |seen| is_refused(seen, &[400], "malformed_payload"));
    checks.add("a channel id that is none", "§7", "400 malformed_payload", refused);
}

/// Bodies that are no request.
async fn unreadable(desk: &Desk, checks: &mut Checks) {
    let made_up = made_up();
    let payload = voucher_of_nobody();
    let spoilt = |pointers: &[&str], value: Value| {
        let mut body = request(&made_up, &made_up, &payload);
        for pointer in pointers {
            if let Some(member) = body.pointer_mut(pointer) {
                *member = value.clone();
            }
        }
        body.to_string()
    };
    let schemes = ["/paymentPayload/accepted/scheme", "/paymentRequirements/scheme"];
    let versions = ["/x402Version", "/paymentPayload/x402Version"];
    unsupported(desk, checks, "x402Version 99", &spoilt(&versions, json!(99))).await;
    unsupported(desk, checks, "a scheme that nobody knows", &spoilt(&schemes, json!("no-such-scheme"))).await;
    let amounts = ["/paymentPayload/accepted/amount", "/paymentRequirements/amount"];
    let bodies = [
        ("a body that is no JSON", "{".to_owned(), 400, "malformed_payload"),
        ("a body of another form", "[]".to_owned(), 400, "malformed_payload"),
        ("an amount that is a number", spoilt(&amounts, json!(10)), 400, "malformed_payload"),
        ("an amount with a sign", spoilt(&amounts, json!("-10")), 400, "malformed_payload"),
        (
            "a signature that is none",
            spoilt(&["/paymentPayload/payload/voucher/signature"], json!("0OIl")),
            400,
            "malformed_payload",
        ),
        ("a body above 65,536 bytes", " ".repeat(MAX_BODY_BYTES.saturating_add(1)), 413, "request_too_large"),
    ];
    for (name, body, status, reason) in bodies {
        for path in ["verify", "settle", "release"] {
            let seen = desk.post(path, body.clone()).await;
            let refused = judged(&seen, |seen| is_refused(seen, &[status], reason));
            checks.add(&format!("POST /{path}: {name}"), "§7", format_args!("{status} {reason}"), refused);
        }
    }
}

/// What no scheme of the facilitator answers for. With several schemes it cannot say more than that.
async fn unsupported(desk: &Desk, checks: &mut Checks, name: &str, body: &str) {
    for path in ["verify", "settle", "release"] {
        let seen = desk.post(path, body.to_owned()).await;
        let refused = judged(&seen, |seen| {
            is_unsupported(seen, &["unsupported_version", "unsupported_scheme", "invalid_x402_version"])
        });
        let expected = "refused, unsupported_version, invalid_x402_version or unsupported_scheme";
        checks.add(&format!("POST /{path}: {name}"), "§7", expected, refused);
    }
}

/// Whether something was refused by one of these names, as a payment or as a request.
fn is_unsupported(seen: &Seen, names: &[&str]) -> bool {
    let is_answer = seen.status.is_success() && (seen.says("/isValid", false) || seen.says("/success", false));
    (is_answer || seen.status.as_u16() == 400) && seen.reason().is_some_and(|reason| names.contains(&reason.as_str()))
}

/// What only those may ask who have the access token.
async fn token(desk: &Desk, checks: &mut Checks) {
    let (name, expected) = ("without the access token", "401 unauthorized");
    if !desk.has_token() {
        return checks.leave_out(name, "§7", expected, "name its --access-token, if it has one");
    }
    for path in ["verify", "settle", "release", "vouchers"] {
        let seen = desk.post_without_token(path, "{}").await;
        let refused = judged(&seen, |seen| is_refused(seen, &[401], "unauthorized"));
        checks.add(&format!("POST /{path} {name}"), "§7", expected, refused);
    }
}

/// Payments that are well formed and pay for nothing.
async fn payments(desk: &Desk, asked: &PaymentRequirements, checks: &mut Checks) {
    let payload = voucher_of_nobody();
    let with = |change: &dyn Fn(&mut PaymentRequirements)| {
        let mut changed = asked.clone();
        change(&mut changed);
        changed
    };
    let elsewhere = if asked.network == Network::mainnet() { Network::devnet() } else { Network::mainnet() };
    let elsewhere = with(&|offer| offer.network = elsewhere.clone());
    let stranger = with(&|offer| offer.pay_to = NOBODY);
    let no_book = with(&|offer| offer.extra.book = NOBODY);
    let cheaper = with(&|offer| offer.amount = Amount::new(1));
    let dearer = with(&|offer| offer.amount = Amount::new(11));
    let seen = desk.post("verify", request(&elsewhere, &elsewhere, &payload).to_string()).await;
    let refused = judged(&seen, |seen| is_unsupported(seen, &["wrong_network", "invalid_network"]));
    checks.add("POST /verify: another network", "§7", "refused, wrong_network or invalid_network", refused);
    for (name, accepted, required, reason) in [
        ("a book that it does not serve", &no_book, &no_book, "unknown_book"),
        ("another payee than the book's", &stranger, &stranger, "requirements_mismatch"),
        ("accepted is for another payee than required", &stranger, asked, "requirements_mismatch"),
        ("accepted is for another price than required", &cheaper, asked, "wrong_price"),
        ("a channel that there is not", asked, asked, "unknown_channel"),
    ] {
        let seen = desk.post("verify", request(accepted, required, &payload).to_string()).await;
        let refused = judged(&seen, |seen| is_invalid(seen, reason));
        checks.add(&format!("POST /verify: {name}"), "§7", format_args!("isValid false, {reason}"), refused);
    }
    for (name, required, reason) in [
        ("a channel that there is not", asked, "unknown_channel"),
        ("it cost more than was accepted", &dearer, "charge_above_ceiling"),
    ] {
        let seen = desk.post("settle", request(asked, required, &payload).to_string()).await;
        let failed = judged(&seen, |seen| is_failed(seen, reason));
        checks.add(&format!("POST /settle: {name}"), "§7", format_args!("success false, {reason}"), failed);
    }
    let seen = desk.ask("release", asked, &payload).await;
    let released = judged(&seen, |seen| seen.status.is_success() && seen.says("/released", false));
    checks.add("POST /release: no such reservation", "§7", "released false: as good as released", released);
}

/// A voucher by a key that nobody uses, over a channel that there is not.
fn voucher_of_nobody() -> ChannelPayload {
    let key = SigningKey::from_bytes(&[0x5a; 32]);
    ChannelPayload::Voucher { voucher: SignedVoucher::sign(&key, NOBODY.0, PRICE).into() }
}

/// Requirements of a book that there is not.
fn made_up() -> PaymentRequirements {
    PaymentRequirements {
        scheme: tallybook_wire::Scheme,
        network: Network::devnet(),
        amount: PRICE,
        asset: NOBODY,
        pay_to: NOBODY,
        max_timeout_seconds: NonZeroU32::MIN,
        extra: tallybook_wire::Extra {
            book: NOBODY,
            book_id: 0,
            page: NOBODY,
            slot: 0,
            generation: 1,
            fee_payer: NOBODY,
            withdraw_delay: 900,
            min_deposit: Amount::new(1),
            token_program: NOBODY,
            decimals: 6,
            metered: false,
            recent_blockhash: None,
            channel_state: None,
            voucher_state: None,
            other: Default::default(),
        },
        other: Default::default(),
    }
}
