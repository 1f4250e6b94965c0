//! Answers that are paid for as they come.

use crate::meter::Plan;
use crate::{Scene, policy};
use std::time::Duration;
use tallybook_agent::{Bought, Metered, StreamEnd, paid};
use tallybook_rules::{Amount, Rejection};

const PART: u64 = 10;

/// A scene with streams of so many units in parts of ten, and calls at ten.
async fn scene(plan: Plan) -> Scene {
    let scene = Scene::with(policy().max_ceiling(Amount::new(100)).max_wait(Duration::from_millis(50))).await;
    streaming(&scene, plan);
    scene
}

fn streaming(scene: &Scene, plan: Plan) {
    let mut books = scene.seller.books();
    (books.plan, books.price, books.offer.metered) = (plan, PART, true);
}

/// Reads a stream to its end: how many units came, and how it ended.
async fn read(scene: &Scene) -> (usize, StreamEnd) {
    let response = scene.get("/stream").await.unwrap();
    assert_eq!(response.status(), 200);
    let metered = Metered::of(&response).expect("a stream");
    let units = response.bytes().await.unwrap().len();
    (units, metered.ended().await)
}

fn cumulatives(scene: &Scene) -> Vec<u64> {
    scene.seller.books().vouchers.iter().map(|voucher| voucher.max_claimable_amount.get()).collect()
}

#[tokio::test]
async fn given_a_stream_when_read_then_each_part_is_signed_for_and_the_last_costs_what_it_used() {
    let scene = scene(Plan { units: 34, ..Plan::default() }).await;
    let (units, end) = read(&scene).await;
    assert_eq!((units, end.charged, end.signed), (34, Some(Amount::new(34)), Amount::new(40)));
    assert_eq!((end.reason, end.declined), (None, None));
    assert_eq!(cumulatives(&scene), [10, 20, 30, 40]);
    // Then the channel is free and goes on from what was charged
    scene.served().await;
    assert_eq!(cumulatives(&scene).last(), Some(&44));
    assert_eq!(scene.agent.spent(), Amount::new(44));
    assert_eq!(scene.seller.world.lock().deposits, 1);
    // And the list says the same
    let listed: Vec<_> = paid(scene.directory.path()).map(Result::unwrap).collect();
    assert_eq!(listed.iter().map(|paid| paid.what).collect::<Vec<_>>(), [Bought::Stream, Bought::Call]);
    assert_eq!(listed[0].charged, Some(Amount::new(34)));
    assert_eq!(listed[0].path, "/stream");
}

#[tokio::test]
async fn given_parts_that_end_by_time_when_the_next_begins_lower_then_that_is_signed_for() {
    let scene = scene(Plan { units: 12, part_ends_after: Some(4), ..Plan::default() }).await;
    let (units, end) = read(&scene).await;
    assert_eq!((units, end.charged), (12, Some(Amount::new(12))));
    assert_eq!(cumulatives(&scene), [10, 14, 18]);
}

#[tokio::test]
async fn given_a_limit_when_a_stream_reaches_it_then_nothing_above_is_signed_and_it_ends() {
    let plan = Plan { units: 1_000, patience: Duration::from_millis(100), ..Plan::default() };
    let scene = Scene::with(policy().max_ceiling(Amount::new(35)).attempts(3)).await;
    streaming(&scene, plan);
    let (units, end) = read(&scene).await;
    assert_eq!((units, end.charged), (30, Some(Amount::new(30))));
    assert_eq!(end.reason, Some(Rejection::PaymentOverdue.into()));
    assert!(end.declined.unwrap().contains("limit is 35"));
    assert_eq!(scene.signed(), 30);
    assert_eq!(scene.agent.spent(), Amount::new(30));
}

#[tokio::test]
async fn given_a_meter_that_claims_more_than_was_signed_when_it_asks_then_it_gets_nothing() {
    let plan = Plan { units: 1_000, lie: 1, patience: Duration::from_millis(100), ..Plan::default() };
    let scene = scene(plan).await;
    let (units, end) = read(&scene).await;
    assert_eq!((units, scene.signed()), (10, 10));
    assert!(end.declined.unwrap().contains("at most 10 can be due"));
}

#[tokio::test]
async fn given_a_caller_that_stops_reading_when_the_stream_ends_then_only_what_came_is_paid() {
    let scene = scene(Plan { units: 100_000, pause: Duration::from_millis(4), ..Plan::default() }).await;
    let mut response = scene.get("/stream").await.unwrap();
    let metered = Metered::of(&response).unwrap();
    response.chunk().await.unwrap().unwrap();
    drop(response);
    let end = metered.ended().await;
    let charged = end.charged.unwrap();
    assert!(charged < Amount::new(100) && charged > Amount::ZERO, "{charged}");
    assert_eq!(scene.seller.charged(), charged.get());
    scene.served().await;
    assert_eq!(scene.agent.spent().get(), charged.get() + PART);
}

#[tokio::test]
async fn given_a_meter_whose_answers_are_lost_when_asked_again_then_the_stream_goes_on_and_counts_once() {
    let plan = Plan { units: 34, lost: vec![502, 504, 500], pause: Duration::from_millis(4), ..Plan::default() };
    let scene = Scene::with(policy().max_ceiling(Amount::new(100)).budget_per_hour(Amount::new(44))).await;
    streaming(&scene, plan);
    let (units, end) = read(&scene).await;
    assert_eq!((units, end.charged), (34, Some(Amount::new(34))), "{end:?}");
    assert_eq!(scene.agent.budget().await.unwrap().last_hour, Amount::new(34));
    // Then what was not used may be spent
    scene.served().await;
    assert!(scene.get("/x").await.unwrap_err().to_string().contains("one hour"));
}

#[tokio::test]
async fn given_a_facilitator_that_is_down_when_the_meter_says_so_then_the_stream_is_not_given_up() {
    let scene = scene(Plan { units: 34, down: 3, pause: Duration::from_millis(4), ..Plan::default() }).await;
    let (units, end) = read(&scene).await;
    assert_eq!((units, end.charged, end.reason), (34, Some(Amount::new(34)), None));
}

#[tokio::test]
async fn given_a_stream_that_ends_unpaid_without_a_receipt_when_asked_then_no_more_is_signed() {
    let plan = Plan { units: 100, patience: Duration::from_millis(50), ends_without_receipt: true, ..Plan::default() };
    let scene = Scene::with(policy().max_ceiling(Amount::new(15)).attempts(9)).await;
    streaming(&scene, plan);
    let (units, end) = read(&scene).await;
    assert_eq!((units, end.charged), (10, None));
    assert_eq!(end.reason, Some(Rejection::PaymentOverdue.into()));
    assert_eq!(scene.signed(), 10);
    // Then the next call finds out
    scene.served().await;
    assert_eq!(scene.agent.spent(), Amount::new(20));
}

#[tokio::test]
async fn given_little_left_in_the_channel_when_a_stream_begins_then_it_is_topped_up_first() {
    let plan = || Plan { units: 150, patience: Duration::from_millis(100), ..Plan::default() };
    let amount = Amount::new;
    for (budget, expected) in [(30_000, 150), (1_000, 100)] {
        let new = tallybook_agent::Policy::new(crate::world::cluster(), amount(300), amount(1_000), amount(budget));
        let scene = Scene::with(crate::usual(new).attempts(3)).await;
        // Given a deposit of 1,000 of which 100 are left
        scene.seller.books().price = 300;
        for _ in 0..3 {
            scene.served().await;
        }
        streaming(&scene, plan());
        let (units, end) = read(&scene).await;
        // Then the stream goes beyond them, if the budget has room for another deposit
        assert_eq!((units.try_into(), end.charged), (Ok(expected), Some(amount(expected))), "{end:?}");
        assert_eq!(scene.seller.world.lock().deposits, 1);
    }
}

#[tokio::test]
async fn given_a_server_that_forgot_a_stream_when_the_next_call_comes_then_it_finds_out_what_was_charged() {
    let scene = scene(Plan { units: 15, forgets: true, ..Plan::default() }).await;
    let (units, end) = read(&scene).await;
    assert_eq!((units, end.charged), (15, None));
    assert_eq!(end.reason, Some(Rejection::NoReservation.into()));
    scene.served().await;
    assert_eq!(scene.agent.spent(), Amount::new(25));
    let listed: Vec<_> = paid(scene.directory.path()).map(|paid| paid.unwrap()).collect();
    let charged: Vec<_> = listed.iter().map(|paid| (paid.what, paid.charged)).collect();
    let expected =
        [(Bought::Stream, None), (Bought::Found, Some(Amount::new(15))), (Bought::Call, Some(Amount::new(10)))];
    assert_eq!(charged, expected);
}

#[tokio::test]
async fn given_a_stream_on_the_only_channel_when_called_meanwhile_then_the_call_waits_for_its_end() {
    let scene = scene(Plan { units: 30, pause: Duration::from_millis(3), ..Plan::default() }).await;
    let response = scene.get("/stream").await.unwrap();
    let reading = tokio::spawn(response.bytes());
    scene.served().await;
    assert_eq!(reading.await.unwrap().unwrap().len(), 30);
    assert_eq!(scene.agent.spent(), Amount::new(40));
}
