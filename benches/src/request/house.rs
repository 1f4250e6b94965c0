//! The parties of a call, each as it is: a facilitator over the node, and a server with one route unpaid, behind a
//! paywall with its own ledger, and behind a paywall that asks the facilitator.

use crate::request::load::{Script, request};
use crate::request::node;
use crate::request::world::{PRICE_TEXT, World, payment_header, question};
use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::path::Path;
use tallybook_facilitator::{Config, Facilitator};
use tallybook_paywall::{Embedding, Paywall};
use tallybook_wire::Offer;
use tokio::net::TcpListener;

/// A facilitator and a server, at work.
#[derive(Debug)]
pub struct House {
    /// The server, with the routes [`UNPAID`], [`EMBEDDED`] and [`REMOTE`].
    pub server: SocketAddr,
    /// The facilitator; it keeps the vouchers of [`REMOTE`].
    pub facilitator: SocketAddr,
    /// What a 402 offers.
    pub offer: Offer,
    /// Keeps it alive.
    _facilitator: Facilitator,
}

/// The route without a paywall.
pub const UNPAID: &str = "/unpaid";
/// The same behind a paywall with its own ledger.
pub const EMBEDDED: &str = "/embedded";
/// The same behind a paywall that asks the facilitator.
pub const REMOTE: &str = "/remote";

/// The first of the channels whose vouchers the facilitator keeps.
const ASKED: usize = 512;

impl House {
    /// Opens it in a folder of its own, within a Tokio runtime.
    pub async fn open(world: &World, folder: &Path) -> Self {
        let node = format!("http://{}", node::serve(world).await);
        let facilitator = facilitator(world, folder, &node).await;
        let url = format!("http://{}", facilitator.local_addr());
        let book = world.address.to_string();
        let embedding = Embedding::new(folder.join("server.sqlite"), node.parse().unwrap())
            .unfinalized_credit(tallybook_rules::Amount::MAX_DEPOSIT);
        let embedded = Paywall::builder(&url, &book).embed(embedding).build().unwrap();
        let remote = Paywall::builder(&url, &book).keep_vouchers_in(folder.join("vouchers.jsonl")).build().unwrap();
        let routes = Router::new()
            .route(UNPAID, get(work))
            .route(EMBEDDED, get(work).route_layer(embedded.charge(PRICE_TEXT).unwrap()))
            .route(REMOTE, get(work).route_layer(remote.charge(PRICE_TEXT).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let offer = offer(&facilitator, &book).await;
        Self { server, facilitator: facilitator.local_addr(), offer, _facilitator: facilitator }
    }

    /// Calls of a route without a payment.
    pub fn unpaid(&self, connections: usize, calls: u64) -> Vec<Script> {
        let call = request("GET", UNPAID, &[], &[]);
        (0..connections).map(|_| (0..calls).map(|_| call.clone()).collect()).collect()
    }

    /// Paid calls of a route: each connection has its channel, `calls` are their numbers in it.
    pub fn paid(&self, world: &World, path: &str, connections: usize, calls: std::ops::Range<u64>) -> Vec<Script> {
        // The server hands over what its own ledger has charged, so the facilitator's channels are others.
        let first = if path == REMOTE { ASKED } else { 0 };
        let channels = world.channels.iter().skip(first).take(connections);
        let script = channels.map(|channel| {
            let headers = calls.clone().map(|call| payment_header(&self.offer, channel.voucher(call)));
            headers.map(|header| request("GET", path, &[("payment-signature", header.as_bytes())], &[])).collect()
        });
        script.collect()
    }

    /// The facilitator's two questions of each call.
    pub fn questions(&self, world: &World, connections: usize, calls: std::ops::Range<u64>) -> Vec<Script> {
        let channels = world.channels.iter().skip(ASKED).take(connections);
        let script = channels.map(|channel| {
            let bodies = calls.clone().map(|call| question(&self.offer, channel.voucher(call)));
            bodies.flat_map(|body| ["/verify", "/settle"].map(|path| request("POST", path, &[], &body))).collect()
        });
        script.collect()
    }

    /// Questions that the facilitator answers without asking anybody.
    pub fn plain(&self, connections: usize, calls: u64) -> Vec<Script> {
        let call = request("GET", "/supported", &[], &[]);
        (0..connections).map(|_| (0..calls).map(|_| call.clone()).collect()).collect()
    }
}

/// What is sold.
async fn work() -> &'static str {
    "twenty-five bytes of it.\n"
}

async fn facilitator(world: &World, folder: &Path, node: &str) -> Facilitator {
    let sponsor = folder.join("sponsor.json");
    let keypair = ed25519_dalek::SigningKey::from_bytes(&[5; 32]).to_keypair_bytes();
    std::fs::write(&sponsor, serde_json::to_vec(&keypair.to_vec()).unwrap()).unwrap();
    std::fs::set_permissions(&sponsor, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut config = Config::from_toml(&format!(
        "listen = '127.0.0.1:0'\ndatabase = '{}'\nrpc_url = '{node}'\nsponsor = '{}'\nbooks = ['{}']",
        folder.join("facilitator.sqlite").display(),
        sponsor.display(),
        world.address,
    ))
    .unwrap();
    // Nothing lands on this chain, so nothing is claimed either.
    config.settlement.min_amount = tallybook_rules::Amount::MAX_DEPOSIT.get();
    config.settlement.min_rows = 96;
    config.limits.unfinalized_credit = tallybook_rules::Amount::MAX_DEPOSIT.get();
    Facilitator::start(config).await.unwrap()
}

/// The offer, asked by hand: without a client of the facilitator's the bench needs none either.
async fn offer(facilitator: &Facilitator, book: &str) -> Offer {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(facilitator.local_addr()).await.unwrap();
    let ask = format!("GET /books/{book}/offer HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    connection.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    serde_json::from_slice(&answer[body..]).unwrap()
}
