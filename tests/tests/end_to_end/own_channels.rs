//! Channels by hand, with the real binary: opened, added to, found again, left, all at the chain.

use crate::command_line::{Shell, base_units, slow_stage};
use crate::customer::TEXT;
use anyhow::{Context, Result};
use serde_json::Value;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::transaction::from_bytes;
use tallybook_cli::demo::Ground;
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::{keys, sending};
use tallybook_rules::Amount;
use tallybook_wire::TransactionBytes;

#[tokio::test(flavor = "multi_thread")]
async fn given_a_channel_opened_by_hand_when_the_folder_is_lost_then_it_is_found_and_pays_on() -> Result<()> {
    let stage = slow_stage().await?;
    let shell = Shell::at(&stage.ground).await?;
    let url = stage.shop.paid();
    shell.fails(&["channel", "open", &url], 1, "-X").await?;
    shell
        .fails(&["channel", "open", "-X", "POST", &url, "--max-grace-seconds", "60"], 1, "--max-grace-seconds")
        .await?;
    shell.fails(&["channel", "open", "-X", "POST", &url, "--deposit", "0.0000001"], 1, "--deposit").await?;
    shell.fails(&["channel", "open", "-X", "POST", &url, "--deposit", "2"], 1, "fund its token account").await?;
    // When a channel is opened by hand
    let opened = shell.json(&["channel", "open", "-X", "POST", &url, "--deposit", "0.01"]).await?;
    let id = opened["channels"][0]["channel"].as_str().context("no channel")?.to_owned();
    // Then calls pay with it
    let paid = shell.json(&["pay", &url, "-d", TEXT, "-o", "1.json"]).await?;
    assert_eq!((&paid["channel"], base_units(&paid["channelCharged"])), (&id.as_str().into(), "500"));
    // When something is added, then it is there for calls, on chain and in the budget
    let added = shell.json(&["channel", "top-up", &id, "0.02"]).await?;
    assert_eq!((base_units(&added["added"]), base_units(&added["deposit"])), ("20000", "30000"));
    let status = shell.json(&["channel", "status", &id]).await?;
    assert_eq!(base_units(&status["onChain"]["deposit"]), "30000");
    assert_eq!(base_units(&shell.json(&["channel", "list"]).await?["budget"]["committed"]), "30000");
    shell.fails(&["channel", "top-up", &id, "0"], 1, "above 0").await?;
    shell.fails(&["channel", "top-up", &id, "5"], 1, "fund its token account").await?;

    // When the folder is lost
    std::fs::remove_dir_all(shell.file("channels"))?;
    assert_eq!(&shell.json(&["channel", "list"]).await?["channels"], &Value::Array(Vec::new()));
    shell.fails(&["channel", "status", &id], 1, "channel recover").await?;
    // Then the channel is found on chain, the server's word is taken as far as it is proved, and it pays on
    let found = shell.json(&["channel", "recover", "-X", "POST", &url]).await?;
    assert_eq!(&found["channels"][0]["channel"], &id);
    let paid = shell.json(&["pay", &url, "-d", TEXT, "-o", "2.json"]).await?;
    assert_eq!((&paid["channel"], base_units(&paid["channelCharged"])), (&id.as_str().into(), "1000"));
    let again = shell.run(&["channel", "recover", "-X", "POST", &url]).await?;
    assert!(again.status == 0 && again.out.contains("nothing new"), "{}", again.out);
    // And when it is closed with the server's help, then the rest is back
    let closed = shell.json(&["channel", "close", "--all"]).await?;
    assert_eq!(base_units(&closed["closed"][0]["returned"]), "29000");
    shell.fails(&["channel", "top-up", &id, "0.01"], 1, "is over").await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_limits_when_they_are_reached_then_nothing_is_paid_and_the_record_says_what_was() -> Result<()> {
    let stage = slow_stage().await?;
    let shell = Shell::at(&stage.ground).await?;
    let url = stage.shop.paid();
    let paid = async || shell.run(&["pay", &url, "-d", TEXT, "--deposit", "0.01", "--budget-per-hour", "0.001"]).await;
    // When the hour's budget is for two calls, each in a process of its own
    assert_eq!((paid().await?.status, paid().await?.status), (0, 0));
    // Then the third is not paid
    let third = paid().await?;
    assert!(third.status == 3 && third.err.contains("--budget-per-hour"), "{}", third.err);
    let asked = shell.run(&["pay", &url, "-d", TEXT, "--ask-above", "0.0001"]).await?;
    assert!(asked.status == 3 && asked.err.contains("no terminal"), "{}", asked.err);
    // And the record has the two, for programs, spreadsheets and people
    let lines = shell.run(&["paid", "--json"]).await?.out;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let first: Value = serde_json::from_str(lines.lines().next().unwrap_or_default())?;
    assert_eq!((&first["charged"], &first["status"]), (&"500".into(), &200.into()));
    let csv = shell.run(&["paid", "--csv"]).await?.out;
    assert!(csv.starts_with("at,what,host") && csv.matches("0.000500").count() >= 2, "{csv}");
    let text = shell.run(&["paid"]).await?.out;
    assert!(text.contains("2 payments, 0.001000 in all"), "{text}");
    assert!(shell.run(&["paid", "--host", "elsewhere"]).await?.out.contains("nothing yet"));
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_wallet_without_sol_when_it_leaves_then_a_friend_pays_and_the_money_is_the_wallets() -> Result<()> {
    let stage = slow_stage().await?;
    let url = stage.shop.paid();
    let (mut shell, friend) = (Shell::nowhere()?, Shell::at(&stage.ground).await?);
    let ground = &stage.ground;
    ground.mint.fund(&ground.chain, &[shell.wallet.pubkey()], 0, Amount::new(1_000_000)).await?;
    shell.set("TALLYBOOK_RPC", ground.chain.rpc_url());
    shell.set("TALLYBOOK_MINT", ground.mint.address().to_string());
    keys::write(&shell.file("friend.json"), &friend.wallet)?;
    // Given a channel that a sponsor has opened for a wallet that never had SOL
    let paid = shell.json(&["pay", &url, "-d", TEXT, "-o", "1.json", "--deposit", "0.01"]).await?;
    let id = paid["channel"].as_str().context("no channel")?.to_owned();
    let (stage, ()) = stage.without_facilitator(async |ground| leave(ground, &shell, &friend, &id).await).await?;
    stage.shut_down().await
}

async fn leave(ground: &Ground, shell: &Shell, friend: &Shell, id: &str) -> Result<()> {
    let rpc = ground.chain.rpc();
    // When nobody pays, then it is said who may
    shell.fails(&["channel", "close", id, "--force"], 1, "--fee-payer").await?;
    // When the request is printed for a friend, who signs and sends it from elsewhere
    let address = friend.wallet.pubkey().to_string();
    let exit = shell.json(&["channel", "exit", id, "--fee-payer", &address]).await?;
    assert_eq!(&exit["step"], "requestClose");
    let bytes = TransactionBytes::try_from(exit["transaction"].as_str().context("none")?.to_owned())?;
    let mut transaction: VersionedTransaction = from_bytes(bytes.as_bytes())?;
    transaction.signatures[0] = friend.wallet.sign_message(&transaction.message.serialize());
    let signature = rpc.send_transaction(&transaction).await?;
    sending::confirm(rpc, &signature, None).await?;
    // Then the wallet sees that it is closing, and cannot pay the withdrawal itself either
    let status = shell.json(&["channel", "status", id]).await?;
    assert_eq!((&status["remembered"]["phase"], &status["onChain"]["status"]), (&"closing".into(), &"closing".into()));
    let closing_at = status["onChain"]["closingAt"].as_i64().context("no time")?;
    ground.chain.travel_to(closing_at.saturating_add(1)).await?;
    let before = rpc.get_balance(&friend.wallet.pubkey()).await?;
    // When the friend pays here
    let closed = shell.json(&["channel", "withdraw", id, "--fee-payer", "friend.json"]).await?;
    // Then everything that nobody has claimed is the wallet's, and the friend has paid a fee
    assert_eq!(base_units(&closed["returned"]), "10000");
    assert_eq!(ground.mint.held_by(&ground.chain, &shell.wallet.pubkey()).await?, Amount::new(1_000_000));
    let after = rpc.get_balance(&friend.wallet.pubkey()).await?;
    assert!(after < before && before <= LAMPORTS_PER_SOL);
    assert_eq!(rpc.get_balance(&shell.wallet.pubkey()).await?, 0);
    Ok(())
}
