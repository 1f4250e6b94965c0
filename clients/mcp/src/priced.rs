//! Prices on the tools of an MCP server.

mod answer;
mod handler;
mod tool;

use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Tool};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tallybook_paywall::{ChargeLayer, Charged};
use tool::PaidTool;
use tower::Layer;

/// The largest arguments of a priced tool, in bytes of JSON.
const MAX_ARGUMENT_BYTES: usize = 1 << 20;

/// A server some of whose tools cost something: a [`ServerHandler`] as the one in it, to be served over any transport. Cheap to
/// clone, for transports that want one for each session; clones share what they know of payments.
///
/// A priced tool is called as a route behind a paywall is: the payment is reserved, the tool runs, the charge is made durable, and
/// only then the result goes out. A tool whose result is an error, or that panics, or whose call is cancelled, is not paid for. The
/// same call with the same payment is answered with the same result, and charged once; a payment made for another tool, other
/// arguments or another price is not taken.
///
/// The tool finds who pays among the [`extensions`](RequestContext::extensions) of its context, as
/// [`Payment`](tallybook_paywall::Payment), and where its price is a ceiling ([`Paywall::charge_up_to`]) says by the
/// [`Charge`](tallybook_paywall::Charge) there what the call really cost.
///
/// Results are one piece, so there are no streams: not for [`Paywall::charge_stream`]. A tool that hands out a task is paid for
/// when it does so. Since a client is shown a result of another shape where it has not paid, the output schema of a priced tool is
/// widened by that shape.
///
/// [`Paywall::charge_up_to`]: tallybook_paywall::Paywall::charge_up_to
/// [`Paywall::charge_stream`]: tallybook_paywall::Paywall::charge_stream
pub struct Priced<S> {
    inner: Arc<S>,
    tools: HashMap<String, Charged<PaidTool<S>>>,
}

impl<S> Clone for Priced<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), tools: self.tools.clone() }
    }
}

impl<S> fmt::Debug for Priced<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tools: Vec<&String> = self.tools.keys().collect();
        tools.sort_unstable();
        f.debug_struct("Priced").field("tools", &tools).finish_non_exhaustive()
    }
}

impl<S: ServerHandler> Priced<S> {
    /// `server`, with no price on anything yet.
    pub fn new(server: S) -> Self {
        Self { inner: Arc::new(server), tools: HashMap::new() }
    }

    /// Puts a price on a tool: what a layer of the paywall charges for a route, this charges for the tool.
    #[must_use]
    pub fn tool(mut self, name: impl Into<String>, price: &ChargeLayer) -> Self {
        self.tools.insert(name.into(), price.layer(PaidTool::new(Arc::clone(&self.inner))));
        self
    }

    async fn call(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(charged) = self.tools.get(params.name.as_ref()) else {
            return self.inner.call_tool(params, context).await;
        };
        let arguments = serde_json::to_vec(&params.arguments).unwrap_or_default();
        if arguments.len() > MAX_ARGUMENT_BYTES {
            let why = format!("the arguments have {} bytes, at most {MAX_ARGUMENT_BYTES} are taken", arguments.len());
            return Ok(CallToolResult::error(vec![ContentBlock::text(why)]).into());
        }
        answer::call(charged.clone(), params, arguments, context).await
    }

    /// A tool as clients are to know it.
    fn shown(&self, mut tool: Tool) -> Tool {
        if self.tools.contains_key(tool.name.as_ref())
            && let Some(schema) = tool.output_schema.take()
        {
            tool.output_schema = Some(Arc::new(widened(Value::Object(Arc::unwrap_or_clone(schema)))));
        }
        tool
    }
}

/// The schema, or that of what an unpaid call is answered with. Definitions stay where references look for them.
fn widened(mut schema: Value) -> Map<String, Value> {
    let definitions = schema.as_object_mut().map(|schema| {
        let names = ["$defs", "definitions", "$schema"];
        names.into_iter().filter_map(|name| schema.remove_entry(name)).collect::<Map<_, _>>()
    });
    let asks = json!({
        "type": "object",
        "description": "How to pay for the call: PaymentRequired of x402.",
        "properties": { "x402Version": { "type": "integer" }, "accepts": { "type": "array" } },
        "required": ["x402Version", "accepts"],
    });
    let mut either = definitions.unwrap_or_default();
    either.insert("type".to_owned(), json!("object"));
    either.insert("anyOf".to_owned(), json!([schema, asks]));
    either
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_schema_when_it_is_widened_then_its_references_still_lead_somewhere() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": { "at": { "$ref": "#/$defs/Place" } }, "$defs": { "Place": { "type": "string" } },
        });
        let either = widened(schema);
        assert_eq!(either["type"], "object");
        assert_eq!(either["$defs"]["Place"]["type"], "string");
        assert_eq!(either["anyOf"][0]["properties"]["at"]["$ref"], "#/$defs/Place");
        assert_eq!(either["anyOf"][1]["required"][0], "x402Version");
        assert!(either["anyOf"][0].get("$defs").is_none());
    }
}
