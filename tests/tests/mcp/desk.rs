//! Somebody with a wallet, a stage, and an MCP client (`rmcp`'s own) that starts `tallybook mcp` with it.

use anyhow::{Context, Result};
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RunningService, Service};
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::Value;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::process::Stdio;
use std::time::Duration;
use tallybook_cli::demo::{Ground, Pace, Stage};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::keys;
use tallybook_cli::progress::Progress;
use tallybook_rules::Amount;
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub(crate) const PRICE: Amount = Amount::new(500);
pub(crate) const TEXT: &str = "to pay or not to pay";

/// A stage that settles nothing by itself.
pub(crate) async fn stage() -> Result<Stage> {
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 86_400 };
    Stage::set(pace, "$0.0005", Progress::Silent).await
}

/// A wallet with a dollar and some SOL.
pub(crate) async fn funded(ground: &Ground) -> Result<Keypair> {
    let wallet = Keypair::new();
    ground.mint.fund(&ground.chain, &[wallet.pubkey()], LAMPORTS_PER_SOL / 100, Amount::new(1_000_000)).await?;
    Ok(wallet)
}

/// A wallet's folder, and what its owner's command line says.
pub(crate) struct Desk {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Desk {
    pub(crate) async fn at(ground: &Ground) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let wallet = funded(ground).await?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        keys::write(&folder.path().join("wallet.json"), &wallet)?;
        let variables = vec![
            ("TALLYBOOK_KEYPAIR", file("wallet.json")),
            ("TALLYBOOK_STATE_DIR", file("channels")),
            ("TALLYBOOK_RPC", ground.chain.rpc_url()),
            ("TALLYBOOK_MINT", ground.mint.address().to_string()),
        ];
        Ok(Self { folder, variables })
    }

    /// `tallybook mcp` with these arguments, as an MCP host starts it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallybook-to-run"));
        command.arg("mcp").args(arguments).envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).kill_on_drop(true);
        command
    }

    /// A client over standard input and output.
    pub(crate) async fn client<S: Service<RoleClient>>(&self, client: S, arguments: &[&str]) -> Result<Client<S>> {
        self.client_in(client, ClientLifecycleMode::Initialize, arguments).await
    }

    /// The same, of a revision of MCP that begins otherwise.
    pub(crate) async fn client_in<S: Service<RoleClient>>(
        &self,
        client: S,
        lifecycle: ClientLifecycleMode,
        arguments: &[&str],
    ) -> Result<Client<S>> {
        let mut process = self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (output, input) = (process.stdout.take().context("no output")?, process.stdin.take().context("no input")?);
        let running = client.serve_with_lifecycle((output, input), lifecycle).await?;
        Ok(Client { running, process })
    }
}

/// A client and the server that it started.
pub(crate) struct Client<S: Service<RoleClient>> {
    pub(crate) running: RunningService<RoleClient, S>,
    process: Child,
}

impl<S: Service<RoleClient>> Client<S> {
    /// Calls a tool, whatever comes of it.
    pub(crate) async fn call(&self, tool: &'static str, arguments: Value) -> Result<CallToolResult> {
        let arguments = arguments.as_object().cloned().context("no object")?;
        Ok(self.running.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?)
    }

    /// Calls a tool that must work: its report.
    pub(crate) async fn report(&self, tool: &'static str, arguments: Value) -> Result<Value> {
        let result = self.call(tool, arguments).await?;
        anyhow::ensure!(result.is_error != Some(true), "{tool}: {}", said(&result));
        result.structured_content.context("no structure")
    }

    /// Calls a tool that must refuse: what it says.
    pub(crate) async fn refusal(&self, tool: &'static str, arguments: Value) -> Result<String> {
        let result = self.call(tool, arguments).await?;
        anyhow::ensure!(
            result.is_error == Some(true) && result.structured_content.is_none(),
            "{tool} did it: {result:?}"
        );
        Ok(said(&result))
    }

    /// Hangs up, upon which the server ends by itself and says that all went well.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.running.cancel().await?;
        let ended = tokio::time::timeout(Duration::from_secs(20), self.process.wait()).await??;
        anyhow::ensure!(ended.success(), "it ended with {ended}");
        Ok(())
    }
}

/// The text of a result.
pub(crate) fn said(result: &CallToolResult) -> String {
    result
        .content
        .iter()
        .filter_map(|block| block.as_text())
        .map(|text| text.text.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

pub(crate) fn base_units(money: &Value) -> &str {
    money["baseUnits"].as_str().unwrap_or("none")
}
