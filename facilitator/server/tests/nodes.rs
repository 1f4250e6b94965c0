//! Several facilitators at work on one PostgreSQL database: each holds some of the books, any takes any request, and a book goes
//! from one to another with everything that was answered for it.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;
#[path = "../../store/tests/server/mod.rs"]
mod server;

use house::{House, OTHER_BOOK, answer};
use serde_json::{Value, json};
use server::Server;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tallybook_store::{PostgresStore, VoucherStore};
use tokio::sync::watch;

/// A facilitator of both books on a database, in line with others.
async fn node(url: &str) -> House {
    let listen: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (parsed, address) = (url.parse().unwrap(), format!("http://{listen}"));
    let (tell, _hears) = watch::channel(None);
    let opened = tokio::task::spawn_blocking(move || PostgresStore::among(&parsed, &address, tell));
    let store: Box<dyn VoucherStore> = Box::new(opened.await.unwrap().unwrap());
    let change = |config: &mut tallybook_facilitator::Config| {
        config.listen = listen;
        config.limits.drain_seconds = 10;
    };
    House::over(change, store, tempfile::tempdir().unwrap()).await
}

/// How many books it holds.
async fn books(house: &House) -> u64 {
    house.get("/health").await.1["books"].as_u64().unwrap()
}

/// Waits until each holds so many.
async fn share(houses: &[(&House, u64)]) {
    for _ in 0..600 {
        let mut held = Vec::new();
        for (house, _) in houses {
            held.push(books(house).await);
        }
        if held.iter().zip(houses).all(|(held, (_, expected))| held == expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the books are not shared so");
}

/// Whether a facilitator holds the book of the channels: by its own word, to one who hands on.
async fn holds(house: &House) -> bool {
    let id = tallybook_wire::Key(house.id(0));
    let asked = house.http.get(house.url(&format!("/channels/{id}"))).header("tallybook-handed-on", "1");
    answer(asked).await.0 == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn given_two_on_one_database_when_either_is_asked_then_who_holds_the_book_answers() {
    let server = Server::start();
    let url = server.database();
    let one = node(&url).await;
    share(&[(&one, 2)]).await;
    one.pay(0, 10, 10).await;
    let two = node(&url).await;
    share(&[(&one, 1), (&two, 1)]).await;
    for (number, house) in (0u64..).zip([&one, &two]) {
        assert_eq!(house.get("/health").await.1["node"], json!(number));
    }
    assert!(holds(&one).await != holds(&two).await, "one of them holds the book");

    // A call may begin at one and end at the other.
    for (call, (begins, ends)) in (2u64..).zip([(&one, &two), (&two, &one), (&one, &one), (&two, &two)]) {
        let call = one.call(0, call * 10, 10);
        let (status, verified) = begins.post("/verify", &call).await;
        assert_eq!((status, &verified["isValid"]), (200, &json!(true)), "{verified}");
        let (status, settled) = ends.post("/settle", &call).await;
        assert_eq!((status, &settled["success"]), (200, &json!(true)), "{settled}");
    }
    // Both have seen by now who holds what.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for house in [&one, &two] {
        assert_eq!(house.charged(0).await, "50");
        assert_eq!(house.reason("/verify", &one.call(0, 55, 10)).await, "wrong_cumulative");
        let unknown = house.get(&format!("/channels/{}", tallybook_wire::Key([1; 32]))).await;
        assert_eq!((unknown.0, &unknown.1["error"]), (404, &json!("unknown_channel")));
        let (status, income) = house.get("/income").await;
        let named: Vec<&Value> = income["books"].as_array().unwrap().iter().map(|of| &of["book"]).collect();
        assert_eq!(
            (status, named),
            (200, vec![&json!(one.chain.book_address.to_string()), &json!(OTHER_BOOK.to_string())])
        );
        assert_eq!(house.get(&format!("/books/{}/offer", one.chain.book_address)).await.0, 200);
        assert_eq!(house.get(&format!("/books/{}/offer", tallybook_wire::Key([3; 32]))).await.0, 404);
    }
    one.facilitator.shutdown().await.unwrap();
    two.facilitator.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_call_under_way_when_its_facilitator_is_to_end_then_it_ends_there_and_the_next_is_another_ones() {
    let server = Server::start();
    let url = server.database();
    let (one, two) = (node(&url).await, node(&url).await);
    share(&[(&one, 1), (&two, 1)]).await;
    let (leaves, stays) = if holds(&one).await { (one, two) } else { (two, one) };
    leaves.pay(0, 10, 10).await;
    let under_way = leaves.call(0, 20, 10);
    leaves.post("/verify", &under_way).await;
    leaves.facilitator.drain_token().cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // What is new waits for who will have the book; what was begun is ended where it was.
    let next = tokio::spawn({
        let (http, url) = (stays.http.clone(), stays.url("/verify"));
        let call = serde_json::to_vec(&leaves.call(1, 10, 10)).unwrap();
        async move { answer(http.post(url).body(call)).await }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!next.is_finished(), "the book is not given away while a call is under way");
    let (status, settled) = leaves.post("/settle", &under_way).await;
    assert_eq!((status, &settled["success"]), (200, &json!(true)), "{settled}");
    let (status, verified) = next.await.unwrap();
    assert_eq!((status, &verified["isValid"]), (200, &json!(true)), "{verified}");
    leaves.facilitator.stopped().await.unwrap();
    share(&[(&stays, 2)]).await;
    assert_eq!(stays.charged(0).await, "20");
    stays.pay(0, 30, 10).await;
    stays.facilitator.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_facilitator_whose_session_is_ended_when_others_are_asked_then_they_go_on_with_all_that_was_answered() {
    let server = Server::start();
    let url = server.database();
    let (one, two) = (node(&url).await, node(&url).await);
    share(&[(&one, 1), (&two, 1)]).await;
    let (dies, lives) = if holds(&one).await { (one, two) } else { (two, one) };
    for call in 1..=20 {
        lives.pay(0, call * 10, 10).await;
    }
    let name = format!("tallybook at http://{}", dies.config.listen);
    let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'");
    server.sql(&url, &sql);
    // Who has lost its session refuses; as soon as it is gone, requests wait until another holds the book.
    let call = lives.call(0, 210, 10);
    let is_settled = async || {
        lives.post("/verify", &call).await;
        let (status, settled) = lives.post("/settle", &call).await;
        let is_not_known =
            ["store_unavailable", "settlement_pending"].iter().any(|name| settled["error"] == json!(name));
        assert!(status == 200 || is_not_known, "{settled}");
        settled["success"] == json!(true)
    };
    while !is_settled().await {}
    assert!(dies.facilitator.stopped().await.is_err(), "who has lost its session ends");
    assert_eq!(lives.charged(0).await, "210");
    share(&[(&lives, 2)]).await;
    lives.facilitator.shutdown().await.unwrap();
    let alone =
        tokio::task::spawn_blocking(move || PostgresStore::open(&url.parse().unwrap(), Duration::from_secs(20)));
    let stored = alone.await.unwrap().unwrap().load().unwrap();
    assert_eq!(stored.channels[0].charged, tallybook_rules::Amount::new(210));
}
