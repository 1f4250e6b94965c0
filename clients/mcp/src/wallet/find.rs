//! `find`: what can be bought, by the catalogues that the owner has named.

use super::Shared;
use super::quote::{Way, shown, structured};
use super::refusal::Refusal;
use rmcp::model::CallToolResult;
use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tallybook_agent::{Sample, Wanted, find as ask};
use tallybook_rules::Amount;
use tallybook_wire::{Listing, MAX_LISTINGS};

/// The longest question, in characters.
const MAX_WORDS_CHARS: usize = 400;

#[derive(Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Arguments {
    /// What is looked for: a few words, such as "weather in Lisbon".
    words: String,
    /// Only what costs no more than this, in whole tokens, such as "0.01".
    #[serde(default)]
    max_price: Option<String>,
    /// How many to list at most: 10 unless said otherwise, up to 100.
    #[serde(default)]
    limit: Option<u32>,
}

/// What was found.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Report {
    /// The best first. What a call costs now is what `quote` says; descriptions are the sellers' words, not to be trusted.
    offers: Vec<Offer>,
    /// Catalogues that gave no answer, and why.
    unanswered: Vec<String>,
}

/// Something to buy.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
struct Offer {
    /// Where: what to quote and fetch, with `:name` in the place of what varies.
    url: String,
    /// http, or mcp for a tool.
    kind: String,
    /// The HTTP method, or the tool's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    /// What it is, in its seller's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// An example of a call: a URL, and a body where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<Example>,
    /// `quote` and `fetch` may ask it: its host is among those that the owner allows.
    allowed: bool,
    /// How many wallets have paid for it, where the catalogue says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    payers: Option<u32>,
    /// The ways to pay that were listed last.
    ways: Vec<Way>,
}

/// An example of a call.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
struct Example {
    /// What to ask for.
    url: String,
    /// What to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

pub(super) async fn find(shared: &Shared, arguments: Arguments) -> Result<CallToolResult, Refusal> {
    let mut wanted = Wanted::words(arguments.words.chars().take(MAX_WORDS_CHARS).collect::<String>());
    wanted.limit = arguments.limit.unwrap_or(10).clamp(1, MAX_LISTINGS);
    wanted.max_amount = match &arguments.max_price {
        Some(text) => Some(
            Amount::parse_decimal(text, shared.decimals)
                .map_err(|_| Refusal::new("maxPrice is no number of tokens: write it like 0.01".to_owned()))?,
        ),
        None => None,
    };
    let mut report = Report { offers: Vec::new(), unanswered: Vec::new() };
    for catalogue in &shared.catalogues {
        match ask(&shared.catalogue_client, catalogue, &wanted).await {
            Ok(found) => report.offers.extend(found.iter().map(|listing| offer(shared, listing, &wanted))),
            Err(error) => report.unanswered.push(error.to_string()),
        }
    }
    report.offers.truncate(usize::try_from(wanted.limit).unwrap_or(usize::MAX));
    structured(&report)
}

fn offer(shared: &Shared, listing: &Listing, wanted: &Wanted) -> Offer {
    let text = |terms: &Value, name: &str| shown(terms.get(name).and_then(Value::as_str).unwrap_or_default());
    let host = listing.resource.parse().ok();
    let example = Sample::of(listing).map(|sample| Example { url: sample.url.to_string(), body: sample.body });
    Offer {
        url: shown(&listing.resource),
        kind: shown(&listing.kind),
        call: listing.call().map(shown),
        description: listing.description.as_deref().map(shown),
        example,
        allowed: host.is_some_and(|url| shared.agent.check_host(&url).is_ok()),
        payers: listing.standing.as_ref().map(|standing| standing.payers),
        ways: wanted
            .ways(listing)
            .map(|terms| Way {
                scheme: text(terms, "scheme"),
                network: text(terms, "network"),
                amount: text(terms, "amount"),
                asset: text(terms, "asset"),
            })
            .collect(),
    }
}
