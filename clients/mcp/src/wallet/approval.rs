//! Asking the person behind the client (elicitation), where the owner's policy wants one asked.

use super::money::Money;
use rmcp::RoleServer;
use rmcp::model::{
    ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema,
    ProtocolVersion, ServerRequest,
};
use rmcp::service::{Peer, RequestContext};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tallybook_agent::{Ask, Asked};

/// The longest path that is shown: it comes from whoever asked for it.
const MAX_PATH_CHARS: usize = 200;
/// The answer's one member.
const APPROVE: &str = "approve";

tokio::task_local! {
    /// Whose tool call is under way in this task.
    pub(super) static CLIENT: Client;
}

/// The client of a tool call.
#[derive(Clone, Debug)]
pub(super) struct Client {
    peer: Peer<RoleServer>,
    means: Means,
    /// What its user has approved for this very call.
    approved: Vec<Ask>,
    /// What its user would have to approve besides, where the call's result asks for it.
    wanted: Arc<Mutex<Option<Ask>>>,
}

/// How the client's user is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Means {
    /// Not at all: the client has no dialogs.
    None,
    /// By a request, while the call waits.
    Request,
    /// By a result, upon which the call comes again: see [`super::pending`].
    Result,
}

impl Client {
    pub(super) fn of(context: RequestContext<RoleServer>, approved: Vec<Ask>) -> Self {
        // From then on a server may send no requests.
        let is_newer = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let asks = context.client_capabilities().and_then(|capabilities| capabilities.elicitation);
        let means = match asks.is_some_and(|asks| asks.form.is_some() || asks.url.is_none()) {
            false => Means::None,
            true if is_newer => Means::Result,
            true => Means::Request,
        };
        Self { peer: context.peer, means, approved, wanted: Arc::default() }
    }

    /// What its user is to be asked by the result of this call.
    pub(super) fn wanted(&self) -> Option<Ask> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn approves(self, ask: Ask, decimals: u8) -> bool {
        match self.means {
            _ if self.approved.contains(&ask) => true,
            Means::None => false,
            Means::Result => {
                *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(ask);
                false
            }
            Means::Request => self.request(message(&ask, decimals)).await,
        }
    }

    async fn request(self, message: String) -> bool {
        let Some(form) = form(message) else { return false };
        match self.peer.send_request(ServerRequest::ElicitRequest(ElicitRequest::new(form))).await {
            Ok(ClientResult::ElicitResult(result)) => is_yes(&result),
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "the client did not ask its user");
                false
            }
        }
    }
}

/// Whether the client of the call under way can ask its user.
pub(super) fn can_ask() -> bool {
    CLIENT.try_with(|client| client.means != Means::None).unwrap_or(false)
}

/// A dialog with a yes and a no.
pub(super) fn form(message: String) -> Option<ElicitRequestParams> {
    let schema = ElicitationSchema::builder()
        .required_bool_with(APPROVE, |schema| schema.title("Pay").description("Yes to pay, no to refuse"))
        .build();
    let requested_schema = schema.ok()?;
    Some(ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema })
}

/// Only a form that was sent off with a yes is a yes.
pub(super) fn is_yes(result: &ElicitResult) -> bool {
    let said = result.content.as_ref().and_then(|content| content.get(APPROVE)).and_then(serde_json::Value::as_bool);
    result.action == ElicitationAction::Accept && said == Some(true)
}

/// An approver ([`AgentBuilder::approver`](tallybook_agent::AgentBuilder::approver)) that asks the person in front of the MCP
/// client which the call came from, in whole tokens with `decimals` places. Where there is none, because the client cannot ask
/// (elicitation) or no tool is being called, the answer is no.
pub fn ask_the_client(
    decimals: u8,
) -> impl Fn(Ask) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync + 'static {
    move |ask| {
        let client = CLIENT.try_with(Clone::clone).ok();
        Box::pin(async move {
            match client {
                Some(client) => client.approves(ask, decimals).await,
                None => false,
            }
        })
    }
}

pub(super) fn message(ask: &Ask, decimals: u8) -> String {
    let money = Money::new(ask.amount, decimals);
    let money = money.tokens();
    let what = match ask.what {
        Asked::Call => format!("a call that costs up to {money}"),
        Asked::Stream => format!("a stream that costs up to {money}"),
        Asked::Deposit => format!("a deposit of {money}, of which what is not spent comes back"),
        Asked::TopUp => format!("{money} more on deposit, of which what is not spent comes back"),
    };
    let path: String = ask.path.chars().take(MAX_PATH_CHARS).collect();
    format!("Pay {} for {what}? It is for {path}, and goes to {}.", ask.host, ask.payee)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn given_an_answer_when_it_is_anything_but_a_yes_then_it_is_a_no() {
        let said = |action, content| is_yes(&ElicitResult::new(action).with_content(content));
        assert!(said(ElicitationAction::Accept, json!({ "approve": true })));
        assert!(!said(ElicitationAction::Accept, json!({ "approve": false })));
        assert!(!said(ElicitationAction::Accept, json!({ "approve": "true" })));
        assert!(!said(ElicitationAction::Decline, json!({ "approve": true })));
        assert!(!said(ElicitationAction::Cancel, json!({ "approve": true })));
        assert!(!is_yes(&ElicitResult::new(ElicitationAction::Accept)));
    }

    #[test]
    fn given_a_path_that_goes_on_and_on_then_host_amount_and_payee_are_said_all_the_same() {
        let ask = Ask {
            what: Asked::Call,
            amount: tallybook_rules::Amount::new(20_000),
            host: "api.example.com".to_owned(),
            path: "/x".repeat(4_000),
            payee: [7; 32].into(),
        };
        let said = message(&ask, 6);
        assert!(
            said.starts_with("Pay api.example.com for a call that costs up to 0.020000?") && said.len() < 400,
            "{said}"
        );
        assert!(said.contains(&ask.payee.to_string()));
    }
}
