//! Articles by the piece: each at its own price, the first one free for every reader.
//!
//!     BOOK=… FACILITATOR=http://127.0.0.1:8402 cargo run --example articles
//!     curl -H 'x-reader: me' http://127.0.0.1:3000/articles/sailing     # free, once
//!     tallybook pay http://127.0.0.1:3000/articles/mending …

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use http::StatusCode;
use http::request::Parts;
use std::time::Duration;
use tallybook_paywall::{FreeQuota, Paywall, Price};
use tallybook_rules::Amount;

/// Name, price in base units of USDC, text. What costs nothing is a teaser.
const ARTICLES: [(&str, Amount, &str); 3] = [
    ("news", Amount::ZERO, "The harbour opens at six."),
    ("sailing", Amount::new(2_000), "How to sail before the wind, and come back."),
    ("mending", Amount::new(5_000), "How to mend a net in an hour, with one hand."),
];

/// The routes of this server.
pub fn routes(paywall: &Paywall) -> Router {
    let first_free = FreeQuota::new(1, Duration::from_secs(86_400), reader);
    let charge = paywall.charge_by(price).free(first_free).describe("An article");
    Router::new().route("/articles/{name}", get(article).route_layer(charge))
}

fn price(request: &Parts) -> Price {
    let name = request.uri.path().rsplit('/').next().unwrap_or_default();
    // What is not there costs nothing, and the handler says so.
    ARTICLES.iter().find(|(known, ..)| *known == name).map_or(Price::Free, |(_, price, _)| Price::Exactly(*price))
}

/// Who reads. A real shop takes the key of an account here: nothing that a reader can make up anew.
fn reader(request: &Parts) -> Option<String> {
    Some(request.headers.get("x-reader")?.to_str().ok()?.to_owned())
}

async fn article(Path(name): Path<String>) -> Result<&'static str, StatusCode> {
    let found = ARTICLES.iter().find(|(known, ..)| *known == name);
    found.map(|(_, _, text)| *text).ok_or(StatusCode::NOT_FOUND)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paywall = Paywall::builder(std::env::var("FACILITATOR")?, std::env::var("BOOK")?).build()?;
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, routes(&paywall)).await?;
    Ok(())
}
