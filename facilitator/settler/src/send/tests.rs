use super::*;
use crate::memory::{Fault, House};
use crate::settler::attempt_of;
use solana_hash::Hash;
use tallybook_chain::shape::{Budget, Shape, message};

const ATTEMPT: Attempt = Attempt { signature: [4; 64], last_valid_block_height: 150 };

fn seen(slot: u64, landing: Option<Landing>) -> Statuses {
    Statuses { slot, landings: vec![landing] }
}

fn at(slot: u64, block: u64) -> Option<Height> {
    Some(Height { slot, block })
}

#[test]
fn a_transaction_expired_only_when_a_finalized_block_and_a_node_that_saw_it_say_so() {
    assert_eq!(decide(&ATTEMPT, at(200, 151), &seen(200, None)), Fate::Expired);
    assert_eq!(decide(&ATTEMPT, at(200, 150), &seen(200, None)), Fate::Unknown, "the last block may hold it");
    assert_eq!(decide(&ATTEMPT, at(200, 151), &seen(199, None)), Fate::Unknown, "the node is behind");
    assert_eq!(decide(&ATTEMPT, None, &seen(999, None)), Fate::Unknown, "the height was not asked");
    let nothing = Statuses { slot: 999, landings: vec![] };
    assert_eq!(decide(&ATTEMPT, None, &nothing), Fate::Unknown);
}

#[test]
fn a_transaction_landed_from_confirmed_on_whatever_the_height() {
    let landing = |commitment| Landing { slot: 7, commitment, failure: None };
    let landed = |commitment| Fate::Landed { slot: 7, commitment };
    let processed = seen(200, Some(landing(Commitment::Processed)));
    assert_eq!(decide(&ATTEMPT, at(200, 999), &processed), Fate::Unknown, "may still be dropped");
    for commitment in [Commitment::Confirmed, Commitment::Finalized] {
        let statuses = seen(200, Some(landing(commitment)));
        assert_eq!(decide(&ATTEMPT, at(200, 999), &statuses), landed(commitment));
    }
}

/// Any transaction: what it does is not looked at here.
fn transaction(house: &House) -> (VersionedTransaction, Attempt) {
    let budget = Budget { compute_units: 1, compute_price: 0 };
    let message = message(Shape::Legacy, &house.settler.sponsor(), &[], None, &budget, Hash::default()).unwrap();
    let transaction = house.settler.signed(message);
    let attempt = attempt_of(&transaction, 950).unwrap();
    (transaction, attempt)
}

async fn send(house: &House) -> Fate {
    let (transaction, attempt) = transaction(house);
    send_until_decided(&house.chain, &transaction, &attempt, &house.settler.settings().pace).await
}

#[tokio::test]
async fn what_is_dropped_is_sent_again_as_it_is() {
    let house = House::new(1);
    house.chain.state().faults.extend([Fault::Dropped; 3]);
    assert!(matches!(send(&house).await, Fate::Landed { .. }));
    let sent = house.chain.state().sent.clone();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|one| *one == sent[0]), "always the same transaction");
}

#[tokio::test]
async fn a_node_that_does_not_answer_decides_nothing() {
    let house = House::new(1);
    house.chain.state().unanswered = 20;
    assert!(matches!(send(&house).await, Fate::Landed { .. }), "asked until it answered");
    let house = House::new(1);
    house.chain.state().unanswered = u32::MAX;
    assert_eq!(send(&house).await, Fate::Unknown);
}

#[tokio::test]
async fn a_lost_answer_to_a_send_is_no_reason_to_sign_another() {
    let house = House::new(1);
    house.chain.state().faults.push_back(Fault::LostAnswer);
    assert!(matches!(send(&house).await, Fate::Landed { .. }));
    assert_eq!(house.chain.state().sent.len(), 1);
}

#[tokio::test]
async fn what_never_lands_is_given_up_when_its_blockhash_is_gone() {
    let house = House::new(1);
    house.chain.state().faults.extend([Fault::Dropped; 1_000]);
    house.chain.state().blocks_a_question = 10;
    assert_eq!(send(&house).await, Fate::Expired);
    assert!(house.chain.state().height > 950);
}

#[tokio::test]
async fn resolve_asks_and_never_sends() {
    let house = House::new(1);
    let (transaction, attempt) = transaction(&house);
    house.chain.send(&transaction).await.unwrap();
    house.chain.state().sent.clear();
    let other = Attempt { signature: [1; 64], ..attempt };
    house.chain.state().height = 1_000;
    let fates = house.settler.resolve(&[other, attempt]).await.unwrap();
    assert!(matches!(fates[..], [Fate::Expired, Fate::Landed { .. }]));
    assert!(house.chain.state().sent.is_empty());
}
