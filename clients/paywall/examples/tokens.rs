//! A language model's answer, paid by the token while it is written: server-sent events, $20 for a million tokens.
//!
//!     tallybook dev --serve                                    # prints a book and a facilitator
//!     BOOK=… FACILITATOR=http://127.0.0.1:8402 cargo run --example tokens
//!     tallybook pay -X POST -d "once upon a time" http://127.0.0.1:3000/complete …
//!
//! The client signs for 50 tokens at a time, and for the next 50 once half of them have come. When it stops reading or
//! signing, the answer stops, and what was delivered is what it cost.

use axum::Router;
use axum::response::sse::{Event, Sse};
use axum::routing::post;
use futures_util::stream::{self, Stream};
use tallybook_paywall::{Charge, Meter, Paywall, PaywallError, Rate};
use tallybook_rules::{Amount, Rejection};

/// Base units of USDC for so many tokens.
const PRICE: (Amount, u64) = (Amount::new(20_000_000), 1_000_000);
/// What a client signs for at a time: 50 tokens.
const PART: &str = "$0.001";

/// The routes of this server.
pub fn routes(paywall: &Paywall) -> Result<Router, PaywallError> {
    let charge = paywall.charge_stream(PART)?.describe("A completion of your text, by the token");
    Ok(Router::new().route("/complete", post(complete).route_layer(charge)))
}

async fn complete(
    charge: Charge,
    prompt: String,
) -> Result<Sse<impl Stream<Item = Result<Event, Rejection>>>, Rejected> {
    let rate = Rate::new(PRICE.0, PRICE.1).ok_or(Rejected)?;
    Ok(Sse::new(stream::unfold((charge.meter(rate), Some(model(prompt))), next)))
}

/// Pays for the next token, and then lets it out. A token that is not paid is the end.
async fn next<T: Iterator<Item = String>>(
    (mut meter, tokens): (Meter, Option<T>),
) -> Option<(Result<Event, Rejection>, (Meter, Option<T>))> {
    let mut tokens = tokens?;
    let token = tokens.next()?;
    match meter.count(1).await {
        Ok(()) => Some((Ok(Event::default().data(token)), (meter, Some(tokens)))),
        Err(unpaid) => Some((Err(unpaid), (meter, None))),
    }
}

/// Stands for a model: goes on with the words of the prompt, up to 240 tokens, so that the example runs anywhere.
fn model(prompt: String) -> impl Iterator<Item = String> {
    let words: Vec<String> = prompt.split_whitespace().map(str::to_owned).collect();
    words.into_iter().cycle().take(240)
}

/// 500: the price is wrongly set.
struct Rejected;

impl axum::response::IntoResponse for Rejected {
    fn into_response(self) -> axum::response::Response {
        http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paywall = Paywall::builder(std::env::var("FACILITATOR")?, std::env::var("BOOK")?).build()?;
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, routes(&paywall)?).await?;
    Ok(())
}
