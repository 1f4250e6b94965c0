//! `fetch`: asks, pays, and hands the answer on.

use super::Shared;
use super::approval;
use super::money::Money;
use super::refusal::Refusal;
use super::request::Asked;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::Response;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tallybook_agent::{AgentError, Breach, Metered, StreamEnd, receipt};
use tallybook_rules::Amount;
use tallybook_wire::SettleResponse;

#[derive(Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Arguments {
    /// What to ask for: a URL with its scheme, https or http.
    url: String,
    /// GET, HEAD, POST, PUT, PATCH or DELETE. GET unless said otherwise, or POST where there is a body.
    #[serde(default)]
    method: Option<String>,
    /// Headers to send, by their names. Few may be set; a refusal says which.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text to send.
    #[serde(default)]
    body: Option<String>,
    /// Pay no more than this, in whole tokens, such as "0.0005". The owner's limits hold besides.
    #[serde(default)]
    max_price: Option<String>,
    /// Hand on no more of the answer than this, in bytes.
    #[serde(default)]
    max_bytes: Option<u32>,
}

/// The answer, and what it cost.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Report {
    /// The answer's HTTP status.
    status: u16,
    /// Its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// Where it redirects to; ask for that if it is to be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    /// The answer, where it is text. What is none is among the content of this result.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// How much of it was read, in bytes.
    bytes: usize,
    /// There is more of it, which was left out.
    truncated: bool,
    /// What was paid for it.
    payment: Payment,
}

/// What was paid.
#[derive(Serialize, JsonSchema, Default, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
struct Payment {
    /// The answer was paid for. Where it is false, nothing is known to have been charged.
    paid: bool,
    /// What it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    charged: Option<Money>,
    /// The channel that paid: under which the owner finds the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    /// What calls on that channel cost so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_charged: Option<Money>,
    /// What that channel can pay in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_deposit: Option<Money>,
    /// Why it was not paid, or a stream ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) async fn fetch(shared: &Shared, arguments: Arguments) -> Result<CallToolResult, Refusal> {
    let Arguments { url, method, headers, body, max_price, max_bytes } = arguments;
    let limit = max_price.as_deref().map(|text| price(text, shared.decimals)).transpose()?;
    let cap = max_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    let cap = cap.min(shared.rules.max_answer_bytes);
    let request = Asked { url, method, headers, body }.request(shared)?;
    let url = request.url().to_string();
    let answered = match limit {
        Some(limit) => shared.agent.execute_within(request, limit).await,
        None => shared.agent.execute(request).await,
    };
    let mut response = answered.map_err(|error| refusal(shared, limit, error))?;
    let metered = Metered::of(&response);
    let mut payment = Payment::of(response.headers(), shared.decimals);
    let read = read(&mut response, cap).await;
    let (status, head) = (response.status().as_u16(), response.headers().clone());
    // What is not read of a stream is not paid for.
    drop(response);
    if let Some(metered) = metered {
        payment.end(&metered.ended().await, shared.decimals);
    }
    let (bytes, truncated) = read.map_err(|error| payment.broke_off(&error))?;
    let header = |name| head.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_type = header(CONTENT_TYPE);
    let text = as_text(content_type.as_deref(), &bytes, truncated);
    let report = Report {
        status,
        location: header(LOCATION),
        bytes: bytes.len(),
        truncated,
        body: text.clone(),
        payment,
        content_type,
    };
    result(&report, text, bytes, url)
}

/// A limit in whole tokens.
fn price(text: &str, decimals: u8) -> Result<Amount, Refusal> {
    Amount::parse_decimal(text, decimals).map_err(|_| {
        Refusal::new(
            "maxPrice is no number of tokens: write it like 0.0005, with no more places than the token has".to_owned(),
        )
    })
}

/// What to say of a call that was not answered.
fn refusal(shared: &Shared, limit: Option<Amount>, error: AgentError) -> Refusal {
    if let AgentError::Policy(Breach::PriceTooHigh { price, limit: bound }) = &error
        && limit.as_ref() == Some(bound)
    {
        let (price, bound) = (Money::new(*price, shared.decimals), Money::new(*bound, shared.decimals));
        return Refusal::new(format!(
            "not paid: the call costs {}, above the maxPrice of {}. Nothing was charged; ask again with another maxPrice if it is \
             worth it",
            price.tokens(),
            bound.tokens()
        ));
    }
    if let AgentError::Policy(Breach::NotApproved { amount }) = &error
        && !approval::can_ask()
    {
        return Refusal::new(format!(
            "not paid: the owner wants a person asked before {} are spent, and this client cannot ask one (MCP elicitation). \
             Nothing was charged. Use a client that can, or let the owner raise that limit",
            Money::new(*amount, shared.decimals).tokens()
        ));
    }
    shared.told(error)
}

/// As much of an answer as is wanted, and whether there is more.
async fn read(response: &mut Response, cap: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = cap.saturating_sub(bytes.len());
        if chunk.len() > room {
            bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            return Ok((bytes, true));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, false))
}

/// The answer as text, if it is one; of a text that was cut off in the middle of a character, what is whole.
fn as_text(content_type: Option<&str>, bytes: &[u8], truncated: bool) -> Option<String> {
    let kind = content_type.unwrap_or("text/plain").to_ascii_lowercase();
    let words = ["text/", "json", "xml", "javascript", "yaml", "x-www-form-urlencoded"];
    if !words.iter().any(|word| kind.contains(word)) {
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(error) if truncated && error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok()).map(str::to_owned)
        }
        Err(_) => None,
    }
}

fn result(report: &Report, text: Option<String>, bytes: Vec<u8>, url: String) -> Result<CallToolResult, Refusal> {
    let mut content = vec![ContentBlock::text(report.line())];
    let kind = report.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
    match text {
        Some(text) => content.push(ContentBlock::text(text)),
        None if bytes.is_empty() => {}
        None if kind.starts_with("image/") => content.push(ContentBlock::image(STANDARD.encode(&bytes), kind)),
        None if kind.starts_with("audio/") => content.push(ContentBlock::audio(STANDARD.encode(&bytes), kind)),
        None => {
            let blob = ResourceContents::blob(STANDARD.encode(&bytes), url).with_mime_type(kind);
            content.push(ContentBlock::resource(blob));
        }
    }
    let mut result = super::quote::structured(report)?;
    result.content = content;
    Ok(result)
}

impl Report {
    /// The head of the answer, and what it cost, in a line.
    fn line(&self) -> String {
        let kind = self.content_type.as_deref().unwrap_or("no media type");
        let more = if self.truncated { " (the rest was left out)" } else { "" };
        let to = self.location.as_ref().map(|to| format!(", to {to}")).unwrap_or_default();
        let paid = match (&self.payment.charged, self.payment.paid) {
            (Some(charged), true) => format!("Paid {}", charged.tokens()),
            (None, true) => "Paid, an amount that is not known".to_owned(),
            (_, false) => "Paid nothing".to_owned(),
        };
        let reason = self.payment.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("HTTP {}{to}, {kind}, {} bytes{more}. {paid}{reason}.", self.status, self.bytes)
    }
}

impl Payment {
    fn of(headers: &HeaderMap, decimals: u8) -> Self {
        let money = |amount| Money::new(amount, decimals);
        match receipt(headers) {
            None => Self::default(),
            Some(SettleResponse::Failed { reason, .. }) => {
                Self { reason: Some(format!("{}: {}", reason.name(), reason.advice())), ..Self::default() }
            }
            Some(SettleResponse::Settled { extra, .. }) => Self {
                paid: true,
                charged: extra.charged_amount.map(money),
                channel: extra.channel_state.map(|state| state.channel_id.to_string()),
                channel_charged: extra.channel_state.map(|state| money(state.charged_cumulative_amount)),
                channel_deposit: extra.channel_state.map(|state| money(state.balance)),
                reason: None,
            },
        }
    }

    /// What became of a stream that was paid for as it came.
    fn end(&mut self, end: &StreamEnd, decimals: u8) {
        self.paid = true;
        self.charged = end.charged.map(|amount| Money::new(amount, decimals));
        self.reason = end.declined.clone().or_else(|| end.reason.as_ref().map(|reason| reason.advice().to_owned()));
    }

    fn broke_off(&self, error: &reqwest::Error) -> Refusal {
        let paid = match (&self.charged, self.paid) {
            (Some(charged), true) => format!("{} were paid for it all the same", charged.tokens()),
            (None, true) => "it was paid for all the same".to_owned(),
            (_, false) => "nothing is known to have been paid".to_owned(),
        };
        Refusal::new(format!(
            "the answer broke off ({}); {paid}",
            error.to_string().chars().take(200).collect::<String>()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_answer_when_it_is_text_then_it_is_handed_on_as_such_and_else_as_bytes() {
        assert_eq!(as_text(Some("application/json"), b"{}", false).as_deref(), Some("{}"));
        assert_eq!(as_text(None, "é".as_bytes(), false).as_deref(), Some("é"));
        assert_eq!(
            as_text(Some("text/plain"), &"aé".as_bytes()[..2], true).as_deref(),
            Some("a"),
            "cut in a character"
        );
        assert_eq!(as_text(Some("text/plain"), &"aé".as_bytes()[..2], false), None, "no text at all");
        assert_eq!(as_text(Some("image/png"), b"ascii", false), None);
        assert_eq!(as_text(Some("application/octet-stream"), b"ascii", false), None);
    }

    #[test]
    fn given_a_limit_in_tokens_when_it_is_none_then_it_is_refused() {
        assert_eq!(price("0.0005", 6), Ok(Amount::new(500)));
        for text in ["", "-1", "1e3", "0.0000001", "many", "NaN"] {
            assert!(price(text, 6).is_err(), "{text}");
        }
    }
}
