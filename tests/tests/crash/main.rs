//! Whoever keeps vouchers is killed in the middle of load, again and again, at random points: nothing that was answered for
//! is lost, nothing is charged that was not asked for, and all of it is settled to the base unit.
//!
//! The real binaries in processes of their own, killed with SIGKILL; agents and chain live on in this one.
//! `TALLYBOOK_KILLS=N` kills N times in each test, 20 unless told otherwise.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test says what it expects, and counts"
)]

mod drills;
mod load;
mod nodes;
mod process;
mod rotation;
#[path = "../../../facilitator/store/tests/server/mod.rs"]
mod server;

use anyhow::{Context, Result};
use load::{Load, Worker};
use process::Process;
use rand::Rng;
use std::time::{Duration, Instant};
use tallybook_chain::{Address, BookView};
use tallybook_cli::demo::{Ground, Pace, Shop};
use tallybook_cli::progress::Progress;
use tallybook_rules::Amount;
use tallybook_store::{SqliteStore, VoucherStore};

const AGENTS: usize = 8;
const PRICE: Amount = Amount::new(500);
const DEPOSIT: Amount = Amount::new(20_000_000);

fn kills() -> u32 {
    std::env::var("TALLYBOOK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

async fn ground() -> Result<Ground> {
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 1 };
    Ground::prepare(pace, Progress::Silent).await
}

/// Some answers, and a moment more: whatever happens to be under way then.
async fn any_moment(load: &Load) -> Result<()> {
    let (answers, moment) = {
        let mut random = rand::rng();
        (random.random_range(1..120), random.random_range(0..200))
    };
    load.wait_for(answers).await?;
    tokio::time::sleep(Duration::from_millis(moment)).await;
    Ok(())
}

/// All that was charged is settled: on every channel, and in the payee's account. And everybody can leave with the rest.
async fn settle_and_leave(ground: &Ground, facilitator: &Process, agents: &[Worker]) -> Result<()> {
    settle_and_leave_book(ground, &ground.book, facilitator, agents).await
}

/// The same of one book of several.
async fn settle_and_leave_book(
    ground: &Ground,
    book: &BookView,
    facilitator: &Process,
    agents: &[Worker],
) -> Result<()> {
    let mut due = Amount::ZERO;
    for one in agents {
        let spent = one.agent.spent();
        facilitator.settled(&one.channel, spent).await.context("when all was over")?;
        let channel = facilitator.channel(&one.channel).await?;
        one.check(channel.charged)?;
        assert!(channel.charged <= channel.signed && channel.signed <= channel.deposit);
        due = due.plus(channel.charged)?;
    }
    let page = ground.page_of(book).await?;
    for one in agents {
        let channel = one.agent.channels().into_iter().find(|channel| channel.id == one.channel);
        let slot = channel.context("an agent has forgotten its channel")?.parts.slot;
        assert_eq!(page.slot(slot)?.settled, one.agent.spent());
    }
    let held = ground.mint.held_by(&ground.chain, &Address::from(book.state.payee)).await?;
    assert_eq!(held, due, "the payee has every claimable voucher's worth");
    for one in agents {
        let closed = one.agent.close(one.channel).await?;
        assert_eq!(closed.returned, DEPOSIT.minus(one.agent.spent())?);
    }
    assert_eq!(ground.mint.held_by(&ground.chain, &page.address).await?, Amount::ZERO);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_load_when_the_facilitator_is_killed_again_and_again_then_no_answered_voucher_is_lost() -> Result<()> {
    // Given agents under way at a paid API whose facilitator is a process of its own
    let (ground, began) = (ground().await?, Instant::now());
    let mut facilitator = Process::facilitator(&ground).await?;
    let shop = Shop::open(&ground.paywall(&facilitator.url())?, "$0.0005", 0).await?;
    let load = Load::begin(&ground, &shop.host()).await?;

    // When it is killed in the middle of their calls, and started again
    while facilitator.kills < kills() {
        any_moment(&load).await?;
        facilitator.kill_and_restart().await?;
    }
    load.wait_for(1).await?;
    let answers = load.answers();
    let agents = load.end().await?;

    // Then every answer that an agent got is in the ledger, and nothing beyond what was signed; and all is settled
    for one in &agents {
        one.check(facilitator.channel(&one.channel).await?.charged)?;
    }
    settle_and_leave(&ground, &facilitator, &agents).await?;
    eprintln!("{} kills of the facilitator, {answers} answers, in {:?}", facilitator.kills, began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_load_when_a_server_with_its_own_ledger_is_killed_again_and_again_then_no_answered_voucher_is_lost()
-> Result<()> {
    // Given agents under way at a server that keeps their vouchers itself, in a process of its own
    let (ground, began) = (ground().await?, Instant::now());
    let mut facilitator = Process::facilitator(&ground).await?;
    let mut server = Process::server(&ground, &facilitator.url()).await?;
    let load = Load::begin(&ground, &server.host()).await?;
    // Every channel is sponsored before the facilitator is away for the first time.
    load.wait_for(100).await?;

    // When it is killed in the middle of their calls, and now and then its facilitator too
    while server.kills < kills() {
        any_moment(&load).await?;
        if rand::rng().random_ratio(1, 4) {
            facilitator.kill_and_restart().await?;
        }
        server.kill_and_restart().await?;
    }
    load.wait_for(1).await?;
    let answers = load.answers();
    let agents = load.end().await?;

    // Then every answer that an agent got is in its file, and nothing beyond what was asked for
    server.kill()?;
    let mut store = SqliteStore::open(&process::database(&ground))?;
    for one in &agents {
        let kept = store.channel(one.channel.as_bytes())?.context("an answered channel is not in the store")?;
        one.check(kept.record.charged)?;
    }
    drop(store);
    // And started again it hands all of it over, to be settled
    server.start_again().await?;
    settle_and_leave(&ground, &facilitator, &agents).await?;
    let (servers, facilitators) = (server.kills, facilitator.kills);
    eprintln!(
        "{servers} kills of the server, {facilitators} of its facilitator, {answers} answers, in {:?}",
        began.elapsed()
    );
    Ok(())
}
