//! Traces, by OpenTelemetry: one trace follows one voucher, from the agent through the resource server to here and onto the chain.
//! Nothing of it is on the way of a payment: spans are handed to a thread of their own, and are lost before they hold anybody up.
//!
//! A claim settles the vouchers of many traces. It is a trace of its own, which links to theirs; and in each of theirs stands a
//! span `claimed` that names batch and transaction, so that whoever looks at a voucher sees where it ended.

use crate::config::{Log, Traces};
use axum::extract::MatchedPath;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Link, Span as _, SpanContext, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tallybook_wire::{Key, Signature};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter, registry};

/// The target of the spans: on their own, so that a log does not show them unless it is asked to.
macro_rules! target {
    () => {
        "tallybook_trace"
    };
}
pub(crate) use target;

/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Vouchers that are remembered for the claim that settles them; beyond them a claim links to fewer.
const REMEMBERED: usize = 16_384;
/// Traces that one claim links to: as many as a transaction has rows.
const LINKS: usize = 96;

/// Ends the traces when dropped: what is left of them is handed over.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Whoever ends now has nobody to tell that the collector is away.
        drop(self.0.take().map(|provider| provider.shutdown()));
    }
}

/// Logs to standard error, and sends traces if the configuration names a collector. Once in a process, within a Tokio runtime.
/// `Err` says what is wrong with the configuration.
pub fn install(log: &Log, traces: Option<&Traces>) -> Result<Telemetry, String> {
    let wanted = EnvFilter::try_new(&log.filter).map_err(|error| format!("config key `log.filter`: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if log.json { lines.json().with_filter(wanted).boxed() } else { lines.with_filter(wanted).boxed() };
    let provider = traces.map(provider).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tallybook-facilitator"));
        layer.with_filter(filter::filter_fn(|metadata| metadata.target() == target!()))
    });
    registry().with(lines).with(spans).try_init().map_err(|error| error.to_string())?;
    if let Some(provider) = &provider {
        global::set_tracer_provider(provider.clone());
    }
    Ok(Telemetry(provider))
}

fn provider(traces: &Traces) -> Result<SdkTracerProvider, String> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(|error| error.to_string())?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector { client, runtime: Handle::current() })
        .with_endpoint(traces.endpoint.as_str())
        .build()
        .map_err(|error| format!("config key `traces.endpoint`: {error}"))?;
    #[expect(clippy::float_arithmetic, reason = "a share of traces, not of money")]
    let share = 1.0 / f64::from(traces.sample_one_in.max(1));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
        .with_resource(
            Resource::builder()
                .with_service_name("tallybook-facilitator")
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .build(),
        )
        .build())
}

/// Sends spans by the HTTP client that the process has anyway. Spans are exported by a thread that has no runtime: the request is
/// made in that of the facilitator.
#[derive(Debug)]
struct Collector {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: axum::http::Request<Bytes>) -> Result<axum::http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let status = answer.status();
            Ok::<_, HttpError>((status, answer.bytes().await?))
        });
        let (status, body) = sent.await??;
        let mut answer = axum::http::Response::new(body);
        *answer.status_mut() = status;
        Ok(answer)
    }
}

/// The span of a request, which goes on the trace that its headers name.
pub(crate) fn of_request<B>(request: &axum::http::Request<B>) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let method = request.method().as_str();
    let span = tracing::debug_span!(
        target: target!(),
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
        // Without a collector there is no span to have a parent.
        drop(span.set_parent(parent));
    }
    span
}

/// What a request was answered with.
pub(crate) fn answered<B>(response: &axum::http::Response<B>, took: Duration, span: &Span) {
    span.record("http.response.status_code", response.status().as_u16());
    tracing::debug!(status = response.status().as_u16(), ?took, "answered");
}

/// Which trace each voucher came by, until it is claimed.
#[derive(Debug, Default)]
pub(crate) struct Vouchers(Mutex<HashMap<[u8; 32], SpanContext>>);

impl Vouchers {
    /// A call on this channel was charged, in the span that is current.
    pub(crate) fn charged(&self, channel: &[u8; 32]) {
        let span = Span::current();
        if span.is_disabled() {
            return;
        }
        let context = span.context().span().span_context().clone();
        if context.is_sampled() {
            let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() < REMEMBERED || remembered.contains_key(channel) {
                remembered.insert(*channel, context);
            }
        }
    }

    /// The traces of the newest vouchers of these channels, each of which is claimed now.
    pub(crate) fn claimed(&self, channels: impl Iterator<Item = [u8; 32]>) -> Vec<([u8; 32], SpanContext)> {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.is_empty() {
            return Vec::new();
        }
        channels.filter_map(|channel| Some((channel, remembered.remove(&channel)?))).take(LINKS).collect()
    }
}

/// The span of a bundle of batches that goes to the chain, linked to the traces of what it settles.
pub(crate) fn of_claim(batches: &[u64], vouchers: &[([u8; 32], SpanContext)]) -> Span {
    let span = tracing::debug_span!(target: target!(), "claim", otel.kind = "producer", batches = ?batches);
    vouchers.iter().for_each(|(_, context)| span.add_link(context.clone()));
    span
}

/// Says in the trace of each voucher by which transactions it was settled.
pub(crate) fn tell_claimed(vouchers: &[([u8; 32], SpanContext)], landed: &BTreeSet<[u8; 64]>) {
    if vouchers.is_empty() || landed.is_empty() {
        return;
    }
    let claim = Span::current().context().span().span_context().clone();
    let transactions: Vec<String> = landed.iter().map(|signature| Signature(*signature).to_string()).collect();
    let tracer = global::tracer("tallybook-facilitator");
    for (channel, context) in vouchers {
        let span = tracer
            .span_builder("claimed")
            .with_attributes([
                KeyValue::new("tallybook.channel", Key(*channel).to_string()),
                KeyValue::new("tallybook.transactions", transactions.join(",")),
            ])
            .with_links(vec![Link::with_context(claim.clone())]);
        let parent = Context::new().with_remote_span_context(context.clone());
        span.start_with_context(&tracer, &parent).end();
    }
}
