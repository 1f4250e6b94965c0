//! A state directory that was lost.

use crate::seller::Fault;
use crate::{Scene, policy};
use tallybook_agent::{AgentError, Phase};
use tallybook_rules::Amount;
use tallybook_wire::Key;

async fn recovered(scene: &Scene) -> usize {
    scene.agent.recover(format!("{}/x", scene.seller.url).parse().unwrap()).await.unwrap().len()
}

#[tokio::test]
async fn given_a_lost_directory_when_recovered_then_the_channel_pays_on_from_where_it_stood() {
    let scene = Scene::usual().await;
    for _ in 0..3 {
        scene.served().await;
    }
    let scene = scene.robbed(policy());
    assert_eq!(scene.agent.committed(), Amount::ZERO);
    assert_eq!(recovered(&scene).await, 1);
    assert_eq!(recovered(&scene).await, 0, "what is known is not found again");
    assert_eq!(scene.agent.committed(), Amount::new(10_000), "its deposit counts");
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.agent.spent()), (2_000, Amount::new(2_000)));
    assert_eq!(scene.seller.world.lock().deposits, 1);
    // And survives the next restart
    let scene = scene.restart();
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.seller.world.lock().deposits), (2_500, 1));
}

#[tokio::test]
async fn given_a_recovered_channel_when_closed_then_what_is_unspent_comes_back() {
    let scene = Scene::usual().await;
    for _ in 0..3 {
        scene.served().await;
    }
    let scene = scene.robbed(policy());
    recovered(&scene).await;
    let closed = scene.agent.close_all().await.pop().unwrap().1.unwrap();
    assert_eq!((closed.charged, closed.returned), (Amount::new(1_500), Amount::new(8_500)));
}

#[tokio::test]
async fn given_a_recovered_channel_when_the_server_lies_then_it_is_believed_only_under_our_signature() {
    for lie in [Fault::Claim(10_000), Fault::ClaimUnderOldVoucher(501)] {
        let scene = Scene::usual().await;
        scene.served().await;
        let scene = scene.robbed(policy());
        recovered(&scene).await;
        scene.seller.faults([lie]);
        let error = scene.get("/x").await.unwrap_err();
        assert!(matches!(error, AgentError::Dishonest { .. }), "{lie:?}: {error}");
        assert_eq!(scene.agent.channels()[0].phase, Phase::GivenUp);
        assert_eq!(scene.agent.spent(), Amount::ZERO);
    }
}

#[tokio::test]
async fn given_a_server_that_is_gone_when_the_book_is_known_then_the_money_comes_back_through_the_chain() {
    let scene = Scene::usual().await;
    scene.served().await;
    let book = scene.seller.books().offer.book;
    let scene = scene.robbed(policy());
    assert!(matches!(scene.agent.recover_book(Key([1; 32])).await, Err(AgentError::Terms(_))));
    let found = scene.agent.recover_book(book).await.unwrap();
    assert_eq!((found.len(), found[0].phase), (1, Phase::GivenUp));
    let id = found[0].id;
    assert!(matches!(scene.agent.close(id).await, Err(AgentError::NotNow { .. })));
    let closing_at = scene.agent.force_close(id).await.unwrap();
    scene.seller.world.lock().now = closing_at;
    let closed = scene.agent.withdraw(id).await.unwrap();
    assert_eq!(closed.returned, Amount::new(10_000), "nobody claimed");
}

#[tokio::test]
async fn given_a_channel_found_without_its_server_when_the_server_is_back_then_it_pays_again() {
    let scene = Scene::usual().await;
    scene.served().await;
    let book = scene.seller.books().offer.book;
    let scene = scene.robbed(policy());
    assert_eq!(scene.agent.recover_book(book).await.unwrap().len(), 1);
    assert_eq!(recovered(&scene).await, 1);
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.seller.world.lock().deposits), (1_000, 1));
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
}

#[tokio::test]
async fn given_channels_of_others_when_recovered_then_they_are_not_ours() {
    let scene = Scene::usual().await;
    (0..4).for_each(|slot| scene.seller.world.lock().occupy(slot));
    assert_eq!(recovered(&scene).await, 0);
}

#[tokio::test]
async fn given_a_url_that_costs_nothing_when_asked_then_there_is_nothing_to_recover() {
    let scene = Scene::usual().await;
    let error = scene.agent.recover(format!("{}/free", scene.seller.url).parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, AgentError::NothingToRecover(_)), "{error}");
}
