//! The parties of a call, each as it is: a facilitator over the node, and a server with one route unpaid, behind a
//! paywall with its own ledger, and behind a paywall that asks the facilitator.

use crate::request::load::{Script, request};
use crate::request::node;
use crate::request::world::{PRICE_TEXT, World, payment_header, question};
use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::path::Path;
use tallybook_chain::Address;
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
    /// The server's routes, to be called without a connection.
    pub routes: Router,
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

/// The file with the server's own vouchers.
pub const SERVER_STORE: &str = "server.sqlite";

/// The first of the channels whose vouchers the facilitator keeps.
const ASKED: usize = 512;

impl House {
    /// Opens it in a folder of its own, within a Tokio runtime.
    pub async fn open(world: &World, folder: &Path) -> Self {
        let node = format!("http://{}", node::serve(world).await);
        Self::over(world, folder, (&node, &node)).await
    }

    /// The same, over nodes of the facilitator's and of the server's choice.
    pub async fn over(world: &World, folder: &Path, (node, of_server): (&str, &str)) -> Self {
        let facilitator = facilitator(&world.address, folder, node).await;
        let url = format!("http://{}", facilitator.local_addr());
        let book = world.address.to_string();
        let embedding = Embedding::new(folder.join(SERVER_STORE), of_server.parse().unwrap())
            .unfinalized_credit(tallybook_rules::Amount::MAX_DEPOSIT);
        let embedded = Paywall::builder(&url, &book).embed(embedding).build().unwrap();
        let remote = Paywall::builder(&url, &book).keep_vouchers_in(folder.join("vouchers.jsonl")).build().unwrap();
        let routes = Router::new()
            .route(UNPAID, get(work))
            .route(EMBEDDED, get(work).route_layer(embedded.charge(PRICE_TEXT).unwrap()))
            .route(REMOTE, get(work).route_layer(remote.charge(PRICE_TEXT).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let served = routes.clone();
        tokio::spawn(async move { axum::serve(listener, served).await });
        let offer = offer(facilitator.local_addr(), &book).await;
        Self { server, facilitator: facilitator.local_addr(), routes, offer, _facilitator: facilitator }
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

/// A facilitator of one book, with its files in a folder, over a node.
pub async fn facilitator(book: &Address, folder: &Path, node: &str) -> Facilitator {
    let database = folder.join("facilitator.sqlite");
    Facilitator::start(config(&[*book], folder, node, &database.display().to_string())).await.unwrap()
}

/// The configuration of a facilitator of these books.
pub fn config(books: &[Address], folder: &Path, node: &str, database: &str) -> Config {
    let sponsor = folder.join("sponsor.json");
    let keypair = ed25519_dalek::SigningKey::from_bytes(&[5; 32]).to_keypair_bytes();
    std::fs::write(&sponsor, serde_json::to_vec(&keypair.to_vec()).unwrap()).unwrap();
    std::fs::set_permissions(&sponsor, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut config = Config::from_toml(&format!(
        "listen = '127.0.0.1:0'\ndatabase = '{database}'\nrpc_url = '{node}'\nsponsor = '{}'\nbooks = [{}]",
        sponsor.display(),
        books.iter().map(|book| format!("'{book}'")).collect::<Vec<_>>().join(","),
    ))
    .unwrap();
    // Nothing lands on this chain, so nothing is claimed either.
    config.settlement.min_amount = tallybook_rules::Amount::MAX_DEPOSIT.get();
    config.settlement.min_rows = 96;
    config.limits.unfinalized_credit = tallybook_rules::Amount::MAX_DEPOSIT.get();
    config
}

/// The offer of a book.
pub async fn offer(facilitator: SocketAddr, book: &str) -> Offer {
    let answer = ask(facilitator, "GET", &format!("/books/{book}/offer"), &[]).await;
    serde_json::from_slice(&answer).unwrap()
}

/// Asks a server by hand, over a connection of its own: the body of its answer, which must be 200. Without a client of the
/// facilitator's the bench needs none either.
pub async fn ask(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(server).await.unwrap();
    connection.write_all(&request(method, path, &[("connection", b"close")], body)).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    answer.split_off(head)
}
