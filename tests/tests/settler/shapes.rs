//! What claims look like on a chain that takes version 1, on one that does not, and behind nodes that cannot read it; and
//! what is bid for them.

use crate::world::{Neighbour, World, settings};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use solana_client::rpc_config::{CommitmentConfig, RpcTransactionConfig, UiTransactionEncoding};
use solana_signature::Signature;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tallybook_chain::shape::Shape;
use tallybook_ledger::{Batch, Outcome};
use tallybook_rules::Rejection;
use tallybook_settler::{Commitment, Fate, FeePolicy, RpcChain, Settings, Settler, ShapeChoice};

/// A batch of all channels of a neighbour, each over `cumulative` in all.
async fn batch_of(world: &World, neighbour: &Neighbour, cumulative: u64) -> Batch {
    let settler = world.settler();
    let (_, view) = settler.read_page(&neighbour.page, 0, Commitment::Confirmed).await.unwrap();
    let rows = neighbour.payers.iter().map(|payer| world.row(&view, payer, cumulative));
    Batch::new(neighbour.page.to_bytes(), rows.collect()).unwrap()
}

async fn together(world: &World, settler: &Settler, claims: &[(&Neighbour, &Batch)]) -> Vec<Outcome> {
    let claims: Vec<_> = claims.iter().map(|(neighbour, batch)| (&neighbour.book, *batch)).collect();
    settler.settle_together(&claims, &world.journal).await.unwrap()
}

fn sizes(outcome: &Outcome) -> Vec<u32> {
    outcome.landed.iter().map(|landed| landed.rows).collect()
}

/// The version that the chain says a transaction has.
async fn version(world: &World, signature: &[u8; 64]) -> Value {
    let config = RpcTransactionConfig {
        encoding: Some(UiTransactionEncoding::Base64),
        commitment: Some(CommitmentConfig::confirmed()),
        max_supported_transaction_version: Some(1),
    };
    let signature = Signature::from(*signature);
    let found = world.chain.rpc().get_transaction_with_config(&signature, config).await.unwrap();
    serde_json::to_value(found.transaction.version).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_chain_that_takes_version_1_when_pages_of_two_payees_are_due_then_one_transaction_claims_and_pays_them_all()
 {
    // Given 30 channels of one payee, more than fit into any older transaction, and 5 of another.
    let world = World::start(2, true).await;
    let (first, second) = (world.neighbour(30).await, world.neighbour(5).await);
    let settler = world.settler();
    assert_eq!(settler.shape().await, Shape::V1);
    let (large, small) = (batch_of(&world, &first, 1_000).await, batch_of(&world, &second, 300).await);

    // When both are settled.
    let before = world.lamports(&settler.sponsor()).await;
    let outcomes = together(&world, &settler, &[(&first, &large), (&second, &small)]).await;

    // Then it took one transaction of version 1 and no lookup table, and each payee has its money.
    assert_eq!((sizes(&outcomes[0]), sizes(&outcomes[1])), (vec![30], vec![5]), "{outcomes:?}");
    let signature = outcomes[0].landed[0].signature;
    assert_eq!(outcomes[1].landed[0].signature, signature);
    assert_eq!(version(&world, &signature).await, json!(1));
    assert_eq!((world.tokens(&first.payee).await, world.tokens(&second.payee).await), (30_000, 1_500));
    assert!(world.journal.tables.lock().unwrap().is_empty());
    assert_eq!(world.journal.attempts.lock().unwrap().len(), 1);

    // And what the outcomes say it cost is what the sponsor has less, each page bearing its share.
    let shares: Vec<u64> = outcomes.iter().map(|outcome| outcome.landed[0].fee_lamports).collect();
    assert_eq!(before - world.lamports(&settler.sponsor()).await, shares.iter().sum::<u64>());
    assert!(shares[0] > shares[1] && shares.iter().sum::<u64>() < 6_000, "{shares:?}");
    println!("35 claims of two payees in one transaction of version 1: {shares:?} lamports, {outcomes:?}");

    // And the same again adds nothing.
    let again = together(&world, &settler, &[(&first, &large), (&second, &small)]).await;
    assert_eq!(again, [Outcome::default(), Outcome::default()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_pages_that_share_a_transaction_when_one_has_a_closed_page_and_one_a_reopened_slot_then_the_others_are_settled()
 {
    let world = World::start(2, true).await;
    let (good, bad) = (world.neighbour(3).await, world.neighbour(2).await);
    let batch = batch_of(&world, &good, 700).await;
    // Given a batch of a page that is no more, and one with a voucher of another channel.
    let gone = Batch::new([77; 32], batch.rows().to_vec()).unwrap();
    let foreign =
        Batch::new(bad.page.to_bytes(), vec![batch.rows()[0], batch_of(&world, &bad, 50).await.rows()[1]]).unwrap();
    let claims = [(&good.book, &gone), (&bad.book, &foreign), (&good.book, &batch)];
    let outcomes = world.settler().settle_together(&claims, &world.journal).await.unwrap();
    assert_eq!(outcomes[0].refused, [0, 1, 2].map(|slot| (slot, Rejection::UnknownPage)));
    assert_eq!((&outcomes[1].refused, sizes(&outcomes[1])), (&vec![(0, Rejection::WrongGeneration)], vec![1]));
    assert_eq!(sizes(&outcomes[2]), [3]);
    assert_eq!((world.tokens(&good.payee).await, world.tokens(&bad.payee).await), (2_100, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_chain_without_version_1_when_pages_of_two_payees_are_due_then_each_has_v0_transactions_with_its_table()
{
    let world = World::before_v1(2).await;
    let (first, second) = (world.neighbour(24).await, world.neighbour(2).await);
    let settler = world.settler();
    assert_eq!(settler.shape().await, Shape::V0);
    let (large, small) = (batch_of(&world, &first, 1_000).await, batch_of(&world, &second, 300).await);
    let outcomes = together(&world, &settler, &[(&first, &large), (&second, &small)]).await;
    assert_eq!((sizes(&outcomes[0]), sizes(&outcomes[1])), (vec![23, 1], vec![2]), "{outcomes:?}");
    assert_eq!(version(&world, &outcomes[0].landed[0].signature).await, json!(0));
    assert_eq!((world.tokens(&first.payee).await, world.tokens(&second.payee).await), (24_000, 600));
}

/// A node in front of the chain that cannot read transactions of version 1, as one of an older release: neither in a
/// simulation nor when sent, or only when sent.
#[derive(Clone)]
struct OldNode {
    chain: String,
    http: reqwest::Client,
    simulates: bool,
    /// How many it could not read.
    unread: Arc<AtomicU32>,
}

impl OldNode {
    async fn before(world: &World, simulates: bool) -> (RpcChain, Arc<AtomicU32>) {
        let unread = Arc::new(AtomicU32::new(0));
        let node =
            Self { chain: world.chain.rpc_url(), http: reqwest::Client::new(), simulates, unread: Arc::clone(&unread) };
        let router = Router::new().route("/", post(Self::answer)).with_state(node);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (RpcChain::new(&url, Duration::from_secs(5)), unread)
    }

    async fn answer(State(node): State<Self>, Json(request): Json<Value>) -> Json<Value> {
        let method = request["method"].as_str().unwrap();
        let reads = method == "sendTransaction" || (method == "simulateTransaction" && !node.simulates);
        let transaction = request["params"][0].as_str().filter(|_| reads);
        if transaction.is_some_and(|text| STANDARD.decode(text).unwrap()[0] == 0x81) {
            node.unread.fetch_add(1, Ordering::Relaxed);
            let error = json!({"code": -32602, "message": "failed to deserialize VersionedTransaction"});
            return Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}));
        }
        let answer = node.http.post(&node.chain).json(&request).send().await.unwrap();
        Json(answer.json().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_node_that_cannot_read_version_1_when_pages_are_due_then_it_is_asked_once_and_nothing_is_sent_in_vain()
{
    let world = World::start(2, true).await;
    let (first, second) = (world.neighbour(21).await, world.neighbour(2).await);
    let (chain, unread) = OldNode::before(&world, false).await;
    let settler = Settler::new(chain, world.sponsor.insecure_clone(), settings());
    for cumulative in [1_000, 2_000] {
        let large = batch_of(&world, &first, cumulative).await;
        let small = batch_of(&world, &second, cumulative).await;
        let outcomes = together(&world, &settler, &[(&first, &large), (&second, &small)]).await;
        assert_eq!((sizes(&outcomes[0]), sizes(&outcomes[1])), (vec![21], vec![2]), "{outcomes:?}");
        assert_eq!(version(&world, &outcomes[0].landed[0].signature).await, json!(0));
    }
    let asked = unread.load(Ordering::Relaxed);
    assert!((1..=4).contains(&asked), "one trial, and its tries: {asked}");
    assert_eq!(world.journal.attempts.lock().unwrap().len(), 4);
    assert_eq!((world.tokens(&first.payee).await, world.tokens(&second.payee).await), (42_000, 4_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_node_that_simulates_version_1_but_cannot_read_it_when_sent_then_it_expires_and_all_is_settled_once_otherwise()
 {
    let world = World::start(2, true).await;
    let (first, second) = (world.neighbour(4).await, world.neighbour(2).await);
    let (chain, unread) = OldNode::before(&world, true).await;
    let settler = Settler::new(chain, world.sponsor.insecure_clone(), settings());
    assert_eq!(settler.shape().await, Shape::V1, "a trial does not show it");
    let (large, small) = (batch_of(&world, &first, 1_000).await, batch_of(&world, &second, 300).await);
    let outcomes = together(&world, &settler, &[(&first, &large), (&second, &small)]).await;
    assert!(outcomes.iter().all(|outcome| !outcome.unknown && outcome.refused.is_empty()), "{outcomes:?}");
    assert!(unread.load(Ordering::Relaxed) > 0);
    assert_eq!((world.tokens(&first.payee).await, world.tokens(&second.payee).await), (4_000, 600), "once");
    let attempts = world.journal.attempts.lock().unwrap().clone();
    assert_eq!(settler.resolve(&attempts[..1]).await.unwrap(), [Fate::Expired], "before another was signed");
    assert_ne!(settler.shape().await, Shape::V1, "none for a while");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_each_way_to_bid_when_claims_land_then_they_cost_what_it_says_in_both_shapes() {
    let world = World::start(2, true).await;
    let neighbour = world.neighbour(2).await;
    let mut cumulative = 0;
    let mut priority = async |shape: Shape, fees: FeePolicy| {
        cumulative += 1_000;
        let settings = Settings { fees, shape: ShapeChoice::Only(shape), make_tables: false, ..settings() };
        let settler = Settler::new(world.rpc(), world.sponsor.insecure_clone(), settings);
        let batch = batch_of(&world, &neighbour, cumulative).await;
        let landed = settler.settle(&neighbour.book, &batch, &world.journal).await.unwrap().landed;
        assert_eq!(landed.len(), 1);
        (landed[0].fee_lamports - 5_000, landed[0].compute_units)
    };
    for shape in [Shape::V1, Shape::Legacy] {
        assert_eq!(priority(shape, FeePolicy::Off).await.0, 0, "{shape}");
        // A bid is for the limit: a tenth more than was used, and 3,000.
        let (lamports, used) = priority(shape, FeePolicy::Fixed(100_000)).await;
        let limit = used + used / 10 + 3_000;
        assert!(lamports.abs_diff(limit / 10) <= 20, "{shape}: {lamports} for about {limit} units");
    }
    // What was just bid for this page is what the chain reports of it; beyond it, floor and cap count.
    let recent = |floor, cap| FeePolicy::Recent { percentile: 100, floor, cap };
    let (dear, used) = priority(Shape::V1, recent(0, 1_000_000)).await;
    assert!(dear > used / 11, "as much as the highest recent bid: {dear} for {used} units");
    let (capped, _) = priority(Shape::V1, recent(0, 50_000)).await;
    assert!(capped.abs_diff(dear / 2) <= 20, "{capped}");
    println!("recent prices: {dear} lamports for {used} units, {capped} with half of it as cap");
}
