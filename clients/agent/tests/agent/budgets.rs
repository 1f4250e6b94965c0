//! Budgets in time, and budgets that several processes share.

use crate::seller::{Fault, Seller};
use crate::world::Shared;
use crate::{Scene, policy, usual};
use solana_keypair::Keypair;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tallybook_agent::{Agent, AgentError, Breach, Policy, paid};
use tallybook_rules::Amount;

const DIRECTORY: &str = "TALLYBOOK_TEST_BUDGET_DIRECTORY";
const WHAT: &str = "TALLYBOOK_TEST_BUDGET_RACE";

/// A clock that a test sets.
fn clock(scene: Scene, policy: Policy) -> (Scene, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(1_000_000));
    let told = Arc::clone(&now);
    let scene = scene.rebuilt(policy, |builder| builder.clock(move || told.load(Ordering::SeqCst)));
    (scene, now)
}

#[tokio::test]
async fn given_a_budget_of_an_hour_when_it_is_spent_then_calls_wait_for_the_next() {
    let limited = policy().budget_per_hour(Amount::new(2_000)).budget_per_day(Amount::new(3_000));
    let (scene, now) = clock(Scene::usual().await, limited);
    for _ in 0..4 {
        scene.served().await;
    }
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Policy(Breach::RateExceeded { period: "hour", .. })), "{error}");
    assert_eq!(scene.signed(), 2_000, "nothing was signed");
    now.fetch_add(3_660, Ordering::SeqCst);
    scene.served().await;
    scene.served().await;
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Policy(Breach::RateExceeded { period: "day", .. })), "{error}");
    // Then a restart forgets nothing
    let (scene, _) = clock(scene, policy().budget_per_day(Amount::new(3_000)));
    assert!(scene.get("/x").await.is_err());
}

#[tokio::test]
async fn given_calls_that_cost_nothing_or_less_when_counted_then_only_what_they_cost_is() {
    let (scene, _) = clock(Scene::usual().await, policy().budget_per_hour(Amount::new(1_600)));
    scene.seller.faults([Fault::NotFound, Fault::Discount(400)]);
    assert_eq!(scene.get("/x").await.unwrap().status(), 404);
    scene.served().await;
    assert_eq!(scene.agent.budget().await.unwrap().last_hour, Amount::new(100));
    for _ in 0..3 {
        scene.served().await;
    }
    assert!(scene.get("/x").await.is_err());
    assert_eq!(scene.agent.budget().await.unwrap().last_hour, Amount::new(1_600));
}

#[tokio::test]
async fn given_calls_whose_outcome_is_not_known_when_counted_then_they_may_have_cost_all() {
    let policy = policy().budget_per_hour(Amount::new(2_000)).attempts(2);
    let (scene, _) = clock(Scene::usual().await, policy);
    scene.served().await;
    scene.seller.faults([Fault::Gateway, Fault::Gateway]);
    assert!(matches!(scene.get("/x").await, Err(AgentError::AnswerLost { .. })));
    assert_eq!(scene.agent.budget().await.unwrap().last_hour, Amount::new(1_000));
    // A call that its caller gives up counts too
    scene.seller.faults([Fault::Slow(std::time::Duration::from_millis(300))]);
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(100), scene.get("/y")).await;
    assert!(given_up.is_err());
    assert_eq!(scene.agent.budget().await.unwrap().last_hour, Amount::new(1_500));
}

#[tokio::test]
async fn given_everything_that_was_paid_when_listed_then_it_adds_up_to_what_was_spent() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::NoReceipt]);
    scene.get("/y?token=secret").await.unwrap();
    scene.seller.faults([Fault::Discount(100)]);
    scene.served().await;
    let scene = scene.restart();
    scene.served().await;
    let listed: Vec<_> = paid(scene.directory.path()).map(Result::unwrap).collect();
    let charged: u64 = listed.iter().filter_map(|paid| paid.charged).map(Amount::get).sum();
    assert_eq!((charged, scene.agent.spent()), (scene.seller.charged(), Amount::new(charged)));
    assert!(listed.iter().all(|paid| !format!("{paid:?}").contains("secret")));
    assert!(listed.iter().all(|paid| paid.channel == scene.agent.channels()[0].id));
    assert_eq!(listed.iter().filter(|paid| paid.path == "/y" && paid.charged.is_none()).count(), 1);
}

#[tokio::test]
async fn given_a_shared_directory_when_channels_end_and_agents_restart_then_every_one_counts_once() {
    let budget = tempfile::tempdir().unwrap();
    let shared = |scene: Scene| scene.rebuilt(policy(), |builder| builder.budget_directory(budget.path()));
    let (one, two) = (shared(Scene::usual().await), shared(Scene::usual().await));
    one.served().await;
    two.served().await;
    assert_eq!(one.agent.budget().await.unwrap().committed, Amount::new(20_000));
    let host = one.seller.url.trim_start_matches("http://").to_owned();
    assert_eq!(two.agent.budget().await.unwrap().by_host[&host], Amount::new(10_000));
    one.agent.close_all().await.pop().unwrap().1.unwrap();
    for _ in 0..3 {
        assert_eq!(two.agent.budget().await.unwrap().committed, Amount::new(10_500));
    }
    let (one, two) = (shared(one), shared(two));
    assert_eq!(one.agent.budget().await.unwrap().committed, Amount::new(10_500));
    assert_eq!(two.agent.budget().await.unwrap().last_hour, Amount::new(1_000));
}

/// An agent with a seller of its own that shares the budget in `directory`, and calls until it is refused.
async fn race(directory: &Path, what: &str) -> usize {
    let state = tempfile::tempdir().unwrap();
    let wallet = Keypair::new();
    let world = Shared::new(&wallet);
    let seller = Seller::start(world.clone()).await;
    let amount = Amount::new;
    let new = |deposit, budget| Policy::new(crate::world::cluster(), amount(1_000), amount(deposit), amount(budget));
    let policy = match what {
        "calls" => usual(new(50_000, 1_000_000)).budget_per_hour(amount(40_000)),
        _ => usual(new(10_000, 45_000)).top_up(false),
    };
    let builder = Agent::builder(wallet, policy, "http://127.0.0.1:9".parse().unwrap(), state.path());
    let agent = builder.chain(world).budget_directory(directory).clock(|| 1_000_000).build().unwrap();
    let mut served = 0;
    loop {
        match agent.get(format!("{}/x", seller.url).parse().unwrap()).await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                served += 1;
            }
            Err(AgentError::Policy(Breach::RateExceeded { .. } | Breach::BudgetExceeded { .. })) => return served,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
#[ignore = "run as a process of its own by the tests below"]
async fn another_process() {
    let directory = std::env::var(DIRECTORY).expect("run by the tests below");
    println!("served={}", race(Path::new(&directory), &std::env::var(WHAT).unwrap()).await);
}

/// Three processes and two agents of this one, all at once: what each of them was served.
async fn race_all(what: &str) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "budgets::another_process", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env(WHAT, what)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..3).map(|_| child()).collect();
    let (one, two) = tokio::join!(race(directory.path(), what), race(directory.path(), what));
    let of_children = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let served = text.split("served=").nth(1).expect("a child says what it was served");
        served.split_whitespace().next().unwrap().parse::<usize>().unwrap()
    });
    one + two + of_children.sum::<usize>()
}

#[tokio::test]
async fn given_five_agents_in_four_processes_when_they_spend_one_hour_s_budget_then_all_of_it_and_no_more() {
    assert_eq!(race_all("calls").await, 80, "40,000 base units at 500");
}

#[tokio::test]
async fn given_five_agents_in_four_processes_when_they_deposit_from_one_budget_then_four_deposits_fit() {
    assert_eq!(race_all("deposits").await, 80, "four deposits of 20 calls");
}
