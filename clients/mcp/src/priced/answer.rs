//! A tool call, there through the paywall and back: `_meta` becomes a header, and the answer a result.

use super::tool::{GIVEN, Job, PaidTool};
use crate::{PAYMENT, PAYMENT_RESPONSE};
use bytes::Bytes;
use core::convert::Infallible;
use core::fmt::Write;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, MetaObject};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use std::sync::Arc;
use tallybook_paywall::{Body, Charged, ResourceUrl};
use tallybook_wire::{PAYMENT_METER, PAYMENT_REQUIRED, PAYMENT_SIGNATURE, Reason, Refusal, header, read_header};
use tower::ServiceExt;

/// Calls a tool that costs something.
pub(super) async fn call<S: ServerHandler>(
    charged: Charged<PaidTool<S>>,
    mut params: CallToolRequestParams,
    arguments: Vec<u8>,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let name = encoded(&params.name);
    // It is the paywall's to read, and no business of the tool's.
    let in_params = params.meta.as_mut().and_then(|meta| meta.remove(PAYMENT));
    let payment = context.meta.get(PAYMENT).cloned().or(in_params);
    let header = match payment.as_ref().map(header).transpose() {
        Ok(header) => header.map(|value| (PAYMENT_SIGNATURE, value)),
        Err(rejection) => return Ok(refused(&rejection.into(), None).into()),
    };
    let job = Job::new(params, context);
    let mut request = request(&name, header, arguments);
    request.extensions_mut().insert(job.clone());
    let response = ask(&charged, request).await;
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(CallToolResult::error(vec![ContentBlock::text("the result broke off, and is not paid for")]).into());
    };
    if !head.headers.contains_key(GIVEN) {
        return Ok(own_answer(&head.headers, &body.to_bytes()).into());
    }
    let mut receipt = receipt(&head.headers);
    if let (None, Some(meter)) = (&receipt, head.headers.get(PAYMENT_METER)) {
        // A result too large to be kept was charged as it ended; what it cost is known to its meter.
        let question = self::request(&name, Some((PAYMENT_METER, meter.clone())), Vec::new());
        receipt = self::receipt(ask(&charged, question).await.headers());
    }
    match job.take() {
        Some(said) => said.map(|response| with_receipt(response, receipt)),
        // The same call again: its result is the one that was kept.
        None => serde_json::from_slice::<CallToolResult>(&body.to_bytes())
            .map(|result| with_receipt(result.into(), receipt))
            .map_err(|error| {
                ErrorData::internal_error(format!("the result that was kept cannot be read: {error}"), None)
            }),
    }
}

fn request(name: &str, header: Option<(HeaderName, HeaderValue)>, arguments: Vec<u8>) -> Request<Full<Bytes>> {
    let length = arguments.len();
    let mut request = Request::new(Full::new(Bytes::from(arguments)));
    *request.method_mut() = http::Method::POST;
    // Of letters, digits and percent signs, which every path may have.
    *request.uri_mut() = format!("/{name}").parse().unwrap_or_default();
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    request.headers_mut().extend(header.map(|(name, value)| (Some(name), value)));
    request.extensions_mut().insert(ResourceUrl(Arc::from(format!("mcp://tool/{name}"))));
    request
}

async fn ask<S: ServerHandler>(charged: &Charged<PaidTool<S>>, request: Request<Full<Bytes>>) -> Response<Body> {
    let answered: Result<_, Infallible> = charged.clone().oneshot(request).await;
    match answered {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A tool's name as a part of a URL.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => drop(write!(encoded, "%{byte:02X}")), // a String takes everything
        }
    }
    encoded
}

fn receipt(headers: &HeaderMap) -> Option<Value> {
    let value = headers.get(tallybook_wire::PAYMENT_RESPONSE)?;
    read_header(value.as_bytes()).ok()
}

fn with_receipt(response: CallToolResponse, receipt: Option<Value>) -> CallToolResponse {
    match (response, receipt) {
        (CallToolResponse::Complete(mut result), Some(receipt)) => {
            let meta = result.meta.get_or_insert_with(MetaObject::default);
            meta.insert(PAYMENT_RESPONSE.to_owned(), receipt);
            CallToolResponse::Complete(result)
        }
        (response, _) => response,
    }
}

/// What the paywall answers by itself: how to pay; that a channel was closed; or why nothing can be sold now.
fn own_answer(headers: &HeaderMap, body: &[u8]) -> CallToolResult {
    let receipt = receipt(headers);
    let required = headers.get(PAYMENT_REQUIRED).and_then(|value| read_header::<Value>(value.as_bytes()).ok());
    let result = match (required, serde_json::from_slice::<Value>(body).ok()) {
        (Some(required), _) => CallToolResult::structured_error(required),
        // Too long for a header.
        (None, Some(body)) if body.get("accepts").is_some() => CallToolResult::structured_error(body),
        (None, Some(body)) if body.get("success").is_some() => {
            CallToolResult::success(vec![ContentBlock::text("The channel was closed, and the tool was not called.")])
        }
        (None, body) => {
            let refusal: Option<Refusal> = body.and_then(|body| serde_json::from_value(body).ok());
            let why = refusal.map_or_else(|| "unexpected_verify_error".to_owned().into(), |refusal| refusal.error);
            return refused(&why, receipt);
        }
    };
    result.with_meta(meta(receipt))
}

/// A call that cannot be sold now: with what is known of its payment, so that nobody pays a second time for nothing.
fn refused(why: &Reason, receipt: Option<Value>) -> CallToolResult {
    let text = format!("{}: {}", why.name(), why.advice());
    CallToolResult::error(vec![ContentBlock::text(text)]).with_meta(meta(receipt))
}

fn meta(receipt: Option<Value>) -> Option<MetaObject> {
    let receipt = receipt?;
    let mut meta = MetaObject::default();
    meta.insert(PAYMENT_RESPONSE.to_owned(), receipt);
    Some(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_any_name_of_a_tool_then_it_is_one_part_of_a_url_and_no_two_are_the_same() {
        assert_eq!(encoded("get_weather.v2"), "get_weather.v2");
        assert_eq!(encoded("a/b"), "a%2Fb");
        assert_eq!(encoded("a%2Fb"), "a%252Fb");
        assert_eq!(encoded("wétter ?"), "w%C3%A9tter%20%3F");
        for name in ["..", "a/../b", "?#", "é"] {
            assert!(request(&encoded(name), None, Vec::new()).uri().path().len() > 1, "{name}");
        }
    }
}
