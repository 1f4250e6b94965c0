//! Asking catalogues what can be bought (x402, `bazaar`), and what is found what it costs now.
//!
//! A catalogue is a hint by whoever keeps it: nothing here trusts one. What a call costs and who is paid is what its own 402
//! says, which [`Agent::execute`](crate::Agent::execute) holds against the owner's limits, wherever the URL came from.

use crate::answer::payment_required;
use http::{Method, StatusCode};
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tallybook_rules::Amount;
use tallybook_wire::{Accept, Listing, ListingPage, ListingStatus, MAX_LISTINGS, SearchPage};
use thiserror::Error;
use url::Url;

/// The largest answer of a catalogue that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// How long a catalogue, or somebody who is asked for a price, may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is looked for. Whatever is none or empty is not asked for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Wanted {
    /// Words; without any, all that is listed is meant.
    pub words: String,
    /// `http` or `mcp`.
    pub kind: Option<String>,
    /// The scheme that it can be paid by.
    pub scheme: Option<String>,
    /// The network that it can be paid on.
    pub network: Option<String>,
    /// The token that it can be paid in.
    pub asset: Option<String>,
    /// Who is paid.
    pub pay_to: Option<String>,
    /// The most that it may cost, in base units.
    pub max_amount: Option<Amount>,
    /// How many at most, up to [`MAX_LISTINGS`]; 20 for 0.
    pub limit: u32,
}

impl Wanted {
    /// Looks for words: `weather in Lisbon`.
    pub fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let limit = if self.limit == 0 { 20 } else { self.limit.min(MAX_LISTINGS) };
        let given = [
            ("query", Some(self.words.trim().to_owned()).filter(|words| !words.is_empty())),
            ("type", self.kind.clone()),
            ("scheme", self.scheme.clone()),
            ("network", self.network.clone()),
            ("asset", self.asset.clone()),
            ("payTo", self.pay_to.clone()),
            ("maxAmount", self.max_amount.map(|amount| amount.to_string())),
            ("limit", Some(limit.to_string())),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Whether a listing is wanted: for catalogues that know fewer questions than are asked.
    fn takes(&self, listing: &Listing) -> bool {
        let kind_is = self.kind.as_ref().is_none_or(|kind| *kind == listing.kind);
        kind_is && listing.accepts.iter().any(|terms| self.takes_way(terms))
    }

    fn takes_way(&self, terms: &Value) -> bool {
        let text = |name: &str| terms.get(name).and_then(Value::as_str);
        let is = |asked: &Option<String>, name: &str| asked.as_ref().is_none_or(|asked| text(name) == Some(asked));
        let amount = || text("amount").and_then(|amount| amount.parse().ok()).map(Amount::new);
        is(&self.scheme, "scheme")
            && is(&self.network, "network")
            && is(&self.asset, "asset")
            && is(&self.pay_to, "payTo")
            && self.max_amount.is_none_or(|most| amount().is_some_and(|amount| amount <= most))
    }

    /// The ways to pay that are wanted, as they are listed.
    pub fn ways<'a>(&'a self, listing: &'a Listing) -> impl Iterator<Item = &'a Value> {
        listing.accepts.iter().filter(|terms| self.takes_way(terms))
    }
}

/// Why a catalogue, or a server that is asked for its price, is of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FindError {
    /// It cannot be reached.
    #[error("{host} does not answer: {error}")]
    Unreachable {
        /// Whom.
        host: String,
        /// Why, without the URL.
        error: reqwest::Error,
    },
    /// It answers, but not with what was asked for.
    #[error("{host} keeps no catalogue that can be read: it answered {status}")]
    NoCatalogue {
        /// Whom.
        host: String,
        /// How it answered.
        status: StatusCode,
    },
    /// Its answer is too large, or none.
    #[error("{host} answered with something that is no catalogue's")]
    Unreadable {
        /// Whom.
        host: String,
    },
}

/// Asks one catalogue, the facilitator at this address. The best first, at most as many as are wanted.
pub async fn find(http: &Client, facilitator: &Url, wanted: &Wanted) -> Result<Vec<Listing>, FindError> {
    let parameters = wanted.parameters();
    let mut found = if wanted.words.trim().is_empty() {
        get::<ListingPage>(http, facilitator, "resources", &parameters).await?.items
    } else {
        get::<SearchPage>(http, facilitator, "search", &parameters).await?.resources
    };
    found.retain(|listing| wanted.takes(listing));
    found.truncate(usize::try_from(if wanted.limit == 0 { 20 } else { wanted.limit }).unwrap_or(usize::MAX));
    Ok(found)
}

/// Asks the facilitator at this address whether a URL is listed, and why not. Tallybook's facilitators say so.
pub async fn listing_status(http: &Client, facilitator: &Url, resource: &str) -> Result<ListingStatus, FindError> {
    get(http, facilitator, "status", &[("resource", resource.to_owned())]).await
}

async fn get<T: DeserializeOwned>(
    http: &Client,
    facilitator: &Url,
    path: &str,
    parameters: &[(&'static str, String)],
) -> Result<T, FindError> {
    let mut url = facilitator.clone();
    let host = facilitator.host_str().unwrap_or_default().to_owned();
    let lost = |error: reqwest::Error| FindError::Unreachable { host: host.clone(), error: error.without_url() };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["discovery", path]);
    }
    url.query_pairs_mut().extend_pairs(parameters);
    let mut response = http.get(url).timeout(PATIENCE).send().await.map_err(lost)?;
    if !response.status().is_success() {
        return Err(FindError::NoCatalogue { host: host.clone(), status: response.status() });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(FindError::Unreadable { host });
        }
    }
    serde_json::from_slice(&body).map_err(|_| FindError::Unreadable { host })
}

/// How a listed call is made: by its method, at its URL with the example of its query, with the example of its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// The body, where there is one.
    pub body: Option<String>,
    /// What it is.
    pub content_type: Option<&'static str>,
}

impl Sample {
    /// The example that a listing gives; none for a tool, for a path with parts that vary and are not said, and for what is no
    /// URL.
    pub fn of(listing: &Listing) -> Option<Self> {
        let input = listing.input()?;
        let method = match listing.call()? {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "DELETE" => Method::DELETE,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            _ => return None,
        };
        let mut url = Url::parse(&listing.resource).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let parts = url.path().split('/').map(|part| match part.strip_prefix(':') {
            None => Some(part.to_owned()),
            Some(name) => plain(input.get("pathParams")?.get(name)?),
        });
        let parts: Vec<String> = parts.skip(1).collect::<Option<_>>()?;
        url.path_segments_mut().ok()?.clear().extend(parts);
        for (name, value) in input.get("queryParams").and_then(Value::as_object).into_iter().flatten() {
            if let Some(value) = plain(value) {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        let body = input.get("body");
        let (body, content_type) = match (body, input.get("bodyType").and_then(Value::as_str)) {
            (Some(Value::String(text)), Some("text")) => (Some(text.clone()), Some("text/plain")),
            (Some(Value::Object(form)), Some("form-data")) => {
                let mut pairs = url::form_urlencoded::Serializer::new(String::new());
                pairs.extend_pairs(form.iter().filter_map(|(name, value)| Some((name, plain(value)?))));
                (Some(pairs.finish()), Some("application/x-www-form-urlencoded"))
            }
            (Some(body), Some(_)) => (Some(body.to_string()), Some("application/json")),
            _ => (None, None),
        };
        Some(Self { method, url, body, content_type })
    }

    fn request(&self, http: &Client) -> RequestBuilder {
        let mut request = http.request(self.method.clone(), self.url.clone()).timeout(PATIENCE);
        if let Some(content_type) = self.content_type {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        if let Some(body) = &self.body { request.body(body.clone()) } else { request }
    }
}

/// A text, number or truth value as it stands in a URL.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What a server itself says of a listed way to pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quote {
    /// It is as it is listed.
    AsListed,
    /// It costs something else now, in base units.
    Costs(Amount),
    /// It is not offered: another payee, token or scheme is.
    NotOffered,
    /// The server asks for no payment; this is how it answers.
    NoPayment(StatusCode),
    /// The server does not answer, or asks for a payment in a way that cannot be read.
    NoAnswer,
}

/// Asks a server, unpaid, for the price of what is listed, and holds it against one of the listed ways to pay. Nothing is paid
/// by that. The client should not follow redirects.
pub async fn quote(http: &Client, sample: &Sample, terms: &Value) -> Quote {
    let Ok(response) = sample.request(http).send().await else { return Quote::NoAnswer };
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        return Quote::NoPayment(response.status());
    }
    let Ok(required) = payment_required(response).await else { return Quote::NoAnswer };
    let offers = required.accepts.iter().filter_map(|accept| match accept {
        Accept::Channel(requirements) => serde_json::to_value(requirements).ok(),
        Accept::Foreign(value) => Some(value.clone()),
    });
    let same =
        |offer: &Value| ["scheme", "network", "asset", "payTo"].iter().all(|name| offer.get(name) == terms.get(name));
    let amount = |terms: &Value| terms.get("amount")?.as_str()?.parse().ok().map(Amount::new);
    match offers.filter(same).find_map(|offer| amount(&offer)) {
        None => Quote::NotOffered,
        Some(now) if Some(now) == amount(terms) => Quote::AsListed,
        Some(now) => Quote::Costs(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing(resource: &str, input: Value) -> Listing {
        serde_json::from_value(json!({
            "resource": resource, "type": "http", "x402Version": 2, "lastUpdated": "",
            "accepts": [{"scheme": "exact", "network": "n", "asset": "a", "payTo": "p", "amount": "500"}],
            "extensions": {"bazaar": {"info": {"input": input}}},
        }))
        .unwrap()
    }

    fn sample(resource: &str, input: Value) -> Option<(String, Option<String>)> {
        Sample::of(&listing(resource, input)).map(|sample| (format!("{} {}", sample.method, sample.url), sample.body))
    }

    #[test]
    fn given_a_listing_when_its_example_is_made_then_it_is_a_request_and_nothing_in_it_runs_over() {
        let get = json!({"method": "GET", "queryParams": {"city": "São Paulo & more", "days": 3, "nested": {}}});
        let url = "GET https://a.example/w?city=S%C3%A3o+Paulo+%26+more&days=3".to_owned();
        assert_eq!(sample("https://a.example/w", get), Some((url, None)));
        let post = json!({"method": "POST", "bodyType": "json", "body": {"q": "x"}});
        let made = ("POST https://a.example/w".to_owned(), Some(r#"{"q":"x"}"#.to_owned()));
        assert_eq!(sample("https://a.example/w", post), Some(made));
        let form = json!({"method": "POST", "bodyType": "form-data", "body": {"q": "x y&z"}});
        assert_eq!(sample("https://a.example/w", form).unwrap().1.as_deref(), Some("q=x+y%26z"));
        let path = json!({"method": "GET", "pathParams": {"id": "../admin"}});
        assert_eq!(sample("https://a.example/users/:id", path).unwrap().0, "GET https://a.example/users/..%2Fadmin");
        assert_eq!(sample("https://a.example/users/:id", json!({"method": "GET"})), None);
        assert_eq!(sample("https://a.example/w", json!({"toolName": "t"})), None);
        assert_eq!(sample("file:///etc/passwd", json!({"method": "GET"})), None);
    }

    #[test]
    fn given_a_catalogue_that_knows_no_filters_when_it_answers_then_only_what_is_wanted_is_taken() {
        let listing = listing("https://a.example/w", json!({"method": "GET"}));
        let wanted = |change: fn(&mut Wanted)| {
            let mut wanted = Wanted::words("weather");
            change(&mut wanted);
            wanted.takes(&listing)
        };
        assert!(wanted(|_| ()));
        assert!(wanted(|wanted| wanted.max_amount = Some(Amount::new(500))));
        assert!(!wanted(|wanted| wanted.max_amount = Some(Amount::new(499))));
        assert!(!wanted(|wanted| wanted.network = Some("other".to_owned())));
        assert!(!wanted(|wanted| wanted.kind = Some("mcp".to_owned())));
    }
}
