//! The real binary, as a person and a script run it, against the local chain.

use crate::customer::{PRICE, TEXT};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tallybook_cli::demo::{Ground, Pace, Stage};
use tallybook_cli::dev_chain::{DevMint, LAMPORTS_PER_SOL};
use tallybook_cli::keys;
use tallybook_cli::progress::Progress;
use tallybook_rules::Amount;
use tempfile::TempDir;

/// A shell with the variables of one wallet.
pub(crate) struct Shell {
    folder: TempDir,
    pub(crate) wallet: Keypair,
    variables: Vec<(&'static str, String)>,
}

/// What a command did.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Shell {
    /// Somebody with an empty wallet, at no chain that answers.
    pub(crate) fn nowhere() -> Result<Self> {
        let (folder, wallet) = (tempfile::tempdir()?, Keypair::new());
        keys::write(&folder.path().join("wallet.json"), &wallet)?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let variables = vec![
            ("TALLYBOOK_KEYPAIR", file("wallet.json")),
            ("TALLYBOOK_STATE_DIR", file("channels")),
            ("TALLYBOOK_RPC", "http://127.0.0.1:9/s3cret".to_owned()),
        ];
        Ok(Self { folder, wallet, variables })
    }

    /// Somebody with a dollar and some SOL.
    pub(crate) async fn at(ground: &Ground) -> Result<Self> {
        Self::with(ground, &ground.mint, Amount::new(1_000_000)).await
    }

    /// Somebody with so much of this token, and some SOL.
    pub(crate) async fn with(ground: &Ground, mint: &DevMint, amount: Amount) -> Result<Self> {
        let mut shell = Self::nowhere()?;
        let owners = [shell.wallet.pubkey()];
        mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL, amount).await?;
        shell.set("TALLYBOOK_RPC", ground.chain.rpc_url());
        shell.set("TALLYBOOK_MINT", mint.address().to_string());
        Ok(shell)
    }

    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value));
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `tallybook` beside the chain, which is in this process.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallybook-to-run"));
        command.args(arguments);
        self.run_command(command).await
    }

    /// Runs a line that begins with `tallybook` as a shell does.
    pub(crate) async fn run_line(&self, line: &str) -> Result<Ran> {
        let mut command = Command::new("sh");
        command.args(["-c", &line.replacen("tallybook", env!("CARGO_BIN_EXE_tallybook-to-run"), 1)]);
        self.run_command(command).await
    }

    async fn run_command(&self, mut command: Command) -> Result<Ran> {
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command.current_dir(self.folder.path()).env("HOME", self.folder.path());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok(Ran {
            status: output.status.code().context("killed")?,
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    /// Runs a command with `--json`, which must work and print one line.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let ran = self.run(&[arguments, &["--json"]].concat()).await?;
        ensure!(ran.status == 0, "{arguments:?}: {}", ran.err);
        ensure!(ran.out.lines().count() == 1 && ran.err.is_empty(), "{}\n{}", ran.out, ran.err);
        Ok(serde_json::from_str(&ran.out)?)
    }

    /// Runs a command that must fail, for people and for programs alike.
    pub(crate) async fn fails(&self, arguments: &[&str], status: i32, why: &str) -> Result<()> {
        let ran = self.run(arguments).await?;
        assert_eq!(ran.status, status, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(why), "{arguments:?}: {}", ran.err);
        let ran = self.run(&[arguments, &["--json"]].concat()).await?;
        let error: Value = serde_json::from_str(ran.err.lines().last().unwrap_or_default())?;
        assert_eq!((ran.status, &error["error"]["exitStatus"]), (status, &status.into()), "{error}");
        let message = error["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(why) && !message.contains("s3cret"), "{message}");
        Ok(())
    }
}

/// A pace at which a facilitator settles nothing by itself.
pub(crate) const SLOW: Pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 86_400 };

/// A stage whose facilitator settles nothing by itself.
pub(crate) async fn slow_stage() -> Result<Stage> {
    Stage::set(SLOW, "$0.0005", Progress::Silent).await
}

pub(crate) fn base_units(value: &Value) -> &str {
    value["baseUnits"].as_str().unwrap_or("none")
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_wallet_when_it_pays_then_a_stranger_settles_and_it_leaves_all_without_a_facilitator() -> Result<()> {
    // Given a wallet that pays twice
    let stage = slow_stage().await?;
    let shell = Shell::at(&stage.ground).await?;
    let url = stage.shop.paid();
    let paid = shell.run(&["pay", &url, "-d", TEXT, "--deposit", "0.01"]).await?;
    // Then standard output is the answer, byte for byte, and the payment is told beside it
    let facts: Value = serde_json::from_str(&paid.out)?;
    assert_eq!((paid.status, &facts["words"]), (0, &6.into()), "{}", paid.err);
    assert!(paid.out.ends_with('}') && paid.err.contains("paid 0.000500"), "{}", paid.err);
    let receipt = shell.json(&["pay", &url, "-d", TEXT, "-o", "answer.json"]).await?;
    assert_eq!((&receipt["outcome"], base_units(&receipt["channelCharged"])), (&"paid".into(), "1000"));
    assert_eq!(std::fs::read_to_string(shell.file("answer.json"))?, paid.out);
    // And its channel can be looked at
    let id = receipt["channel"].as_str().context("no channel")?.to_owned();
    let list = shell.json(&["channel", "list"]).await?;
    assert_eq!((&list["channels"][0]["channel"], base_units(&list["committed"])), (&id.as_str().into(), "10000"));
    let status = shell.json(&["channel", "status", &id]).await?;
    assert_eq!((base_units(&status["onChain"]["deposit"]), base_units(&status["onChain"]["settled"])), ("10000", "0"));
    // When the limits forbid a call, then nothing is paid and it is said
    shell.fails(&["pay", &url, "-d", TEXT, "--max-price", "0.0001"], 3, "limit").await?;
    shell.fails(&["pay", &format!("{url}/none"), "-d", TEXT], 22, "404").await?;

    let (stage, ()) = stage.without_facilitator(async |ground| settle_and_leave(ground, &shell, &id).await).await?;
    stage.shut_down().await
}

async fn settle_and_leave(ground: &Ground, shell: &Shell, id: &str) -> Result<()> {
    let due = PRICE.times(2)?;
    // Given a stranger with nothing but SOL, and vouchers from the paywall's file and from the facilitator's database
    let stranger = Shell::at(ground).await?;
    let (file, database) = (ground.vouchers(), ground.folder().join("facilitator.sqlite"));
    let (file, database) = (file.display().to_string(), database.display().to_string());
    let book = ground.book.address.to_string();
    let exported = stranger.run(&["vouchers", "export", &database, "-o", "export.jsonl"]).await?;
    assert_eq!((exported.status, exported.out.as_str()), (0, ""), "{}", exported.err);
    let lines = stranger.run(&["vouchers", "export", &file, "--json"]).await?;
    let line: Value = serde_json::from_str(&lines.out)?;
    assert_eq!((&line["voucher"]["channelId"], &line["charged"]), (&id.into(), &"1000".into()));
    stranger.fails(&["settle", &file, "--dry-run"], 1, "--book").await?;
    let plan = stranger.json(&["settle", &file, "--book", &book, "--dry-run"]).await?;
    assert_eq!((&plan["channels"][0]["outcome"], base_units(&plan["channels"][0]["due"])), (&"due".into(), "1000"));
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.payee).await?, Amount::ZERO);
    // When a call cost less than was signed, then no more than it cost is settled, and a forged voucher hides nothing
    let mut below = line.clone();
    below["charged"] = "700".into();
    let mut forged = line.clone();
    (forged["voucher"]["maxClaimableAmount"], forged["charged"]) = ("5000".into(), "0".into());
    std::fs::write(stranger.file("below.jsonl"), format!("{forged}\n{below}\n"))?;
    let settled = stranger.json(&["settle", "below.jsonl", "--book", &book]).await?;
    assert_eq!(
        (&settled["channels"][0]["outcome"], base_units(&settled["channels"][0]["settled"])),
        (&"settled".into(), "700")
    );
    std::fs::write(stranger.file("forged.jsonl"), forged.to_string())?;
    stranger.fails(&["settle", "forged.jsonl", "--book", &book], 1, "not settled").await?;
    // When it settles what is charged by now, then the payee has it all, and the report says what the chain says
    let settled = stranger.json(&["settle", "export.jsonl"]).await?;
    assert_eq!(&settled["channels"][0]["outcome"], "settled", "{settled}");
    assert_eq!(base_units(&settled["settled"][0]["amount"]), "300");
    assert_eq!(settled["transactions"].as_array().map(Vec::len), Some(1));
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.payee).await?, due);
    // When it does so again, then nothing is sent
    let again = stranger.json(&["settle", &file, "--book", &book]).await?;
    assert_eq!((&again["channels"][0]["outcome"], &again["feeLamports"]), (&"alreadySettled".into(), &0.into()));

    // When the payer leaves without anybody's help, then it gets the rest when the grace period is over, and no earlier
    let closing = shell.json(&["channel", "close", id, "--force"]).await?;
    let closing_at = closing["closingAt"].as_i64().context("no time")?;
    shell.fails(&["channel", "withdraw", id], 1, "grace period").await?;
    ground.chain.travel_to(closing_at.saturating_add(1)).await?;
    let closed = shell.json(&["channel", "withdraw", id]).await?;
    assert_eq!((base_units(&closed["charged"]), base_units(&closed["returned"])), ("1000", "9000"));
    let status = shell.json(&["channel", "status", id]).await?;
    assert_eq!((&status["remembered"]["phase"], &status["onChain"]), (&"ended".into(), &Value::Null));
    let over = stranger.json(&["settle", "export.jsonl"]).await?;
    assert_eq!(&over["channels"][0]["outcome"], "notFound");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_payee_when_it_makes_a_book_twice_then_the_second_time_finds_it_and_other_terms_are_refused()
-> Result<()> {
    let stage = slow_stage().await?;
    let payee = Shell::at(&stage.ground).await?;
    let mint = stage.ground.mint.address().to_string();
    // When a book is made
    let made = payee.json(&["book", "init", "--mint", &mint, "--grace-seconds", "3600"]).await?;
    assert_eq!((&made["made"], &made["graceSeconds"], &made["pages"]), (&true.into(), &3_600.into(), &0.into()));
    assert_eq!(&made["payee"], &payee.wallet.pubkey().to_string());
    let book = made["book"].as_str().context("no book")?;
    let again = payee.json(&["book", "init", "--mint", &mint, "--grace-seconds", "3600"]).await?;
    assert_eq!((&again["made"], &again["book"]), (&false.into(), &book.into()));
    payee.fails(&["book", "init", "--mint", &mint, "--grace-seconds", "7200"], 1, "with other terms").await?;
    // Then it has room as soon as it has a page
    let empty = payee.run(&["page", "show", book]).await?;
    assert!(empty.out.contains("tallybook page add"), "{}", empty.out);
    let page = payee.json(&["page", "add", book, "--capacity", "3"]).await?;
    assert_eq!((&page["capacity"], &page["used"], &page["index"]), (&3.into(), &0.into(), &0.into()));
    let shown = payee.json(&["book", "show", book]).await?;
    assert_eq!((&shown["pages"], &shown["capacity"]), (&1.into(), &3.into()));
    assert_eq!(payee.json(&["page", "show", book]).await?["pages"][0], page);
    // And nobody else can add one
    let stranger = Shell::at(&stage.ground).await?;
    stranger.fails(&["page", "add", book], 1, &payee.wallet.pubkey().to_string()).await?;
    // And what is no book is not shown as one
    stranger.fails(&["book", "show", &mint], 1, "belongs to another program").await?;
    stranger.fails(&["book", "show", &payee.wallet.pubkey().to_string()], 1, "another program").await?;
    stranger.fails(&["book", "show", &Keypair::new().pubkey().to_string()], 1, "there is no book").await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_wrong_input_when_a_command_runs_then_it_says_what_to_do_and_no_secret() -> Result<()> {
    let shell = Shell::nowhere()?;
    let key = shell.wallet.pubkey().to_string();
    std::fs::write(shell.file("notes.txt"), "hello\n")?;
    std::fs::write(shell.file("spoilt.json"), "[1,2,3]")?;
    std::fs::set_permissions(shell.file("spoilt.json"), PermissionsExt::from_mode(0o600))?;
    std::fs::write(shell.file("open.json"), "[1,2,3]")?;
    std::fs::set_permissions(shell.file("open.json"), PermissionsExt::from_mode(0o644))?;
    std::fs::write(shell.file("empty.jsonl"), "")?;
    let wrong: [(&[&str], i32, &str); 16] = [
        (&["book", "show", &key], 6, "--rpc"),
        (&["page", "show", &key], 6, "--rpc"),
        (&["channel", "list"], 6, "--rpc"),
        (&["pay", "http://127.0.0.1:9/x"], 6, "--rpc"),
        (&["pay", "127.0.0.1:9/x"], 1, "with its scheme"),
        (&["pay", "http://127.0.0.1:9/x", "-H", "s3cret"], 1, "has no colon"),
        (&["pay", "http://127.0.0.1:9/x", "-d", "@none"], 1, "cannot read none"),
        (&["channel", "list", "--keypair", "none.json"], 1, "name another file"),
        (&["channel", "list", "--keypair", "spoilt.json"], 1, "is no keypair"),
        (&["channel", "list", "--keypair", "open.json"], 1, "run chmod 600 on"),
        (&["channel", "status", "xyz"], 2, "tallybook channel list"),
        (&["vouchers", "export", "none.jsonl"], 1, "cannot read none.jsonl"),
        (&["vouchers", "export", "notes.txt"], 1, "keep_vouchers_in"),
        (&["settle", "empty.jsonl"], 1, "nothing to settle"),
        (&["settle", "none.jsonl"], 1, "cannot read none.jsonl"),
        (&["no-such-command"], 2, "no-such-command"),
    ];
    for (arguments, status, why) in wrong {
        shell.fails(arguments, status, why).await?;
    }
    // And help is no failure, and completions know the commands
    let help = shell.run(&["settle", "--help"]).await?;
    assert!(help.status == 0 && help.out.contains("Examples") && !help.out.contains("s3cret"), "{}", help.out);
    let script = shell.run(&["completions", "zsh"]).await?;
    assert!(script.status == 0 && script.out.contains("vouchers"));
    Ok(())
}
