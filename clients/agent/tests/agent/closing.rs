use crate::Scene;
use crate::seller::Fault;
use tallybook_agent::{AgentError, Phase};
use tallybook_rules::Amount;
use tallybook_wire::Key;

#[tokio::test]
async fn a_cooperative_close_returns_the_rest_and_frees_the_budget() {
    let scene = Scene::usual().await;
    for _ in 0..4 {
        scene.served().await;
    }
    let closed = scene.agent.close_all().await.pop().unwrap().1.unwrap();
    assert_eq!((closed.charged, closed.returned), (Amount::new(2_000), Amount::new(8_000)));
    assert_eq!(scene.seller.world.lock().held, 998_000);
    assert_eq!(scene.agent.committed(), Amount::new(2_000));
    assert!(matches!(scene.agent.close(closed.id).await, Err(AgentError::NotNow { .. })));
    // and the next call opens a new one
    scene.served().await;
    assert_eq!(scene.seller.world.lock().deposits, 2);
}

#[tokio::test]
async fn a_close_finds_out_what_was_charged_unseen() {
    let scene = Scene::with(crate::policy().attempts(4)).await;
    for _ in 0..4 {
        scene.served().await;
    }
    let scene = scene.restart();
    let closed = scene.agent.close_all().await.pop().unwrap().1.unwrap();
    assert_eq!(closed.charged, Amount::new(2_000));
}

#[tokio::test]
async fn a_close_after_a_lost_answer_pays_for_what_was_lost() {
    let scene = Scene::with(crate::policy().attempts(4)).await;
    scene.served().await;
    // Given a call that was charged, and whose answers are all lost
    scene.seller.faults([Fault::Gateway; 4]);
    assert!(matches!(scene.get("/x").await, Err(AgentError::AnswerLost { .. })));
    assert_eq!(scene.agent.spent(), Amount::new(500));
    let closed = scene.agent.close_all().await.pop().unwrap().1.unwrap();
    assert_eq!(closed.charged, Amount::new(1_000));
}

#[tokio::test]
async fn a_close_whose_answer_is_lost_is_seen_on_chain() {
    let scene = Scene::usual().await;
    scene.served().await;
    let id = scene.agent.channels()[0].id;
    scene.seller.faults([Fault::Drop]);
    let closed = scene.agent.close(id).await.unwrap();
    assert_eq!((closed.charged, closed.returned), (Amount::new(500), Amount::new(9_500)));
    assert_eq!(scene.agent.channels()[0].phase, Phase::Ended);
}

#[tokio::test]
async fn a_close_at_another_price_than_the_channels_is_a_close_all_the_same() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.books().price = 700;
    let closed = scene.agent.close_all().await.pop().unwrap().1.unwrap();
    assert_eq!(closed.charged, Amount::new(500));
}

#[tokio::test]
async fn a_close_that_is_answered_with_a_lie_is_refused() {
    let scene = Scene::usual().await;
    scene.served().await;
    let id = scene.agent.channels()[0].id;
    scene.seller.faults([Fault::ClaimUnderOldVoucher(10_000)]);
    let error = scene.agent.close(id).await.unwrap_err();
    assert!(matches!(error, AgentError::Dishonest { .. }), "{error}");
}

#[tokio::test]
async fn a_refund_that_is_only_said_is_not_believed() {
    let scene = Scene::usual().await;
    scene.served().await;
    let id = scene.agent.channels()[0].id;
    scene.seller.faults([Fault::PretendRefund]);
    let error = scene.agent.close(id).await.unwrap_err();
    assert!(error.to_string().contains("chain does not"), "{error}");
    assert_eq!(scene.agent.channels()[0].phase, Phase::GivenUp);
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
}

#[tokio::test]
async fn a_forced_close_needs_no_server() {
    let scene = Scene::usual().await;
    scene.served().await;
    let id = scene.agent.channels()[0].id;
    // Given a close on chain
    assert!(matches!(scene.agent.withdraw(id).await, Err(AgentError::NotNow { .. })));
    let closing_at = scene.agent.force_close(id).await.unwrap();
    assert_eq!(closing_at, 1_700_000_900);
    assert_eq!(scene.agent.force_close(id).await.unwrap(), closing_at, "asked again");
    // When the payee claims what it is owed within the grace period
    let slot = scene.agent.channels()[0].parts.slot;
    {
        let mut world = scene.seller.world.lock();
        world.page().claim(slot, Amount::new(500), closing_at).unwrap();
        world.now = closing_at;
    }
    // Then the rest comes back
    let scene = scene.restart();
    assert_eq!(scene.agent.channels()[0].phase, Phase::Closing { closing_at });
    let closed = scene.agent.withdraw(id).await.unwrap();
    assert_eq!((closed.charged, closed.returned), (Amount::new(500), Amount::new(9_500)));
    assert_eq!(scene.seller.world.lock().held, 999_500);
    assert_eq!(scene.agent.committed(), Amount::new(500));
}

#[tokio::test]
async fn an_opening_that_never_landed_ends_once_it_cannot_land_any_more() {
    let scene = Scene::with(crate::policy().attempts(1)).await;
    scene.seller.faults([Fault::Down]);
    assert!(scene.get("/x").await.is_err());
    let id = scene.agent.channels()[0].id;
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
    // While it may still land, it counts
    let error = scene.agent.close(id).await.unwrap_err();
    assert!(error.to_string().contains("may still land"), "{error}");
    // When its blockhash has expired
    scene.seller.world.lock().height += 151;
    let closed = scene.agent.close(id).await.unwrap();
    assert_eq!(closed.charged, Amount::ZERO);
    assert_eq!(scene.agent.committed(), Amount::ZERO);
}

#[tokio::test]
async fn what_is_not_ours_cannot_be_closed() {
    let scene = Scene::usual().await;
    assert!(matches!(scene.agent.close(Key([1; 32])).await, Err(AgentError::NoSuchChannel(_))));
}
