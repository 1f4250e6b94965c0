//! The examples, bought from by a real agent and settled on a real chain to the base unit.

use crate::customer::{stage, until};
use anyhow::{Context, Result};
use axum::Router;
use reqwest::{Client, Response, StatusCode};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::time::Duration;
use tallybook_agent::{Agent, Metered, Policy, receipt};
use tallybook_cli::demo::Stage;
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_paywall::Paywall;
use tallybook_rules::Amount;
use tallybook_wire::SettleResponse;
use tokio::net::TcpListener;

#[path = "../../../clients/paywall/examples/articles.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "what a reader copies is what is tested; its main is not run"
)]
mod articles;
#[path = "../../../clients/paywall/examples/file.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "what a reader copies is what is tested; its main is not run"
)]
mod file;
#[path = "../../../clients/paywall/examples/meter.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "what a reader copies is what is tested; its main is not run"
)]
mod meter;
#[path = "../../../clients/paywall/examples/tokens.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "what a reader copies is what is tested; its main is not run"
)]
mod tokens;

/// A shop with one of the examples, and a customer who may spend this much on one call.
struct Shop {
    stage: Stage,
    host: String,
    agent: Agent,
}

impl Shop {
    async fn open(routes: impl FnOnce(&Paywall) -> Result<Router>, ceiling: u64) -> Result<Self> {
        let stage = stage().await?;
        let ground = &stage.ground;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let paywall = Paywall::builder(stage.facilitator(), ground.book.address.to_string())
            .keep_vouchers_in(ground.folder().join("examples.jsonl"))
            .stream_patience(Duration::from_secs(2))
            .build()?;
        let app = routes(&paywall)?;
        tokio::spawn(async move { axum::serve(listener, app).await });
        let wallet = Keypair::new();
        let owners = [wallet.pubkey()];
        ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, Amount::new(1_000_000)).await?;
        let policy = Policy::new(ground.cluster(), Amount::new(20_000), Amount::new(200_000), Amount::new(1_000_000));
        let policy = policy.max_ceiling(Amount::new(ceiling)).allow_host(&host);
        let agent = ground.agent(wallet, policy)?;
        Ok(Self { stage, host, agent })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    /// The chain has settled exactly this much.
    async fn settled(&self, amount: u64) -> Result<()> {
        let channel = self.agent.channels().into_iter().next().context("no channel")?;
        let ground = &self.stage.ground;
        until("the chain settles what was charged", async || {
            let slot = *ground.page().await?.slot(channel.parts.slot)?;
            Ok(Some(()).filter(|()| slot.settled == Amount::new(amount)))
        })
        .await
    }

    async fn get(&self, path: &str) -> Result<Response> {
        Ok(self.agent.get(self.url(path).parse()?).await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_by_the_token_costs_what_was_written() -> Result<()> {
    let shop = Shop::open(|paywall| Ok(tokens::routes(paywall)?), 100_000).await?;
    // When a prompt is completed with 240 tokens, in parts of 50
    let request = Client::new().post(shop.url("/complete")).body("to pay or not to pay").build()?;
    let answer = shop.agent.execute(request).await?;
    let metered = Metered::of(&answer).context("not a stream")?;
    assert_eq!(answer.text().await?.matches("data:").count(), 240);
    // Then it costs 240 × 20 base units, for agent, server and chain
    let end = metered.ended().await;
    assert_eq!((end.charged, end.reason, end.declined), (Some(Amount::new(4_800)), None, None));
    assert_eq!(shop.agent.spent(), Amount::new(4_800));
    shop.settled(4_800).await?;
    // And the channel pays the next call
    let request = Client::new().post(shop.url("/complete")).body("again").build()?;
    assert_eq!(shop.agent.execute(request).await?.text().await?.matches("data:").count(), 240);
    shop.settled(9_600).await?;
    assert_eq!(shop.agent.channels().len(), 1);
    shop.stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_stops_where_its_customers_limit_is_and_costs_no_more() -> Result<()> {
    // Given a customer who spends at most 2,000 base units on one answer, which is 100 tokens
    let shop = Shop::open(|paywall| Ok(tokens::routes(paywall)?), 2_000).await?;
    let request = Client::new().post(shop.url("/complete")).body("on and on").build()?;
    let mut answer = shop.agent.execute(request).await?;
    let metered = Metered::of(&answer).context("not a stream")?;
    // When it reads until nothing more comes
    let mut text = String::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    // Then it got what it was ready to pay for, and paid for that
    assert_eq!(text.matches("data:").count(), 100);
    let end = metered.ended().await;
    assert_eq!(end.charged, Some(Amount::new(2_000)));
    assert!(end.declined.is_some(), "it says why it stopped");
    shop.settled(2_000).await?;
    shop.stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_by_the_byte_costs_its_length() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    let content: Vec<u8> = (0..250_007u32).map(|byte| byte.to_le_bytes()[0]).collect();
    std::fs::write(&path, &content)?;
    let shop = Shop::open(|paywall| Ok(file::routes(paywall, path)?), 100_000).await?;
    let answer = shop.get("/file").await?;
    let metered = Metered::of(&answer).context("not a stream")?;
    assert_eq!(answer.bytes().await?, content);
    // Then 250,007 bytes at a tenth of a base unit each cost the floor of it
    assert_eq!(metered.ended().await.charged, Some(Amount::new(25_000)));
    shop.settled(25_000).await?;
    shop.stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_by_the_second_cost_as_long_as_somebody_listens() -> Result<()> {
    let second = Duration::from_millis(20);
    let shop = Shop::open(|paywall| Ok(meter::routes(paywall, second)?), 100_000).await?;
    // When somebody listens for 25 readings and goes
    let mut answer = shop.get("/readings").await?;
    let metered = Metered::of(&answer).context("not a stream")?;
    let mut read = String::new();
    while read.lines().count() < 25 {
        let chunk = answer.chunk().await?.context("the readings ended")?;
        read.push_str(&String::from_utf8_lossy(&chunk));
    }
    drop(answer);
    // Then it pays for these, and for the few that were on their way
    let charged = metered.ended().await.charged.context("no charge")?.get();
    assert!((2_500..4_000).contains(&charged) && charged % 100 == 0, "{charged}");
    shop.settled(charged).await?;
    shop.stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn articles_have_their_own_prices_and_the_first_is_free() -> Result<()> {
    let shop = Shop::open(|paywall| Ok(articles::routes(paywall)), 20_000).await?;
    // Given a reader's free article, and a teaser
    let free = Client::new().get(shop.url("/articles/sailing")).header("x-reader", "ann").send();
    assert!(free.await?.text().await?.contains("before the wind"));
    let again = Client::new().get(shop.url("/articles/sailing")).header("x-reader", "ann").send().await?;
    assert_eq!(again.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(reqwest::get(shop.url("/articles/news")).await?.status(), StatusCode::OK);
    // When two are bought, then each costs its price
    for (path, price) in [("/articles/sailing", 2_000), ("/articles/mending", 5_000)] {
        let bought = shop.get(path).await?;
        let Some(SettleResponse::Settled { extra, .. }) = receipt(bought.headers()) else {
            anyhow::bail!("no receipt for {path}");
        };
        assert_eq!(extra.charged_amount, Some(Amount::new(price)));
    }
    assert_eq!(shop.get("/articles/lost").await?.status(), StatusCode::NOT_FOUND);
    shop.settled(7_000).await?;
    shop.stage.shut_down().await
}
