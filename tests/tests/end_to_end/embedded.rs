//! A server that keeps its own ledger: its calls ask nobody, and its facilitator settles what it is handed.

use crate::customer::{PRICE, stage, until};
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use reqwest::Client;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tallybook_agent::{Agent, Policy, Wanted, find, receipt};
use tallybook_cli::demo::{Ground, Stage};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_paywall::{BodyType, Charge, Discoverable, Embedding, Paywall, PaywallBuilder};
use tallybook_rules::{Amount, Rejection, Status};
use tallybook_wire::{AnswerExtra, SettleResponse};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A server with its own ledger and one paid route, in a runtime of its own: what ends with it ends as with a process.
struct Server {
    host: String,
    runtime: Option<Runtime>,
}

/// Stops at once, and lets go of the ledger.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    /// Reads the chain at `rpc`, and hands its vouchers to the stage's facilitator.
    async fn open(stage: &Stage, rpc: &str) -> Result<Self> {
        let runtime = Runtime::new()?;
        let ground = &stage.ground;
        let embedding = Embedding::new(ground.folder().join("server.sqlite"), rpc.parse()?)
            .poll(Duration::from_millis(100))
            .max_age(Duration::from_secs(2))
            .forward_every(Duration::from_secs(1));
        let paywall = Paywall::builder(stage.facilitator(), ground.book.address.to_string())
            .operator(ground.operator.insecure_clone())
            .embed(embedding);
        let host = runtime.spawn(serve(paywall));
        // A runtime must not be dropped here, whatever comes of it.
        let mut server = Self { host: String::new(), runtime: Some(runtime) };
        server.host = host.await??;
        Ok(server)
    }
}

async fn serve(paywall: PaywallBuilder) -> Result<String> {
    let paywall = paywall.build()?;
    let declared = Discoverable::by_body(BodyType::Text, "hello".into()).tags(["echo"]);
    let metered = post(async |charge: Charge| charge.add(Amount::new(7)).map_or("too dear", |()| "seven"));
    let app = Router::new()
        .route("/", post(async |text: String| text).route_layer(paywall.charge("$0.0005")?.discoverable(declared)?))
        .route("/metered", metered.route_layer(paywall.charge_up_to("$0.0005")?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(host)
}

struct Customer {
    agent: Agent,
    wallet: Keypair,
}

impl Customer {
    async fn arrive(stage: &Stage, server: &Server, deposit: Amount) -> Result<Self> {
        let (ground, wallet) = (&stage.ground, Keypair::new());
        let owners = [wallet.pubkey()];
        ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, Amount::new(1_000_000)).await?;
        let agent = ground.agent(wallet.insecure_clone(), policy(ground, server, deposit))?;
        Ok(Self { agent, wallet })
    }

    async fn buy(&self, server: &Server) -> Result<AnswerExtra> {
        self.buy_at(server, "/").await
    }

    async fn buy_at(&self, server: &Server, path: &str) -> Result<AnswerExtra> {
        let request = Client::new().post(format!("http://{}{path}", server.host)).body("hello").build()?;
        let response = self.agent.execute(request).await?;
        match receipt(response.headers()) {
            Some(SettleResponse::Settled { extra, .. }) => Ok(extra),
            other => anyhow::bail!("{} with {other:?}", response.status()),
        }
    }
}

/// At most a price a call, and as much as it has in channels of `deposit` each.
fn policy(ground: &Ground, server: &Server, deposit: Amount) -> Policy {
    Policy::new(ground.cluster(), PRICE, deposit, Amount::new(1_000_000)).allow_host(&server.host)
}

async fn settled(ground: &Ground, slot: u8, amount: Amount) -> Result<()> {
    until("what was charged is settled", async || {
        let settled = ground.page().await?.slot(slot)?.settled;
        Ok(Some(()).filter(|()| settled == amount))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_the_facilitator_is_away_and_are_settled_when_it_is_back() -> Result<()> {
    // Given a server with its own ledger, and a customer whose channel the facilitator has sponsored
    let stage = stage().await?;
    let server = Server::open(&stage, &stage.ground.chain.rpc_url()).await?;
    let customer = Customer::arrive(&stage, &server, Amount::new(10_000)).await?;
    customer.buy(&server).await?;
    let slot = customer.agent.channels().first().context("no channel")?.parts.slot;

    // When the facilitator is gone
    let (stage, ()) = stage
        .without_facilitator(async |_| {
            // Then calls are answered as before
            for calls in 2..=4u64 {
                let told = customer.buy(&server).await?;
                let charged = told.channel_state.map(|state| state.charged_cumulative_amount);
                assert_eq!(charged, Some(PRICE.times(calls)?));
            }
            Ok(())
        })
        .await?;
    // And when it is back, then it is handed the vouchers and settles them to the base unit
    settled(&stage.ground, slot, PRICE.times(4)?).await?;
    // And its catalogue lists what they have paid for
    let listed = until("it is listed", async || {
        let facilitator = stage.facilitator().parse()?;
        Ok(find(&Client::new(), &facilitator, &Wanted::words("echo")).await?.pop())
    });
    assert_eq!(listed.await?.resource, format!("http://{}/", server.host));

    // And a payer who leaves gets the rest at once, by the operator's signature
    let id = customer.agent.channels().first().context("no channel")?.id;
    customer.buy(&server).await?;
    let closed = customer.agent.close(id).await?;
    assert_eq!((closed.charged, closed.returned), (PRICE.times(5)?, Amount::new(10_000).minus(PRICE.times(5)?)?));
    assert_eq!(stage.ground.page().await?.slot(slot)?.status()?, Status::Free);
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_knows_its_channels_and_charges_nothing_twice() -> Result<()> {
    // Given a server that was stopped after two calls, while its facilitator was away
    let stage = stage().await?;
    let server = Server::open(&stage, &stage.ground.chain.rpc_url()).await?;
    let customer = Customer::arrive(&stage, &server, Amount::new(10_000)).await?;
    customer.buy(&server).await?;
    let host = server.host.clone();
    let (stage, server) = stage
        .without_facilitator(async |_| {
            customer.buy(&server).await?;
            Ok(server)
        })
        .await?;
    drop(server);
    // When it is started again, once its ledger's writer has let go of the file
    let rpc = stage.ground.chain.rpc_url();
    let again = until("the ledger's file is free", async || Ok(Server::open(&stage, &rpc).await.ok())).await?;
    assert_ne!(again.host, host);
    let policy = policy(&stage.ground, &again, Amount::new(10_000));
    let customer = Customer {
        agent: Agent::builder(
            customer.wallet.insecure_clone(),
            policy,
            stage.ground.chain.rpc_url().parse()?,
            stage.ground.folder().join("another-agent"),
        )
        .build()?,
        wallet: customer.wallet,
    };
    // Then what it has stored is what it hands over, and it goes on serving
    customer.buy(&again).await?;
    let slots = stage.ground.page().await?.slots;
    let open = slots.iter().filter(|slot| slot.status() == Ok(Status::Open)).count();
    assert_eq!(open, 2, "one channel for each host");
    settled(&stage.ground, 0, PRICE.times(2)?).await?;
    settled(&stage.ground, 1, PRICE).await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_see_the_chain_takes_no_vouchers_on_faith() -> Result<()> {
    // Given a server whose endpoint answers nothing
    let stage = stage().await?;
    let server = Server::open(&stage, "http://127.0.0.1:9").await?;
    // When somebody asks for the price, then it says that it cannot sell now, and why
    let answer = Client::new().post(format!("http://{}/", server.host)).body("hello").send().await?;
    assert_eq!(answer.status().as_u16(), 503);
    assert!(answer.text().await?.contains(Rejection::ChainUnavailable.name()));
    stage.shut_down().await
}

/// Passes questions on to the chain, unless it is cut off.
async fn ask_chain(
    State((rpc, is_cut)): State<(String, Arc<AtomicBool>)>,
    question: Bytes,
) -> Result<Bytes, StatusCode> {
    if is_cut.load(Ordering::SeqCst) {
        return Err(StatusCode::BAD_GATEWAY);
    }
    let request = Client::new().post(rpc).header("content-type", "application/json").body(question);
    let answer = request.send().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    answer.bytes().await.map_err(|_| StatusCode::BAD_GATEWAY)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_endpoint_fails_serves_on_until_its_picture_is_too_old_and_again_when_it_sees() -> Result<()> {
    // Given a channel at a server whose picture of the chain may be two seconds old
    let stage = stage().await?;
    let is_cut = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let rpc = format!("http://{}", listener.local_addr()?);
    let state = (stage.ground.chain.rpc_url(), Arc::clone(&is_cut));
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(ask_chain).with_state(state)).await });
    let server = Server::open(&stage, &rpc).await?;
    let customer = Customer::arrive(&stage, &server, Amount::new(10_000)).await?;
    customer.buy(&server).await?;
    // When its endpoint fails, then it serves on for a while
    is_cut.store(true, Ordering::SeqCst);
    customer.buy(&server).await?;
    // And not on a picture that is too old
    let url = format!("http://{}/", server.host);
    until("it refuses to sell", async || {
        let answer = Client::new().post(&url).body("hello").send().await?;
        Ok(Some(()).filter(|()| answer.status() == StatusCode::SERVICE_UNAVAILABLE))
    })
    .await?;
    // When it sees again, then it goes on where it was
    is_cut.store(false, Ordering::SeqCst);
    let told = customer.buy(&server).await?;
    assert_eq!(told.channel_state.map(|state| state.charged_cumulative_amount), Some(PRICE.times(3)?));
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_closes_on_chain_is_claimed_in_time_though_the_server_keeps_the_vouchers() -> Result<()> {
    // Given a channel with two calls, whose payer asks the chain to close it
    let stage = stage().await?;
    let server = Server::open(&stage, &stage.ground.chain.rpc_url()).await?;
    let customer = Customer::arrive(&stage, &server, Amount::new(10_000)).await?;
    customer.buy(&server).await?;
    customer.buy(&server).await?;
    let channel = customer.agent.channels().into_iter().next().context("no channel")?;
    let closing_at = customer.agent.force_close(channel.id).await?;
    // Then the voucher is handed over and claimed long before the grace period ends
    settled(&stage.ground, channel.parts.slot, PRICE.times(2)?).await?;
    assert!(stage.ground.chain.now().await? < closing_at);
    // And the server takes no more calls on it: the agent opens another channel
    customer.buy(&server).await?;
    assert_eq!(customer.agent.channels().len(), 2);
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_topped_up_though_the_facilitator_has_not_heard_of_its_last_calls() -> Result<()> {
    // Given a channel whose deposit covers two calls
    let stage = stage().await?;
    let server = Server::open(&stage, &stage.ground.chain.rpc_url()).await?;
    let customer = Customer::arrive(&stage, &server, PRICE.times(2)?).await?;
    // When five are bought, faster than vouchers are handed over
    for _ in 0..5 {
        customer.buy(&server).await?;
    }
    // Then the same channel has paid for all of them
    let channels = customer.agent.channels();
    let [channel] = channels.as_slice() else { anyhow::bail!("{} channels", channels.len()) };
    assert_eq!((channel.charged, channel.deposit), (PRICE.times(5)?, PRICE.times(6)?));
    settled(&stage.ground, channel.parts.slot, PRICE.times(5)?).await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_cost_less_than_their_ceiling_are_handed_over_and_settled_for_what_they_cost() -> Result<()> {
    let stage = stage().await?;
    let server = Server::open(&stage, &stage.ground.chain.rpc_url()).await?;
    let customer = Customer::arrive(&stage, &server, Amount::new(10_000)).await?;
    for calls in 1..=3u64 {
        let told = customer.buy_at(&server, "/metered").await?;
        assert_eq!(told.charged_amount, Some(Amount::new(7)));
        assert_eq!(told.channel_state.map(|state| state.charged_cumulative_amount), Some(Amount::new(7).times(calls)?));
    }
    let slot = customer.agent.channels().first().context("no channel")?.parts.slot;
    settled(&stage.ground, slot, Amount::new(21)).await?;
    stage.shut_down().await
}
