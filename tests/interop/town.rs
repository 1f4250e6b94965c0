//! The place where they meet: the local chain, our facilitator, our paywall, and what everybody holds.

use crate::process::Settings;
use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use axum::{Router, routing::get};
use serde_json::{Value, json};
use solana_client::rpc_request::RpcRequest;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tallybook_cli::demo::{Ground, Pace};
use tallybook_cli::progress::Progress;
use tallybook_facilitator::{Config, Facilitator};
use tallybook_paywall::Discoverable;
use tallybook_rules::Amount;
use tallybook_wire::{ChannelView, Key, Network};
use tokio::net::TcpListener;

/// What every route here costs, in base units.
pub(crate) const PRICE: u64 = 500;
/// What every wallet starts with, in base units.
pub(crate) const FUNDS: Amount = Amount::new(1_000_000);

/// Who serves, and who holds what.
pub(crate) struct Town {
    pub(crate) ground: Ground,
    pub(crate) http: reqwest::Client,
    facilitator: Facilitator,
    /// Where our own paywall serves.
    paywall: String,
}

/// What is held at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// Tokens, in base units.
    pub(crate) payer: Amount,
    pub(crate) payee: Amount,
    pub(crate) sponsor: Amount,
    /// Lamports.
    pub(crate) payer_lamports: u64,
    pub(crate) sponsor_lamports: u64,
}

impl Town {
    /// A new chain with everybody on it who is ours.
    pub(crate) async fn build() -> Result<Self> {
        let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 1 };
        let ground = Ground::prepare(pace, Progress::Silent).await?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let facilitator = Facilitator::start(Config::from_toml(&ground.facilitator_config(listen))?).await?;
        let url = format!("http://{}", facilitator.local_addr());
        let paywall = serve(&ground, &url).await?;
        Ok(Self { ground, http: reqwest::Client::new(), facilitator, paywall })
    }

    pub(crate) async fn close(self) -> Result<()> {
        self.facilitator.shutdown().await.context("the facilitator did not shut down")
    }

    /// Where the facilitator answers.
    pub(crate) fn facilitator(&self) -> String {
        format!("http://{}", self.facilitator.local_addr())
    }

    /// A route of our own paywall.
    pub(crate) fn paywall(&self, route: &str) -> String {
        format!("{}{route}", self.paywall)
    }

    /// A wallet with tokens and no lamports.
    pub(crate) async fn wallet(&self) -> Result<Keypair> {
        let wallet = Keypair::new();
        self.ground.mint.fund(&self.ground.chain, &[wallet.pubkey()], 0, FUNDS).await?;
        Ok(wallet)
    }

    /// What a client needs to know.
    pub(crate) fn client_settings(&self, wallet: &Keypair, url: &str) -> Settings {
        vec![
            ("X402_URL", url.to_owned()),
            ("X402_RPC_URL", self.ground.chain.rpc_url()),
            ("X402_PAYER", wallet.to_base58_string()),
            ("X402_MINT", self.ground.mint.address().to_string()),
            ("X402_NETWORK", Network::devnet().to_string()),
            ("X402_GENESIS_HASH", Key(self.ground.chain.genesis_hash()).to_string()),
            ("X402_STATE", self.ground.agent_folder(&wallet.pubkey()).display().to_string()),
        ]
    }

    /// What a server needs to know.
    pub(crate) fn server_settings(&self) -> Settings {
        vec![
            ("X402_FACILITATOR", self.facilitator()),
            ("X402_PAY_TO", self.ground.payee.to_string()),
            ("X402_MINT", self.ground.mint.address().to_string()),
            ("X402_NETWORK", Network::devnet().to_string()),
            ("X402_BOOK", self.ground.book.address.to_string()),
            ("X402_OPERATOR", self.ground.operator.to_base58_string()),
            ("X402_PRICE", PRICE.to_string()),
            ("X402_VOUCHERS", self.ground.folder().join("vouchers-of-others.jsonl").display().to_string()),
        ]
    }

    /// What payer, payee and sponsor hold now.
    pub(crate) async fn held(&self, payer: &Keypair) -> Result<Held> {
        let (mint, chain) = (&self.ground.mint, &self.ground.chain);
        let tokens = async |owner| mint.held_by(chain, owner).await;
        Ok(Held {
            payer: tokens(&payer.pubkey()).await?,
            payee: tokens(&self.ground.payee).await?,
            sponsor: tokens(&self.ground.sponsor).await?,
            payer_lamports: chain.rpc().get_balance(&payer.pubkey()).await?,
            sponsor_lamports: chain.rpc().get_balance(&self.ground.sponsor).await?,
        })
    }

    /// The fee that a transaction has cost, as the chain says, in lamports.
    pub(crate) async fn fee(&self, transaction: &str) -> Result<u64> {
        let settings = json!({ "encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": 0 });
        let request = RpcRequest::Custom { method: "getTransaction" };
        let found: Value = self.ground.chain.rpc().send(request, json!([transaction, settings])).await?;
        ensure!(found["meta"]["err"].is_null(), "{transaction} failed: {}", found["meta"]["err"]);
        found["meta"]["fee"].as_u64().with_context(|| format!("{transaction} is not on chain: {found}"))
    }

    /// What the facilitator knows of a channel.
    pub(crate) async fn channel(&self, id: &Key) -> Result<ChannelView> {
        let url = format!("{}/channels/{id}", self.facilitator());
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }

    /// A call without a payment: its status.
    pub(crate) async fn unpaid(&self, url: &str) -> Result<u16> {
        Ok(self.http.get(url).send().await?.status().as_u16())
    }
}

/// Our own paywall: by channel alone, by channel or `exact` in both versions of x402, and a handler that fails.
async fn serve(ground: &Ground, facilitator: &str) -> Result<String> {
    let paywall = ground.paywall(facilitator)?;
    let charge = || paywall.charge("$0.0005");
    let weather = || get(async || "sunny");
    let app = Router::new()
        .route("/channel", weather().route_layer(charge()?))
        .route("/exact", weather().route_layer(charge()?.exact_with_v1()))
        .route("/bazaar/weather", weather().route_layer(charge()?.exact().discoverable(declared())?))
        .route(
            "/bazaar/stations/{station}",
            weather().route_layer(charge()?.exact().discoverable(declared().path("/bazaar/stations/:station"))?),
        )
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR).route_layer(charge()?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            eprintln!("our paywall stopped: {error}");
        }
    });
    Ok(url)
}

/// What our routes say of themselves to catalogues.
fn declared() -> Discoverable {
    Discoverable::by_query(json!({ "city": "Lisbon" })).service("Paywall Weather").tags(["weather"])
}

/// Asks again and again until there is something, for half a minute at most.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    for _ in 0..600 {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("in half a minute it did not come to pass that {what}")
}
