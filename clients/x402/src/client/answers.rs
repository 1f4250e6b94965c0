//! The middleware below `X402Client`.

use super::carried::{Calls, Carried, Head};
use async_trait::async_trait;
use http::{Extensions, HeaderMap, StatusCode};
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use tallybook_agent::{Answered, Chain, Payment, RpcEndpoint};
use tallybook_wire::{MAX_BODY_BYTES, PAYMENT_REQUIRED, PAYMENT_SIGNATURE, PaymentRequired, header, read_header};
use x402_types::scheme::client::X402Error;

/// Sees the answers to the payments of a [`TallybookChannel`](crate::TallybookChannel), and pays on where one asks for that.
/// Whatever other schemes do passes through.
pub struct Answers<C = RpcEndpoint> {
    calls: Arc<Calls<C>>,
}

impl<C> fmt::Debug for Answers<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl<C: Chain> Answers<C> {
    pub(super) const fn new(calls: Arc<Calls<C>>) -> Self {
        Self { calls }
    }

    /// Notes a 402 that our scheme could answer, and says in it which call it belongs to.
    fn note(&self, head: Head, response: &mut Response, extensions: &mut Extensions) {
        let Some(value) = response.headers().get(PAYMENT_REQUIRED) else { return };
        let Ok(required) = read_header::<PaymentRequired>(value.as_bytes()) else { return };
        let Ok(mut json) = read_header::<Value>(value.as_bytes()) else { return };
        if required.channel_offers().next().is_none() {
            return;
        }
        let call = self.calls.begin(head, required);
        call.mark(&mut json);
        if let Ok(marked) = header(&json) {
            response.headers_mut().insert(PAYMENT_REQUIRED, marked);
            extensions.insert(call);
        }
    }

    /// Sends the call with its payment until its answer is one to return.
    async fn carry(
        &self,
        mut payment: Payment<C>,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        loop {
            let mut copy = request.try_clone().ok_or_else(|| Error::middleware(X402Error::RequestNotCloneable))?;
            copy.headers_mut().insert(PAYMENT_SIGNATURE, payment.header().clone());
            let mut response = match next.clone().run(copy, extensions).await {
                Ok(response) => response,
                Err(error) if error.is_connect() => {
                    payment.not_sent();
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(%error, "a paid call has no answer yet");
                    payment = payment.lost().await.map_err(Error::middleware)?;
                    continue;
                }
            };
            let seen = seen(&mut response).await?;
            match payment.answered(seen).await.map_err(Error::middleware)? {
                Answered::Again(corrected) => payment = *corrected,
                Answered::Final(metered) => {
                    if let Some(metered) = metered {
                        response.extensions_mut().insert(metered);
                    }
                    return Ok(response);
                }
            }
        }
    }
}

/// As much of an answer as the agent looks at: the head, and the body of a 402 that says it nowhere else.
async fn seen(response: &mut Response) -> Result<http::Response<Vec<u8>>> {
    let mut body = Vec::new();
    if response.status() == StatusCode::PAYMENT_REQUIRED && !response.headers().contains_key(PAYMENT_REQUIRED) {
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY_BYTES {
                break; // read no further: it is refused as too large
            }
        }
    }
    let headers: HeaderMap = response.headers().clone();
    let mut seen = http::Response::new(body);
    *seen.status_mut() = response.status();
    *seen.headers_mut() = headers;
    Ok(seen)
}

#[async_trait]
impl<C: Chain> Middleware for Answers<C> {
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<Response> {
        let payment = extensions.get::<Arc<Carried<C>>>().and_then(|call| call.take());
        // Ours only if it is what X402Client sends: another scheme may have been chosen after all.
        let ours = payment.filter(|payment| request.headers().get(PAYMENT_SIGNATURE) == Some(payment.header()));
        if let Some(payment) = ours {
            let answer = self.carry(payment, request, extensions, next).await;
            extensions.remove::<Arc<Carried<C>>>();
            return answer;
        }
        let head = Head::of(&request);
        let mut response = next.run(request, extensions).await?;
        if response.status() == StatusCode::PAYMENT_REQUIRED {
            self.note(head, &mut response, extensions);
        }
        Ok(response)
    }
}
