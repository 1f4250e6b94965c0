//! A resource server with a ledger of its own, for tests that kill it.

use anyhow::Result;
use axum::Router;
use axum::routing::{get, post};
use clap::Parser;
use reqwest::Url;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tallybook_keys::Source;
use tallybook_paywall::{Embedding, Paywall};
use tokio::net::TcpListener;

/// Serves `POST /facts` for $0.0005, and `GET /health` for nothing.
#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    facilitator: String,
    #[arg(long)]
    book: String,
    /// The operator's key.
    #[arg(long)]
    operator: Source,
    /// The file of vouchers.
    #[arg(long)]
    database: PathBuf,
    /// The RPC endpoint.
    #[arg(long)]
    rpc: Url,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let embedding = Embedding::new(arguments.database, arguments.rpc)
        .poll(Duration::from_millis(200))
        .forward_every(Duration::from_millis(200));
    let paywall = Paywall::builder(arguments.facilitator, arguments.book)
        .operator(arguments.operator.keypair()?)
        .embed(embedding)
        .build()?;
    let facts = post(async |text: String| format!("{} characters", text.chars().count()));
    let app = Router::new()
        .route("/facts", facts.route_layer(paywall.charge("$0.0005")?))
        .route("/health", get(async || "ok"));
    axum::serve(TcpListener::bind(arguments.listen).await?, app).await?;
    Ok(())
}
