//! A device whose readings are paid by the second: $0.0001 a second, for as long as somebody listens.
//!
//!     BOOK=… FACILITATOR=http://127.0.0.1:8402 cargo run --example meter
//!     tallybook pay http://127.0.0.1:3000/readings …       # ends with Ctrl-C, and with it the cost

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::get;
use futures_util::stream;
use std::io;
use std::time::Duration;
use tallybook_paywall::{Charge, Paywall, PaywallError};
use tallybook_rules::Amount;
use tokio::time::{Interval, interval};

/// Base units of USDC for a second.
const PRICE: Amount = Amount::new(100);
/// What a client signs for at a time: ten seconds.
const PART: &str = "$0.001";

/// `second` is how long a second takes: a real one, but in tests.
pub fn routes(paywall: &Paywall, second: Duration) -> Result<Router, PaywallError> {
    let charge = paywall.charge_stream(PART)?.describe("Readings of a thermometer, by the second");
    Ok(Router::new().route("/readings", get(readings).route_layer(charge)).with_state(second))
}

async fn readings(State(second): State<Duration>, charge: Charge) -> Body {
    let started = (interval(second), charge, sensor());
    Body::from_stream(stream::try_unfold(
        started,
        async |(mut clock, charge, mut sensor): (Interval, Charge, Sensor)| {
            clock.tick().await;
            charge.pay(PRICE).await.map_err(io::Error::other)?;
            let reading = sensor.next().unwrap_or_default();
            Ok::<_, io::Error>(Some((Bytes::from_static(reading.as_bytes()), (clock, charge, sensor))))
        },
    ))
}

type Sensor = std::iter::Cycle<std::array::IntoIter<&'static str, 4>>;

/// Stands for a thermometer.
fn sensor() -> Sensor {
    ["19.0\n", "19.5\n", "20.0\n", "19.5\n"].into_iter().cycle()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paywall = Paywall::builder(std::env::var("FACILITATOR")?, std::env::var("BOOK")?).build()?;
    let routes = routes(&paywall, Duration::from_secs(1))?;
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, routes).await?;
    Ok(())
}
