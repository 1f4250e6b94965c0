//! A stream that is paid for as it comes, through the real paywall and the real agent.

use crate::customer::stage;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use http_body::Frame;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::Poll;
use tallybook_agent::{Metered, Policy};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_paywall::{Charge, Paywall};
use tallybook_rules::Amount;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Words that are handed over as they are paid for.
struct Words(mpsc::Receiver<Bytes>);

impl http_body::Body for Words {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|word| word.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// 34 words at 100 base units each.
async fn words(charge: Charge) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..34 {
            if charge.pay(Amount::new(100)).await.is_err() || sender.send(Bytes::from_static(b"w")).await.is_err() {
                return;
            }
        }
    });
    Body::new(Words(receiver))
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_stream_when_it_is_read_then_the_agent_signs_on_and_it_is_charged_to_the_base_unit() -> Result<()> {
    // Given a route that streams, paid in parts of ten words
    let stage = stage().await?;
    let ground = &stage.ground;
    let paywall = Paywall::builder(stage.facilitator(), ground.book.address.to_string())
        .operator(ground.operator.insecure_clone())
        .keep_vouchers_in(ground.folder().join("streams.jsonl"))
        .build()?;
    let app = Router::new().route("/", get(words).route_layer(paywall.charge_stream("$0.001")?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let wallet = Keypair::new();
    ground.mint.fund(&ground.chain, &[wallet.pubkey()], LAMPORTS_PER_SOL / 100, Amount::new(1_000_000)).await?;
    let policy = Policy::new(ground.cluster(), Amount::new(10_000), Amount::new(20_000), Amount::new(100_000));
    let agent = ground.agent(wallet, policy.allow_host(&host))?;
    // When an agent reads it
    let response = agent.get(format!("http://{host}/").parse()?).await?;
    let metered = Metered::of(&response).context("it is no stream")?;
    let body = response.bytes().await?;
    // Then it has signed on for each part, and pays for the words that came
    let end = metered.ended().await;
    assert_eq!((body.len(), end.charged), (34, Some(Amount::new(3_400))), "{end:?}");
    assert_eq!((end.signed, end.reason.clone(), end.declined.clone()), (Amount::new(4_000), None, None), "{end:?}");
    // And again on the same channel, until a caller stops to read
    let mut response = agent.get(format!("http://{host}/").parse()?).await?;
    let metered = Metered::of(&response).context("it is no stream")?;
    response.chunk().await?;
    drop(response);
    let charged = metered.ended().await.charged.context("its cost is not known")?;
    assert!(charged <= Amount::new(3_400), "{charged}");
    let channels = agent.channels();
    assert_eq!(
        (channels.len(), channels.first().map(|channel| channel.charged)),
        (1, charged.plus(Amount::new(3_400)).ok())
    );
    // And what is unspent comes back to the base unit
    let closed = agent.close(channels.first().context("no channel")?.id).await?;
    assert_eq!(closed.returned, Amount::new(20_000).less(closed.charged));
    stage.shut_down().await
}
