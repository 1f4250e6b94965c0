//! A JSON-RPC node that shows a [`World`], in which nothing happens any more: what facilitator and paywall read.

use crate::request::world::{GENESIS_HASH, World};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::account::{BOOK_DISCRIMINATOR, PAGE_DISCRIMINATOR};
use tallybook_wire::Key;
use tokio::net::TcpListener;

type Accounts = Arc<HashMap<String, Value>>;

/// Serves the world's accounts; gives the node's address.
pub async fn serve(world: &World) -> SocketAddr {
    let book = [&BOOK_DISCRIMINATOR[..], bytemuck::bytes_of(&world.book)].concat();
    let pages = world.pages.iter().map(|page| {
        let header = bytemuck::bytes_of(&page.header);
        (page.address, [&PAGE_DISCRIMINATOR[..], header, bytemuck::cast_slice(&page.slots)].concat())
    });
    let accounts = pages.chain([(world.address, book)]).map(|(address, data)| {
        let account = json!({
            "data": [STANDARD.encode(&data), "base64"], "owner": PROGRAM_ID.to_string(),
            "lamports": 1, "executable": false, "rentEpoch": 0, "space": data.len(),
        });
        (address.to_string(), account)
    });
    let app = Router::new().route("/", post(answer)).with_state(Accounts::new(accounts.collect()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn answer(State(accounts): State<Accounts>, Json(asked): Json<Value>) -> Json<Value> {
    let hash = Key(GENESIS_HASH).to_string();
    let at = |value: Value| json!({ "context": { "slot": 100 }, "value": value });
    let result = match asked["method"].as_str() {
        Some("getMultipleAccounts") => {
            let names = asked["params"][0].as_array().unwrap().iter();
            at(names.map(|name| accounts.get(name.as_str().unwrap()).cloned().unwrap_or_default()).collect())
        }
        Some("getLatestBlockhash") => at(json!({ "blockhash": hash, "lastValidBlockHeight": 150 })),
        Some("getGenesisHash") => json!(hash),
        _ => return Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "error": { "code": -32_601, "message": "?" } })),
    };
    Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }))
}
