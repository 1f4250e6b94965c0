//! MCP: hosts that use our wallet, and clients that pay for our tools, with the SDKs of MCP and the client of x402 for it.

use crate::matrix::Matrix;
use crate::process::{Program, Said, Settings};
use crate::town::{FUNDS, Held, PRICE, Town, until};
use anyhow::{Context, Result, ensure};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tallybook_cli::keys;
use tallybook_mcp::{PAYMENT_RESPONSE, call_paid};
use tallybook_rules::Amount;
use tallybook_wire::Key;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Our own binary, and beside it the examples that `run.sh` has built.
const BINARY: &str = env!("CARGO_BIN_EXE_tallybook-to-run");
/// The MCP SDK for TypeScript.
const TYPESCRIPT: (&str, Program) = ("@modelcontextprotocol/sdk", Program::Node("client-mcp.mjs"));

/// Runs every cell, and writes down how it went.
pub(crate) async fn fill(town: &Town, matrix: &mut Matrix) -> Result<()> {
    let tools = "a server with priced tools (`tallybook-mcp`), stdio";
    let bought =
        "pays by `exact` call by call, to the base unit on chain; a payment buys one call, a failure costs nothing";
    matrix.host("x402 (Python) over mcp (Python)", tools, exact(town).await.map(|()| bought));
    let bought = "pays from a channel, charged at the facilitator";
    matrix.host("tallybook-agent over rmcp", tools, channel(town).await.map(|()| bought));
    let shown = "is shown what an unpaid call costs, by its own check of the tool's schema too, and served a free one";
    matrix.host(TYPESCRIPT.0, tools, unpaid(town).await.map(|()| shown));
    let wallet = "quotes, fetches and pays, sees the budget shrink and the channel, is refused above the limits";
    matrix.host(TYPESCRIPT.0, "`tallybook mcp`, stdio", over_stdio(town).await.map(|()| wallet));
    matrix.host(TYPESCRIPT.0, "`tallybook mcp`, streamable HTTP", over_http(town).await.map(|()| wallet));
    Ok(())
}

/// The server with priced tools, and what it is told.
fn tools(town: &Town) -> (PathBuf, Settings) {
    let settings = vec![
        ("FACILITATOR", town.facilitator()),
        ("BOOK", town.ground.book.address.to_string()),
        ("VOUCHERS", town.ground.folder().join("vouchers-of-tools.jsonl").display().to_string()),
    ];
    (Path::new(BINARY).with_file_name("examples").join("priced_tool"), settings)
}

/// The client of x402 pays on chain for each call; a tool that fails costs nothing, and no payment buys two calls.
async fn exact(town: &Town) -> Result<()> {
    let wallet = town.wallet().await?;
    let began = town.held(&wallet).await?;
    let (program, mut settings) = tools(town);
    settings.extend(town.client_settings(&wallet, ""));
    settings.push(("X402_TOOLS", program.display().to_string()));
    let run = async |city: &str, calls: &str| {
        let mut settings = settings.clone();
        settings.extend([("X402_CITY", city.to_owned()), ("X402_CALLS", calls.to_owned())]);
        Program::Python("client_mcp.py").run(&settings).await
    };
    let said = run("Bern", "2").await?;
    let [first, second, again] = said.as_slice() else { anyhow::bail!("{said:?}") };
    let mut fees = 0u64;
    for one in [first, second] {
        let receipt: Value =
            serde_json::from_str(one.receipt.as_ref().with_context(|| format!("no receipt: {one:?}"))?)?;
        ensure!(one.body.as_deref() == Some(r#"{"sky":"sunny"}"#) && receipt["success"] == json!(true), "{one:?}");
        fees = fees.saturating_add(town.fee(receipt["transaction"].as_str().context("no transaction")?).await?);
    }
    ensure!(again.status == Some(402), "a payment buys a second call: {again:?}");
    let spent = Amount::new(PRICE).times(2)?;
    let expected = Held {
        payer: began.payer.minus(spent)?,
        payee: began.payee.plus(spent)?,
        sponsor_lamports: began.sponsor_lamports.saturating_sub(fees),
        ..began
    };
    let held =
        until("the balances are right", async || Ok(Some(town.held(&wallet).await?).filter(|held| *held == expected)));
    held.await?;
    let failed = run("Atlantis", "1").await?;
    ensure!(failed[0].status == Some(500) && failed[0].receipt.is_none(), "{failed:?}");
    Ok(())
}

/// Our agent pays from a channel.
async fn channel(town: &Town) -> Result<()> {
    let wallet = town.wallet().await?;
    let policy = town.ground.policy("tools", Amount::new(10_000), FUNDS);
    let agent = town.ground.agent(wallet, policy)?;
    let (program, settings) = tools(town);
    let mut process = Command::new(program);
    process.envs(settings).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = process.spawn().context("priced_tool does not start: run.sh builds it")?;
    let (output, input) = (process.stdout.take().context("no output")?, process.stdin.take().context("no input")?);
    let client = ().serve((output, input)).await?;
    let bern = json!({ "city": "Bern" }).as_object().cloned().unwrap_or_default();
    let server = "mcp://tools".parse()?;
    for total in ["500", "1000"] {
        let params = CallToolRequestParams::new("weather").with_arguments(bern.clone());
        let result = call_paid(&agent, &server, params, async |params| client.peer().call_tool(params).await).await?;
        let receipt = result.meta.as_ref().and_then(|meta| meta.get(PAYMENT_RESPONSE)).context("no receipt")?;
        let state = &receipt["extra"]["channelState"];
        ensure!(state["chargedCumulativeAmount"] == json!(total), "{receipt}");
        let id: Key = state["channelId"].as_str().context("no channel")?.parse()?;
        ensure!(town.channel(&id).await?.charged.to_string() == total, "charged otherwise");
    }
    client.cancel().await?;
    Ok(agent.shutdown().await?)
}

/// A client that does not pay is shown how to, and its own check of the tool's schema lets that through.
async fn unpaid(town: &Town) -> Result<()> {
    let (program, mut settings) = tools(town);
    settings.push(("X402_TOOLS", json!([program]).to_string()));
    let calls = json!([["weather", { "city": "Bern" }], ["cities", {}]]);
    settings.push(("X402_TOOL_CALLS", calls.to_string()));
    let said = TYPESCRIPT.1.run(&settings).await?;
    let [listed, asked, free] = said.as_slice() else { anyhow::bail!("{said:?}") };
    ensure!(listed.body.as_deref() == Some(r#"["weather","forecast","cities"]"#), "{listed:?}");
    let required: Value = body(asked)?;
    ensure!(asked.status == Some(500) && required["accepts"][0]["amount"] == json!("500"), "{asked:?}");
    ensure!(free.status == Some(200) && free.body.as_deref() == Some("Bern, Zug"), "{free:?}");
    Ok(())
}

/// A wallet for a host, its owner's limits, and a route of our paywall to pay.
struct Wallet {
    settings: Settings,
    arguments: Vec<String>,
    calls: Value,
    _folder: tempfile::TempDir,
}

impl Wallet {
    async fn new(town: &Town) -> Result<Self> {
        let (folder, key) = (tempfile::tempdir()?, town.wallet().await?);
        keys::write(&folder.path().join("wallet.json"), &key)?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let url = town.paywall("/channel");
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        let settings = vec![
            ("TALLYBOOK_KEYPAIR", file("wallet.json")),
            ("TALLYBOOK_STATE_DIR", file("channels")),
            ("TALLYBOOK_RPC", town.ground.chain.rpc_url()),
            ("TALLYBOOK_MINT", town.ground.mint.address().to_string()),
        ];
        let limits = ["mcp", "--host", &host, "--deposit", "0.01", "--budget-per-hour", "0.001"];
        let calls = json!([
            ["quote", { "url": url }], ["fetch", { "url": url, "maxPrice": "0.0001" }], ["fetch", { "url": url }], ["budget", {}],
            ["fetch", { "url": url }], ["fetch", { "url": url }], ["channels", {}], ["fetch", { "url": town.facilitator() }],
        ]);
        Ok(Self { settings, arguments: limits.map(str::to_owned).to_vec(), calls, _folder: folder })
    }

    /// What a host's client makes of it.
    async fn used(&self, town: &Town, tools: Value) -> Result<()> {
        let mut settings = self.settings.clone();
        settings.extend([("X402_TOOLS", tools.to_string()), ("X402_TOOL_CALLS", self.calls.to_string())]);
        let said = TYPESCRIPT.1.run(&settings).await?;
        let [listed, quote, dear, fetched, budget, second, third, channels, elsewhere] = said.as_slice() else {
            anyhow::bail!("{said:?}")
        };
        ensure!(listed.body.as_ref().is_some_and(|names| names.contains("\"fetch\"")), "{listed:?}");
        let quote = body(quote)?;
        ensure!((&quote["allowed"], &quote["price"]["baseUnits"]) == (&json!(true), &json!("500")), "{quote}");
        ensure!(refused(dear, "maxPrice"), "{dear:?}");
        let fetched = body(fetched)?;
        let payment = &fetched["payment"];
        ensure!((&fetched["body"], &payment["charged"]["baseUnits"]) == (&json!("sunny"), &json!("500")), "{fetched}");
        let budget = body(budget)?;
        ensure!(budget["lastHour"]["left"]["baseUnits"] == json!("500"), "{budget}");
        ensure!(second.status == Some(200) && refused(third, "one hour"), "{second:?} {third:?}");
        ensure!(refused(elsewhere, "not an allowed host"), "{elsewhere:?}");
        let channels = body(channels)?;
        let one = &channels["channels"][0];
        ensure!(
            (&one["spent"]["baseUnits"], &one["left"]["baseUnits"]) == (&json!("1000"), &json!("9000")),
            "{channels}"
        );
        let id: Key = one["id"].as_str().context("no channel")?.parse()?;
        ensure!(town.channel(&id).await?.charged == Amount::new(1_000), "charged otherwise");
        Ok(())
    }
}

async fn over_stdio(town: &Town) -> Result<()> {
    let wallet = Wallet::new(town).await?;
    let command: Vec<&str> = [BINARY].into_iter().chain(wallet.arguments.iter().map(String::as_str)).collect();
    wallet.used(town, json!(command)).await
}

async fn over_http(town: &Town) -> Result<()> {
    let wallet = Wallet::new(town).await?;
    let mut process = Command::new(BINARY);
    process.args(&wallet.arguments).args(["--http", "127.0.0.1:0", "--json"]).envs(wallet.settings.iter().cloned());
    process.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = process.spawn()?;
    let mut lines = BufReader::new(process.stderr.take().context("no output")?).lines();
    let line = lines.next_line().await?.context("it ended")?;
    let said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    wallet.used(town, json!([said["listening"]])).await
}

fn body(said: &Said) -> Result<Value> {
    serde_json::from_str(said.body.as_deref().unwrap_or_default()).with_context(|| format!("{said:?}"))
}

fn refused(said: &Said, why: &str) -> bool {
    said.status == Some(500) && said.body.as_ref().is_some_and(|body| body.contains(why))
}
