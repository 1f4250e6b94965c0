//! What a route says of itself (x402, `bazaar`): in its 402, and to the facilitator when it is paid for; whatever a client echoes.

use crate::world::*;
use axum::routing::any;
use axum::{Extension, Router};
use serde_json::{Map, Value, json};
use tallybook_paywall::{ChargeLayer, Discoverable, Paywall, PaywallError, ResourceUrl};
use tallybook_rules::Amount;
use tallybook_wire::*;

async fn paywall(script: &Script) -> Paywall {
    let builder = Paywall::builder(script.clone().serve().await, book_key().to_string()).keep_no_vouchers();
    builder.base_url("https://api.example.com").build().unwrap()
}

async fn route(charge: ChargeLayer) -> String {
    listen(Router::new().route("/weather", any(async || "sunny").layer(charge))).await + "/weather"
}

fn weather() -> Discoverable {
    Discoverable::by_query(json!({"city": "Lisbon"})).service("Example Weather").tags(["weather"])
}

/// A payment of 500 whose client claims to buy something else.
fn poisoned() -> http::HeaderValue {
    let accepted = offer().priced(Amount::new(500), 60.try_into().unwrap());
    let mut payment = PaymentPayload::new(accepted, ChannelPayload::Voucher { voucher: voucher(500) });
    payment.resource = Some(ResourceInfo { url: "https://evil.example.com/".to_owned(), ..ResourceInfo::default() });
    payment.extensions = Some(Map::from_iter([(BAZAAR.to_owned(), json!({"info": "poison"}))]));
    header(&payment).unwrap()
}

async fn required(url: &str) -> PaymentRequired {
    let response = reqwest::get(url).await.unwrap();
    read_header(response.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap()
}

async fn pay(url: &str) -> u16 {
    reqwest::Client::new().get(url).header(PAYMENT_SIGNATURE, poisoned()).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn given_a_declared_route_when_it_is_paid_for_then_the_facilitator_hears_the_server_and_not_the_client() {
    let script = Script::default();
    let url = route(paywall(&script).await.charge("$0.0005").unwrap().discoverable(weather()).unwrap()).await;
    let asks = required(&format!("{url}?city=Porto")).await;
    assert_eq!(asks.resource.url, "https://api.example.com/weather?city=Porto");
    assert_eq!(asks.resource.other["serviceName"], "Example Weather");
    let declared = &asks.extensions.unwrap()[BAZAAR];
    assert_eq!(*declared, weather().extension("GET", "/weather").unwrap());

    assert_eq!(pay(&format!("{url}?city=Porto")).await, 200);
    let payments = script.payments.lock().unwrap().clone();
    let [reserved, settled] = payments.as_slice() else { panic!("{payments:?}") };
    assert_eq!((&reserved.resource, &reserved.extensions), (&None, &None), "nothing is said before it is paid for");
    assert_eq!(settled.resource, Some(asks.resource));
    assert_eq!(settled.extensions.as_ref().unwrap()[BAZAAR], *declared);
}

#[tokio::test]
async fn given_a_route_that_declares_nothing_when_its_client_does_then_the_facilitator_hears_nothing_of_it() {
    let script = Script::default();
    let url = route(paywall(&script).await.charge("$0.0005").unwrap()).await;
    assert_eq!(required(&url).await.extensions, None);
    assert_eq!(pay(&url).await, 200);
    for payment in script.payments.lock().unwrap().iter() {
        let said = payment.extensions.as_ref().and_then(|extensions| extensions.get(BAZAAR));
        assert_eq!((said, &payment.resource), (None::<&Value>, &None));
    }
}

#[tokio::test]
async fn given_a_tool_that_has_a_name_for_an_address_when_it_is_paid_for_then_it_is_listed_where_its_server_is() {
    let script = Script::default();
    let tool = Discoverable::tool("weather", json!({"type": "object"}));
    let charge = paywall(&script).await.charge("$0.0005").unwrap().discoverable(tool).unwrap();
    let named = Extension(ResourceUrl("mcp://tool/weather".into()));
    let routes = Router::new().route("/weather", any(async || "sunny").layer(charge)).layer(named);
    let url = listen(routes).await + "/weather";
    assert_eq!(required(&url).await.resource.url, "mcp://tool/weather");
    assert_eq!(pay(&url).await, 200);
    let settled = script.payments.lock().unwrap().pop().unwrap();
    assert_eq!(settled.resource.unwrap().url, "https://api.example.com");
    assert_eq!(settled.extensions.unwrap()[BAZAAR]["info"]["input"]["toolName"], "weather");
}

#[tokio::test]
async fn given_a_declaration_that_no_catalogue_takes_when_it_is_made_then_its_owner_hears_it_at_once() {
    let script = Script::default();
    let paywall = paywall(&script).await;
    let refused = paywall.charge("$0.0005").unwrap().discoverable(weather().service("Wetterbüro"));
    assert!(matches!(refused, Err(PaywallError::Declaration(_))));
}
