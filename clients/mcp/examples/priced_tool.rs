//! An MCP server with a tool that costs $0.0005 a call, paid from a channel or by `exact`; and one whose price depends on what it
//! is asked for.
//!
//! An MCP client starts it as a process of its own; two lines in its configuration name who is paid:
//!
//! ```json
//! { "command": "priced_tool", "env": { "FACILITATOR": "http://127.0.0.1:8402", "BOOK": "…" } }
//! ```

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::stdio;
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use std::time::Duration;
use tallybook_mcp::Priced;
use tallybook_paywall::{Charge, Paywall, PaywallError};
use tallybook_rules::Amount;

/// Stands for a server that knows something: all its tools would be free.
#[derive(Clone, Debug)]
pub struct Weather;

/// The same with prices on two of its tools.
pub fn priced(paywall: &Paywall) -> Result<Priced<Weather>, PaywallError> {
    let now = paywall.charge("$0.0005")?.exact().describe("The weather of a city, now");
    let week = paywall.charge_up_to("$0.002")?.describe("The weather of a city, day by day: $0.0002 a day");
    Ok(Priced::new(Weather).tool("weather", &now).tool("forecast", &week))
}

impl ServerHandler for Weather {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let city =
            json!({ "city": { "type": "string" }, "days": { "type": "integer" }, "seconds": { "type": "integer" } });
        let input = schema(json!({ "type": "object", "properties": city, "required": ["city"] }));
        let output = schema(json!({
            "type": "object", "properties": { "sky": { "type": "string" } }, "required": ["sky"], "additionalProperties": false,
        }));
        let weather =
            Tool::new("weather", "The weather of a city, now", input.clone()).with_raw_output_schema(output.into());
        let forecast = Tool::new("forecast", "The weather of the next days", input);
        let cities = Tool::new("cities", "The cities that are known; free", schema(json!({ "type": "object" })));
        Ok(ListToolsResult::with_all_items(vec![weather, forecast, cities]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        if request.name == "cities" {
            return Ok(CallToolResult::success(vec![ContentBlock::text("Bern, Zug")]).into());
        }
        if arguments.get("city").and_then(Value::as_str) == Some("Atlantis") {
            // An error is not paid for.
            return Ok(CallToolResult::error(vec![ContentBlock::text("there is no such city")]).into());
        }
        let wait = arguments.get("seconds").and_then(Value::as_u64).unwrap_or_default();
        tokio::time::sleep(Duration::from_secs(wait.min(60))).await;
        if request.name == "weather" {
            return Ok(CallToolResult::structured(json!({ "sky": "sunny" })).into());
        }
        let days = arguments.get("days").and_then(Value::as_u64).unwrap_or(1).min(10);
        if let Some(charge) = context.extensions.get::<Charge>() {
            let cost = Amount::new(200).times(days).and_then(|cost| charge.add(cost));
            cost.map_err(|rejection| ErrorData::internal_error(rejection.to_string(), None))?;
        }
        let text = (0..days).map(|_| "sunny").collect::<Vec<_>>().join(", ");
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

fn schema(value: Value) -> JsonObject {
    value.as_object().cloned().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let setting = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let mut paywall = Paywall::builder(setting("FACILITATOR")?, setting("BOOK")?);
    if let Ok(path) = setting("VOUCHERS") {
        paywall = paywall.keep_vouchers_in(path);
    }
    priced(&paywall.build()?)?.serve(stdio()).await?.waiting().await?;
    Ok(())
}
