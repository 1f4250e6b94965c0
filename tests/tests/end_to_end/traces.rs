//! One trace follows one voucher: what a collector is told, over real OTLP.
#![expect(clippy::unwrap_used, reason = "a test says what it expects")]

use crate::customer::{Customer, PRICE, TEXT, stage, until};
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::sync::{Arc, Mutex};
use tallybook_facilitator::{Log, Traces, install};
use tallybook_rules::Amount;

/// The spans that came.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Listens; says where.
    async fn listen(&self) -> Result<String> {
        async fn take(State(collector): State<Collector>, bytes: Bytes) {
            let request = ExportTraceServiceRequest::decode(bytes).unwrap();
            let spans = request.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
            collector.0.lock().unwrap().extend(spans.flat_map(|spans| spans.spans));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}/v1/traces", listener.local_addr()?);
        let routes = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(endpoint)
    }

    fn on(&self, trace: &[u8]) -> Vec<Span> {
        self.0.lock().unwrap().iter().filter(|span| span.trace_id == trace).cloned().collect()
    }
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    format!("{:?}", found.and_then(|attribute| attribute.value.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_call_on_a_trace_when_it_is_paid_and_settled_then_the_trace_has_it_from_the_agent_to_the_chain()
-> Result<()> {
    // Given a collector, and somebody with a channel
    let collector = Collector::default();
    let traces = Traces { endpoint: collector.listen().await?.parse()?, sample_one_in: 1 };
    let telemetry =
        install(&Log { json: false, filter: "error".to_owned() }, Some(&traces)).map_err(anyhow::Error::msg)?;
    let stage = stage().await?;
    let customer = Customer::arrive(&stage, Amount::new(10_000)).await?;
    customer.buy(&stage).await?;
    // When it buys on a trace of its own, and that is settled
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = customer.client.post(stage.shop.paid()).header("traceparent", parent).body(TEXT).build()?;
    assert!(customer.agent.execute(request).await?.status().is_success());
    let slot = customer.channel()?.parts.slot;
    until("both calls are settled", async || {
        Ok((stage.ground.page().await?.slot(slot)?.settled == PRICE.times(2)?).then_some(()))
    })
    .await?;
    let channel = customer.channel()?.id.to_string();
    stage.shut_down().await?;
    tokio::task::spawn_blocking(move || drop(telemetry)).await?;
    // Then the facilitator's part of it is on that trace, below the caller's span
    let trace: Vec<u8> =
        (0..16).map(|at| u8::from_str_radix(&parent[3 + 2 * at..5 + 2 * at], 16)).collect::<Result<_, _>>()?;
    let spans = collector.on(&trace);
    let named = |name: &str| spans.iter().find(|span| span.name == name).with_context(|| format!("no span {name}"));
    let (verify, settle) = (named("POST /verify")?, named("POST /settle")?);
    assert_eq!(hex(&verify.parent_span_id), "b7ad6b7169203331");
    assert_eq!(named("reserve")?.parent_span_id, verify.span_id);
    let commit = named("commit")?;
    assert_eq!(commit.parent_span_id, settle.span_id);
    assert!(attribute(commit, "channel").contains(&channel));
    // And in the end the transaction that settled it, by a claim that links to it
    let claimed = named("claimed")?;
    assert!(attribute(claimed, "tallybook.channel").contains(&channel), "{claimed:?}");
    let claim = claimed.links.first().context("no link")?;
    let of_claim = collector.on(&claim.trace_id);
    let claim = of_claim.iter().find(|span| span.name == "claim").context("no claim")?;
    assert!(claim.links.iter().any(|link| link.trace_id == trace), "{claim:?}");
    assert!(of_claim.iter().any(|span| span.name == "send" && span.parent_span_id == claim.span_id));
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
