//! Tools that cost something: paid, failed, repeated, cheated, cancelled.

use crate::desk::{PRICE, said, stage};
use crate::selling::{Shopper, Weather, agent, asks, declined, params, priced, receipt};
use anyhow::{Context, Result};
use rmcp::model::{CallToolRequest, ClientRequest};
use rmcp::service::PeerRequestOptions;
use serde_json::{Value, json};
use std::time::Duration;
use tallybook_mcp::{PAYMENT_RESPONSE, Priced};
use tallybook_rules::Amount;

#[tokio::test(flavor = "multi_thread")]
async fn given_a_priced_tool_when_it_is_called_then_it_asks_is_paid_once_and_failures_cost_nothing() -> Result<()> {
    let stage = stage().await?;
    let paywall = stage.ground.paywall(&stage.facilitator())?;
    let shopper = Shopper::of(priced(&paywall)?).await?;
    let agent = agent(&stage).await?;
    let bern = || json!({ "city": "Bern" });

    // Given a call without a payment, then it says how to pay, as the transport of x402 wants it
    let required = asks(&shopper.call("weather", bern(), None).await?)?;
    assert_eq!(required["resource"]["url"], "mcp://tool/weather");
    let ways: Vec<_> =
        required["accepts"].as_array().unwrap().iter().map(|way| (&way["scheme"], &way["amount"])).collect();
    let (channel, exact, price) = (json!("@tallybook/channel"), json!("exact"), json!("500"));
    assert_eq!(ways, [(&channel, &price), (&exact, &price)]);
    // And a tool without a price costs nothing
    assert_eq!(said(&shopper.call("cities", json!({}), None).await?), "Bern, Zug");
    // And what an unpaid call is answered with is no breach of the tool's output schema
    let tools = shopper.client.peer().list_all_tools().await?;
    let schema = tools.iter().find(|tool| tool.name == "weather").and_then(|tool| tool.output_schema.clone());
    assert_eq!(schema.context("no schema")?["anyOf"].as_array().map(Vec::len), Some(2));

    // When it is paid for, then it is served, and charged at the facilitator
    let result = shopper.buy(&agent, "weather", bern()).await?;
    assert_eq!(result.structured_content, Some(json!({ "sky": "sunny" })));
    let (cost, total, channel) = receipt(&result)?;
    assert_eq!((cost.as_str(), total.as_str()), ("500", "500"));
    let charged = async || anyhow::Ok(stage.channel(&channel).await?.charged);
    assert_eq!(charged().await?, PRICE);

    // When the very same call comes again, then it is answered the same, and charged once
    let paid = shopper.last_payment();
    let again = shopper.call("weather", bern(), paid.clone()).await?;
    assert_eq!((&again.structured_content, &again.meta), (&result.structured_content, &result.meta));
    // When the payment comes with other arguments, or to another tool, then it is not taken
    let other = shopper.call("weather", json!({ "city": "Zug" }), paid.clone()).await?;
    assert_eq!(declined(&other)?, "voucher_used");
    let other = shopper.call("forecast", bern(), paid.clone()).await?;
    assert_eq!(declined(&other)?, "wrong_price");
    // When it was made for another price, then neither
    let dearer = Priced::new(Weather).tool("weather", &paywall.charge("$0.0006")?);
    let dearer = Shopper::of(dearer).await?;
    assert_eq!(declined(&dearer.call("weather", bern(), paid).await?)?, "wrong_price");
    // When it is nonsense, then it is told so
    for nonsense in [json!("x"), json!({ "x402Version": 2 }), json!({ "x402Version": 2, "x": "x".repeat(9_000) })] {
        let refused = shopper.call("weather", bern(), Some(nonsense)).await?;
        assert_eq!(refused.is_error, Some(true));
        let receipt = refused.meta.as_ref().and_then(|meta| meta.get(PAYMENT_RESPONSE));
        assert!(receipt.is_none_or(|receipt| receipt["success"] == false), "{receipt:?}");
        assert!(!said(&refused).contains("sunny"));
    }
    assert_eq!(charged().await?, PRICE);

    // When the tool fails, then it is not paid for, and the next call pays as if nothing had been
    let failed = shopper.buy(&agent, "weather", json!({ "city": "Atlantis" })).await?;
    assert_eq!((failed.is_error, said(&failed).as_str(), failed.meta), (Some(true), "there is no such city", None));
    assert_eq!(charged().await?, PRICE);
    // When the price is a ceiling, then what it really cost is charged
    let result = shopper.buy(&agent, "forecast", json!({ "city": "Bern", "days": 3 })).await?;
    assert_eq!(said(&result), "sunny, sunny, sunny");
    let (cost, total, _) = receipt(&result)?;
    assert_eq!((cost.as_str(), total.as_str(), charged().await?), ("600", "1100", Amount::new(1_100)));
    let before = charged().await?;
    // When the arguments are too many, then nothing is paid
    let huge = shopper.buy(&agent, "weather", json!({ "city": "x".repeat(1 << 20) })).await?;
    assert!(huge.is_error == Some(true) && said(&huge).contains("at most"), "{}", said(&huge));
    assert_eq!(charged().await?, before);
    agent.shutdown().await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_paid_call_when_its_client_gives_it_up_then_nothing_is_charged_and_the_channel_is_free() -> Result<()> {
    let stage = stage().await?;
    let paywall = stage.ground.paywall(&stage.facilitator())?;
    let shopper = Shopper::of(priced(&paywall)?).await?;
    let agent = agent(&stage).await?;
    let (_, _, channel) = receipt(&shopper.buy(&agent, "weather", json!({ "city": "Bern" })).await?)?;

    // Given a call that takes its time and is cancelled
    let asked = shopper.call("weather", json!({ "city": "Bern", "seconds": 30 }), None).await?;
    let payment =
        tallybook_mcp::ToolPayment::of(&agent, &"mcp://tools".parse()?, "weather", &asked).await?.context("free")?;
    let mut slow = params("weather", json!({ "city": "Bern", "seconds": 30 }))?;
    payment.attach(&mut slow)?;
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(slow.clone()));
    let under_way = shopper.client.peer().send_cancellable_request(request, PeerRequestOptions::no_options()).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    under_way.cancel(Some("changed my mind".to_owned())).await?;
    drop(payment);

    // When the next call is made at once, then it is served: nothing was charged, and nothing held the channel
    let began = std::time::Instant::now();
    let (_, total, same) = receipt(&shopper.buy(&agent, "weather", json!({ "city": "Zug" })).await?)?;
    assert_eq!((total.as_str(), same), ("1000", channel));
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for the call that was given up");
    assert_eq!(stage.channel(&channel).await?.charged, PRICE.times(2)?);
    agent.shutdown().await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_results_too_large_to_be_kept_when_they_are_paid_for_then_they_come_with_their_receipt() -> Result<()> {
    let stage = stage().await?;
    // Given a server that keeps no answers
    let paywall = tallybook_paywall::Paywall::builder(stage.facilitator(), stage.ground.book.address.to_string())
        .keep_vouchers_in(stage.ground.vouchers())
        .keep_answers(0, 0)
        .build()?;
    let shopper = Shopper::of(priced(&paywall)?).await?;
    let agent = agent(&stage).await?;
    for (tool, days, total) in [("forecast", 3, "600"), ("weather", 0, "1100"), ("forecast", 1, "1300")] {
        let result = shopper.buy(&agent, tool, json!({ "city": "Bern", "days": days })).await?;
        assert_eq!(receipt(&result)?.1, total, "{tool}");
    }
    // Then the same payment again is no second call
    let again = shopper.call("forecast", json!({ "city": "Bern", "days": 1 }), shopper.last_payment()).await?;
    assert_eq!(declined(&again)?, "voucher_used");
    let spent: Vec<Value> = tallybook_agent::paid(&stage.ground.agent_folder(&agent.wallet().0.into()))
        .map(|paid| Ok(serde_json::to_value(paid?)?))
        .collect::<Result<_>>()?;
    let charges: Vec<&str> = spent.iter().filter_map(|paid| paid["charged"].as_str()).collect();
    assert_eq!((charges, &spent[0]["host"]), (vec!["600", "500", "200"], &json!("tools")));
    agent.shutdown().await?;
    stage.shut_down().await
}
