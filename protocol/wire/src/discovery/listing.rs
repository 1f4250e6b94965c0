//! What a catalogue answers.

use super::Unlisted;
use crate::Version;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The most listings of one answer.
pub const MAX_LISTINGS: u32 = 100;

/// A resource that was paid for, as x402's catalogues list it. A hint: what it costs and who is paid is what its own 402 says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Its URL, without a query; with `:name` in the place of a part of the path that varies.
    pub resource: String,
    /// `http` or `mcp`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version of x402 in which it is sold.
    pub x402_version: u64,
    /// The ways to pay: entries of a 402's `accepts` as they were paid last.
    pub accepts: Vec<Value>,
    /// When it was paid for last, in ISO 8601. Older catalogues write a number.
    #[serde(deserialize_with = "text_or_number")]
    pub last_updated: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Media type of its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The service that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_none")]
    pub tags: Vec<String>,
    /// A picture of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
    /// What it declared: `bazaar`, with `info` and `schema`.
    #[serde(default, skip_serializing_if = "Map::is_empty", deserialize_with = "or_none")]
    pub extensions: Map<String, Value>,
    /// What its facilitator knows of its use, where it says so. No member of x402's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

impl Listing {
    /// What it declared of its input: `extensions.bazaar.info.input`.
    pub fn input(&self) -> Option<&Value> {
        self.extensions.get(super::BAZAAR)?.get("info")?.get("input")
    }

    /// The HTTP method, or the name of the tool.
    pub fn call(&self) -> Option<&str> {
        let input = self.input()?;
        input.get("method").or_else(|| input.get("toolName"))?.as_str()
    }
}

/// What is known of a resource's use: counted by its facilitator, not claimed by its seller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Calls that were charged.
    pub paid_calls: u64,
    /// Of those, in the last 30 days.
    pub recent_paid_calls: u64,
    /// Wallets that paid, other than its payee's: counted up to 256.
    pub payers: u32,
    /// Whether others are paid at the same address too.
    #[serde(default)]
    pub contested: bool,
    /// When it was paid for first, in ISO 8601.
    pub first_paid: String,
    /// When it was paid for last, in ISO 8601.
    pub last_paid: String,
}

/// The answer of `GET /discovery/resources`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListingPage {
    /// 2.
    pub x402_version: Version,
    /// The listings, in the order in which they were first paid for.
    pub items: Vec<Listing>,
    /// Where in all of them.
    pub pagination: Offset,
}

/// A page by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offset {
    /// The most listings of the page.
    pub limit: u32,
    /// How many come before it.
    pub offset: u32,
    /// How many there are.
    pub total: u32,
}

/// The answer of `GET /discovery/search`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchPage {
    /// 2.
    pub x402_version: Version,
    /// The listings, the best first.
    pub resources: Vec<Listing>,
    /// Whether there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_results: Option<bool>,
    /// How to ask for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Cursor>,
}

/// A page by what comes after it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// How many listings the page has.
    pub limit: u32,
    /// `cursor` of the next page; none after the last.
    pub cursor: Option<String>,
}

/// The answer of `GET /discovery/status`: whether a URL is listed, and why not. No part of x402's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListingStatus {
    /// The URL as it was looked for: without a query.
    pub resource: String,
    /// What is listed there, and what was refused there last; one entry without either.
    pub states: Vec<ListingState>,
}

/// What a catalogue says of one call at a URL.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListingState {
    /// Whether it is listed.
    pub listed: bool,
    /// The HTTP method, or the name of the tool, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Who is paid, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_to: Option<String>,
    /// Why it is not listed, or why what was declared last is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Unlisted>,
    /// When that was seen last, in ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    })
}

/// A member that may be `null`.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn given_a_catalogue_of_others_when_it_is_read_then_nulls_numbers_and_unknown_members_do_no_harm() {
        let page = json!({
            "x402Version": 2,
            "items": [{
                "resource": "https://a.example/x", "type": "http", "x402Version": 1,
                "accepts": [{"scheme": "exact", "maxAmountRequired": "1"}], "lastUpdated": 1_700_000_000,
                "tags": null, "extensions": null, "description": null, "quality": {"calls": 3},
            }],
            "pagination": {"limit": 20, "offset": 0, "total": 1},
        });
        let read: ListingPage = serde_json::from_value(page).unwrap();
        let item = &read.items[0];
        assert_eq!((item.last_updated.as_str(), item.tags.len(), item.call()), ("1700000000", 0, None));
    }

    #[test]
    fn given_a_listing_when_its_call_is_asked_for_then_it_is_the_method_or_the_tool() {
        let listing = |input: Value| Listing {
            resource: "https://a.example/x".to_owned(),
            kind: "http".to_owned(),
            x402_version: 2,
            accepts: Vec::new(),
            last_updated: String::new(),
            description: None,
            mime_type: None,
            service_name: None,
            tags: Vec::new(),
            icon_url: None,
            extensions: Map::from_iter([("bazaar".to_owned(), json!({"info": {"input": input}}))]),
            standing: None,
        };
        assert_eq!(listing(json!({"type": "http", "method": "GET"})).call(), Some("GET"));
        assert_eq!(listing(json!({"type": "mcp", "toolName": "t"})).call(), Some("t"));
        assert_eq!(listing(json!(5)).call(), None);
    }
}
