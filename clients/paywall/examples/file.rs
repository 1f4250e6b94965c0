//! A file, paid by the byte while it is sent: $0.10 for a megabyte.
//!
//!     BOOK=… FACILITATOR=http://127.0.0.1:8402 FILE=big.iso cargo run --example file
//!     tallybook pay -o big.iso http://127.0.0.1:3000/file …
//!
//! Whoever stops half-way has paid for half of it.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::get;
use futures_util::stream;
use http::StatusCode;
use std::io;
use std::path::PathBuf;
use tallybook_paywall::{Charge, Meter, Paywall, PaywallError, Rate};
use tallybook_rules::Amount;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// Base units of USDC for so many bytes.
const PRICE: (Amount, u64) = (Amount::new(100_000), 1_000_000);
/// What a client signs for at a time: 100,000 bytes.
const PART: &str = "$0.01";
/// Bytes that are read and paid for at a time.
const CHUNK: usize = 16 * 1_024;

/// The routes of this server.
pub fn routes(paywall: &Paywall, file: PathBuf) -> Result<Router, PaywallError> {
    let charge = paywall.charge_stream(PART)?.describe("A file, by the byte");
    Ok(Router::new().route("/file", get(send).route_layer(charge)).with_state(file))
}

async fn send(State(path): State<PathBuf>, charge: Charge) -> Result<Body, StatusCode> {
    let file = File::open(path).await.map_err(|_| StatusCode::NOT_FOUND)?;
    let rate = Rate::new(PRICE.0, PRICE.1).ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    let sent = stream::try_unfold((file, charge.meter(rate)), async |(mut file, mut meter): (File, Meter)| {
        let mut chunk = vec![0; CHUNK];
        let bytes = file.read(&mut chunk).await?;
        if bytes == 0 {
            return Ok(None);
        }
        chunk.truncate(bytes);
        meter.count(bytes.try_into().unwrap_or(u64::MAX)).await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(Some((Bytes::from(chunk), (file, meter))))
    });
    Ok(Body::from_stream(sent))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paywall = Paywall::builder(std::env::var("FACILITATOR")?, std::env::var("BOOK")?).build()?;
    let routes = routes(&paywall, std::env::var("FILE")?.into())?;
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, routes).await?;
    Ok(())
}
