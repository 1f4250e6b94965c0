//! Calls a tool of an MCP server on this machine, and pays for it from a channel:
//!
//! ```sh
//! pay_tool wallet.json MINT priced_tool weather '{"city":"Bern"}'
//! ```
//!
//! It asks the chain at `http://127.0.0.1:8899` (`tallybook dev --serve`), and pays at most $0.01 a call.

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use std::process::Stdio;
use tallybook_agent::{Agent, Chain, Cluster, Policy, RpcEndpoint};
use tallybook_mcp::call_paid;
use tallybook_rules::Amount;
use tallybook_wire::{Key, Network};
use url::Url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wallet, mint, program, tool, json] = arguments.as_slice() else {
        return Err("give a key file, a mint, a program, a tool, and its arguments as JSON".into());
    };
    let wallet: Vec<u8> = serde_json::from_str(&std::fs::read_to_string(wallet)?)?;
    let wallet = solana_keypair::Keypair::try_from(wallet.as_slice())?;
    let rpc: Url = "http://127.0.0.1:8899".parse()?;

    // The owner's limits. What is on this machine goes by the name that it is given here.
    let genesis_hash = Key(RpcEndpoint::new(reqwest::Client::new(), rpc.clone()).genesis_hash().await?);
    let cluster = Cluster { network: Network::devnet(), genesis_hash, mint: mint.parse()? };
    let (price, deposit) = (Amount::new(10_000), Amount::new(1_000_000));
    let policy = Policy::new(cluster, price, deposit, deposit).allow_host("tools");
    let agent = Agent::builder(wallet, policy, rpc, "./agent-state").build()?;

    let mut server = tokio::process::Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (output, input) = (server.stdout.take().ok_or("no output")?, server.stdin.take().ok_or("no input")?);
    let client = ().serve((output, input)).await?;
    let params = CallToolRequestParams::new(tool.clone()).with_arguments(serde_json::from_str(json)?);
    let at = "mcp://tools".parse()?;
    let result = call_paid(&agent, &at, params, async |params| client.call_tool(params).await).await?;
    println!("{}", serde_json::to_string_pretty(&result)?);
    agent.shutdown().await?;
    Ok(())
}
