//! `tallybook mcp`: a wallet for agents that speak MCP.
//!
//! Standard output carries the protocol and nothing else; what is logged goes to standard error.

use crate::output::{Output, Told, say};
use crate::wallet::{Limits, Wallet};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use reqwest::header::HeaderName;
use reqwest::redirect::Policy;
use rmcp::ServiceExt;
use rmcp::transport::stdio;
use std::net::SocketAddr;
use std::time::Duration;
use tallybook_agent::{Agent, RpcEndpoint};
use tallybook_keys::Source;
use tallybook_mcp::{Guard, HttpSettings, WalletServer, ask_the_client, serve_http};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use url::Url;

/// Arguments of `tallybook mcp`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: over standard input and output, as MCP hosts start it; for several clients at once\n  \
    tallybook mcp --host api.example.com --max-price 0.01 --budget 5 --budget-per-day 1\n  \
    tallybook mcp --host '*.example.com' --ask-above 0.05 --http 127.0.0.1:8404\n\n\
    In the configuration of an MCP host:\n  \
    { \"mcpServers\": { \"tallybook\": { \"command\": \"tallybook\", \"args\": [\"mcp\", \"--host\", \"api.example.com\"] } } }\n\n\
    Its tools are quote, fetch, budget, channels, paid, and find where there is a --facilitator. None can change a\n\
    limit: they are those of this command line.\n\
    A wallet's folder is used by one process at a time. For two hosts give each a --state-dir of its own and both the same\n\
    --budget-dir, or let both use one server over --http."
)]
pub struct Mcp {
    /// Ask and pay this host: api.example.com, 127.0.0.1:8403 (at this port only), or *.example.com; may be repeated.
    /// A host inside your network has to be named exactly.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Ask and pay any host on the public internet.
    #[arg(long)]
    any_host: bool,
    /// Never pay this host; may be repeated.
    #[arg(long, value_name = "HOST")]
    deny_host: Vec<String>,
    /// Let a model look for what can be bought in the catalogues of these facilitators.
    #[arg(long, env = "TALLYBOOK_FACILITATOR", hide_env_values = true, value_delimiter = ',', value_name = "URL")]
    facilitator: Vec<Url>,
    /// Let a model set this header of its requests; may be repeated.
    #[arg(long, value_name = "NAME")]
    allow_header: Vec<HeaderName>,
    /// Hand at most so much of an answer to a model.
    #[arg(long, default_value_t = 262_144, value_name = "BYTES")]
    max_bytes: usize,
    /// How long one call of a tool may take.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
    /// Serve over HTTP here, at /mcp, instead of standard input and output.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// With --http: what clients show as a bearer token: a file (chmod 600), env:NAME, or command:PROGRAM. Needed
    /// unless the address is one of this machine alone.
    #[arg(long, env = "TALLYBOOK_MCP_TOKEN", hide_env_values = true, value_name = "SECRET")]
    token: Option<Source>,
    /// With --http: let pages of this origin connect, named as browsers do, scheme and all; may be repeated.
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    allow_origin: Vec<String>,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    wallet: Wallet,
}

impl Mcp {
    /// Serves until its client has gone, or with `--http` until it is interrupted.
    pub async fn run(self, output: Output) -> Result<()> {
        ensure!(
            self.any_host || !self.host.is_empty(),
            "name the hosts that may be asked and paid with --host, or let it be any with --any-host"
        );
        log_to_stderr();
        let server = self.server().await?;
        match self.http {
            None => self.over_stdio(&server).await?,
            Some(address) => self.over_http(&server, address, output).await?,
        }
        server.agent.shutdown().await.map_err(|error| Told::new(error, server.decimals))?;
        Ok(())
    }

    async fn server(&self) -> Result<Opened> {
        let guard = Guard::new(self.host.iter().cloned());
        let prepared = self.wallet.prepare(Some(&self.limits), |policy| {
            let policy = if self.any_host { policy.allow_any_host() } else { policy };
            let policy = self.host.iter().fold(policy, |policy, host| policy.allow_host(host));
            self.deny_host.iter().fold(policy, |policy, host| policy.deny_host(host))
        });
        let prepared = prepared.await?;
        let decimals = prepared.decimals;
        // The chain is the owner's choice, and may be inside.
        let chain = RpcEndpoint::new(reqwest::Client::new(), prepared.rpc);
        let builder = prepared.builder.chain(chain).http(guard.client()?).approver(ask_the_client(decimals));
        let agent = builder.build()?;
        let server = WalletServer::new(agent.clone(), decimals, prepared.state)
            .guard(guard)
            .max_answer_bytes(self.max_bytes)
            .timeout(Duration::from_secs(self.timeout))
            .catalogues(reqwest::Client::builder().redirect(Policy::none()).build()?, self.facilitator.clone())
            .tell(move |error| Told::new(error, decimals).to_string());
        let server = self.allow_header.iter().fold(server, |server, name| server.allow_header(name.clone()));
        Ok(Opened { server, agent, decimals })
    }

    async fn over_stdio(&self, opened: &Opened) -> Result<()> {
        let serving = opened.server.clone().serve(stdio()).await;
        let serving = serving.context("no MCP client spoke on standard input: an MCP host starts this command")?;
        serving.waiting().await?;
        Ok(())
    }

    async fn over_http(&self, opened: &Opened, address: SocketAddr, output: Output) -> Result<()> {
        let token = self.token.as_ref().map(Source::text).transpose()?;
        if token.as_ref().is_some_and(|token| token.len() < MIN_TOKEN_BYTES) {
            bail!(
                "the --token is shorter than {MIN_TOKEN_BYTES} characters: let a machine choose it, as `openssl rand -hex 32` does"
            );
        }
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
        let settings =
            HttpSettings { token: token.map(|token| token.as_str().to_owned()), origins: self.allow_origin.clone() };
        let at = listener.local_addr()?;
        match output {
            Output::Text => say(format_args!("MCP at http://{at}/mcp; stop it with Ctrl-C")),
            Output::Json => say(format_args!("{}", serde_json::json!({ "listening": format!("http://{at}/mcp") }))),
        }
        let stop = async { drop(tokio::signal::ctrl_c().await) };
        Ok(serve_http(opened.server.clone(), listener, settings, stop).await?)
    }
}

/// What cannot be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// A server and the agent that pays for it.
struct Opened {
    server: WalletServer,
    agent: Agent,
    decimals: u8,
}

/// As `RUST_LOG` asks for, and warnings unless it is set.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A host may close standard error: what cannot be logged is no reason to end.
    let subscriber = subscriber.log_internal_errors(false);
    // One that is set already is a test's.
    drop(subscriber.try_init());
}
