//! Paying for the tools of other servers: x402's MCP transport, the client's side.

use crate::{PAYMENT, PAYMENT_RESPONSE};
use http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE};
use rmcp::model::{CallToolRequestParams, CallToolResult, MetaObject, RequestMetaObject, RequestParamsMeta};
use serde_json::Value;
use std::error::Error;
use std::fmt;
use tallybook_agent::{Agent, AgentError, Answered, Chain, Payment, RpcEndpoint};
use tallybook_wire::{MAX_BODY_BYTES, PAYMENT_REQUIRED, PaymentRequired, header};
use url::Url;

/// The payment of one tool call. Dropped without an answer, the call counts as one that may have been charged, and the next one on
/// its channel finds out.
pub struct ToolPayment<C = RpcEndpoint>(Payment<C>);

impl<C> fmt::Debug for ToolPayment<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ToolPayment").field(&self.0).finish()
    }
}

/// What a result means for a [`ToolPayment`].
#[derive(Debug)]
pub enum ToolAnswered<C = RpcEndpoint> {
    /// The call is over.
    Final,
    /// The server wants another payment, or the same once more: call again with this one.
    Again(Box<ToolPayment<C>>),
}

/// Why a paid tool call has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError<E: Error + 'static> {
    /// It was not paid; the error says whether it may have been charged.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The call itself failed.
    #[error("the tool could not be called: {0}; if it was paid for by then, the next call on the channel finds out")]
    Call(#[source] E),
}

/// Calls a tool, and pays if the server asks for it and the agent's policy allows it. `call` sends the call:
///
/// ```no_run
/// # async fn example(agent: tallybook_agent::Agent, peer: impl Fn(rmcp::model::CallToolRequestParams)
/// #     -> std::future::Ready<Result<rmcp::model::CallToolResult, std::io::Error>>) -> Result<(), Box<dyn std::error::Error>> {
/// use rmcp::model::CallToolRequestParams;
/// use tallybook_mcp::call_paid;
///
/// let server = "https://tools.example.com/mcp".parse()?;
/// let result = call_paid(&agent, &server, CallToolRequestParams::new("forecast"), async |params| peer(params).await).await?;
/// # drop(result); Ok(()) }
/// ```
///
/// `server` is whom the policy is asked about, and under whose host the payment is listed: the server's URL; for one that is a
/// process on this machine a name that the owner allows, as `mcp://forecasts`.
///
/// # Errors
/// [`ToolError`]. A result that is an error of the tool is a result.
pub async fn call_paid<C: Chain, E: Error + 'static>(
    agent: &Agent<C>,
    server: &Url,
    params: CallToolRequestParams,
    call: impl AsyncFn(CallToolRequestParams) -> Result<CallToolResult, E>,
) -> Result<CallToolResult, ToolError<E>> {
    let result = call(params.clone()).await.map_err(ToolError::Call)?;
    let Some(mut payment) = ToolPayment::of(agent, server, &params.name, &result).await? else { return Ok(result) };
    loop {
        let mut paid = params.clone();
        payment.attach(&mut paid)?;
        let result = match call(paid).await {
            Ok(result) => result,
            Err(error) => {
                // Whether it arrived is not known, nor whether it can be sent again.
                payment.0.answered(response(StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new(), Vec::new())).await?;
                return Err(ToolError::Call(error));
            }
        };
        match payment.answered(&result).await? {
            ToolAnswered::Final => return Ok(result),
            ToolAnswered::Again(next) => payment = *next,
        }
    }
}

impl<C: Chain> ToolPayment<C> {
    /// The payment that `result` asks for; nothing if it asks for none.
    ///
    /// # Errors
    /// As [`Agent::pay`].
    pub async fn of(
        agent: &Agent<C>,
        server: &Url,
        tool: &str,
        result: &CallToolResult,
    ) -> Result<Option<Self>, AgentError> {
        let Some(required) = required_of(result) else { return Ok(None) };
        let required: PaymentRequired = serde_json::from_value(required)
            .map_err(|_| AgentError::Unreadable(tallybook_rules::Rejection::MalformedPayload))?;
        let payment = agent.pay(Method::POST, place(server, tool), HeaderMap::new(), &required).await?;
        Ok(Some(Self(payment)))
    }

    /// Puts the payment into the call's `_meta`.
    ///
    /// # Errors
    /// [`AgentError::Unreadable`] where it cannot be written.
    pub fn attach(&self, params: &mut CallToolRequestParams) -> Result<(), AgentError> {
        let payment = serde_json::to_value(self.0.payload())
            .map_err(|_| AgentError::Unreadable(tallybook_rules::Rejection::MalformedPayload))?;
        let meta = params.meta_mut().get_or_insert_with(RequestMetaObject::default);
        meta.insert(PAYMENT.to_owned(), payment);
        Ok(())
    }

    /// Looks at the result of the call that carried it.
    ///
    /// # Errors
    /// As [`Payment::answered`]: the call is over, and the error says whether it may have been charged.
    pub async fn answered(self, result: &CallToolResult) -> Result<ToolAnswered<C>, AgentError> {
        match self.0.answered(as_http(result)).await? {
            Answered::Final(_) => Ok(ToolAnswered::Final),
            Answered::Again(next) => Ok(ToolAnswered::Again(Box::new(Self(*next)))),
        }
    }

    /// The call was certainly not sent: nothing can have been charged.
    pub fn not_sent(self) {
        self.0.not_sent();
    }
}

/// What a result that is an error says about paying: as structure, or as text where that was lost.
fn required_of(result: &CallToolResult) -> Option<Value> {
    let asks = |value: &Value| value.get("x402Version").is_some() && value.get("accepts").is_some_and(Value::is_array);
    if result.is_error != Some(true) {
        return None;
    }
    if let Some(required) = result.structured_content.as_ref().filter(|value| asks(value)) {
        return Some(required.clone());
    }
    let text = &result.content.first()?.as_text()?.text;
    if text.len() > MAX_BODY_BYTES {
        return None;
    }
    serde_json::from_str(text).ok().filter(asks)
}

/// Where a tool is, as the policy and the list of payments know it.
fn place(server: &Url, tool: &str) -> Url {
    let mut url = server.clone();
    url.set_query(None);
    url.set_fragment(None);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(tool);
    }
    url
}

/// The result as the answer over HTTP that it stands for: the rules about those are the agent's.
fn as_http(result: &CallToolResult) -> http::Response<Vec<u8>> {
    let mut headers = HeaderMap::new();
    let receipt = result.meta.as_ref().and_then(|meta: &MetaObject| meta.get(PAYMENT_RESPONSE));
    if let Some(value) = receipt.and_then(|receipt| header(receipt).ok()) {
        headers.insert(tallybook_wire::PAYMENT_RESPONSE, value);
    }
    if let Some(required) = required_of(result) {
        match header(&required) {
            Ok(value) => drop(headers.insert(PAYMENT_REQUIRED, value)),
            // Too long for a header: then it stands in the body, and what failed before stands nowhere.
            Err(_) => headers.clear(),
        }
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        return response(StatusCode::PAYMENT_REQUIRED, headers, required.to_string().into_bytes());
    }
    let status = if result.is_error == Some(true) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    response(status, headers, Vec::new())
}

fn response(status: StatusCode, headers: HeaderMap, body: Vec<u8>) -> http::Response<Vec<u8>> {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::ContentBlock;
    use serde_json::json;

    #[test]
    fn given_a_result_that_asks_for_payment_then_it_is_found_as_structure_or_as_text() {
        let asks = json!({ "x402Version": 2, "accepts": [], "resource": { "url": "mcp://tool/x" } });
        let structured = CallToolResult::structured_error(asks.clone());
        assert_eq!(required_of(&structured), Some(asks.clone()));
        let text = CallToolResult::error(vec![ContentBlock::text(asks.to_string())]);
        assert_eq!(required_of(&text), Some(asks.clone()));
        // What a tool returns may look like it, and is not.
        assert_eq!(required_of(&CallToolResult::structured(asks)), None);
        assert_eq!(required_of(&CallToolResult::error(vec![ContentBlock::text("no such city")])), None);
    }

    #[test]
    fn given_results_when_seen_as_answers_over_http_then_only_a_receipt_says_that_something_was_charged() {
        let failed = as_http(&CallToolResult::error(vec![ContentBlock::text("no such city")]));
        assert_eq!((failed.status(), failed.headers().len()), (StatusCode::INTERNAL_SERVER_ERROR, 0));
        let asks = json!({ "x402Version": 2, "accepts": [], "resource": { "url": "mcp://tool/x" } });
        let asked = as_http(&CallToolResult::structured_error(asks));
        assert_eq!(asked.status(), StatusCode::PAYMENT_REQUIRED);
        assert!(asked.headers().contains_key(PAYMENT_REQUIRED));
        let meta: MetaObject =
            json!({ "x402/payment-response": { "success": true } }).as_object().unwrap().clone().into();
        let served = as_http(&CallToolResult::success(vec![]).with_meta(Some(meta)));
        assert_eq!(served.status(), StatusCode::OK);
        assert!(served.headers().contains_key(tallybook_wire::PAYMENT_RESPONSE));
    }

    #[test]
    fn given_a_server_then_its_tools_have_places_of_their_own() {
        let at = |server: &str, tool| place(&server.parse().unwrap(), tool).to_string();
        assert_eq!(at("https://a.example/mcp?key=secret", "x/y"), "https://a.example/mcp/x%2Fy");
        assert_eq!(at("mcp://forecasts", "now"), "mcp://forecasts/now");
    }
}
