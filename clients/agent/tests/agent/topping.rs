//! Additions to deposits that are used up.

use crate::seller::Fault;
use crate::{Scene, policy};
use tallybook_agent::AgentError;
use tallybook_rules::{Amount, Rejection};

/// A scene whose one deposit of 20 calls is used up.
async fn used_up(policy: tallybook_agent::Policy) -> Scene {
    let scene = Scene::with(policy).await;
    for _ in 0..20 {
        scene.served().await;
    }
    scene
}

fn moved(scene: &Scene) -> u64 {
    1_000_000 - scene.seller.world.lock().held
}

#[tokio::test]
async fn given_an_addition_whose_answer_is_lost_when_asked_again_then_it_is_made_and_paid_once() {
    for fault in [Fault::DropAfterOpening, Fault::Drop, Fault::Gateway] {
        let scene = used_up(policy()).await;
        scene.seller.faults([fault]);
        scene.served().await;
        assert_eq!((moved(&scene), scene.seller.charged()), (20_000, 10_500), "{fault:?}");
        assert_eq!(scene.agent.committed(), Amount::new(20_000));
    }
}

#[tokio::test]
async fn given_an_addition_that_may_still_land_when_asked_again_then_the_same_one_is_sent() {
    let scene = used_up(policy().attempts(2)).await;
    // Given an addition that did not get through, and an agent that stops
    scene.seller.faults([Fault::Down, Fault::Down]);
    assert!(scene.get("/x").await.is_err());
    assert_eq!(scene.agent.committed(), Amount::new(20_000), "what may land counts");
    let scene = scene.restart();
    assert_eq!(scene.agent.committed(), Amount::new(20_000));
    scene.served().await;
    assert_eq!(scene.seller.books().top_ups.len(), 1);
    assert_eq!((moved(&scene), scene.agent.committed()), (20_000, Amount::new(20_000)));
}

#[tokio::test]
async fn given_an_addition_that_expired_when_asked_again_then_another_is_signed_and_counts_alone() {
    let scene = used_up(policy().attempts(1)).await;
    scene.seller.faults([Fault::Down]);
    assert!(scene.get("/x").await.is_err());
    scene.seller.world.lock().height += 151;
    scene.get("/x").await.unwrap();
    assert_eq!((moved(&scene), scene.agent.committed()), (20_000, Amount::new(20_000)));
    // Found out also by looking after the channels
    let scene = used_up(policy().attempts(1)).await;
    scene.seller.faults([Fault::Down]);
    assert!(scene.get("/x").await.is_err());
    scene.seller.world.lock().height += 151;
    scene.agent.tend().await;
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
}

#[tokio::test]
async fn given_a_server_that_takes_no_additions_when_used_up_then_another_channel_pays() {
    for reason in [Rejection::MalformedDeposit, Rejection::SimulationFailed, Rejection::QuotaExceeded] {
        let scene = used_up(policy()).await;
        scene.seller.books().refuses_top_ups = Some(reason);
        scene.served().await;
        let deposits = scene.seller.world.lock().deposits;
        assert_eq!((deposits, moved(&scene)), (2, 20_000), "{reason:?}");
        // Then the addition counts until it can land no more
        assert_eq!(scene.agent.committed(), Amount::new(30_000));
        scene.seller.world.lock().height += 151;
        scene.agent.tend().await;
        assert_eq!(scene.agent.committed(), Amount::new(20_000));
        // And the channel that is used up is closed
        scene.agent.tend().await;
        assert_eq!((scene.agent.channels().len(), scene.open_channels()), (2, 1));
        assert_eq!(scene.agent.committed(), Amount::new(20_000), "its 20 calls, and the second deposit");
    }
}

#[tokio::test]
async fn given_a_wallet_that_is_empty_when_used_up_then_it_is_told_what_it_lacks() {
    let scene = used_up(policy()).await;
    scene.seller.world.lock().held = 9_999;
    assert!(matches!(scene.get("/x").await, Err(AgentError::WalletShort { .. })));
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
}
