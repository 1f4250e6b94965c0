//! A person's approval above a limit.

use crate::{Scene, policy};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_agent::{AgentError, Ask, Asked, Breach, Policy};
use tallybook_rules::Amount;

type Asks = Arc<Mutex<Vec<Ask>>>;

/// A scene whose owner answers like this, and what was asked.
async fn asking(policy: Policy, answer: bool) -> (Scene, Asks) {
    let asks = Asks::default();
    let heard = Arc::clone(&asks);
    let scene = Scene::usual().await.rebuilt(policy, |builder| {
        builder.approver(move |ask| {
            heard.lock().unwrap().push(ask);
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                answer
            }
        })
    });
    (scene, asks)
}

fn asked(asks: &Asks) -> Vec<(Asked, u64)> {
    asks.lock().unwrap().iter().map(|ask| (ask.what, ask.amount.get())).collect()
}

#[tokio::test]
async fn given_limits_when_they_are_not_exceeded_then_nobody_is_asked() {
    let free = policy().approve_price_above(Amount::new(500)).approve_deposit_above(Amount::new(10_000));
    let (scene, asks) = asking(free, false).await;
    scene.served().await;
    assert!(asks.lock().unwrap().is_empty());
}

#[tokio::test]
async fn given_a_call_above_the_limit_when_approved_then_it_is_paid_and_when_not_then_nothing_is_signed() {
    let strict = policy().approve_price_above(Amount::new(499));
    let (scene, asks) = asking(strict.clone(), true).await;
    scene.get("/x?secret").await.unwrap();
    scene.served().await;
    assert_eq!(asked(&asks), [(Asked::Call, 500), (Asked::Call, 500)], "each call is asked for");
    assert_eq!(asks.lock().unwrap()[0].path, "/x");
    let (scene, _) = asking(strict.clone(), false).await;
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Policy(Breach::NotApproved { .. })), "{error}");
    assert!(scene.seller.books().vouchers.is_empty());
    let scene = Scene::with(strict).await;
    assert!(matches!(scene.get("/x").await, Err(AgentError::Policy(Breach::NobodyToAsk { .. }))));
}

#[tokio::test]
async fn given_a_price_that_rises_when_it_passes_the_limit_then_it_is_asked_for() {
    let (scene, asks) = asking(policy().approve_price_above(Amount::new(500)), false).await;
    scene.served().await;
    scene.seller.books().price = 800;
    assert!(matches!(scene.get("/x").await, Err(AgentError::Policy(Breach::NotApproved { .. }))));
    assert_eq!(asked(&asks), [(Asked::Call, 800)]);
    assert_eq!(scene.seller.charged(), 500);
}

#[tokio::test]
async fn given_deposits_above_the_limit_when_made_then_openings_and_additions_are_asked_for() {
    let (scene, asks) = asking(policy().approve_deposit_above(Amount::new(9_999)), true).await;
    for _ in 0..21 {
        scene.served().await;
    }
    assert_eq!(asked(&asks), [(Asked::Deposit, 10_000), (Asked::TopUp, 10_000)]);
    let (scene, _) = asking(policy().approve_deposit_above(Amount::new(9_999)), false).await;
    assert!(scene.get("/x").await.is_err());
    assert_eq!(scene.agent.committed(), Amount::ZERO);
}

#[tokio::test]
async fn given_a_person_who_does_not_answer_when_asked_then_the_call_is_refused_in_time() {
    let slow = policy().approve_price_above(Amount::ZERO).approval_timeout(Duration::from_millis(30));
    let scene = Scene::usual().await.rebuilt(slow, |builder| builder.approver(|_| std::future::pending()));
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Policy(Breach::ApprovalTimedOut { .. })), "{error}");
}

#[tokio::test]
async fn given_a_stream_when_it_passes_the_limit_then_it_is_asked_for_once() {
    for answer in [true, false] {
        let strict = policy().max_ceiling(Amount::new(100)).approve_price_above(Amount::new(20));
        let (scene, asks) = asking(strict.attempts(2), answer).await;
        {
            let mut books = scene.seller.books();
            books.price = 10;
            books.offer.metered = true;
            books.plan.units = 55;
        }
        let response = scene.get("/stream").await.unwrap();
        let metered = tallybook_agent::Metered::of(&response).unwrap();
        response.bytes().await.unwrap();
        let end = metered.ended().await;
        let expected = if answer { 55 } else { 20 };
        assert_eq!(end.charged, Some(Amount::new(expected)), "{end:?}");
        let times = asked(&asks);
        assert!(times.iter().all(|ask| *ask == (Asked::Stream, 100)));
        assert!(!answer || times.len() == 1, "{times:?}");
    }
}
