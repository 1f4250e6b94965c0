//! The demo's API: `POST /facts` counts the words of what it is sent, for money; `POST /unpaid/facts` is the very same
//! handler without the paywall, to measure what paying adds.

use super::words::Facts;
use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tallybook_paywall::{BodyType, Discoverable, Paywall};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request in so many fails after the work has begun, as handlers do.
pub const FAILS_EVERY: u64 = 97;

/// The running API.
pub struct Shop {
    address: SocketAddr,
    served: JoinHandle<()>,
}

impl Shop {
    /// Listens on a port of loopback (0 takes a free one) and charges `price`, such as `"$0.0005"`: from a channel, or by
    /// `exact` to clients of either version of x402.
    pub async fn open(paywall: &Paywall, price: &str, port: u16) -> Result<Self> {
        let facts = || post(facts).with_state(Arc::new(AtomicU64::new(0)));
        let app = Router::new()
            .route("/facts", facts().route_layer(paywall.charge(price)?.exact_with_v1().discoverable(declared())?))
            .route("/unpaid/facts", facts());
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let served = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the API stopped");
            }
        });
        Ok(Self { address, served })
    }

    /// The route that is paid for.
    pub fn paid(&self) -> String {
        format!("http://{}/facts", self.address)
    }

    /// The same route, unpaid.
    pub fn unpaid(&self) -> String {
        format!("http://{}/unpaid/facts", self.address)
    }

    /// `host:port`, as agents allow it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

/// What the route says of itself to catalogues.
fn declared() -> Discoverable {
    Discoverable::by_body(BodyType::Text, json!("to pay or not to pay"))
        .output(json!({ "words": 6, "distinct": 4 }))
        .service("Tallybook demo")
        .tags(["words", "text", "demo"])
        .mime_type("application/json")
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn facts(State(requests): State<Arc<AtomicU64>>, text: String) -> Result<Json<Facts>, StatusCode> {
    let number = requests.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if number.is_multiple_of(FAILS_EVERY) {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    Ok(Json(Facts::about(&text)))
}
