//! One thing found, with the way to pay that is compared.

use crate::output::Money;
use serde_json::Value;
use tallybook_agent::{Quote, Sample, Wanted};
use tallybook_rules::Amount;
use tallybook_wire::{Listing, SCHEME};
use url::Url;

/// Tokens of six places that need not say so.
const USDC: [&str; 2] =
    ["EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"];

/// A listing, and what is made of it.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    /// Who lists it.
    pub(super) facilitator: Url,
    pub(super) listing: Listing,
    /// Our own scheme if it is among those that are wanted, else the cheapest.
    pub(super) way: Option<Value>,
    pub(super) quote: Option<Quote>,
}

impl Offer {
    pub(super) fn of(facilitator: &Url, listing: Listing, wanted: &Wanted) -> Self {
        let is_ours = |way: &&Value| way.get("scheme").and_then(Value::as_str) == Some(SCHEME);
        let way = wanted.ways(&listing).find(is_ours).or_else(|| wanted.ways(&listing).min_by_key(|way| amount(way)));
        Self { facilitator: facilitator.clone(), way: way.cloned(), listing, quote: None }
    }

    /// What it costs, in base units.
    pub(super) fn amount(&self) -> Option<Amount> {
        amount(self.way.as_ref()?)
    }

    /// In whole tokens, where it is known how many places the token has.
    pub(super) fn money(&self, amount: Amount) -> Option<Money> {
        let way = self.way.as_ref()?;
        let said = way.get("extra").and_then(|extra| extra.get("decimals")).and_then(Value::as_u64);
        let known = || way.get("asset").and_then(Value::as_str).filter(|asset| USDC.contains(asset)).map(|_| 6);
        let decimals =
            said.and_then(|places| u8::try_from(places).ok()).filter(|places| *places <= 18).or_else(known)?;
        Some(Money::new(amount, decimals))
    }

    /// Names of the schemes that it can be paid by, the one that is compared first.
    pub(super) fn schemes(&self) -> Vec<String> {
        let mut schemes: Vec<String> = Vec::new();
        for way in self.way.iter().chain(&self.listing.accepts) {
            let name = shown(way.get("scheme").and_then(Value::as_str).unwrap_or("?"));
            if !schemes.contains(&name) {
                schemes.push(name);
            }
        }
        schemes
    }

    pub(super) fn payers(&self) -> u32 {
        self.listing.standing.as_ref().map_or(0, |standing| standing.payers)
    }

    /// What to type to buy it; none where this program cannot pay it, or where no example says how it is called.
    pub(super) fn command(&self) -> Option<String> {
        let is_ours = self.way.as_ref()?.get("scheme").and_then(Value::as_str) == Some(SCHEME);
        let sample = Sample::of(&self.listing).filter(|_| is_ours)?;
        let mut command = format!("tallybook pay {}", quoted(sample.url.as_str()));
        if !matches!((sample.method.as_str(), &sample.body), ("GET", None) | ("POST", Some(_))) {
            command.push_str(&format!(" -X {}", sample.method));
        }
        if let (Some(body), Some(content_type)) = (&sample.body, sample.content_type) {
            if content_type != "application/x-www-form-urlencoded" {
                command.push_str(&format!(" -H {}", quoted(&format!("Content-Type: {content_type}"))));
            }
            // A body that begins with @ would be read as the name of a file.
            let body = if body.starts_with('@') { format!(" {body}") } else { body.clone() };
            command.push_str(&format!(" -d {}", quoted(&body)));
        }
        Some(command)
    }
}

fn amount(way: &Value) -> Option<Amount> {
    way.get("amount")?.as_str()?.parse().ok().map(Amount::new)
}

/// What a stranger wrote, fit for a terminal: nothing in it moves the cursor or hides.
pub(super) fn shown(text: &str) -> String {
    let is_plain = |char: &char| {
        !char.is_control()
            && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().filter(is_plain).collect()
}

/// A word as a POSIX shell takes it for one, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", shown(text).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn offer(input: Value, accepts: Value) -> Offer {
        let listing = json!({
            "resource": "https://a.example/w", "type": "http", "x402Version": 2, "lastUpdated": "", "accepts": accepts,
            "extensions": {"bazaar": {"info": {"input": input}}},
        });
        Offer::of(&"http://f".parse().unwrap(), serde_json::from_value(listing).unwrap(), &Wanted::default())
    }

    #[test]
    fn given_a_listing_when_it_is_to_be_typed_then_nothing_in_it_leaves_its_quotes() {
        let ours =
            json!([{"scheme": "exact", "amount": "1"}, {"scheme": SCHEME, "amount": "500", "extra": {"decimals": 6}}]);
        let get = offer(json!({"method": "GET", "queryParams": {"city": "'; rm -rf ~ #"}}), ours.clone());
        assert_eq!(get.command().unwrap(), "tallybook pay 'https://a.example/w?city=%27%3B+rm+-rf+%7E+%23'");
        let post = offer(json!({"method": "POST", "bodyType": "text", "body": "@it's\u{1b}[2J"}), ours.clone());
        let command = "tallybook pay 'https://a.example/w' -H 'Content-Type: text/plain' -d ' @it'\\''s[2J'";
        assert_eq!(post.command().unwrap(), command);
        let delete = offer(json!({"method": "DELETE"}), ours);
        assert_eq!(delete.command().unwrap(), "tallybook pay 'https://a.example/w' -X DELETE");
        assert_eq!(
            (delete.amount(), delete.schemes()),
            (Some(Amount::new(500)), vec![SCHEME.to_owned(), "exact".to_owned()])
        );
        let theirs = offer(json!({"method": "GET"}), json!([{"scheme": "exact", "amount": "1"}]));
        assert_eq!(theirs.command(), None, "this program pays from channels");
    }
}
