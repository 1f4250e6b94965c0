//! Bad input of every kind, over real HTTP: a named rejection with a status and a sentence, and nothing is charged.

use crate::customer::{Customer, PRICE, TEXT, stage};
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::deposit;
use tallybook_chain::instruction::NewChannel;
use tallybook_cli::demo::{Stage, offer};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{Channel, ChannelPayload, Deposit, Key, PaymentPayload, TransactionBytes};

/// The name in an answer's body, and that its sentence goes with it.
async fn refusal(response: Response) -> Result<(StatusCode, String)> {
    let status = response.status();
    let body: Value = response.json().await.context(status)?;
    let name = ["error", "invalidReason", "errorReason"].iter().find_map(|key| body[key].as_str());
    let name = name.with_context(|| format!("{status} names no reason: {body}"))?;
    Ok((status, name.to_owned()))
}

async fn present(customer: &Customer, stage: &Stage, header: String) -> Result<(StatusCode, String)> {
    let request = customer.client.post(stage.shop.paid()).header("payment-signature", header);
    refusal(request.body("another text than was paid for").send().await?).await
}

async fn present_json(customer: &Customer, stage: &Stage, payment: &Value) -> Result<(StatusCode, String)> {
    present(customer, stage, STANDARD.encode(payment.to_string())).await
}

/// A good payment for the next call, as JSON to spoil.
async fn good(customer: &Customer, stage: &Stage) -> Result<Value> {
    let (offer, channel) = (offer(&customer.client, &stage.shop.paid()).await?, customer.channel()?);
    let key = SigningKey::from_bytes(customer.wallet.secret_bytes());
    let voucher = SignedVoucher::sign(&key, channel.id.0, channel.charged.plus(PRICE)?);
    let payload = ChannelPayload::Voucher { voucher: voucher.into() };
    Ok(serde_json::to_value(PaymentPayload::new(offer, payload))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_voucher_is_refused_by_name_and_charges_nothing() -> Result<()> {
    let stage = stage().await?;
    let customer = Customer::arrive(&stage, Amount::new(10_000)).await?;
    customer.buy(&stage).await?;
    let good = good(&customer, &stage).await?;
    let spoiled = |pointer: &str, value: Value| {
        let mut payment = good.clone();
        *payment.pointer_mut(pointer).expect(pointer) = value;
        payment
    };
    let stranger = Keypair::new().pubkey().to_string();
    let other_signature = |key: &SigningKey, cumulative: Amount| {
        let id = customer.channel().unwrap().id;
        serde_json::to_value(tallybook_wire::Voucher::from(SignedVoucher::sign(key, id.0, cumulative))).unwrap()
    };
    let own = SigningKey::from_bytes(customer.wallet.secret_bytes());
    let cases = [
        ("/x402Version", json!(1), Rejection::UnsupportedVersion, 400),
        ("/accepted/scheme", json!("upto"), Rejection::UnsupportedScheme, 402),
        ("/accepted/scheme", json!("exact"), Rejection::MalformedPayload, 400),
        ("/accepted/network", json!("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"), Rejection::WrongNetwork, 402),
        ("/accepted/amount", json!("499"), Rejection::WrongPrice, 402),
        ("/accepted/amount", json!("-1"), Rejection::MalformedPayload, 400),
        ("/accepted/amount", json!(500), Rejection::MalformedPayload, 400),
        ("/accepted/amount", json!("5e2"), Rejection::MalformedPayload, 400),
        ("/accepted/payTo", json!(stranger), Rejection::RequirementsMismatch, 402),
        ("/accepted/extra/book", json!(stranger), Rejection::RequirementsMismatch, 402),
        ("/payload/type", json!("gift"), Rejection::MalformedPayload, 400),
        ("/payload/voucher", json!(null), Rejection::MalformedPayload, 400),
        ("/payload/voucher/signature", json!("0OIl"), Rejection::MalformedPayload, 400),
        ("/payload/voucher/channelId", json!(Key([7; 32])), Rejection::UnknownChannel, 402),
        (
            "/payload/voucher",
            other_signature(&SigningKey::from_bytes(&[9; 32]), PRICE.times(2)?),
            Rejection::BadSignature,
            402,
        ),
        ("/payload/voucher", other_signature(&own, PRICE.times(3)?), Rejection::WrongCumulative, 402),
        ("/payload/voucher", other_signature(&own, PRICE), Rejection::VoucherUsed, 402),
        ("/payload/voucher", other_signature(&own, Amount::new(u64::MAX)), Rejection::WrongCumulative, 402),
    ];
    for (pointer, value, rejection, status) in cases {
        let what = format!("{pointer} = {value}");
        let answer = present_json(&customer, &stage, &spoiled(pointer, value)).await.context(what.clone())?;
        assert_eq!((answer.0.as_u16(), answer.1.as_str()), (status, rejection.name()), "{what}");
    }
    for (header, rejection) in [
        ("not base64!".to_owned(), Rejection::MalformedPayload),
        (STANDARD.encode("not JSON"), Rejection::MalformedPayload),
        (STANDARD.encode([0xff; 99]), Rejection::MalformedPayload),
        ("A".repeat(8_193), Rejection::RequestTooLarge),
    ] {
        let (status, name) = present(&customer, &stage, header).await?;
        assert_eq!((status.as_u16(), name.as_str()), (400, rejection.name()));
    }
    // Nothing was charged or reserved, and the next call is served as if nothing had been.
    let receipt = customer.buy(&stage).await?;
    assert_eq!(receipt.channel_state.map(|state| state.charged_cumulative_amount), Some(PRICE.times(2)?));
    stage.shut_down().await
}

/// What a deposit is made from; each test case changes one thing.
struct Opening {
    deposit: u64,
    claimed: u64,
    fee_payer: Key,
    unsigned: bool,
    compute_price: Option<u64>,
    extra_instruction: bool,
}

/// A deposit by the customer, for the slot that is offered.
async fn deposit_payment(customer: &Customer, stage: &Stage, change: impl FnOnce(&mut Opening)) -> Result<Value> {
    let ground = &stage.ground;
    let offer = offer(&customer.client, &stage.shop.paid()).await?;
    let mut opening = Opening {
        deposit: 10_000,
        claimed: 10_000,
        fee_payer: offer.extra.fee_payer,
        unsigned: false,
        compute_price: None,
        extra_instruction: false,
    };
    change(&mut opening);
    let wallet = &customer.wallet;
    let new = NewChannel {
        payer: wallet.pubkey(),
        source: ground.mint.account_of(&wallet.pubkey()),
        operator: None,
        page: offer.extra.page.0.into(),
        slot: offer.extra.slot,
        generation: offer.extra.generation,
        signer: wallet.pubkey().to_bytes(),
        deposit: opening.deposit,
    };
    let id = deposit::expected_channel_id(&ground.page().await?, &new)?;
    let blockhash = ground.chain.rpc().get_latest_blockhash().await?;
    let mut instructions = deposit::instructions(&ground.book, &new, &id).to_vec();
    if let Some(price) = opening.compute_price {
        instructions[1] = tallybook_chain::transaction::compute_unit_price(price);
    }
    if opening.extra_instruction {
        instructions.push(tallybook_chain::transaction::memo("and one more thing"));
    }
    let fee_payer = opening.fee_payer.0.into();
    let message = solana_message::Message::new_with_blockhash(&instructions, Some(&fee_payer), &blockhash);
    let mut transaction = solana_transaction::Transaction::new_unsigned(message);
    if !opening.unsigned {
        transaction.partial_sign(&[wallet], blockhash);
    }
    let bytes = tallybook_chain::transaction::to_bytes(&transaction.into())?;
    let key = SigningKey::from_bytes(wallet.secret_bytes());
    let payload = ChannelPayload::Deposit {
        channel: Channel {
            payer: Key(new.payer.to_bytes()),
            signer: Key(new.signer),
            book: offer.extra.book,
            page: offer.extra.page,
            slot: new.slot,
            generation: new.generation,
        },
        voucher: SignedVoucher::sign(&key, id, PRICE).into(),
        deposit: Deposit { amount: Amount::new(opening.claimed), transaction: TransactionBytes::new(bytes)? },
    };
    Ok(serde_json::to_value(PaymentPayload::new(offer, payload))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_deposit_is_refused_by_name_and_moves_nothing() -> Result<()> {
    let stage = stage().await?;
    let customer = Customer::arrive(&stage, Amount::new(10_000)).await?;
    let sponsor = stage.ground.sponsor;
    let lamports = stage.ground.chain.rpc().get_balance(&sponsor).await?;
    let own = Key(customer.wallet.pubkey().to_bytes());
    type Change = Box<dyn Fn(&mut Opening)>;
    let cases: [(&str, Change, Rejection); 7] = [
        ("unsigned", Box::new(|opening| opening.unsigned = true), Rejection::PayerSignatureMissing),
        ("paid by the payer", Box::new(move |opening| opening.fee_payer = own), Rejection::WrongFeePayer),
        ("more claimed than moved", Box::new(|opening| opening.claimed = 10_001), Rejection::DepositMismatch),
        ("one instruction too many", Box::new(|opening| opening.extra_instruction = true), Rejection::MalformedDeposit),
        (
            "a fee to drain the sponsor",
            Box::new(|opening| opening.compute_price = Some(1_000_000_000_000)),
            Rejection::FeeTooHigh,
        ),
        (
            "more than the wallet holds",
            Box::new(|opening| {
                opening.deposit = 2_000_000;
                opening.claimed = 2_000_000;
            }),
            Rejection::SimulationFailed,
        ),
        (
            "less than its own voucher",
            Box::new(|opening| {
                opening.deposit = 100;
                opening.claimed = 100;
            }),
            Rejection::DepositExceeded,
        ),
    ];
    for (what, change, rejection) in &cases {
        let payment = deposit_payment(&customer, &stage, change).await?;
        let (status, name) = present_json(&customer, &stage, &payment).await.context(*what)?;
        assert_eq!((status.as_u16(), name.as_str()), (402, rejection.name()), "{what}");
    }
    let mut garbage = deposit_payment(&customer, &stage, |_| ()).await?;
    garbage["payload"]["deposit"]["transaction"] = json!(STANDARD.encode([1; 200]));
    let (_, name) = present_json(&customer, &stage, &garbage).await?;
    assert_eq!(name, Rejection::MalformedDeposit.name());
    // Nothing moved, and nobody paid a fee.
    assert_eq!(customer.held(&stage.ground).await?, customer.funds);
    assert_eq!(stage.ground.chain.rpc().get_balance(&sponsor).await?, lamports);
    // The same without a fault opens the channel.
    let good = deposit_payment(&customer, &stage, |_| ()).await?;
    let header = STANDARD.encode(good.to_string());
    let request = customer.client.post(stage.shop.paid()).header("payment-signature", header);
    assert_eq!(request.body(TEXT).send().await?.status(), 200);
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facilitator_refuses_by_name_what_is_not_its_own() -> Result<()> {
    let stage = stage().await?;
    let (client, url) = (reqwest::Client::new(), stage.facilitator());
    for (path, body, rejection) in [
        ("verify", "{".to_owned(), Rejection::MalformedPayload),
        ("settle", "[]".to_owned(), Rejection::MalformedPayload),
        ("release", json!({ "x402Version": 1 }).to_string(), Rejection::MalformedPayload),
        ("verify", " ".repeat(65_537), Rejection::RequestTooLarge),
    ] {
        let request = client.post(format!("{url}/{path}")).header("content-type", "application/json");
        let (status, name) = refusal(request.body(body).send().await?).await.context(path)?;
        assert!(status.is_client_error(), "{path}: {status}");
        assert_eq!(name, rejection.name(), "{path}");
    }
    for (path, rejection) in [
        (format!("channels/{}", Key([1; 32])), Rejection::UnknownChannel),
        (format!("books/{}/offer", Key([1; 32])), Rejection::UnknownBook),
    ] {
        let (status, name) = refusal(client.get(format!("{url}/{path}")).send().await?).await.context(path.clone())?;
        assert_eq!((status.as_u16(), name.as_str()), (404, rejection.name()), "{path}");
    }
    assert_eq!(client.get(format!("{url}/channels/nonsense")).send().await?.status(), 400);
    assert_eq!(client.get(format!("{url}/health")).send().await?.status(), 200);
    stage.shut_down().await
}
