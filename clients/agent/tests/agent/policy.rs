use crate::seller::Books;
use crate::world::{World, cluster};
use crate::{Scene, policy, usual};
use tallybook_agent::{AgentError, Breach, Policy};
use tallybook_chain::Address;
use tallybook_rules::Amount;
use tallybook_wire::{Key, Network};

async fn refused(scene: &Scene) -> AgentError {
    let error = scene.get("/x").await.unwrap_err();
    assert!(scene.seller.books().vouchers.is_empty(), "nothing was signed: {error}");
    assert_eq!(scene.agent.committed(), Amount::ZERO);
    error
}

#[tokio::test]
async fn what_the_policy_forbids_is_not_paid() {
    let new = |price, deposit, budget| {
        let amount = Amount::new;
        usual(Policy::new(cluster(), amount(price), amount(deposit), amount(budget)))
    };
    let foreign = || Policy::new(cluster(), Amount::new(1_000), Amount::new(10_000), Amount::new(30_000));
    type Check = fn(&Breach) -> bool;
    let cases: [(Policy, Check); 7] = [
        (new(499, 10_000, 30_000), |b| matches!(b, Breach::PriceTooHigh { .. })),
        (new(1_000, 900, 30_000), |b| matches!(b, Breach::DepositTooHigh { .. })),
        (new(1_000, 10_000, 9_999), |b| matches!(b, Breach::BudgetExceeded { .. })),
        (policy().budget_per_host(Amount::new(9_999)), |b| matches!(b, Breach::BudgetExceeded { .. })),
        (policy().allow_payee(Key([1; 32])), |b| matches!(b, Breach::PayeeNotAllowed(_))),
        (policy().max_grace_seconds(899), |b| matches!(b, Breach::GraceTooLong { .. })),
        (foreign().allow_host("example.com"), |b| matches!(b, Breach::HostNotAllowed(_))),
    ];
    for (at, (policy, check)) in cases.into_iter().enumerate() {
        let scene = Scene::with(policy).await;
        let error = refused(&scene).await;
        assert!(matches!(&error, AgentError::Policy(breach) if check(breach)), "{at}: {error:?}");
    }
}

#[tokio::test]
async fn an_offer_that_the_chain_does_not_confirm_is_not_paid() {
    type Spoil = fn(&mut World, &mut Books);
    let cases: [(&str, Spoil); 12] = [
        ("book is no account", |w, _| w.program = Address::from([1; 32])),
        ("book is no account", |_, s| s.offer.book = Key([1; 32])),
        ("book is not the one", |_, s| s.offer.book_id = 1),
        ("page is no account", |_, s| s.offer.page = Key([1; 32])),
        ("another cluster", |w, _| w.book.genesis_hash = [1; 32]),
        ("another mint", |w, _| w.book.mint = [1; 32]),
        ("payee", |w, _| w.book.payee = [1; 32]),
        ("withdrawDelay", |w, _| w.book.grace_seconds = 901),
        ("minDeposit", |w, _| w.book.min_deposit = Amount::new(2)),
        ("operator's signature", |w, _| w.book.open_policy = 1),
        ("not a page of the book", |w, _| w.header.book = [1; 32]),
        ("of another program or cluster", |w, _| w.header.page_domain = [1; 32]),
    ];
    for (text, spoil) in cases {
        let scene = Scene::usual().await;
        spoil(&mut scene.seller.world.lock(), &mut scene.seller.books());
        let error = refused(&scene).await;
        assert!(matches!(error, AgentError::Terms(why) if why.contains(text)), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_sponsor_that_is_the_payer_is_no_sponsor() {
    let scene = Scene::usual().await;
    scene.seller.books().offer.fee_payer = scene.agent.wallet();
    assert!(matches!(refused(&scene).await, AgentError::Terms(_)));
}

#[tokio::test]
async fn another_cluster_is_noticed() {
    let scene = Scene::usual().await;
    scene.seller.world.lock().genesis = [1; 32];
    assert!(matches!(refused(&scene).await, AgentError::WrongCluster { .. }));
    // of the network's name as well
    let mut elsewhere = cluster();
    elsewhere.network = Network::mainnet();
    let amount = Amount::new(1_000);
    let scene = Scene::with(usual(Policy::new(elsewhere, amount, amount, amount))).await;
    assert!(matches!(refused(&scene).await, AgentError::NoOffer { .. }));
}

#[tokio::test]
async fn an_empty_wallet_is_told_what_it_lacks() {
    let scene = Scene::usual().await;
    scene.seller.world.lock().held = 9_999;
    let error = refused(&scene).await;
    assert!(matches!(error, AgentError::WalletShort { .. }), "{error}");
}
