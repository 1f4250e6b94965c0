//! Bad lines, lagging nodes, expired blockhashes.

use crate::faulty::{Faults, FaultyChain};
use crate::world::{World, settler};
use solana_signer::Signer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tallybook_rules::Rejection;
use tallybook_settler::{Chain, Fate, RpcChain};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_loses_nothing_and_pays_nothing_twice() {
    let world = World::start(8, true).await;
    let faults = Arc::new(Faults { stale: true, ..Faults::default() });
    let chain = FaultyChain { inner: world.rpc(), faults: Arc::clone(&faults) };
    let settler = settler(chain, &world.sponsor);
    let payers = world.open(&settler, 8).await;
    let page = world.page_view(&world.settler()).await;
    for cumulative in [1_000, 2_000, 3_000] {
        // Given a line that loses answers and sends.
        faults.lost_answers.store(2, Ordering::Relaxed);
        faults.dropped.store(1, Ordering::Relaxed);
        // When a batch is settled, and settled again by somebody who did not hear of it.
        let batch = world.batch(&page, &payers, cumulative);
        let (once, twice) = tokio::join!(
            settler.settle(&world.book, &batch, &world.journal),
            settler.settle(&world.book, &batch, &world.journal),
        );
        // Then all is settled, and paid exactly once.
        for outcome in [once.unwrap(), twice.unwrap()] {
            assert!(!outcome.unknown && outcome.refused.is_empty(), "{outcome:?}");
        }
        assert_eq!(world.tokens(&world.payee.pubkey()).await, 8 * cumulative);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_never_lands_expires_and_is_built_again() {
    let world = World::start(2, true).await;
    let payers = world.open(&world.settler(), 2).await;
    let faults = Arc::new(Faults { dropped: AtomicU32::new(1_000_000), ..Faults::default() });
    let chain = FaultyChain { inner: world.rpc(), faults: Arc::clone(&faults) };
    let settler = settler(chain, &world.sponsor);
    let page = world.page_view(&settler).await;
    let batch = world.batch(&page, &payers, 1_000);
    let before = world.journal.attempts.lock().unwrap().len();

    // Given a line that drops everything until a second transaction is signed (about 4 seconds here) ...
    let mend = async {
        while world.journal.attempts.lock().unwrap().len() < before + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        faults.dropped.store(0, Ordering::Relaxed);
    };
    let mend = tokio::time::timeout(Duration::from_secs(60), mend);
    let (outcome, mended) = tokio::join!(settler.settle(&world.book, &batch, &world.journal), mend);
    mended.expect("a second transaction is signed once the first has expired");

    // ... then the first had expired by then, and exactly one of them landed.
    assert_eq!(outcome.unwrap().landed.len(), 1);
    assert_eq!(world.tokens(&world.payee.pubkey()).await, 2_000);
    let attempts = world.journal.attempts.lock().unwrap()[before..].to_vec();
    assert!(attempts.len() >= 2, "{attempts:?}");
    let fates = settler.resolve(&attempts).await.unwrap();
    let landed = fates.iter().filter(|fate| matches!(fate, Fate::Landed { .. })).count();
    let expired = fates.iter().filter(|fate| **fate == Fate::Expired).count();
    assert_eq!((landed, expired), (1, attempts.len() - 1), "{fates:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_with_an_old_blockhash_is_refused_before_it_costs_anything() {
    let world = World::start(2, true).await;
    let settler = world.settler();
    let payers = world.wallets(1).await;
    let checked = world.deposit(&settler, &payers[0]).await;
    let blockhash = settler.latest_blockhash().await.unwrap();
    while world.rpc().height().await.unwrap().block <= blockhash.last_valid_height {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let before = world.lamports(&settler.sponsor()).await;
    assert_eq!(settler.simulate_deposit(&checked).await, Err(Rejection::DepositExpired));
    let sent = settler.send_deposit(&checked, None, &world.journal).await;
    assert_eq!(sent.unwrap_err(), Rejection::DepositExpired);
    assert!(world.journal.attempts.lock().unwrap().is_empty());
    assert_eq!(world.lamports(&settler.sponsor()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_not_there_is_unavailable_in_bounded_time() {
    let world_less = RpcChain::new("http://127.0.0.1:9", Duration::from_millis(200));
    let started = std::time::Instant::now();
    let answer = world_less.latest_blockhash().await;
    assert_eq!(answer.map_err(Rejection::from), Err(Rejection::ChainUnavailable));
    assert!(started.elapsed() < Duration::from_secs(5));
}
