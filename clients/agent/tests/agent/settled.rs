//! What the chain has settled is due, whatever the server knows and shows; and nothing else is.

use crate::Scene;
use crate::meter::Plan;
use crate::seller::Fault;
use std::time::Duration;
use tallybook_agent::{AgentError, Bought, Metered, Phase, paid};
use tallybook_rules::Amount;
use tallybook_wire::Key;

/// The channel that the scene has.
fn channel(scene: &Scene) -> Key {
    scene.agent.channels()[0].id
}

/// Somebody who holds a voucher over `cumulative` has it claimed.
fn claim(scene: &Scene, cumulative: u64) {
    let slot = scene.agent.channels()[0].parts.slot;
    let mut world = scene.seller.world.lock();
    let now = world.now;
    world.page().claim(slot, Amount::new(cumulative), now).unwrap();
}

/// The same, and the seller sees it.
fn settle(scene: &Scene, cumulative: u64) {
    claim(scene, cumulative);
    scene.seller.look_at(channel(scene));
}

/// Four calls, of which the seller has forgotten three.
async fn forgotten() -> Scene {
    let scene = Scene::usual().await;
    scene.served().await;
    let backup = scene.seller.back_up(channel(&scene));
    for _ in 0..3 {
        scene.served().await;
    }
    scene.seller.restore(channel(&scene), backup);
    scene
}

/// What the list of payments says in all.
fn listed(scene: &Scene) -> u64 {
    let listed = paid(scene.directory.path()).filter_map(|paid| paid.unwrap().charged);
    listed.map(Amount::get).sum()
}

#[tokio::test]
async fn given_a_server_that_was_restored_when_an_older_voucher_is_settled_then_the_channel_pays_on_to_its_end() {
    // Given a server that has forgotten three calls, and served one since
    let scene = forgotten().await;
    scene.served().await;
    assert_eq!(scene.agent.spent(), Amount::new(1_000));
    // When the newest voucher of before is settled
    settle(&scene, 2_000);
    scene.served().await;
    // Then that is charged and no more, on the one channel that there is
    assert_eq!((scene.seller.charged(), scene.agent.spent()), (2_500, Amount::new(2_500)));
    assert_eq!((scene.open_channels(), scene.seller.world.lock().deposits), (1, 1));
    let closed = scene.agent.close(channel(&scene)).await.unwrap();
    assert_eq!((closed.charged, closed.returned), (Amount::new(2_500), Amount::new(7_500)));
    assert_eq!(scene.seller.world.lock().held, 997_500);
}

#[tokio::test]
async fn given_a_server_that_was_restored_when_it_finds_our_voucher_then_it_is_believed_without_the_chain() {
    let scene = Scene::usual().await;
    scene.served().await;
    let backup = scene.seller.back_up(channel(&scene));
    for _ in 0..3 {
        scene.served().await;
    }
    let newest = scene.seller.back_up(channel(&scene));
    scene.seller.restore(channel(&scene), backup);
    scene.served().await;
    // When what was lost is found, and not settled yet
    scene.seller.restore(channel(&scene), newest);
    scene.seller.world.lock().is_down = true;
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.agent.spent()), (2_500, Amount::new(2_500)));
    assert_eq!(scene.open_channels(), 1);
}

#[tokio::test]
async fn given_a_call_that_failed_when_its_voucher_is_settled_then_it_is_charged_and_listed_and_the_channel_pays_on() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::NotFound]);
    scene.get("/x").await.unwrap();
    settle(&scene, 1_000);
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.agent.spent(), scene.open_channels()), (1_500, Amount::new(1_500), 1));
    let found: Vec<_> =
        paid(scene.directory.path()).map(Result::unwrap).filter(|paid| paid.what == Bought::Found).collect();
    assert_eq!(found.iter().map(|paid| paid.price.get()).collect::<Vec<_>>(), [500]);
    assert_eq!(listed(&scene), 1_500);
}

#[tokio::test]
async fn given_a_server_that_claims_more_than_is_settled_when_nobody_signed_it_then_it_loses_the_channel() {
    for (claimed, settled) in [(2_001, 2_000), (1_001, 0), (10_001, 2_000)] {
        let scene = forgotten().await;
        scene.served().await;
        settle(&scene, settled);
        scene.seller.faults([Fault::Claim(claimed)]);
        let error = scene.get("/x").await.unwrap_err();
        let expected = Amount::new(settled.max(1_000));
        assert!(matches!(error, AgentError::Dishonest { possible, .. } if possible == expected), "{error}");
        assert_eq!(scene.agent.channels()[0].phase, Phase::GivenUp);
        assert_eq!(scene.agent.spent(), expected, "what is settled is due all the same");
    }
}

#[tokio::test]
async fn given_a_chain_that_cannot_be_asked_when_more_is_claimed_then_nothing_is_believed_and_nothing_given_up() {
    let scene = forgotten().await;
    scene.served().await;
    settle(&scene, 2_000);
    scene.seller.world.lock().is_down = true;
    for _ in 0..2 {
        assert!(matches!(scene.get("/x").await, Err(AgentError::Chain(_))));
        assert!(matches!(scene.agent.close(channel(&scene)).await, Err(AgentError::Chain(_))));
        assert_eq!((scene.agent.channels()[0].phase, scene.agent.spent()), (Phase::Open, Amount::new(1_000)));
    }
    // Then it goes on once the chain is there again
    scene.seller.world.lock().is_down = false;
    scene.served().await;
    assert_eq!((scene.agent.spent(), scene.seller.world.lock().deposits), (Amount::new(2_500), 1));
}

#[tokio::test]
async fn given_an_endpoint_that_is_behind_the_servers_when_more_is_claimed_then_it_is_asked_again() {
    let scene = forgotten().await;
    scene.served().await;
    scene.seller.world.lock().shows_old(3);
    settle(&scene, 2_000);
    scene.served().await;
    assert_eq!((scene.agent.spent(), scene.seller.world.lock().deposits), (Amount::new(2_500), 1));
}

#[tokio::test]
async fn given_a_call_without_an_outcome_when_older_vouchers_are_settled_then_it_is_not_paid_twice_nor_said_charged() {
    let scene = forgotten().await;
    scene.served().await;
    settle(&scene, 2_000);
    // Given a voucher over 1,500, less than is settled by now, of which nobody knows what became
    scene.seller.faults([Fault::Down]);
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::AnswerLost { .. }), "{error}");
    let last = scene.seller.books().vouchers.last().unwrap().max_claimable_amount;
    assert_eq!((scene.seller.charged(), last), (2_000, Amount::new(1_500)));
    scene.served().await;
    assert_eq!((scene.agent.spent(), scene.open_channels()), (Amount::new(2_500), 1));
}

#[tokio::test]
async fn given_a_call_without_an_outcome_when_its_own_voucher_is_settled_then_it_was_charged() {
    let scene = Scene::usual().await;
    scene.served().await;
    settle(&scene, 1_000);
    scene.seller.faults([Fault::Down]);
    let error = scene.get("/x").await.unwrap_err();
    let price = Amount::new(500);
    assert!(matches!(error, AgentError::ChargedWithoutAnswer { charged } if charged == price), "{error}");
    assert_eq!((scene.agent.spent(), scene.signed()), (Amount::new(1_000), 1_000));
}

#[tokio::test]
async fn given_a_close_that_is_refused_without_a_word_when_more_is_settled_then_the_server_is_asked_where_it_stands() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::NotFound]);
    scene.get("/x").await.unwrap();
    settle(&scene, 1_000);
    let closed = scene.agent.close(channel(&scene)).await.unwrap();
    assert_eq!((closed.charged, closed.returned), (Amount::new(1_000), Amount::new(9_000)));
    assert_eq!(listed(&scene), 1_000);
}

#[tokio::test]
async fn given_a_channel_when_it_is_looked_at_then_what_is_settled_is_charged() {
    let scene = Scene::usual().await;
    scene.served().await;
    settle(&scene, 1_000);
    assert_eq!(scene.agent.look(channel(&scene)).await.unwrap().charged, Amount::new(1_000));
    assert_eq!(listed(&scene), 1_000);
    let scene = scene.restart();
    assert_eq!(scene.agent.spent(), Amount::new(1_000));
}

#[tokio::test]
async fn given_a_stream_when_earlier_vouchers_are_settled_above_it_then_it_ends_and_the_server_is_not_called_dishonest()
{
    let scene = Scene::with(crate::policy().max_ceiling(Amount::new(100))).await;
    scene.served().await;
    let plan = Plan { units: 1_000, lie: 490, patience: Duration::from_millis(100), ..Plan::default() };
    {
        let mut books = scene.seller.books();
        (books.plan, books.price, books.offer.metered) = (plan, 10, true);
    }
    // When the meter begins its next part at what is settled meanwhile
    claim(&scene, 1_000);
    let response = scene.get("/stream").await.unwrap();
    let metered = Metered::of(&response).unwrap();
    assert_eq!(response.bytes().await.unwrap().len(), 10);
    let end = metered.ended().await;
    assert_eq!(end.charged, Some(Amount::new(10)));
    assert!(end.declined.as_deref().is_some_and(|why| why.contains("by earlier vouchers")), "{end:?}");
    // Then the next call takes it over
    scene.seller.look_at(channel(&scene));
    scene.served().await;
    assert_eq!((scene.agent.spent(), scene.open_channels()), (Amount::new(1_010), 1));
}
