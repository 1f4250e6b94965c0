//! A server with a ledger of its own and more pages than are read at once: what it sells before it has read all of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects")]

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request};
use std::time::Duration;
use tallybook_benches::request::house::{EMBEDDED, House, SERVER_STORE};
use tallybook_benches::request::world::{World, payment_header};
use tallybook_benches::request::{node, scale};
use tower::ServiceExt;

async fn status(routes: &Router, payment: Option<HeaderValue>) -> u16 {
    let mut request = Request::get(EMBEDDED).body(Body::empty()).unwrap();
    if let Some(payment) = payment {
        request.headers_mut().insert("payment-signature", payment);
    }
    routes.clone().oneshot(request).await.unwrap().status().as_u16()
}

async fn comes_to(routes: &Router, payment: Option<HeaderValue>, wanted: u16) {
    for _ in 0..500 {
        if status(routes, payment.clone()).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(routes, payment).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_pages_that_were_not_read_yet_when_somebody_pays_at_a_server_then_its_own_page_is_read_for_it() {
    // 102 pages, the last one with room; a call was paid from every channel before the server was started again.
    let world = World::new(101 * 96 + 5);
    let folder = tempfile::tempdir().unwrap();
    scale::fill_with(&folder.path().join(SERVER_STORE), &world);
    let (node, (of_server, hidden)) =
        (node::serve(&world).await, node::serve_hiding(std::slice::from_ref(&world)).await);
    // The oldest page is shown to nobody who asks for others too: no look at all pages succeeds.
    hidden.set(Some(&world.pages[0].address));
    let urls = (format!("http://{node}"), format!("http://{of_server}"));
    let house = House::over(&world, folder.path(), (&urls.0, &urls.1)).await;
    // It offers a slot of the pages that it has read,
    comes_to(&house.routes, None, 402).await;
    // goes on with a channel in the page that it has not,
    let pay = |channel: usize, call: u64| Some(payment_header(&house.offer, world.channels[channel].voucher(call)));
    assert_eq!(status(&house.routes, pay(0, 2)).await, 200);
    assert_eq!(status(&house.routes, pay(0, 3)).await, 200);
    assert_eq!(status(&house.routes, pay(1, 1)).await, 402, "it knows what was paid");
    // and with all others once it has seen all.
    hidden.set(None);
    comes_to(&house.routes, pay(97, 2), 200).await;
    assert_eq!(status(&house.routes, pay(1, 2)).await, 200);
}
