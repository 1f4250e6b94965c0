use crate::{Scene, policy};
use tallybook_agent::{AgentError, Phase, receipt};
use tallybook_rules::Amount;
use tallybook_wire::SettleResponse;

#[tokio::test]
async fn the_first_call_opens_a_channel_and_the_next_ones_pay_with_their_first_request() {
    let scene = Scene::usual().await;
    // Given a first call: asked for a price, then paid
    scene.served().await;
    assert_eq!((scene.seller.books().requests, scene.seller.world.lock().deposits), (2, 1));
    // When more follow
    for _ in 0..9 {
        scene.served().await;
    }
    // Then each is one request on the same channel
    assert_eq!((scene.seller.books().requests, scene.seller.world.lock().deposits), (11, 1));
    assert_eq!(scene.seller.charged(), 5_000);
    assert_eq!(scene.agent.spent(), Amount::new(5_000));
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
}

#[tokio::test]
async fn what_is_free_is_not_paid() {
    let scene = Scene::usual().await;
    assert_eq!(scene.get("/free").await.unwrap().text().await.unwrap(), "free");
    assert_eq!(scene.agent.committed(), Amount::ZERO);
}

#[tokio::test]
async fn the_receipt_is_there_for_who_wants_it() {
    let scene = Scene::usual().await;
    let response = scene.get("/x").await.unwrap();
    assert!(matches!(receipt(response.headers()), Some(SettleResponse::Settled { .. })));
}

#[tokio::test]
async fn callers_may_be_many_and_a_channel_pays_one_at_a_time() {
    let scene = Scene::usual().await;
    // When 16 call at once
    let calls = (0..16).map(|n| {
        let (agent, url) = (scene.agent.clone(), format!("{}/x?{n}", scene.seller.url));
        tokio::spawn(async move { agent.get(url.parse().unwrap()).await.unwrap().status() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 200);
    }
    // Then all are served by one channel in turn, without one correction
    assert_eq!((scene.seller.books().served, scene.seller.world.lock().deposits), (16, 1));
    assert_eq!(scene.seller.books().at_once.1, 1);
    assert_eq!(scene.seller.books().vouchers.len(), 16);
}

#[tokio::test]
async fn more_channels_run_more_calls_at_a_time() {
    let scene = Scene::with(policy().channels_per_host(3)).await;
    let calls = (0..30).map(|n| {
        let (agent, url) = (scene.agent.clone(), format!("{}/x?{n}", scene.seller.url));
        tokio::spawn(async move { agent.get(url.parse().unwrap()).await.unwrap().status() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(scene.seller.books().served, 30);
    assert_eq!(scene.seller.world.lock().deposits, 3);
    assert!(scene.seller.books().at_once.1 > 1);
}

#[tokio::test]
async fn given_three_channels_when_three_call_then_they_are_handled_at_the_same_time() {
    let scene = Scene::with(policy().channels_per_host(3)).await;
    // Given handlers that wait for each other
    scene.seller.books().rendezvous = Some(std::sync::Arc::new(tokio::sync::Barrier::new(3)));
    let calls = (0..9).map(|n| {
        let (agent, url) = (scene.agent.clone(), format!("{}/x?{n}", scene.seller.url));
        tokio::spawn(async move { agent.get(url.parse().unwrap()).await.unwrap().status() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!((scene.seller.books().served, scene.seller.world.lock().deposits), (9, 3));
}

#[tokio::test]
async fn an_exhausted_deposit_is_topped_up_until_the_budget_ends_it() {
    let scene = Scene::usual().await;
    // Given a deposit of 20 calls, and room for two more such deposits
    for _ in 0..60 {
        scene.served().await;
    }
    assert_eq!((scene.seller.world.lock().deposits, scene.seller.books().top_ups.len()), (1, 2));
    assert_eq!(scene.agent.channels()[0].deposit, Amount::new(30_000));
    assert_eq!(scene.agent.committed(), Amount::new(30_000));
    // When the budget is used up
    let error = scene.get("/x").await.unwrap_err();
    assert!(error.to_string().contains("budget"), "{error}");
    assert_eq!((scene.seller.charged(), scene.seller.books().top_ups.len()), (30_000, 2));
}

#[tokio::test]
async fn an_exhausted_deposit_makes_a_new_channel_until_the_budget_ends_it() {
    let scene = Scene::with(policy().top_up(false)).await;
    // Given three deposits of 20 calls each
    for _ in 0..60 {
        scene.served().await;
    }
    assert_eq!(scene.seller.world.lock().deposits, 3);
    // When the budget is used up
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Policy(_)), "{error}");
    assert!(error.to_string().contains("budget"), "{error}");
    assert_eq!(scene.seller.world.lock().deposits, 3);
    assert_eq!(scene.seller.charged(), 30_000);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_channel() {
    let scene = Scene::usual().await;
    for _ in 0..5 {
        scene.served().await;
    }
    // When the agent is stopped with calls that its journal only has as reserved
    let scene = scene.restart();
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
    scene.served().await;
    // Then the server's corrective answer, under our own signature, put it right
    assert_eq!(scene.seller.world.lock().deposits, 1);
    assert_eq!(scene.seller.charged(), 3_000);
    assert_eq!(scene.agent.spent(), Amount::new(3_000));
}

#[tokio::test]
async fn a_new_price_is_paid_within_the_limit_and_not_above() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.books().price = 800;
    scene.served().await;
    assert_eq!(scene.seller.charged(), 1_300);
    // When it rises above the largest price
    scene.seller.books().price = 1_001;
    let error = scene.get("/x").await.unwrap_err();
    assert!(error.to_string().contains("1001"), "{error}");
    assert_eq!(scene.seller.charged(), 1_300);
    assert_eq!(scene.signed(), 2_100, "nothing was signed at the new price");
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_the_channel_usable() {
    let scene = Scene::usual().await;
    scene.served().await;
    // Given a call that its caller gives up while the server works on it
    let slow = std::time::Duration::from_millis(150);
    scene.seller.faults([crate::seller::Fault::Slow(slow)]);
    let given_up = tokio::time::timeout(slow / 3, scene.get("/slow")).await;
    assert!(given_up.is_err());
    tokio::time::sleep(slow * 2).await;
    // When the next one comes, it finds out what was charged
    scene.served().await;
    let charged = scene.seller.charged();
    assert_eq!(scene.agent.spent(), Amount::new(charged));
    let channel = &scene.agent.channels()[0];
    assert_eq!(channel.phase, Phase::Open);
}

#[tokio::test]
async fn keys_are_in_nobodys_debug_output() {
    let scene = Scene::usual().await;
    scene.served().await;
    let shown = format!("{:?} {:?}", scene.agent, scene.agent.channels());
    let secret: String = tallybook_wire::Key(scene.wallet[..32].try_into().unwrap()).to_string();
    assert!(!shown.contains(&secret) && !shown.contains(&format!("{:?}", &scene.wallet[..8])));
    assert!(shown.contains(&scene.agent.wallet().to_string()));
    let state = scene.directory.path();
    let folders = [state.to_owned(), state.join("paid"), state.join("budget")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        let content = std::fs::read(file).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains(&secret));
    }
}

#[tokio::test]
async fn a_channel_of_another_key_is_not_signed_for() {
    let scene = Scene::usual().await;
    scene.served().await;
    // Given a restart with a session key that the open channel does not know
    let Scene { agent, seller, directory, wallet } = scene;
    drop(agent);
    let nowhere = "http://127.0.0.1:9".parse().unwrap();
    let wallet_key = solana_keypair::Keypair::try_from(wallet.as_slice()).unwrap();
    let builder = tallybook_agent::Agent::builder(wallet_key, policy(), nowhere, directory.path());
    let session = solana_keypair::Keypair::new();
    let agent = builder.chain(seller.world.clone()).session_key(session).build().unwrap();
    let scene = Scene { agent, seller, directory, wallet };
    // Then it opens another one, signed for by the session key
    scene.served().await;
    let channels = scene.agent.channels();
    let signers: Vec<bool> = channels.iter().map(|channel| channel.parts.signer == channel.parts.payer).collect();
    assert!(signers.contains(&true) && signers.contains(&false));
    assert_eq!(scene.seller.world.lock().deposits, 2);
}
