//! The JSON-RPC form of the chain against a scripted endpoint.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests say what they expect")]

use axum::{Json, Router, extract::State};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tallybook_chain::Address;
use tallybook_rpc::{Chain, ChainError, RpcEndpoint, View};
use tallybook_wire::{Key, Signature};

/// An endpoint that answers each question as `answer` says; 1 stands for the question's own id.
async fn scripted(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> RpcEndpoint {
    type Script = Arc<dyn Fn(&Value) -> Value + Send + Sync>;
    async fn say(State(answer): State<Script>, Json(question): Json<Value>) -> Json<Value> {
        assert_eq!(question["jsonrpc"], "2.0");
        let mut said = answer(&question);
        if said.get("id") == Some(&json!(1)) {
            said["id"] = question["id"].clone();
        }
        Json(said)
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/?api-key=hush", listener.local_addr().unwrap()).parse().unwrap();
    let script: Script = Arc::new(answer);
    let router = Router::new().fallback(say).with_state::<()>(script);
    tokio::spawn(async move { axum::serve(listener, router).await });
    RpcEndpoint::new(reqwest::Client::new(), url)
}

async fn endpoint(answer: Value) -> RpcEndpoint {
    scripted(move |_| answer.clone()).await
}

fn result(value: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "result": value })
}

#[tokio::test]
async fn given_documented_answers_when_read_then_they_are_understood() {
    let hash = Key([5; 32]);
    let chain = endpoint(result(&json!(hash))).await;
    assert_eq!(chain.genesis_hash().await.unwrap(), hash.0);

    let account = json!({ "owner": Key([6; 32]), "data": ["AQID", "base64"], "lamports": 1 });
    let chain = endpoint(result(&json!({ "context": { "slot": 9 }, "value": [null, account] }))).await;
    let accounts = chain.accounts(&[[1; 32].into(), [2; 32].into()], View::CONFIRMED).await.unwrap();
    assert_eq!((accounts.context_slot, &accounts.list[0]), (9, &None));
    let account = accounts.list[1].as_ref().unwrap();
    assert_eq!((account.data.as_slice(), account.lamports), ([1, 2, 3].as_slice(), 1));
    assert!(matches!(chain.accounts(&[[1; 32].into()], View::CONFIRMED).await, Err(ChainError::Unreadable { .. })));

    let chain = endpoint(result(
        &json!({ "context": { "slot": 9 }, "value": { "blockhash": hash, "lastValidBlockHeight": 7 } }),
    ))
    .await;
    let blockhash = chain.latest_blockhash().await.unwrap();
    assert_eq!((blockhash.hash.to_bytes(), blockhash.last_valid_height), (hash.0, 7));
}

#[tokio::test]
async fn given_many_accounts_when_asked_for_then_a_hundred_at_a_time_and_the_oldest_answer_counts() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let chain = scripted(move |question| {
        let names = question["params"][0].as_array().unwrap().clone();
        let mut asked = seen.lock().unwrap();
        asked.push((names.len(), question["params"][1]["commitment"].clone()));
        let accounts: Vec<Value> =
            names.iter().map(|name| json!({ "owner": name, "data": ["", "base64"], "lamports": 1 })).collect();
        result(&json!({ "context": { "slot": 46 + asked.len() }, "value": accounts }))
    })
    .await;
    let addresses: Vec<Address> = (0..=250).map(|at| Address::from([at; 32])).collect();
    let accounts = chain.accounts(&addresses, View::FINALIZED).await.unwrap();
    assert_eq!(accounts.context_slot, 47);
    let owners: Vec<Address> = accounts.list.iter().map(|account| account.as_ref().unwrap().owner).collect();
    assert_eq!(owners, addresses);
    let finalized = json!("finalized");
    let expected = [(100, finalized.clone()), (100, finalized.clone()), (51, finalized)];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn given_an_endpoint_that_is_behind_when_asked_for_a_newer_state_then_it_is_refused() {
    let view = View::CONFIRMED.not_before(100);
    let refusing = scripted(|question| {
        assert_eq!(question["params"][1]["minContextSlot"], 100);
        json!({ "error": { "code": -32016, "message": "Minimum context slot has not been reached" } })
    })
    .await;
    let ignoring = endpoint(result(&json!({ "context": { "slot": 99 }, "value": [null] }))).await;
    for chain in [refusing, ignoring] {
        let outcome = chain.accounts(&[[1; 32].into()], view).await;
        assert!(matches!(outcome, Err(ChainError::Behind { wanted: 100 })), "{outcome:?}");
    }
}

#[tokio::test]
async fn given_a_status_when_read_then_the_transaction_is_confirmed_failed_or_not_known() {
    for (status, expected) in [
        (json!(null), None),
        (json!({ "confirmationStatus": "processed", "err": null }), None),
        (json!({ "confirmationStatus": "confirmed", "err": null }), Some(true)),
        (
            json!({ "confirmationStatus": "finalized", "err": { "InstructionError": [2, { "Custom": 6021 }] } }),
            Some(false),
        ),
    ] {
        let chain = endpoint(result(&json!({ "context": { "slot": 9 }, "value": [status] }))).await;
        let status = chain.status(&Signature([1; 64])).await.unwrap();
        assert_eq!(status.map(|outcome| outcome.is_ok()), expected);
    }
}

#[tokio::test]
async fn given_nodes_behind_one_url_when_one_of_them_is_behind_the_others_then_what_it_says_is_not_taken() {
    // Given nodes that answer in turn, the third of them far behind
    let slots = Mutex::new([100u64, 101, 7, 8, 102].into_iter());
    let chain = scripted(move |_| {
        let slot = slots.lock().unwrap().next().unwrap_or(103);
        result(&json!({ "context": { "slot": slot }, "value": [null] }))
    })
    .await;
    // When the chain is asked again and again, then it never goes back
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(chain.accounts(&[[1; 32].into()], View::CONFIRMED).await.unwrap().context_slot);
    }
    assert_eq!(seen, [100, 101, 102, 103]);
    // And what has not landed as far as such a node knows may have landed all the same
    let chain = scripted(|question| match question["method"].as_str() {
        Some("getSignatureStatuses") => result(&json!({ "context": { "slot": 7 }, "value": [null] })),
        _ => result(&json!({ "context": { "slot": 100 }, "value": [null] })),
    })
    .await;
    chain.accounts(&[[1; 32].into()], View::CONFIRMED).await.unwrap();
    let status = chain.status(&Signature([1; 64])).await;
    assert!(matches!(status, Err(ChainError::Behind { wanted: 100 })), "{status:?}");
}

#[tokio::test]
async fn given_answers_that_are_lost_or_of_others_when_asked_again_then_the_good_one_counts_and_nothing_is_sent_twice()
{
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let chain = scripted(move |_| {
        *count.lock().unwrap() += 1;
        match *count.lock().unwrap() {
            1 => json!({ "jsonrpc": "2.0", "id": 7_000, "result": "somebody else's" }),
            2 => json!("<html>"),
            3 => json!({ "jsonrpc": "2.0", "id": 1, "result": null }),
            _ => result(&json!(Key([5; 32]))),
        }
    })
    .await;
    assert_eq!(chain.genesis_hash().await.unwrap(), [5; 32]);
    *asked.lock().unwrap() = 0;
    assert!(matches!(chain.send(&[1]).await, Err(ChainError::Unreadable { .. })));
    assert_eq!(*asked.lock().unwrap(), 1);
}

#[tokio::test]
async fn given_refusals_and_nonsense_when_read_then_they_are_named_and_the_access_key_is_not_shown() {
    let chain = endpoint(json!({ "error": { "code": -32002, "message": "Blockhash not found" } })).await;
    let error = chain.send(&[1]).await.unwrap_err();
    assert!(error.to_string().contains("Blockhash not found"), "{error}");
    let chain = endpoint(json!({ "hello": 1 })).await;
    assert!(matches!(chain.genesis_hash().await, Err(ChainError::Unreadable { .. })));
    let chain = endpoint(result(&json!("x".repeat(4 << 20)))).await;
    assert!(matches!(chain.genesis_hash().await, Err(ChainError::Unreadable { .. })));
    let nowhere = "http://127.0.0.1:9/?api-key=hush".parse().unwrap();
    let error = RpcEndpoint::new(reqwest::Client::new(), nowhere).genesis_hash().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
}
