//! The catalogue: what is listed, found, counted and kept; and what strangers try with it.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod attacks;
mod finding;
mod keeping;
mod listing;

use serde_json::{Map, Value, json};
use tallybook_catalogue::{Candidate, Catalogue, Filter, Sale, Settings, Taken, judge};
use tallybook_ledger::{Change, ListingRecord};
use tallybook_wire::{Discoverable, Key, Listing, ResourceInfo, Unlisted, UnlistedReason};

/// A Thursday.
const NOW: i64 = 1_795_651_200;
const DAY: i64 = 86_400;

fn settings() -> Settings {
    Settings { entries: 100, entries_per_payee: 10, keep_seconds: 90 * DAY, private_addresses: false }
}

fn wallet(number: u8) -> [u8; 32] {
    [number; 32]
}

fn payee(number: u8) -> String {
    Key([number; 32]).to_string()
}

/// What a resource server has the facilitator settle.
#[derive(Clone)]
struct Request(Value);

impl Request {
    fn of(url: &str, payee: &str, declared: &Discoverable) -> Self {
        let mut resource = ResourceInfo { url: url.to_owned(), ..ResourceInfo::default() };
        declared.describe(&mut resource);
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let path = format!("/{}", path.split(['?', '#']).next().unwrap_or_default());
        Self(json!({
            "x402Version": 2,
            "paymentPayload": {
                "x402Version": 2, "resource": resource, "accepted": {"amount": "500"}, "payload": {},
                "extensions": {"bazaar": declared.extension("GET", &path).or_else(|| declared.extension("POST", &path))},
            },
            "paymentRequirements": {
                "scheme": "exact", "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "amount": "500", "asset": "USDC",
                "payTo": payee, "maxTimeoutSeconds": 60, "extra": {"feePayer": "S"},
            },
        }))
    }

    fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.0.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    fn sale(&self) -> Sale {
        Sale::read(&serde_json::to_vec(&self.0).unwrap()).unwrap()
    }

    fn judged(&self) -> Result<Candidate, Unlisted> {
        judge(&self.sale(), &settings())
    }

    fn refused(&self) -> UnlistedReason {
        self.judged().unwrap_err().reason
    }

    fn paid(&self, catalogue: &mut Catalogue, payer: u8, now: i64) -> Taken {
        catalogue.paid(self.judged().unwrap(), &wallet(payer), now)
    }
}

fn weather() -> Discoverable {
    Discoverable::by_query(json!({"city": "Lisbon"}))
        .input_schema(json!({"properties": {"city": {"type": "string"}}, "required": ["city"]}))
        .output(json!({"celsius": 21}))
        .service("Example Weather")
        .tags(["weather", "forecast"])
}

fn catalogue() -> Catalogue {
    Catalogue::open(settings(), &[])
}

fn all(catalogue: &Catalogue) -> Vec<Listing> {
    catalogue.page(&Filter::default(), 0, 1_000, NOW).0
}

fn urls(listings: &[Listing]) -> Vec<&str> {
    listings.iter().map(|listing| listing.resource.as_str()).collect()
}

fn plain(path: &str) -> String {
    format!("https://api.example.com/{path}")
}

/// The row that a change writes.
fn record(change: Change) -> Option<ListingRecord> {
    if let Change::Listing(record) = change { Some(record) } else { None }
}
