//! The catalogue over real HTTP and a real file: what is listed, when, and what is said about the rest.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use house::House;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tallybook_store::{SqliteStore, VoucherStore};
use tallybook_wire::{
    Discoverable, EXTENSION_RESPONSES, ExtensionResponses, FacilitatorRequest, ListingOutcome, ResourceInfo,
    UnlistedReason, read_header,
};

fn weather() -> Discoverable {
    Discoverable::by_query(json!({"city": "Lisbon"})).service("Example Weather").tags(["weather"])
}

/// A call of 500 by the channel in slot 0 for what is at `url`.
fn call(house: &House, cumulative: u64, url: &str, declared: &Discoverable) -> FacilitatorRequest {
    call_of(house, 0, cumulative, url, declared.extension("GET", "/weather").unwrap())
}

fn call_of(house: &House, slot: u8, cumulative: u64, url: &str, extension: Value) -> FacilitatorRequest {
    let mut call = house.call(slot, cumulative, 500);
    let mut resource = ResourceInfo { url: url.to_owned(), ..ResourceInfo::default() };
    weather().describe(&mut resource);
    call.payment_payload.resource = Some(resource);
    call.payment_payload.extensions = Some(Map::from_iter([("bazaar".to_owned(), extension)]));
    call
}

/// Settles, and says what became of the declaration.
async fn settle(house: &House, call: &FacilitatorRequest) -> Option<ListingOutcome> {
    let body = serde_json::to_vec(call).unwrap();
    let response = house.http.post(house.url("/settle")).body(body).send().await.unwrap();
    let value = response.headers().get(EXTENSION_RESPONSES).cloned();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer.get("extensions"), None, "clients are not told");
    value.and_then(|value| read_header::<ExtensionResponses>(value.as_bytes()).unwrap().bazaar)
}

async fn pay(house: &House, call: &FacilitatorRequest) -> Option<ListingOutcome> {
    let (_, verified) = house.post("/verify", call).await;
    assert_eq!(verified["isValid"], true, "{verified}");
    settle(house, call).await
}

/// The listings, once there are so many.
async fn listed(house: &House, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let (status, page) = house.get("/discovery/resources").await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        if items.len() == count {
            return items.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there are never {count} listings");
}

#[tokio::test]
async fn given_a_declared_route_when_it_is_paid_for_then_it_is_listed_found_and_known_after_a_restart() {
    let house = House::new().await;
    let (_, supported) = house.get("/supported").await;
    assert_eq!(supported["extensions"], json!(["bazaar"]));
    let url = "https://api.example.com/weather?city=Lisbon";
    let first = call(&house, 500, url, &weather());

    // Reserved is not paid.
    house.post("/verify", &first).await;
    assert_eq!(listed(&house, 0).await.len(), 0);
    assert_eq!(settle(&house, &first).await, Some(ListingOutcome::Processing));
    let item = listed(&house, 1).await.remove(0);
    assert_eq!(item["resource"], "https://api.example.com/weather");
    assert_eq!(item["accepts"][0]["scheme"], "@tallybook/channel");
    assert_eq!((&item["accepts"][0]["amount"], &item["serviceName"]), (&json!("500"), &json!("Example Weather")));
    let extra = item["accepts"][0]["extra"].as_object().unwrap();
    assert!(extra.contains_key("book") && !extra.contains_key("recentBlockhash"), "{extra:?}");

    // The same commit again is no second call; the next call is, and it is listed at once.
    assert_eq!(settle(&house, &first).await, None);
    assert_eq!(pay(&house, &call(&house, 1_000, url, &weather())).await, Some(ListingOutcome::Success));
    let house = house.restart().await;
    let item = listed(&house, 1).await.remove(0);
    assert_eq!((&item["standing"]["paidCalls"], &item["standing"]["payers"]), (&json!(2), &json!(1)));

    let (_, page) = house.get("/discovery/search?query=the+weather+anywhere&limit=5").await;
    assert_eq!((&page["resources"][0]["resource"], &page["partialResults"]), (&item["resource"], &json!(false)));
    assert_eq!(page["pagination"], json!({"limit": 1, "cursor": null}));
    let (_, page) = house.get("/discovery/search?query=bitcoin").await;
    assert_eq!(page["resources"], json!([]));
    let (_, status) = house.get("/discovery/status?resource=https://api.example.com/weather").await;
    assert_eq!((&status["states"][0]["listed"], &status["states"][0]["call"]), (&json!(true), &json!("GET")));
}

#[tokio::test]
async fn given_what_cannot_be_listed_when_it_is_paid_for_then_the_payment_holds_and_its_owner_learns_why() {
    let house = House::new().await;
    let local = call(&house, 500, "http://127.0.0.1:3000/weather", &weather());
    assert_eq!(pay(&house, &local).await, Some(ListingOutcome::Processing));
    let again = call(&house, 1_000, "http://127.0.0.1:3000/weather", &weather());
    let mut outcome = pay(&house, &again).await;
    for cumulative in (1_500..5_000).step_by(500) {
        if outcome != Some(ListingOutcome::Processing) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        outcome = pay(&house, &call(&house, cumulative, "http://127.0.0.1:3000/weather", &weather())).await;
    }
    let Some(ListingOutcome::Rejected { reason }) = outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("private_address: "), "{reason}");
    let (_, status) = house.get("/discovery/status?resource=http%3A%2F%2F127.0.0.1%3A3000%2Fweather").await;
    assert_eq!(status["states"][0]["refused"]["reason"], "private_address");
    let (_, status) = house.get("/discovery/status?resource=https://elsewhere.example.com/").await;
    assert_eq!(status["states"][0]["refused"]["message"], UnlistedReason::NotPaid.advice());
    assert_eq!(listed(&house, 0).await.len(), 0);
}

#[tokio::test]
async fn given_bombs_for_declarations_when_they_are_paid_for_then_calls_go_on_meanwhile_and_nothing_is_listed() {
    let house = House::new().await;
    let mut deep = json!({"type": "object"});
    (0..40).for_each(|_| deep = json!({"allOf": [deep]}));
    let input = json!({"type": "http", "method": "GET", "queryParams": {"q": "a".repeat(3_000)}});
    let bombs = [
        json!({"info": {"input": input}, "schema": deep}),
        json!({"info": {"input": input}, "schema": {"$ref": "#"}}),
        json!({"info": {"input": input}, "schema": {"$ref": "http://127.0.0.1:1/schema"}}),
        json!({"info": {"input": input}, "schema": {"properties": {"input": {"properties": {"queryParams": {"properties":
            {"q": {"pattern": "^(a+)+$"}}}}}}}}),
        json!({"info": {"input": input}, "schema": {"pattern": "(((a{99}){99}){99}){99}"}}),
        json!({"info": {"input": "x".repeat(9_000)}, "schema": {}}),
        json!([[[[]]]]),
    ];
    for (number, bomb) in (1u64..).zip(bombs) {
        let url = format!("https://api.example.com/{number}");
        let outcome = pay(&house, &call_of(&house, 0, number * 500, &url, bomb)).await;
        assert_eq!(outcome, Some(ListingOutcome::Processing));
    }
    // By another channel, while they are looked at.
    assert!(
        pay(&house, &call_of(&house, 1, 500, "https://api.example.com/w", weather().extension("GET", "/").unwrap()))
            .await
            .is_some()
    );
    // One bomb is none: its pattern is linear here.
    let urls: Vec<Value> = listed(&house, 2).await.into_iter().map(|item| item["resource"].clone()).collect();
    assert_eq!(urls, ["https://api.example.com/4", "https://api.example.com/w"]);
    assert_eq!(house.charged(0).await, "3500");
}

#[tokio::test]
async fn given_many_calls_when_they_are_written_down_then_it_is_one_row_and_each_is_counted() {
    let house = House::new().await;
    // The first is looked at; the others are known.
    pay(&house, &call(&house, 500, "https://api.example.com/w", &weather())).await;
    let _ = listed(&house, 1).await;
    for number in 2..=20 {
        pay(&house, &call(&house, number * 500, "https://api.example.com/w", &weather())).await;
    }
    let database = house.config.database.clone();
    house.facilitator.shutdown().await.unwrap();
    let rows = SqliteStore::open(database.path().unwrap()).unwrap().load().unwrap().listings;
    assert_eq!(rows.len(), 1);
    let kept: Value = serde_json::from_str(&rows[0].text).unwrap();
    assert_eq!(kept["paid_calls"], 20, "those of the last seconds too");
}

#[tokio::test]
async fn given_questions_when_they_are_odd_then_they_are_refused_by_a_sentence_or_answered_in_bounds() {
    let house = House::new().await;
    for (path, status) in [
        ("/discovery/resources?limit=1000000&offset=4294967295&type=http&unknown=1", 200),
        ("/discovery/resources?limit=0", 200),
        ("/discovery/resources?limit=-1", 400),
        ("/discovery/resources?offset=x", 400),
        ("/discovery/resources?maxAmount=0.5", 400),
        ("/discovery/resources?limit=1&limit=2", 400),
        ("/discovery/search", 400),
        ("/discovery/search?query=%20", 400),
        ("/discovery/search?query=x&cursor=y", 400),
        ("/discovery/search?query=x&cursor=99999", 200),
        ("/discovery/status", 400),
        ("/discovery/status?resource=nowhere", 400),
    ] {
        let (found, answer) = house.get(path).await;
        assert_eq!(found, status, "{path}: {answer}");
        assert!(found == 200 || answer["message"].as_str().unwrap().ends_with('.'), "{answer}");
    }
    let long = format!("/discovery/search?query={}", "x".repeat(300));
    assert_eq!(house.get(&long).await.0, 400);
    let (_, page) = house.get("/discovery/resources?limit=1000000").await;
    assert_eq!(page, json!({"x402Version": 2, "items": [], "pagination": {"limit": 100, "offset": 0, "total": 0}}));
}

#[tokio::test]
async fn given_no_catalogue_when_it_is_asked_then_that_is_said_and_payments_are_as_ever() {
    let house = House::with(|config| config.discovery.enabled = false).await;
    let (_, supported) = house.get("/supported").await;
    assert_eq!(supported["extensions"], json!([]));
    assert_eq!(pay(&house, &call(&house, 500, "https://api.example.com/w", &weather())).await, None);
    let (status, answer) = house.get("/discovery/resources").await;
    assert_eq!((status, &answer["error"]), (404, &json!("no_catalogue")));
}
