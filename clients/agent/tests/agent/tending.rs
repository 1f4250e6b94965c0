//! Looking after channels.

use crate::seller::Fault;
use crate::{Scene, policy};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tallybook_agent::{Phase, Tended, Tending};
use tallybook_rules::Amount;

fn done(tended: &[Tended]) -> Vec<Tending> {
    tended.iter().filter(|tended| tended.outcome.is_ok()).map(|tended| tended.what).collect()
}

#[tokio::test]
async fn given_a_channel_that_is_used_up_when_tended_then_it_is_closed_and_others_are_not() {
    let scene = Scene::with(policy().top_up(false)).await;
    for _ in 0..21 {
        scene.served().await;
    }
    assert_eq!(done(&scene.agent.tend().await), [Tending::Closed]);
    assert_eq!((scene.open_channels(), scene.agent.channels().len()), (1, 2));
    assert!(scene.agent.tend().await.is_empty());
    scene.served().await;
}

#[tokio::test]
async fn given_an_idle_channel_when_its_time_has_come_then_it_is_closed() {
    let now = Arc::new(AtomicI64::new(5_000));
    let told = Arc::clone(&now);
    let idle = policy().close_idle_after(Duration::from_secs(600));
    let scene = Scene::usual().await.rebuilt(idle, |builder| builder.clock(move || told.load(Ordering::SeqCst)));
    scene.served().await;
    now.store(5_599, Ordering::SeqCst);
    assert!(scene.agent.tend().await.is_empty());
    scene.served().await;
    now.store(6_198, Ordering::SeqCst);
    assert!(scene.agent.tend().await.is_empty(), "it was used since");
    now.store(6_199, Ordering::SeqCst);
    assert_eq!(done(&scene.agent.tend().await), [Tending::ClosedIdle]);
    assert_eq!(scene.seller.world.lock().held, 999_000);
}

#[tokio::test]
async fn given_a_server_that_does_not_close_when_tended_then_it_is_not_bothered_all_the_time() {
    let now = Arc::new(AtomicI64::new(5_000));
    let told = Arc::clone(&now);
    let scene = Scene::usual()
        .await
        .rebuilt(policy().attempts(1), |builder| builder.clock(move || told.load(Ordering::SeqCst)));
    scene.served().await;
    scene.seller.faults([Fault::Claim(10_000)]);
    assert!(scene.get("/x").await.is_err());
    assert_eq!(scene.agent.channels()[0].phase, Phase::GivenUp);
    scene.seller.faults([Fault::Down]);
    assert!(scene.agent.tend().await[0].outcome.is_err());
    assert!(scene.agent.tend().await.is_empty());
    now.fetch_add(900, Ordering::SeqCst);
    assert_eq!(done(&scene.agent.tend().await), [Tending::Closed]);
}

#[tokio::test]
async fn given_an_opening_that_never_landed_when_tended_then_its_budget_is_free_again() {
    let scene = Scene::with(policy().attempts(1)).await;
    scene.seller.faults([Fault::Down]);
    assert!(scene.get("/x").await.is_err());
    scene.agent.tend().await;
    assert_eq!(scene.agent.committed(), Amount::new(10_000), "it may still land");
    scene.seller.world.lock().height += 151;
    scene.agent.tend().await;
    assert_eq!(scene.agent.committed(), Amount::ZERO);
}

#[tokio::test]
async fn given_a_withdrawal_that_is_due_when_the_wallet_may_pay_for_it_then_it_is_made() {
    for may in [false, true] {
        let scene = Scene::with(policy().own_fees(may)).await;
        scene.served().await;
        let closing_at = scene.agent.force_close(scene.agent.channels()[0].id).await.unwrap();
        assert!(scene.agent.tend().await.is_empty(), "the grace period is not over");
        scene.seller.world.lock().now = closing_at;
        let expected: &[Tending] = if may { &[Tending::Withdrawn] } else { &[] };
        assert_eq!(done(&scene.agent.tend().await), expected);
        let ended = scene.agent.channels()[0].phase == Phase::Ended;
        assert_eq!(ended, may);
    }
}

#[tokio::test]
async fn given_a_channel_in_use_when_tended_then_it_is_left_alone() {
    let idle = policy().close_idle_after(Duration::ZERO);
    let scene = Scene::with(idle).await;
    scene.served().await;
    scene.seller.faults([Fault::Slow(Duration::from_millis(150))]);
    let (agent, url) = (scene.agent.clone(), format!("{}/x", scene.seller.url));
    let call = tokio::spawn(async move { agent.get(url.parse().unwrap()).await.unwrap().status() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(scene.agent.tend().await.is_empty());
    assert_eq!(call.await.unwrap(), 200);
}

#[tokio::test]
async fn given_an_agent_when_it_lives_then_it_looks_after_its_channels_by_itself_until_it_is_shut_down() {
    let busy = policy().close_idle_after(Duration::ZERO).tend_every(Some(Duration::from_millis(20)));
    let scene = Scene::with(busy.clone()).await;
    scene.served().await;
    for _ in 0..200 {
        if scene.open_channels() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(scene.open_channels(), 0);
    // When it is shut down
    scene.agent.shutdown().await.unwrap();
    scene.agent.shutdown().await.unwrap();
    scene.served().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.open_channels(), 1);
    // Then its directory is free as soon as it is dropped, with or without
    let scene = scene.rebuilt(policy(), |builder| builder);
    scene.restart();
}
