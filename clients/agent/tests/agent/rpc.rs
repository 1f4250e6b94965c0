//! The JSON-RPC form of the chain against a scripted endpoint.

use axum::{Json, Router, extract::State};
use serde_json::{Value, json};
use tallybook_agent::{Chain, ChainError, RpcEndpoint};
use tallybook_wire::{Key, Signature};

async fn endpoint(answer: Value) -> RpcEndpoint {
    async fn say(State(answer): State<Value>, Json(question): Json<Value>) -> Json<Value> {
        assert_eq!(question["jsonrpc"], "2.0");
        Json(answer)
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/?api-key=hush", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().fallback(say).with_state(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    RpcEndpoint::new(reqwest::Client::new(), url)
}

fn result(value: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "result": value })
}

#[tokio::test]
async fn answers_are_read_as_documented() {
    let hash = Key([5; 32]);
    let chain = endpoint(result(&json!(hash))).await;
    assert_eq!(chain.genesis_hash().await.unwrap(), hash.0);

    let account = json!({ "owner": Key([6; 32]), "data": ["AQID", "base64"], "lamports": 1 });
    let chain = endpoint(result(&json!({ "context": {}, "value": [null, account] }))).await;
    let accounts = chain.accounts(&[[1; 32].into(), [2; 32].into()]).await.unwrap();
    assert_eq!(accounts[0], None);
    assert_eq!(accounts[1].as_ref().unwrap().data, [1, 2, 3]);
    assert!(matches!(chain.accounts(&[[1; 32].into()]).await, Err(ChainError::Unreadable { .. })));

    let chain = endpoint(result(&json!({ "value": { "blockhash": hash, "lastValidBlockHeight": 7 } }))).await;
    let blockhash = chain.latest_blockhash().await.unwrap();
    assert_eq!((blockhash.hash.to_bytes(), blockhash.last_valid_height), (hash.0, 7));
}

#[tokio::test]
async fn a_transaction_is_confirmed_failed_or_not_known() {
    for (status, expected) in [
        (json!(null), None),
        (json!({ "confirmationStatus": "processed", "err": null }), None),
        (json!({ "confirmationStatus": "confirmed", "err": null }), Some(true)),
        (
            json!({ "confirmationStatus": "finalized", "err": { "InstructionError": [2, { "Custom": 6021 }] } }),
            Some(false),
        ),
    ] {
        let chain = endpoint(result(&json!({ "value": [status] }))).await;
        let status = chain.status(&Signature([1; 64])).await.unwrap();
        assert_eq!(status.map(|outcome| outcome.is_ok()), expected);
    }
}

#[tokio::test]
async fn refusals_and_nonsense_are_named_and_the_access_key_is_not_shown() {
    let chain = endpoint(json!({ "error": { "code": -32002, "message": "Blockhash not found" } })).await;
    let error = chain.send(&[1]).await.unwrap_err();
    assert!(error.to_string().contains("Blockhash not found"), "{error}");
    let chain = endpoint(json!({ "hello": 1 })).await;
    assert!(matches!(chain.genesis_hash().await, Err(ChainError::Unreadable { .. })));
    let chain = endpoint(result(&json!("x".repeat(2 << 20)))).await;
    assert!(matches!(chain.genesis_hash().await, Err(ChainError::Unreadable { .. })));
    let nowhere = "http://127.0.0.1:9/?api-key=hush".parse().unwrap();
    let error = RpcEndpoint::new(reqwest::Client::new(), nowhere).genesis_hash().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
}
