//! Declared, paid for, found by somebody else, and bought by what was found.

use crate::command_line::{Ran, Shell, base_units, slow_stage};
use crate::customer::{TEXT, until};
use anyhow::{Context, Result};
use serde_json::Value;
use tallybook_cli::demo::Stage;

/// What `tallybook find` shows with these arguments.
async fn found(shell: &Shell, stage: &Stage, arguments: &[&str]) -> Result<Vec<Value>> {
    let facilitator = stage.facilitator();
    let found = shell.json(&[&["find", "--facilitator", &facilitator], arguments].concat()).await?;
    found["found"].as_array().cloned().context("no list")
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_declared_route_when_it_was_paid_for_then_a_stranger_finds_it_and_buys_by_what_it_reads() -> Result<()>
{
    // Given a route that declares itself: nobody has paid, nothing is listed
    let stage = slow_stage().await?;
    let (seller_friend, stranger) = (Shell::at(&stage.ground).await?, Shell::at(&stage.ground).await?);
    let url = stage.shop.paid();
    assert_eq!(found(&stranger, &stage, &["words"]).await?.len(), 0);
    let why = stranger.json(&["find", "--facilitator", &stage.facilitator(), "--why", &url]).await?;
    assert_eq!(why["asked"][0]["states"][0]["refused"]["reason"], "not_paid");

    // When somebody pays for a call
    let paid = seller_friend.run(&["pay", &url, "-d", TEXT]).await?;
    assert_eq!(paid.status, 0, "{}", paid.err);

    // Then it is listed, with what it costs and what is known of it
    let first = until("it is listed", async || Ok(found(&stranger, &stage, &["count", "words"]).await?.pop())).await?;
    assert_eq!((first["listing"]["resource"].as_str(), base_units(&first["price"])), (Some(url.as_str()), "500"));
    assert_eq!(first["listing"]["standing"]["payers"], 1);
    assert_eq!(first["way"]["scheme"], "@tallybook/channel");
    assert_eq!(found(&stranger, &stage, &["words", "--max-price", "0.0001"]).await?.len(), 0);
    assert_eq!(found(&stranger, &stage, &["bitcoin"]).await?.len(), 0);
    assert_eq!(found(&stranger, &stage, &["--type", "http", "--by", "price"]).await?.len(), 1);
    let quoted = found(&stranger, &stage, &["words", "--quote"]).await?;
    assert_eq!(quoted[0]["quote"]["says"], "asListed");

    // And a stranger who types what it reads has bought it
    let command = first["command"].as_str().context("no command")?;
    let Ran { status, out, err } = stranger.run_line(command).await?;
    let facts: Value = serde_json::from_str(&out).with_context(|| format!("{command}: {out} {err}"))?;
    assert_eq!((status, &facts["words"]), (0, &6.into()), "{err}");
    let both = until("both payers are counted", async || {
        let found = found(&stranger, &stage, &["words"]).await?.pop();
        Ok(found.filter(|found| found["listing"]["standing"]["payers"] == 2))
    });
    both.await?;

    // And a facilitator that starts again knows it
    let (stage, ()) = stage.without_facilitator(async |_| Ok(())).await?;
    let again = found(&stranger, &stage, &["words"]).await?;
    assert_eq!(again[0]["listing"]["standing"]["paidCalls"], 2);
    let shown = stranger.run(&["find", "words", "--facilitator", &stage.facilitator()]).await?;
    assert!(shown.out.contains("0.000500") && shown.out.contains("tallybook pay"), "{}", shown.out);
    let facilitator = stage.facilitator();
    stage.shut_down().await?;
    stranger.fails(&["find", "words", "--facilitator", &facilitator], 6, "does not answer").await
}
