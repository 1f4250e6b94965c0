//! The wallet over HTTP: who may connect, and who may not.

use crate::desk::{Desk, TEXT, base_units, stage};
use anyhow::{Context, Result, ensure};
use reqwest::header::{ACCEPT, AUTHORIZATION, HOST, ORIGIN};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A server over HTTP.
struct Serving {
    url: String,
    http: Client,
    process: Child,
}

impl Serving {
    async fn start(desk: &Desk, arguments: &[&str]) -> Result<Self> {
        let mut command = desk.command(&[&["--json"], arguments].concat());
        let mut process = command.env("TOKEN", TOKEN).stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(process.stderr.take().context("no output")?).lines();
        let line = lines.next_line().await?.context("it ended")?;
        let said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let url = said["listening"].as_str().with_context(|| line.clone())?.to_owned();
        Ok(Self { url, http: Client::new(), process })
    }

    /// A message, as a client sends it.
    fn message(&self, message: &Value) -> RequestBuilder {
        self.http.post(&self.url).header(ACCEPT, "application/json, text/event-stream").json(message)
    }

    /// An `initialize`: its status, and the session that it began.
    async fn begin(&self, change: impl Fn(RequestBuilder) -> RequestBuilder) -> Result<(StatusCode, Option<String>)> {
        let client = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client });
        let response = change(self.message(&message)).send().await?;
        let session = response.headers().get("mcp-session-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((response.status(), session))
    }

    /// A tool's report, in a session.
    async fn report(&self, session: &str, tool: &str, arguments: Value) -> Result<Value> {
        let began = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.message(&began).header("mcp-session-id", session).bearer_auth(TOKEN).send().await?.error_for_status()?;
        let params = json!({ "name": tool, "arguments": arguments });
        let message = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
        let response = self.message(&message).header("mcp-session-id", session).bearer_auth(TOKEN).send().await?;
        let text = response.error_for_status()?.text().await?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
        let answers = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let answer = answers.into_iter().find(|answer| answer["id"] == 2).with_context(|| text.clone())?;
        Ok(answer["result"]["structuredContent"].clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_wallet_on_loopback_when_a_page_finds_it_then_it_is_kept_out_and_a_client_is_served() -> Result<()> {
    let stage = stage().await?;
    let desk = Desk::at(&stage.ground).await?;
    let host = stage.shop.host();
    let serving = Serving::start(&desk, &["--host", &host, "--http", "127.0.0.1:0", "--deposit", "0.01"]).await?;

    // A page that made its own name resolve to this machine, and one that calls across origins
    let rebound = serving.begin(|request| request.header(HOST, "attacker.example:8404")).await?;
    assert_eq!(rebound, (StatusCode::FORBIDDEN, None));
    for origin in ["https://attacker.example", "null", "http://127.0.0.1:8404"] {
        let (status, session) = serving.begin(|request| request.header(ORIGIN, origin)).await?;
        assert_eq!((status, session), (StatusCode::FORBIDDEN, None), "{origin}");
    }
    // A client
    let (status, session) = serving.begin(|request| request).await?;
    assert_eq!(status, StatusCode::OK);
    let session = session.context("no session")?;
    let ask = json!({ "url": stage.shop.paid(), "method": "POST", "body": TEXT });
    let fetched = serving.report(&session, "fetch", ask.clone()).await?;
    assert_eq!(base_units(&fetched["payment"]["charged"]), "500", "{fetched}");
    // A second one at the same time pays from the same wallet
    let (_, other) = serving.begin(|request| request).await?;
    let fetched = serving.report(&other.context("no session")?, "fetch", ask).await?;
    assert_eq!(base_units(&fetched["payment"]["channelCharged"]), "1000", "{fetched}");
    drop(serving);
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_address_that_others_reach_when_there_is_no_token_then_it_does_not_start_and_with_one_asks_for_it()
-> Result<()> {
    let stage = stage().await?;
    let desk = Desk::at(&stage.ground).await?;
    let host = stage.shop.host();
    let arguments = ["--host", &host, "--http", "0.0.0.0:0"];
    let refused = desk.command(&arguments).stdin(Stdio::null()).output().await?;
    let why = String::from_utf8(refused.stderr)?;
    ensure!(!refused.status.success() && why.contains("needs a token"), "{why}");

    let mut serving = Serving::start(&desk, &[arguments.as_slice(), &["--token", "env:TOKEN"]].concat()).await?;
    serving.url = serving.url.replace("0.0.0.0", "127.0.0.1");
    for shown in ["", "Bearer ", "Bearer 0123456789abcdef", &format!("Basic {TOKEN}")] {
        let (status, session) = serving.begin(|request| request.header(AUTHORIZATION, shown)).await?;
        assert_eq!((status, session), (StatusCode::UNAUTHORIZED, None), "{shown:?}");
    }
    let page = serving.begin(|request| request.bearer_auth(TOKEN).header(ORIGIN, "https://attacker.example")).await?;
    assert_eq!(page.0, StatusCode::FORBIDDEN);
    let (status, session) = serving.begin(|request| request.bearer_auth(TOKEN)).await?;
    assert_eq!(status, StatusCode::OK);
    let budget = serving.report(&session.context("no session")?, "budget", json!({})).await?;
    assert_eq!(base_units(&budget["inAll"]["used"]), "0", "{budget}");

    // Interrupted, it ends by itself although its clients are still there
    let process = i32::try_from(serving.process.id().context("gone")?)?;
    let interrupted = std::process::Command::new("kill").args(["-INT", &process.to_string()]).status()?;
    ensure!(interrupted.success(), "{interrupted}");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), serving.process.wait()).await??;
    ensure!(ended.success(), "it ended with {ended}");
    stage.shut_down().await
}
