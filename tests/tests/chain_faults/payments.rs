//! Payments by `exact` behind a bad line: each is paid once and granted once, an unknown outcome is called one, and who asks
//! again with the same payment is told how it ended, also by a facilitator that was started again meanwhile.

use crate::fault::{Fault, Plan, each_in_turn, on};
use crate::house::House;
use crate::proxy::until;
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::time::Duration;
use tallybook_facilitator::{Config, Facilitator};
use tallybook_tests::exact::{Buyer, Purchase, ask};
use tokio::time::Instant;

const PAID: u64 = 500;
const PENDING: &str = "settlement_pending";

/// A payment that is signed now.
async fn payment(house: &House, buyer: &Buyer) -> Result<Value> {
    let purchase = Purchase::of(&house.ground, PAID);
    purchase.request(&buyer.sign(&house.ground, &purchase).await?)
}

/// What the facilitator says of a payment: the transaction where it was granted, else the reason.
async fn settle(house: &House, request: &Value) -> Result<Result<String, String>> {
    let (status, answer) = ask(&house.http, &house.url(""), "settle", request).await?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    match status {
        200 if answer["success"] == true => Ok(Ok(text("transaction"))),
        200 if answer["errorReason"] == PENDING => {
            ensure!(!text("transaction").is_empty(), "what is pending has a name to look up: {answer}");
            Ok(Err(PENDING.to_owned()))
        }
        200 => Ok(Err(text("errorReason"))),
        _ => Ok(Err(text("error"))),
    }
}

/// Asks for the same payment until it is granted.
async fn settle_in_the_end(house: &House, request: &Value) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(40);
    let mut said = Vec::new();
    while Instant::now() < until {
        match settle(house, request).await? {
            Ok(transaction) => return Ok(transaction),
            Err(reason) => said.push(reason),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("never granted: {said:?}")
}

/// The same facilitator, over the same file, which is let go a moment after the old one has ended.
async fn restart(house: House, config: &Config) -> Result<House> {
    house.facilitator.shutdown().await?;
    let start = async || Ok(Facilitator::start(config.clone()).await.ok());
    let facilitator = until("the facilitator starts again", 10, start).await?;
    Ok(House { facilitator, ..house })
}

/// Nothing that is sent arrives.
fn nothing_arrives() -> Plan {
    on("sendTransaction", Fault::Dropped, u32::MAX)
}

async fn impatient() -> Result<(House, Config)> {
    let mut kept = None;
    let house = House::open_with(|config| {
        config.chain.patience_seconds = 1;
        kept = Some(config.clone());
    });
    let house = house.await?;
    Ok((house, kept.context("the configuration was changed")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn given_each_kind_of_fault_when_payments_are_settled_then_each_is_paid_and_granted_once() -> Result<()> {
    let house = House::open().await?;
    let buyer = Buyer::arrive(&house.ground, 100_000).await?;
    let methods =
        ["getSignatureStatuses", "sendTransaction", "simulateTransaction", "getLatestBlockhash", "getEpochInfo"];
    // A node that lies about what has landed is believed: those two are left out.
    let honest = |fault: &Fault| !matches!(fault, Fault::SaysLanded | Fault::ConfirmedThenGone);
    let of_node =
        methods.iter().map(|method| Fault::of_node(method).iter().copied().filter(honest).collect::<Vec<_>>());
    let faults = Fault::OF_THE_LINE.chunks(2).map(<[_]>::to_vec).chain(of_node);
    let mut granted = 0;
    for faults in faults {
        let request = payment(&house, &buyer).await?;
        house.line.suffer(each_in_turn(faults.clone()));
        let settled = settle_in_the_end(&house, &request).await;
        house.heal();
        settled.with_context(|| format!("{faults:?}: {:?}", house.line.done()))?;
        granted += 1;
        ensure!(settle(&house, &request).await? == Err("duplicate_settlement".to_owned()), "{faults:?}");
        ensure!(buyer.holds(&house.ground).await? == 100_000 - granted * PAID, "{faults:?}");
    }
    ensure!(house.paid().await?.get() == granted * PAID);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_facilitator_that_ends_between_sending_and_confirming_when_it_is_asked_again_then_it_grants_once()
-> Result<()> {
    let (mut house, config) = impatient().await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    // It lands, and the facilitator never hears of it.
    let request = payment(&house, &buyer).await?;
    house.line.suffer(on("getSignatureStatuses", Fault::SaysNotFound, u32::MAX));
    ensure!(settle(&house, &request).await? == Err(PENDING.to_owned()));
    ensure!(buyer.holds(&house.ground).await? == 10_000 - PAID, "it was paid");
    house = restart(house, &config).await?;
    house.heal();
    let (_, verified) = ask(&house.http, &house.url(""), "verify", &request).await?;
    ensure!(verified["isValid"] == true, "it is not to be paid again: {verified}");
    settle(&house, &request).await?.ok().context("granted")?;
    ensure!(settle(&house, &request).await? == Err("duplicate_settlement".to_owned()));
    house = restart(house, &config).await?;
    ensure!(settle(&house, &request).await? == Err("duplicate_settlement".to_owned()));

    // It does not land, and is sent again by the next process: the very same transaction.
    let request = payment(&house, &buyer).await?;
    house.line.suffer(nothing_arrives());
    ensure!(settle(&house, &request).await? == Err(PENDING.to_owned()));
    ensure!(buyer.holds(&house.ground).await? == 10_000 - PAID, "nothing arrived");
    house = restart(house, &config).await?;
    house.heal();
    settle_in_the_end(&house, &request).await?;
    ensure!(buyer.holds(&house.ground).await? == 10_000 - 2 * PAID);
    ensure!(house.paid().await?.get() == 2 * PAID);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_payment_that_never_lands_when_its_blockhash_has_expired_then_it_has_failed_and_another_may_be_signed()
-> Result<()> {
    let (house, _) = impatient().await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let request = payment(&house, &buyer).await?;
    house.line.suffer(nothing_arrives());
    let (until, mut said) = (Instant::now() + Duration::from_secs(60), Vec::new());
    while Instant::now() < until {
        match settle(&house, &request).await? {
            Ok(transaction) => anyhow::bail!("granted what never arrived: {transaction}"),
            Err(reason) if reason == PENDING => said.push(reason),
            Err(reason) => {
                said.push(reason);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(said.first().is_some_and(|first| first == PENDING), "{said:?}");
    ensure!(said.last().is_some_and(|last| last == "invalid_exact_svm_transaction_failed"), "{said:?}");
    house.heal();
    ensure!(house.paid().await?.get() == 0);
    // The old one is not taken up again, and a new one is.
    let reason = settle(&house, &request).await?.err().context("not granted")?;
    ensure!(reason == "invalid_exact_svm_transaction_simulation_failed", "{reason}");
    settle_in_the_end(&house, &payment(&house, &buyer).await?).await?;
    ensure!(house.paid().await?.get() == PAID);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_route_when_its_payment_is_pending_then_nobody_is_told_to_pay_again_and_the_same_payment_is_served()
-> Result<()> {
    let (house, _) = impatient().await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let buy = async |request: &Value| -> Result<reqwest::Response> {
        let asked = house.http.post(house.shop.paid()).body("words").send().await?;
        let required: Value = serde_json::from_slice(&STANDARD.decode(&asked.headers()["payment-required"])?)?;
        let mut payment = request["paymentPayload"].clone();
        payment["accepted"] = required["accepts"][1].clone();
        let paying =
            house.http.post(house.shop.paid()).header("payment-signature", STANDARD.encode(payment.to_string()));
        Ok(paying.body("words").send().await?)
    };
    // Decided while the paywall asks for the second time: served at once.
    let request = payment(&house, &buyer).await?;
    house.line.suffer(on("sendTransaction", Fault::Dropped, 1));
    ensure!(buy(&request).await?.status() == 200, "{:?}", house.line.done());
    // Not decided for longer.
    let request = payment(&house, &buyer).await?;
    house.line.suffer(nothing_arrives());
    let pending = buy(&request).await?;
    ensure!(pending.status() == 503, "{}", pending.status());
    let receipt: Value = serde_json::from_slice(&STANDARD.decode(&pending.headers()["payment-response"])?)?;
    ensure!(receipt["errorReason"] == PENDING && receipt["transaction"] != "", "{receipt}");
    house.heal();
    ensure!(buy(&request).await?.status() == 200);
    let again = buy(&request).await?;
    ensure!(again.status() == 402, "a payment buys once");
    ensure!(house.paid().await?.get() == 2 * PAID);
    ensure!(buyer.holds(&house.ground).await? == 10_000 - 2 * PAID);
    house.close().await
}
