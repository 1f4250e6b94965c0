//! Questions about JSON and headers: amounts, offers, payments, and what a corrective answer may say.

use super::case::Case;
use super::dice::Dice;
use super::question::{Hex, Question};
use anyhow::Result;
use serde_json::{Value, json};
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_wire::{ChannelState, Key, Network, SCHEME, VoucherState, header};

/// Amounts as they stand on the wire.
pub(super) fn amounts() -> Vec<Case> {
    let ask = |case: Case, values: &[Value]| {
        values.iter().fold(case, |case, value| {
            let answer = if case.expected.starts_with("null") { Value::Null } else { value.clone() };
            case.ask(Question::Amount { value: value.clone() }, answer)
        })
    };
    let good = ["0", "1", "500", "281474976710656", "9007199254740993", "18446744073709551615"];
    let bad =
        ["", "01", "00", "-1", "+1", "1.0", "1e3", "0x1", " 1", "1 ", "1,000", "１", "18446744073709551616", "NaN"];
    let good: Vec<Value> = good.map(Value::from).to_vec();
    let bad: Vec<Value> = bad.map(Value::from).to_vec();
    vec![
        ask(Case::new("amount: decimal strings below 2^64", "§7", "the amount, exactly"), &good),
        ask(
            Case::new("amount: everything else that is written as a string", "§7", "null: one amount has one spelling"),
            &bad,
        ),
        ask(
            Case::new("amount: what is no string", "§7", "null: amounts are decimal strings"),
            &[json!(500), json!(1.5), json!(null), json!(true), json!(["1"]), json!({ "amount": "1" })],
        ),
    ]
}

/// What the offers of these cases are made of.
struct Shop {
    asset: Key,
    keys: [Key; 5],
    network: Network,
}

impl Shop {
    fn new(dice: &mut Dice) -> Self {
        let mut key = || Key(dice.key().0);
        Self { asset: key(), keys: [key(), key(), key(), key(), key()], network: Network::devnet() }
    }

    fn offer(&self, amount: &str) -> Value {
        let [payee, book, page, fee_payer, token_program] = self.keys;
        json!({
            "scheme": SCHEME, "network": self.network, "amount": amount, "asset": self.asset, "payTo": payee,
            "maxTimeoutSeconds": 60, "aMemberOfTomorrow": { "kept": ["for", "the", "echo"] },
            "extra": {
                "book": book, "bookId": 0, "page": page, "slot": 7, "generation": 3, "feePayer": fee_payer,
                "withdrawDelay": 900, "minDeposit": "1000", "tokenProgram": token_program, "decimals": 6,
                "another": 1
            }
        })
    }

    fn foreign(&self) -> Value {
        json!({
            "scheme": "exact", "network": self.network, "amount": "500", "asset": self.asset, "payTo": self.keys[0],
            "maxTimeoutSeconds": 60, "extra": { "feePayer": self.keys[3] }
        })
    }

    fn header(&self, accepts: &[Value]) -> Result<String> {
        let resource = json!({ "url": "https://api.example.com/weather", "description": "", "mimeType": "text/plain" });
        write(&json!({ "x402Version": 2, "error": "payment required", "resource": resource, "accepts": accepts }))
    }

    fn ask(&self, header: String) -> Question {
        Question::Offers { header, network: self.network.clone(), asset: self.asset }
    }

    fn ask_about(&self, accepts: &[Value]) -> Result<Question> {
        Ok(self.ask(self.header(accepts)?))
    }

    /// The offer with a member of another value.
    fn spoilt(&self, pointer: &str, value: Value) -> Value {
        let mut offer = self.offer("500");
        if let Some(member) = offer.pointer_mut(pointer) {
            *member = value;
        }
        offer
    }
}

fn write(message: &Value) -> Result<String> {
    Ok(header(message)?.to_str()?.to_owned())
}

/// Which offers of a 402 can be paid.
pub(super) fn offers(dice: &mut Dice) -> Result<Vec<Case>> {
    let shop = Shop::new(dice);
    let (ours, foreign) = (shop.offer("500"), shop.foreign());
    let none = "[]: none can be paid";
    let mut cases = vec![
        Case::new("offers: ours among others", "§7", "the places of ours: schemes that are not known are skipped")
            .ask(shop.ask_about(std::slice::from_ref(&ours))?, json!([0]))
            .ask(shop.ask_about(&[foreign.clone(), ours.clone()])?, json!([1]))
            .ask(shop.ask_about(&[ours.clone(), foreign.clone(), shop.offer("700")])?, json!([0, 2]))
            .ask(shop.ask_about(&[json!({ "scheme": "of tomorrow", "amount": 1 }), ours.clone()])?, json!([1]))
            .ask(shop.ask_about(&[])?, json!([]))
            .ask(shop.ask_about(&[foreign])?, json!([])),
        Case::new("offers: of another cluster or token", "§7", none)
            .ask(shop.ask_about(&[shop.spoilt("/network", json!(Network::mainnet()))])?, json!([]))
            .ask(shop.ask_about(&[shop.spoilt("/asset", json!(Key(dice.key().0)))])?, json!([])),
    ];
    let mut malformed = Case::new("offers: malformed ones of ours", "§7", none);
    for (pointer, value) in [
        ("/amount", json!(500)),
        ("/amount", json!("5e2")),
        ("/amount", json!("-1")),
        ("/amount", json!("18446744073709551616")),
        ("/asset", json!("0OIl")),
        ("/payTo", json!("")),
        ("/extra", json!(null)),
        ("/extra/book", json!("1111")),
        ("/extra/slot", json!(256)),
        ("/extra/generation", json!("3")),
        ("/extra/minDeposit", json!(1_000)),
    ] {
        malformed = malformed.ask(shop.ask_about(&[shop.spoilt(pointer, value)])?, json!([]));
    }
    let version = write(&json!({ "x402Version": 1, "resource": { "url": "" }, "accepts": [ours] }))?;
    let large = "A".repeat(8_193);
    let padding = shop.header(&[ours])?.trim_end_matches('=').to_owned();
    let unreadable =
        [version, "not base64!".to_owned(), String::new(), write(&json!([1]))?, large, format!("{padding}\u{e9}")];
    cases.push(malformed);
    cases.push(unreadable.into_iter().fold(
        Case::new("offers: headers of version 1, unreadable, above 8,192 bytes", "§7", none),
        |case, header| case.ask(shop.ask(header), json!([])),
    ));
    Ok(cases)
}

/// Paying an offer from a channel.
pub(super) fn payments(dice: &mut Dice) -> Result<Vec<Case>> {
    let shop = Shop::new(dice);
    let header = shop.header(&[shop.foreign(), shop.offer("500")])?;
    let (seed, channel_id) = (dice.key(), dice.key());
    let ask = |charged: u64, deposit: u64| Question::Payment {
        header: header.clone(),
        accept: 1,
        seed,
        channel_id,
        charged: Amount::new(charged),
        deposit: Amount::new(deposit),
    };
    Ok(vec![
        Case::new("payment: a voucher for charged + amount", "§8", "the offer echoed whole, payload of type voucher")
            .ask_all([
                ask(0, 100_000),
                ask(1_500, 100_000),
                ask(99_500, 100_000),
                ask(281_474_976_710_000, 281_474_976_710_655),
            ]),
        Case::new("payment: more than the deposit covers", "§8", "null: signed ≤ deposit")
            .ask(ask(99_501, 100_000), Value::Null)
            .ask(ask(0, 499), Value::Null)
            .ask(ask(u64::MAX, u64::MAX), Value::Null),
    ])
}

/// What a client knows, and how a corrective answer is made for it.
struct Payer {
    key: SigningKey,
    channel_id: Hex<32>,
}

impl Payer {
    fn voucher(&self, signed: u64) -> VoucherState {
        let voucher = SignedVoucher::sign(&self.key, self.channel_id.0, Amount::new(signed));
        VoucherState { signed_max_claimable: voucher.cumulative, signature: voucher.signature.into() }
    }

    fn state(&self, charged: u64) -> ChannelState {
        ChannelState {
            channel_id: self.channel_id.0.into(),
            balance: Amount::new(100_000),
            total_claimed: Amount::ZERO,
            charged_cumulative_amount: Amount::new(charged),
        }
    }

    /// A client that has seen 1000 charged, and may have been charged up to `possible`, is told this.
    fn told(&self, possible: u64, state: &ChannelState, voucher: Option<VoucherState>) -> Result<Question> {
        let mut extra = json!({ "channelState": serde_json::to_value(state)? });
        if let (Some(voucher), Some(extra)) = (voucher, extra.as_object_mut()) {
            extra.insert("voucherState".to_owned(), serde_json::to_value(voucher)?);
        }
        Ok(self.asked(possible, extra))
    }

    fn asked(&self, possible: u64, extra: Value) -> Question {
        self.asked_after(possible, 0, extra)
    }

    /// The same, once the chain has settled so much.
    fn asked_after(&self, possible: u64, settled: u64, extra: Value) -> Question {
        Question::Believe {
            signer: Hex(self.key.verifying_key().to_bytes()),
            channel_id: self.channel_id,
            charged: Amount::new(1_000),
            possible: Amount::new(possible),
            settled: Amount::new(settled),
            extra,
        }
    }

    /// What is told without a voucher once the chain has settled so much.
    fn told_after(&self, settled: u64, charged: u64) -> Result<Question> {
        let state = serde_json::to_value(self.state(charged))?;
        Ok(self.asked_after(1_000, settled, json!({ "channelState": state })))
    }
}

/// Whether a corrective answer may be believed.
pub(super) fn beliefs(dice: &mut Dice) -> Result<Vec<Case>> {
    let payer = Payer { key: SigningKey::from_bytes(&dice.key().0), channel_id: dice.key() };
    let other = Payer { key: SigningKey::from_bytes(&dice.key().0), channel_id: payer.channel_id };
    let elsewhere = Payer { key: payer.key.clone(), channel_id: dice.key() };
    let told = |possible, charged, signed| payer.told(possible, &payer.state(charged), Some(payer.voucher(signed)));
    let bare = |possible, charged| payer.told(possible, &payer.state(charged), None);
    let refused = |name, expected| Case::new(name, "§8", expected);
    let own = payer.state(1_500);
    Ok(vec![
        Case::new("believe: the call whose outcome was not seen", "§8", "charged, as told")
            .ask(told(1_500, 1_500, 1_500)?, "1500")
            .ask(told(1_500, 1_200, 1_500)?, "1200")
            .ask(told(1_500, 1_000, 1_000)?, "1000"),
        Case::new("believe: our own record", "§8", "charged, as told")
            .ask(bare(1_000, 1_000)?, "1000")
            .ask(bare(1_500, 1_000)?, "1000"),
        Case::new("believe: less than our own record", "§8", "charged, as told: the server gave something up")
            .ask(told(1_000, 400, 1_000)?, "400")
            .ask(bare(1_000, 0)?, "0"),
        Case::new(
            "believe: what the chain has settled",
            "§8",
            "charged, as told: the chain settles only what was signed",
        )
        .ask(payer.told_after(1_500, 1_500)?, "1500")
        .ask(payer.told_after(1_500, 1_200)?, "1500"),
        refused("believe: more than the chain has settled, without our voucher", "null")
            .ask(payer.told_after(1_400, 1_500)?, Value::Null),
        refused("believe: more than the one unseen call can have cost", "null")
            .ask(told(1_500, 1_501, 2_000)?, Value::Null),
        refused("believe: more than our record, no call being unseen", "null")
            .ask(told(1_000, 1_500, 1_500)?, Value::Null),
        refused("believe: more than our record, without our voucher", "null").ask(bare(1_500, 1_500)?, Value::Null),
        refused("believe: charged above what is shown as signed", "null").ask(told(1_500, 1_500, 1_499)?, Value::Null),
        refused("believe: a voucher that another key signed", "null")
            .ask(payer.told(1_500, &own, Some(other.voucher(1_500)))?, Value::Null),
        refused("believe: our voucher of another channel", "null")
            .ask(payer.told(1_500, &own, Some(elsewhere.voucher(1_500)))?, Value::Null),
        refused("believe: the state of another channel", "null")
            .ask(payer.told(1_500, &elsewhere.state(1_000), None)?, Value::Null)
            .ask(payer.told(1_500, &elsewhere.state(1_500), Some(payer.voucher(1_500)))?, Value::Null),
        refused("believe: our signature over another amount", "null").ask(
            payer.told(
                1_500,
                &own,
                Some(VoucherState { signed_max_claimable: Amount::new(1_500), ..payer.voucher(1_400) }),
            )?,
            Value::Null,
        ),
        refused("believe: no state, or one that cannot be read", "null: nothing is taken over")
            .ask(payer.asked(1_500, json!({})), Value::Null)
            .ask(payer.asked(1_500, json!({ "channelState": { "chargedCumulativeAmount": "1000" } })), Value::Null)
            .ask(payer.asked(1_500, spoilt(&payer, &own)?), Value::Null),
    ])
}

/// A state whose amount is no decimal string.
fn spoilt(payer: &Payer, state: &ChannelState) -> Result<Value> {
    let mut state = serde_json::to_value(state)?;
    if let Some(charged) = state.get_mut("chargedCumulativeAmount") {
        *charged = json!(1_500);
    }
    Ok(json!({ "channelState": state, "voucherState": serde_json::to_value(payer.voucher(1_500))? }))
}
