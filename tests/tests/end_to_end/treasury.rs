//! The chain's word on money: a watchtower that steps in, statements, and a store that is held against the chain.

use crate::command_line::{SLOW, Shell, base_units, slow_stage};
use crate::customer::TEXT;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_cli::demo::{Ground, Shop, Stage};
use tallybook_cli::dev_chain::DevMint;
use tallybook_cli::progress::Progress;
use tallybook_facilitator::{Config, Facilitator};
use tallybook_rules::Amount;
use tallybook_store::SqliteStore;

/// Somebody who has paid for so many calls, 500 base units each, of a deposit of 10,000.
async fn customer(stage: &Stage, calls: usize) -> Result<(Shell, String)> {
    let shell = Shell::at(&stage.ground).await?;
    let channel = buys(&shell, &stage.shop, calls).await?;
    Ok((shell, channel))
}

/// Pays for so many calls, of a deposit of 0.01; says from which channel.
async fn buys(shell: &Shell, shop: &Shop, calls: usize) -> Result<String> {
    let mut channel = String::new();
    for _ in 0..calls {
        let paid = shell.json(&["pay", &shop.paid(), "-d", TEXT, "--deposit", "0.01", "-o", "answer"]).await?;
        channel = paid["channel"].as_str().context("no channel")?.to_owned();
        std::fs::remove_file(shell.file("answer"))?;
    }
    Ok(channel)
}

/// The kinds of differences, each with how many there are, what the store says and what the chain says.
fn kinds(report: &Value) -> Vec<(String, u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let kinds = report["kinds"].as_object().into_iter().flatten();
    let kinds = kinds.map(|(kind, count)| {
        let differences = count["differences"].as_u64().unwrap_or_default();
        (kind.clone(), differences, text(&count["inStore"]), text(&count["onChain"]))
    });
    kinds.collect()
}

fn kind(name: &str, differences: u64, in_store: u64, on_chain: u64) -> (String, u64, String, String) {
    (name.to_owned(), differences, in_store.to_string(), on_chain.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_facilitator_that_is_gone_when_channels_close_then_a_watchtower_claims_and_every_account_adds_up()
-> Result<()> {
    // Given two payers, and a facilitator that ends before it has claimed anything
    let stage = slow_stage().await?;
    let ((alice, of_alice), (bob, of_bob)) = (customer(&stage, 3).await?, customer(&stage, 2).await?);
    let lives = async |ground: &Ground| {
        let tower = Shell::at(ground).await?;
        let closing_at = watched(ground, &tower, &alice, &of_alice).await?;
        stated(ground, &tower, &alice, closing_at).await?;
        reconciled(ground, &tower, &bob, &of_bob).await
    };
    let (stage, ()) = stage.without_facilitator(lives).await?;
    stage.shut_down().await
}

/// Alice closes her channel, and takes the rest when the grace period is over; says when that was.
async fn watched(ground: &Ground, tower: &Shell, alice: &Shell, channel: &str) -> Result<i64> {
    let store = store(ground);
    // When all differences are only what waits to be claimed
    let report = tower.json(&["reconcile", &store]).await?;
    assert_eq!(kinds(&report), [kind("waiting", 2, 2_500, 0)], "{report}");
    assert_eq!((&report["unexplained"], &report["differences"]), (&0.into(), &Value::Array(vec![])));
    // And a watchtower has an export of the vouchers
    let exported = tower.run(&["vouchers", "export", &store, "-o", "export.jsonl"]).await?;
    ensure!(exported.status == 0, "{}", exported.err);
    let look = tower.json(&["watch", "export.jsonl", "--once"]).await?;
    assert_eq!((&look["standing"], &look["closing"], &look["claimed"]), (&2.into(), &0.into(), &Value::Array(vec![])));
    // When one of the payers closes its channel, then the facilitator has its time first
    let closing = alice.json(&["channel", "close", channel, "--force"]).await?;
    let closing_at = closing["closingAt"].as_i64().context("no time")?;
    let look = tower.json(&["watch", "export.jsonl", "--once"]).await?;
    assert_eq!((&look["closing"], &look["waiting"], &look["claimed"]), (&1.into(), &1.into(), &Value::Array(vec![])));
    // And then the watchtower claims that channel, and no other
    let arguments = ["watch", "export.jsonl", "--once", "--patience", "0", "--heartbeat", "beat.json"];
    let look = tower.json(&arguments).await?;
    let claimed = &look["claimed"][0];
    assert_eq!((&claimed["channel"], base_units(&claimed["amount"])), (&channel.into(), "1500"), "{look}");
    let beat: Value = serde_json::from_slice(&std::fs::read(tower.file("beat.json"))?)?;
    assert_eq!(beat, look);
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.payee).await?, Amount::new(1_500));
    // And once only
    let again = tower.json(&arguments).await?;
    assert_eq!((&again["claimed"], &again["failed"]), (&Value::Array(vec![]), &0.into()));
    ground.chain.travel_to(closing_at.saturating_add(1)).await?;
    alice.json(&["channel", "withdraw", channel]).await?;
    Ok(closing_at)
}

fn store(ground: &Ground) -> String {
    ground.folder().join("facilitator.sqlite").display().to_string()
}

/// In, out, and what is left.
fn sums(section: &Value) -> [&str; 5] {
    let [opening, closing] = ["opening", "closing"].map(|end| base_units(&section["unspent"][end]));
    let [deposited, claimed, returned] = ["deposited", "claimed", "returned"].map(|sum| base_units(&section[sum]));
    [opening, deposited, claimed, returned, closing]
}

async fn stated(ground: &Ground, tower: &Shell, alice: &Shell, closing_at: i64) -> Result<()> {
    let book = ground.book.address.to_string();
    // When a payee asks, then everything is there, to the base unit
    let all = tower.json(&["statement", "--book", &book]).await?;
    let section = &all["books"][0];
    assert_eq!(sums(section), ["0", "20000", "1500", "8500", "10000"], "{section}");
    assert_eq!(base_units(&section["paidOut"][ground.payee.to_string()]), "1500");
    assert_eq!((base_units(&section["owed"]["opening"]), base_units(&section["owed"]["closing"])), ("0", "0"));
    // When it asks for two periods, then the first ends where the second begins
    let at = closing_at.to_string();
    let first = tower.json(&["statement", "--book", &book, "--to", &at]).await?;
    let second = tower.json(&["statement", "--book", &book, "--from", &at]).await?;
    assert_eq!(sums(&first["books"][0]), ["0", "20000", "1500", "0", "18500"]);
    assert_eq!(sums(&second["books"][0]), ["18500", "0", "0", "8500", "10000"]);
    // When a payer asks, who knows no book, then it sees its own channels only
    let wallet = alice.wallet.pubkey().to_string();
    let own = alice.json(&["statement", "--payer", &wallet, "--csv", "own.csv"]).await?;
    assert_eq!(sums(&own["books"][0]), ["0", "10000", "1500", "8500", "0"]);
    // And the table has the same, a line for each movement
    let table = std::fs::read_to_string(alice.file("own.csv"))?;
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().context("no names")?.split(',').collect();
    let column = |line: &str, name: &str| {
        let at = names.iter().position(|other| *other == name).context("no such column")?;
        Ok::<String, anyhow::Error>(line.split(',').nth(at).context("a short line")?.to_owned())
    };
    let mut seen = Vec::new();
    for line in lines {
        assert_eq!(column(line, "payer")?, wallet);
        seen.push((
            column(line, "kind")?,
            column(line, "deposited")?,
            column(line, "claimed")?,
            column(line, "returned")?,
        ));
    }
    let line = |kind: &str, amounts: [&str; 3]| {
        let [deposited, claimed, returned] = amounts.map(str::to_owned);
        (kind.to_owned(), deposited, claimed, returned)
    };
    assert_eq!(
        seen,
        [
            line("opened", ["10000", "0", "0"]),
            line("claimed", ["0", "1500", "0"]),
            line("withdrawn", ["0", "0", "8500"])
        ]
    );
    tower.fails(&["statement", "--payer", &tower.wallet.pubkey().to_string()], 1, "never had a channel").await
}

async fn reconciled(ground: &Ground, tower: &Shell, bob: &Shell, of_bob: &str) -> Result<()> {
    let (store, book) = (store(ground), ground.book.address.to_string());
    // When a stranger has claimed, then that is said, and explained
    let report = tower.json(&["reconcile", &store]).await?;
    assert_eq!(kinds(&report), [kind("claimed_by_others", 1, 0, 1_500), kind("waiting", 1, 1_000, 0)], "{report}");
    assert_eq!((&report["charged"], &report["settled"]), (&"2500".into(), &"1500".into()));
    // When a store has nothing of it, then nobody can explain what was claimed
    let empty = tower.file("empty.sqlite");
    drop(SqliteStore::open(&empty)?);
    tower.fails(&["reconcile", &empty.display().to_string(), "--book", &book], 1, "no explanation").await?;
    // When a channel ends and nobody has claimed what it was charged, then that is lost, and said
    let closing = bob.json(&["channel", "close", of_bob, "--force"]).await?;
    let closing_at = closing["closingAt"].as_i64().context("no time")?;
    ground.chain.travel_to(closing_at.saturating_add(1)).await?;
    bob.json(&["channel", "withdraw", of_bob]).await?;
    let ran = tower.run(&["reconcile", &store, "--json"]).await?;
    let report: Value = serde_json::from_str(&ran.out)?;
    assert_eq!((ran.status, &report["unexplained"]), (1, &1.into()), "{}", ran.err);
    let lost = &report["differences"][0];
    assert_eq!((&lost["kind"], &lost["channel"], &lost["inStore"]), (&"lost".into(), &of_bob.into(), &"1000".into()));
    Ok(())
}

/// Base units, as `"baseUnits"`, and the same in whole tokens.
fn money(amount: Amount, decimals: u8) -> Value {
    json!({ "baseUnits": amount.to_string(), "tokens": amount.decimal(decimals).to_string() })
}

/// Books of two tokens that one facilitator served, and who has paid in them 500 millionths a call.
struct Bazaar {
    ground: Ground,
    /// A token with nine decimals.
    other: DevMint,
    tower: Shell,
    /// Pays in the ground's token.
    alice: (Shell, String),
    /// Both pay in the other.
    bob: (Shell, String),
    carol: (Shell, String),
}

impl Bazaar {
    const PLACES: u8 = 9;

    /// Three calls of Alice, two of Bob and one of Carol; then the facilitator ends without having claimed anything.
    async fn held() -> Result<Self> {
        let ground = Ground::prepare(SLOW, Progress::Silent).await?;
        let other = DevMint::with_decimals(&ground.chain, &Keypair::new(), Self::PLACES).await?;
        let book = ground.book_in(&other).await?;
        let (first, second) = (format!("\"{}\"", ground.book.address), format!("\"{}\"", book.address));
        let config = ground.facilitator_config("127.0.0.1:0".parse()?);
        let config = config.replace(&format!("[{first}]"), &format!("[{first}, {second}]"));
        let facilitator = Facilitator::start(Config::from_toml(&config)?).await?;
        let url = format!("http://{}", facilitator.local_addr());
        let here = Shop::open(&ground.paywall(&url)?, "$0.0005", 0).await?;
        let there = Shop::open(&ground.paywall_of(&url, &book)?, "$0.0005", 0).await?;
        let (tower, alice) = (Shell::at(&ground).await?, Shell::at(&ground).await?);
        let rich = Amount::new(1_000_000_000);
        let (bob, carol) = (Shell::with(&ground, &other, rich).await?, Shell::with(&ground, &other, rich).await?);
        let channels = [buys(&alice, &here, 3).await?, buys(&bob, &there, 2).await?, buys(&carol, &there, 1).await?];
        facilitator.shutdown().await?;
        let [of_alice, of_bob, of_carol] = channels;
        let (alice, bob, carol) = ((alice, of_alice), (bob, of_bob), (carol, of_carol));
        Ok(Self { ground, other, tower, alice, bob, carol })
    }

    /// The exit status and what `reconcile` says as JSON; of both tokens together it says no sum.
    async fn reconcile(&self) -> Result<(i32, Value)> {
        let ran = self.tower.run(&["reconcile", &store(&self.ground), "--json"]).await?;
        let report: Value = serde_json::from_str(&ran.out)?;
        assert!(report.get("charged").is_none() && report.get("settled").is_none(), "{report}");
        let counts = report["kinds"].as_object().context("no kinds")?;
        assert!(counts.values().all(|count| count.as_object().is_some_and(|count| count.len() == 1)), "{report}");
        Ok((ran.status, report))
    }

    /// The part of a report that is of this token.
    fn of<'a>(mint: &DevMint, report: &'a Value) -> &'a Value {
        let mut tokens = report["tokens"].as_array().into_iter().flatten();
        tokens.find(|token| token["mint"] == mint.address().to_string()).unwrap_or(&Value::Null)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_books_of_two_tokens_when_the_chain_is_asked_then_each_is_added_up_alone_and_one_fault_is_enough()
-> Result<()> {
    let bazaar = Bazaar::held().await?;
    let Bazaar { ground, other, tower, alice: (alice, of_alice), bob: (bob, of_bob), carol: (carol, of_carol) } =
        &bazaar;
    let (here, there) = (|amount| money(Amount::new(amount), 6), |amount| money(Amount::new(amount), Bazaar::PLACES));
    // Given what waits in both, then each token says how much it is, and all is well
    let (status, report) = bazaar.reconcile().await?;
    assert_eq!((status, &report["unexplained"], &report["channels"]), (0, &0.into(), &3.into()), "{report}");
    let waiting = |differences: usize, in_store: &Value, nothing: Value| json!({ "waiting": { "differences": differences, "inStore": in_store, "onChain": nothing } });
    let of = Bazaar::of(&ground.mint, &report);
    assert_eq!((&of["charged"], &of["kinds"]), (&here(1_500), &waiting(1, &here(1_500), here(0))));
    let of = Bazaar::of(other, &report);
    assert_eq!((&of["charged"], &of["kinds"]), (&there(1_500_000), &waiting(2, &there(1_500_000), there(0))));
    assert_eq!(report["kinds"]["waiting"]["differences"], 3);
    // And people read the same: 1,501,500 of nothing is said nowhere
    let text = tower.run(&["reconcile", &store(ground)]).await?.out;
    assert!(text.contains("0.001500 (1500 base units)") && text.contains("0.001500000 (1500000 base units)"), "{text}");
    assert!(!text.contains("1501500"), "{text}");

    // When payers of both tokens leave and a watchtower claims, then it says what it claimed of each
    let exported = tower.run(&["vouchers", "export", &store(ground), "-o", "export.jsonl"]).await?;
    ensure!(exported.status == 0, "{}", exported.err);
    for (shell, channel) in [(alice, of_alice), (bob, of_bob)] {
        shell.json(&["channel", "close", channel, "--force"]).await?;
    }
    let look = tower.json(&["watch", "export.jsonl", "--once", "--patience", "0"]).await?;
    let mut totals = look["totals"].as_array().context("no totals")?.clone();
    totals.sort_by_key(|total| total["mint"] == other.address().to_string());
    let [mint, mint_of_bob] = [&ground.mint, other].map(|mint| mint.address().to_string());
    let expected =
        [json!({ "mint": mint, "amount": here(1_500) }), json!({ "mint": mint_of_bob, "amount": there(1_000_000) })];
    assert_eq!(totals, expected, "{look}");
    let claimed = look["claimed"].as_array().context("nothing claimed")?;
    let of_bob = claimed.iter().find(|claimed| claimed["channel"] == *of_bob).context("Bob's was not claimed")?;
    assert_eq!((&of_bob["mint"], &of_bob["amount"]), (&mint_of_bob.into(), &there(1_000_000)));
    assert_eq!(bazaar.reconcile().await?.0, 0);

    // When a channel ends unclaimed in one token, then that token has a difference that nobody explains, and the other has none
    let closing = carol.json(&["channel", "close", of_carol, "--force"]).await?;
    let closing_at = closing["closingAt"].as_i64().context("no time")?;
    ground.chain.travel_to(closing_at.saturating_add(1)).await?;
    carol.json(&["channel", "withdraw", of_carol]).await?;
    let (status, report) = bazaar.reconcile().await?;
    assert_eq!((status, &report["unexplained"]), (1, &1.into()), "{report}");
    let unexplained = [&ground.mint, other].map(|mint| Bazaar::of(mint, &report)["unexplained"].clone());
    assert_eq!(unexplained, [0, 1]);
    let [lost] = report["differences"].as_array().context("no differences")?.as_slice() else { panic!("{report}") };
    assert_eq!((&lost["kind"], &lost["mint"]), (&"lost".into(), &other.address().to_string().into()));
    assert_eq!((&lost["channel"], &lost["inStore"]), (&of_carol.as_str().into(), &"500000".into()));
    let settled = [&ground.mint, other].map(|mint| Bazaar::of(mint, &report)["settled"].clone());
    assert_eq!(settled, [here(1_500), there(1_000_000)]);
    Ok(())
}
