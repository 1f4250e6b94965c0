//! What happens when several want the same thing at once: calls at the same time, a slot that somebody else took first, a
//! reservation that ran out.

use crate::customer::{PRICE, stage};
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use reqwest::{Client, StatusCode};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallybook_agent::{Agent, Policy};
use tallybook_cli::demo::{Ground, Stage, present};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_paywall::Paywall;
use tallybook_rules::Amount;
use tallybook_wire::PAYMENT_SIGNATURE;
use tokio::net::TcpListener;
use tokio::sync::{Notify, OnceCell};

/// A server whose calls take as long as their path says, in milliseconds, and whose reservations last a second.
async fn slow_server(stage: &Stage) -> Result<String> {
    slow_server_that_tells(stage, Arc::default()).await
}

/// The same; `begun` is told of each call that has begun, and so has a reservation.
async fn slow_server_that_tells(stage: &Stage, begun: Arc<Notify>) -> Result<String> {
    let paywall = Paywall::builder(stage.facilitator(), stage.ground.book.address.to_string())
        .timeout_seconds(NonZeroU32::MIN)
        .keep_vouchers_in(stage.ground.folder().join("slow.jsonl"))
        .build()?;
    let slow = async move |request: Request| {
        begun.notify_waiters();
        let millis = request.uri().path().trim_start_matches('/').parse().unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        "done"
    };
    serve(Router::new().route("/{millis}", any(slow)).route_layer(paywall.charge("$0.0005")?)).await
}

async fn serve(app: Router) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(host)
}

async fn agent(ground: &Ground, host: &str, channels: u16) -> Result<(Agent, Keypair)> {
    let wallet = Keypair::new();
    let owners = [wallet.pubkey()];
    ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, Amount::new(1_000_000)).await?;
    let policy = Policy::new(ground.cluster(), PRICE, Amount::new(10_000), Amount::new(1_000_000));
    let policy = policy.allow_host(host).channels_per_host(channels);
    Ok((ground.agent(wallet.insecure_clone(), policy)?, wallet))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_take_a_channel_each_and_the_rest_wait_their_turn() -> Result<()> {
    // Given an agent with up to four channels at a host whose calls take a while
    let stage = stage().await?;
    let host = slow_server(&stage).await?;
    let (agent, _) = agent(&stage.ground, &host, 4).await?;
    let url = format!("http://{host}/300");
    agent.get(url.parse()?).await?;
    // When twelve are asked for at once
    let calls = (0..12).map(|_| {
        let (agent, url) = (agent.clone(), url.clone());
        tokio::spawn(async move { anyhow::Ok(agent.get(url.parse()?).await?.text().await?) })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        assert_eq!(call.await??, "done");
    }
    // Then each was paid once, on four channels
    let channels = agent.channels();
    assert_eq!(channels.len(), 4);
    assert_eq!(agent.spent(), PRICE.times(13)?);
    for channel in channels {
        let seen = stage.channel(&channel.id).await?;
        assert_eq!((seen.charged, seen.reserved), (channel.charged, None));
        assert!(!seen.charged.is_zero());
    }
    stage.shut_down().await
}

/// Gives everybody who has not paid the very first offer, and so the same slot; passes everything else on.
#[derive(Clone)]
struct SameOffer {
    host: String,
    first: Arc<OnceCell<(http::HeaderMap, Vec<u8>)>>,
}

async fn pass_on(State(same): State<SameOffer>, request: Request) -> Result<Response, StatusCode> {
    let lost = |_| StatusCode::BAD_GATEWAY;
    let url = format!("http://{}{}", same.host, request.uri().path());
    let paid = request.headers().contains_key(PAYMENT_SIGNATURE);
    if !paid {
        let first = same.first.get_or_try_init(async || {
            let answer = reqwest::get(&url).await.map_err(lost)?;
            let headers = answer.headers().clone();
            Ok::<_, StatusCode>((headers, answer.bytes().await.map_err(lost)?.to_vec()))
        });
        let (headers, body) = first.await?.clone();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
        *response.headers_mut() = headers;
        return Ok(response);
    }
    let answer = Client::new().get(url).headers(request.headers().clone()).send().await.map_err(lost)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = Body::from(answer.bytes().await.map_err(lost)?);
    Ok(response)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_somebody_else_took_first_costs_nothing_and_another_is_taken() -> Result<()> {
    // Given three agents who are all offered the very same slot
    let stage = stage().await?;
    let same = SameOffer { host: slow_server(&stage).await?, first: Arc::default() };
    let host = serve(Router::new().fallback(any(pass_on)).with_state(same)).await?;
    let mut calls = Vec::new();
    let mut agents = Vec::new();
    for _ in 0..3 {
        let (agent, wallet) = agent(&stage.ground, &host, 1).await?;
        agents.push((agent.clone(), wallet));
        let url = format!("http://{host}/0");
        calls.push(tokio::spawn(async move { anyhow::Ok(agent.get(url.parse()?).await?.text().await?) }));
    }
    // When they all open at once, then all are served
    for call in calls {
        assert_eq!(call.await??, "done");
    }
    // And each has one channel, in a slot of its own, and has put one deposit into it
    let mut slots = BTreeSet::new();
    for (agent, wallet) in &agents {
        let open: Vec<_> = agent.channels().into_iter().filter(|channel| !channel.charged.is_zero()).collect();
        let [channel] = open.as_slice() else { anyhow::bail!("{} channels were paid from", open.len()) };
        slots.insert(channel.parts.slot);
        let held = stage.ground.mint.held_by(&stage.ground.chain, &wallet.pubkey()).await?;
        assert_eq!(held, Amount::new(990_000));
    }
    assert_eq!(slots.len(), 3);
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_ran_out_during_a_long_call_is_made_anew_and_charged_once() -> Result<()> {
    // Given a call that takes longer than its reservation lasts
    let stage = stage().await?;
    let host = slow_server(&stage).await?;
    let (agent, _) = agent(&stage.ground, &host, 1).await?;
    // When it is done, then it is answered and charged once
    let answer = agent.get(format!("http://{host}/2500").parse()?).await?;
    assert_eq!(answer.text().await?, "done");
    assert_eq!(agent.spent(), PRICE);
    let channel = agent.channels().into_iter().next().context("no channel")?;
    assert_eq!(stage.channel(&channel.id).await?.charged, PRICE);
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_keeps_its_channel_busy_only_as_long_as_its_reservation_lasts() -> Result<()> {
    // Given a voucher that a hanging call has reserved
    let (stage, begun) = (stage().await?, Arc::<Notify>::default());
    let host = slow_server_that_tells(&stage, begun.clone()).await?;
    let (agent, wallet) = agent(&stage.ground, &host, 1).await?;
    agent.get(format!("http://{host}/0").parse()?).await?;
    let channel = agent.channels().into_iter().next().context("no channel")?;
    let (id, hanging) = (channel.id, format!("http://{host}/20000"));
    let next = PRICE.times(2)?;
    let under_way = begun.notified();
    tokio::pin!(under_way);
    under_way.as_mut().enable();
    let hangs = tokio::spawn(async move { present(&Client::new(), &hanging, &wallet, id, next).await });
    tokio::time::timeout(Duration::from_secs(30), under_way).await.context("the call did not begin")?;
    // When the agent calls meanwhile, then it waits for the channel, and is served once the reservation is over
    let begun = Instant::now();
    let answer = agent.get(format!("http://{host}/0").parse()?).await?;
    assert_eq!(answer.text().await?, "done");
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited for the call that hangs");
    assert_eq!(stage.channel(&id).await?.charged, next);
    hangs.abort();
    stage.shut_down().await
}
