//! A tool as the paywall sees it: a service that takes a request and gives an answer, so that every rule about those is the paywall's.

use bytes::Bytes;
use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use rmcp::model::{CallToolRequestParams, CallToolResponse, ErrorData};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use std::sync::{Arc, Mutex, PoisonError};
use tallybook_paywall::{Body, Charge, Payment};
use tower::Service;

/// Marks the answers that a tool gave, among those that the paywall gives itself. Never leaves this process.
pub(super) const GIVEN: HeaderName = HeaderName::from_static("tallybook-tool-result");

/// What a tool said, until whoever called it takes it. The paywall carries bytes; this is what they stand for.
pub(super) type Said = Result<CallToolResponse, ErrorData>;

/// One call, on its way through the paywall.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) params: CallToolRequestParams,
    pub(super) context: RequestContext<RoleServer>,
    said: Arc<Mutex<Option<Said>>>,
}

impl Job {
    pub(super) fn new(params: CallToolRequestParams, context: RequestContext<RoleServer>) -> Self {
        Self { params, context, said: Arc::default() }
    }

    /// What the tool said, if it was called.
    pub(super) fn take(&self) -> Option<Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn say(&self, said: Said) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }
}

/// The tools of a server behind a paywall.
pub(super) struct PaidTool<S>(Arc<S>);

impl<S> PaidTool<S> {
    pub(super) const fn new(server: Arc<S>) -> Self {
        Self(server)
    }
}

impl<S> Clone for PaidTool<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: ServerHandler> Service<Request<Body>> for PaidTool<S> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (server, job) = (Arc::clone(&self.0), request.extensions_mut().remove::<Job>());
        Box::pin(async move {
            let Some(job) = job else { return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new())) };
            let mut context = job.context.clone();
            let (charge, payment) = (request.extensions().get::<Charge>(), request.extensions().get::<Payment>());
            charge.cloned().map(|charge| context.extensions.insert(charge));
            payment.copied().map(|payment| context.extensions.insert(payment));
            let cancelled = context.ct.clone();
            let said = tokio::select! {
                said = server.call_tool(job.params.clone(), context) => said,
                () = cancelled.cancelled() => Err(ErrorData::internal_error("the call was cancelled", None)),
            };
            let (status, bytes) = seen(&said);
            job.say(said);
            Ok(answer(status, bytes))
        })
    }
}

/// What was said, as the paywall is to see it: what is no success is not charged for.
fn seen(said: &Said) -> (StatusCode, Bytes) {
    match said {
        Ok(CallToolResponse::Complete(result)) if result.is_error != Some(true) => {
            match serde_json::to_vec(result) {
                Ok(json) => (StatusCode::OK, json.into()),
                // What cannot be written is not sold.
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()),
            }
        }
        Ok(CallToolResponse::Task(_)) => (StatusCode::OK, Bytes::new()),
        // It has not done its work yet, and is called again with what it asks for.
        Ok(CallToolResponse::InputRequired(_)) => (StatusCode::CONFLICT, Bytes::new()),
        Ok(_) | Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()),
    }
}

fn answer(status: StatusCode, bytes: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(GIVEN, HeaderValue::from_static("1"));
    response
}
