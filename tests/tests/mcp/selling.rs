//! A server whose tools cost something, and a client beside it, in this process.

#[path = "../../../clients/mcp/examples/priced_tool.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "what a reader copies is what is tested; its main is not run"
)]
mod priced_tool;

use crate::desk::{funded, said};
use anyhow::{Context, Result, ensure};
pub(crate) use priced_tool::{Weather, priced};
use reqwest::Url;
use rmcp::model::{CallToolRequestParams, CallToolResult, RequestMetaObject, RequestParamsMeta};
use rmcp::service::{RunningService, ServiceError};
use rmcp::{RoleClient, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tallybook_agent::Agent;
use tallybook_cli::demo::Stage;
use tallybook_mcp::{PAYMENT, PAYMENT_RESPONSE, call_paid};
use tallybook_rules::Amount;
use tallybook_wire::Key;

/// A client of a server.
pub(crate) struct Shopper {
    pub(crate) client: RunningService<RoleClient, ()>,
    /// The payment that went out last.
    pub(crate) last: Mutex<Option<Value>>,
}

impl Shopper {
    /// Connects a client to `server`, over a pipe in memory.
    pub(crate) async fn of(server: impl ServerHandler) -> Result<Self> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move {
            if let Ok(running) = server.serve(theirs).await {
                drop(running.waiting().await);
            }
        });
        Ok(Self { client: ().serve(ours).await?, last: Mutex::default() })
    }

    /// Calls a tool and pays for it.
    pub(crate) async fn buy(&self, agent: &Agent, tool: &'static str, arguments: Value) -> Result<CallToolResult> {
        let server = Url::parse("mcp://tools")?;
        let bought = call_paid(agent, &server, params(tool, arguments)?, async |params: CallToolRequestParams| {
            if let Some(payment) = params.meta().and_then(|meta| meta.get(PAYMENT)) {
                *locked(&self.last) = Some(payment.clone());
            }
            self.client.peer().call_tool(params).await
        });
        Ok(bought.await?)
    }

    /// Calls a tool with a payment that was made for something, or none.
    pub(crate) async fn call(
        &self,
        tool: &'static str,
        arguments: Value,
        payment: Option<Value>,
    ) -> Result<CallToolResult, ServiceError> {
        let mut params = params(tool, arguments).map_err(|_| ServiceError::UnexpectedResponse)?;
        if let Some(payment) = payment {
            params.meta_mut().get_or_insert_with(RequestMetaObject::default).insert(PAYMENT.to_owned(), payment);
        }
        self.client.peer().call_tool(params).await
    }

    /// The payment that went out last.
    pub(crate) fn last_payment(&self) -> Option<Value> {
        locked(&self.last).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn params(tool: &'static str, arguments: Value) -> Result<CallToolRequestParams> {
    Ok(CallToolRequestParams::new(tool).with_arguments(arguments.as_object().cloned().context("no object")?))
}

/// An agent that may pay the tools, and puts a cent into its channel.
pub(crate) async fn agent(stage: &Stage) -> Result<Agent> {
    let ground = &stage.ground;
    let policy = ground.policy("tools", Amount::new(2_000), Amount::new(10_000));
    ground.agent(funded(ground).await?, policy)
}

/// What a call cost, and what its channel was charged in all, as the receipt says.
pub(crate) fn receipt(result: &CallToolResult) -> Result<(String, String, Key)> {
    ensure!(result.is_error != Some(true), "{}", said(result));
    let receipt = result.meta.as_ref().and_then(|meta| meta.get(PAYMENT_RESPONSE)).context("no receipt")?;
    ensure!(receipt["success"] == json!(true), "{receipt}");
    let (state, cost) = (&receipt["extra"]["channelState"], &receipt["extra"]["chargedAmount"]);
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| receipt.to_string());
    Ok((text(cost)?, text(&state["chargedCumulativeAmount"])?, text(&state["channelId"])?.parse()?))
}

/// Why a payment was not taken: the reason in a result that asks for another one.
pub(crate) fn declined(result: &CallToolResult) -> Result<String> {
    let asks = asks(result)?;
    Ok(asks["error"].as_str().unwrap_or("none").to_owned())
}

/// What a result that asks for payment says, in both of its forms.
pub(crate) fn asks(result: &CallToolResult) -> Result<Value> {
    ensure!(result.is_error == Some(true), "it was served: {result:?}");
    let structured = result.structured_content.clone().with_context(|| said(result))?;
    let text: Value = serde_json::from_str(&said(result))?;
    ensure!(structured == text, "{structured} is not {text}");
    ensure!(structured["x402Version"] == json!(2) && structured["accepts"].is_array(), "{structured}");
    Ok(structured)
}
