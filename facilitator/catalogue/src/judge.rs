//! Whether what a payment declares can be listed, and what of it.

use crate::place::{is_icon, place};
use crate::schema::{check, is_small};
use crate::{Sale, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;
use tallybook_wire::{Key, MAX_TAGS, Unlisted, UnlistedReason, is_label};

/// The largest declaration that is listed, in bytes of JSON: more than fits into the header that it comes in.
const MAX_EXTENSION_BYTES: usize = 8_192;
/// The longest description, in characters: a longer one is cut.
const MAX_DESCRIPTION_CHARS: usize = 500;
/// The longest media type, and the longest name of a tool, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The longest of a payment's terms, and the largest `extra`, in bytes.
const MAX_TERM_BYTES: usize = 128;
const MAX_EXTRA_BYTES: usize = 2_048;

/// What is said of a resource for people. What is no name, tag or picture by x402's rules is left out, as they say.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) description: Option<String>,
    pub(crate) mime_type: Option<String>,
    pub(crate) service_name: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) icon_url: Option<String>,
}

/// Something paid for that may be listed.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Names its entry: address, call and payee.
    pub(crate) key: [u8; 32],
    /// Tells what it declares from what it declared before.
    pub(crate) digest: Key,
    pub(crate) resource: String,
    /// `http` or `mcp`.
    pub(crate) kind: String,
    /// The method, or the tool.
    pub(crate) call: String,
    pub(crate) payee: String,
    pub(crate) described: Described,
    pub(crate) extension: Value,
    /// The entry of `accepts` that was paid.
    pub(crate) terms: Value,
}

impl Candidate {
    /// Names its entry.
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

/// Refuses what cannot be listed, by the first reason that there is. What it costs is bounded, whatever was declared; but it
/// is nothing for a task that must not be kept waiting.
pub fn judge(sale: &Sale, settings: &Settings) -> Result<Candidate, Unlisted> {
    let extension = &sale.extension;
    let (Some(info), Some(schema)) = (member(extension, "info"), member(extension, "schema")) else {
        return Err(UnlistedReason::Malformed.into());
    };
    if !is_small(extension, 0, &mut 0) || extension.to_string().len() > MAX_EXTENSION_BYTES {
        return Err(UnlistedReason::TooLarge.into());
    }
    let (kind, call) = call_of(info)?;
    check(schema, info)?;
    let resource = place(sale.url(), sale.template(), settings.private_addresses)?;
    let terms = sale.terms().ok_or(UnlistedReason::BadTerms)?;
    let payee = sale.payee().to_owned();
    Ok(Candidate {
        key: key_of(&payee, kind, &call, &resource),
        digest: Key(sale.digest()),
        resource,
        kind: kind.to_owned(),
        call,
        payee,
        described: described(&sale.resource),
        extension: listed(extension, sale.template()),
        terms,
    })
}

/// The entry of a payee's call at an address.
fn key_of(payee: &str, kind: &str, call: &str, resource: &str) -> [u8; 32] {
    // None of the first three has a line break in it, so that no two of these are the same text.
    Sha2::sha256(&[format!("tallybook:listing:v1\n{payee}\n{kind}\n{call}\n{resource}").as_bytes()])
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).filter(|member| member.is_object())
}

/// How it is called: the kind, and the method or the tool.
fn call_of(info: &Value) -> Result<(&'static str, String), Unlisted> {
    let bad = |detail: &str| Unlisted::at(UnlistedReason::BadInput, detail);
    let input = member(info, "input").ok_or_else(|| bad("there is no info.input"))?;
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    match text("type") {
        Some("http") => {
            let method = text("method").ok_or_else(|| bad("info.input.method is missing"))?;
            let has_body = ["POST", "PUT", "PATCH"].contains(&method);
            if !has_body && !["GET", "HEAD", "DELETE"].contains(&method) {
                return Err(bad("info.input.method is none of GET, HEAD, DELETE, POST, PUT, PATCH"));
            }
            match (has_body, input.get("bodyType").map(|kind| kind.as_str().unwrap_or_default())) {
                (true, Some("json" | "form-data" | "text")) | (false, None) => Ok(("http", method.to_owned())),
                (false, Some(_)) => Err(bad("info.input.bodyType is for POST, PUT and PATCH")),
                (true, _) => Err(bad("info.input.bodyType must be json, form-data or text")),
            }
        }
        Some("mcp") => {
            let is_name =
                |name: &&str| (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
            let tool = text("toolName").filter(is_name);
            let tool = tool.ok_or_else(|| bad("info.input.toolName must be a name of 1 to 128 bytes"))?;
            if member(input, "inputSchema").is_none() {
                return Err(bad("info.input.inputSchema must be an object"));
            }
            match input.get("transport").map(|transport| transport.as_str().unwrap_or_default()) {
                None | Some("streamable-http" | "sse") => Ok(("mcp", tool.to_owned())),
                Some(_) => Err(bad("info.input.transport must be streamable-http or sse")),
            }
        }
        _ => Err(bad("info.input.type must be http or mcp")),
    }
}

/// What a listing shows of the extension: what x402 names, and nothing that somebody has put beside it.
fn listed(extension: &Value, template: Option<&str>) -> Value {
    let mut listed: Map<String, Value> = ["info", "schema"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), extension.get(name)?.clone())))
        .collect();
    if let Some(template) = template {
        listed.insert("routeTemplate".to_owned(), Value::from(template));
    }
    Value::Object(listed)
}

fn described(resource: &Map<String, Value>) -> Described {
    let text = |name: &str| resource.get(name).and_then(Value::as_str);
    let shown = |text: &str| -> String {
        text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MAX_DESCRIPTION_CHARS).collect()
    };
    let mut tags: Vec<String> = Vec::new();
    for tag in resource.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if tags.len() < MAX_TAGS && is_label(tag) && !tags.iter().any(|known| known.eq_ignore_ascii_case(tag)) {
            tags.push(tag.to_owned());
        }
    }
    let is_type = |kind: &&str| kind.len() <= MAX_NAME_BYTES && kind.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    Described {
        description: text("description").filter(|text| !text.trim().is_empty()).map(shown),
        mime_type: text("mimeType").filter(|kind| !kind.is_empty()).filter(is_type).map(str::to_owned),
        service_name: text("serviceName").filter(|name| is_label(name)).map(str::to_owned),
        tags,
        icon_url: text("iconUrl").filter(|url| is_icon(url)).map(str::to_owned),
    }
}

impl Sale {
    /// The terms of the payment as an entry of `accepts`: its known members, each of a size; none without those that all have.
    pub fn terms(&self) -> Option<Value> {
        terms(&self.requirements)
    }
}

fn terms(requirements: &Map<String, Value>) -> Option<Value> {
    let mut terms = Map::new();
    for name in ["scheme", "network", "amount", "asset", "payTo"] {
        let text = requirements.get(name)?.as_str().filter(|text| (1..=MAX_TERM_BYTES).contains(&text.len()))?;
        if text.chars().any(char::is_control) {
            return None;
        }
        terms.insert(name.to_owned(), Value::from(text));
    }
    let seconds = requirements.get("maxTimeoutSeconds").and_then(Value::as_u64).unwrap_or(60);
    terms.insert("maxTimeoutSeconds".to_owned(), Value::from(seconds));
    let extra = requirements.get("extra").filter(|extra| extra.is_object());
    let extra = extra.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if !is_small(&extra, 0, &mut 0) || extra.to_string().len() > MAX_EXTRA_BYTES {
        return None;
    }
    terms.insert("extra".to_owned(), extra);
    Some(Value::Object(terms))
}
