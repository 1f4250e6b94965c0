//! A JSON-RPC node that shows [`World`]s, in which nothing happens any more: what facilitator and paywall read.

use crate::request::world::{GENESIS_HASH, World};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tallybook_chain::account::{BOOK_DISCRIMINATOR, PAGE_DISCRIMINATOR};
use tallybook_chain::{Address, PROGRAM_ID};
use tallybook_wire::Key;
use tokio::net::TcpListener;

/// What it shows, and the account that it does not show beside others.
type Accounts = Arc<(HashMap<String, Value>, Mutex<Option<String>>)>;

/// An account that a node shows to nobody who asks for others too, if any: so that they do without for a while.
#[derive(Clone, Debug)]
pub struct Hidden(Accounts);

impl Hidden {
    /// Hides this one from now on, or none.
    pub fn set(&self, address: Option<&Address>) {
        *self.0.1.lock().unwrap() = address.map(ToString::to_string);
    }
}

/// Serves the world's accounts; gives the node's address.
pub async fn serve(world: &World) -> SocketAddr {
    serve_hiding(std::slice::from_ref(world)).await.0
}

/// The same of several worlds, with a way to hide one account.
pub async fn serve_hiding(worlds: &[World]) -> (SocketAddr, Hidden) {
    let pages = worlds.iter().flat_map(|world| &world.pages).map(|page| {
        let header = bytemuck::bytes_of(&page.header);
        (page.address, [&PAGE_DISCRIMINATOR[..], header, bytemuck::cast_slice(&page.slots)].concat())
    });
    let book = |world: &World| (world.address, [&BOOK_DISCRIMINATOR[..], bytemuck::bytes_of(&world.book)].concat());
    let accounts = pages.chain(worlds.iter().map(book)).map(|(address, data)| {
        let account = json!({
            "data": [STANDARD.encode(&data), "base64"], "owner": PROGRAM_ID.to_string(),
            "lamports": 1, "executable": false, "rentEpoch": 0, "space": data.len(),
        });
        (address.to_string(), account)
    });
    let accounts = Accounts::new((accounts.collect(), Mutex::default()));
    let app = Router::new().route("/", post(answer)).with_state(Arc::clone(&accounts));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, Hidden(accounts))
}

async fn answer(State(shown): State<Accounts>, Json(asked): Json<Value>) -> Json<Value> {
    let (accounts, hidden) = &*shown;
    let hash = Key(GENESIS_HASH).to_string();
    let at = |value: Value| json!({ "context": { "slot": 100 }, "value": value });
    let result = match asked["method"].as_str() {
        Some("getMultipleAccounts") => {
            let names = asked["params"][0].as_array().unwrap();
            let hidden = hidden.lock().unwrap().clone().map(Value::from);
            if hidden.is_some_and(|hidden| names.len() > 1 && names.contains(&hidden)) {
                let error = json!({ "code": -32_005, "message": "not now" });
                return Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error }));
            }
            at(names.iter().map(|name| accounts.get(name.as_str().unwrap()).cloned().unwrap_or_default()).collect())
        }
        Some("getLatestBlockhash") => at(json!({ "blockhash": hash, "lastValidBlockHeight": 150 })),
        Some("getGenesisHash") => json!(hash),
        _ => return Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "error": { "code": -32_601, "message": "?" } })),
    };
    Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }))
}
