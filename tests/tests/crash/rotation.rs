//! Keys and tokens change while agents go on paying: what is under way ends right, and nobody is refused.

use super::drills::tallybook;
use super::process::{PATIENCE, Process};
use super::{DEPOSIT, Load, PRICE, Result, Shop, ground, settle_and_leave};
use anyhow::{Context, ensure};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::time::{Duration, Instant};
use tallybook_agent::Agent;
use tallybook_cli::demo::{Ground, Keys, Pace};
use tallybook_cli::dev::deploy_with_progress;
use tallybook_cli::dev_chain::{Artifact, Blocks, DevChain, LAMPORTS_PER_SOL, Ports};
use tallybook_cli::keys;
use tallybook_cli::progress::Progress;
use tallybook_paywall::Paywall;
use tallybook_rules::Amount;
use tallybook_wire::Key;

const OLD: &str = "the-token-that-was-used-so-far";
const NEW: &str = "the-token-that-is-used-from-now-on";

fn set(config: &str, key: &str, value: &str) -> String {
    let others = config.lines().filter(|line| !line.starts_with(&format!("{key} = ")));
    std::iter::once(format!("{key} = {value}\n")).chain(others.map(|line| format!("{line}\n"))).collect()
}

fn paywall(ground: &Ground, facilitator: &str, token: &str, operator: &Keypair) -> Result<Paywall> {
    let paywall = Paywall::builder(facilitator, ground.book.address.to_string());
    Ok(paywall.access_token(token).operator(operator.insecure_clone()).keep_no_vouchers().build()?)
}

async fn lamports(ground: &Ground, address: &Address) -> Result<u64> {
    Ok(ground.chain.rpc().get_balance(address).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_load_when_sponsor_and_token_change_then_calls_and_batches_go_on_and_nothing_is_paid_twice() -> Result<()>
{
    // Given agents under way, whose calls are claimed every second
    let (ground, began) = (ground().await?, Instant::now());
    let mut facilitator =
        Process::configured(&ground, |config| set(config, "access_token", &format!("{OLD:?}"))).await?;
    let shop = Shop::open(&paywall(&ground, &facilitator.url(), OLD, &ground.operator)?, "$0.0005", 0).await?;
    let load = Load::begin(&ground, &shop.host()).await?;
    load.wait_for(200).await?;

    // When another sponsor takes over, at whatever point the old one's batches and deposits are, and a new token is good too
    let sponsor = Keypair::new();
    ground.mint.fund(&ground.chain, &[sponsor.pubkey()], LAMPORTS_PER_SOL, Amount::ZERO).await?;
    let file = ground.folder().join("new-sponsor.json");
    keys::write(&file, &sponsor)?;
    facilitator.kill()?;
    facilitator.configure(|config| {
        let config = set(config, "sponsor", &format!("{file:?}"));
        set(&config, "access_token", &format!("[{NEW:?}, {OLD:?}]"))
    })?;
    facilitator.start_again().await?;

    // Then calls with the old token go on, and channels open with the new one at the new sponsor's expense
    load.wait_for(200).await?;
    let new_shop = Shop::open(&paywall(&ground, &facilitator.url(), NEW, &ground.operator)?, "$0.0005", 0).await?;
    let new_load = Load::begin(&ground, &new_shop.host()).await?;
    new_load.wait_for(100).await?;
    // And the old sponsor pays for nothing any more, so that it can be emptied
    let left = lamports(&ground, &ground.sponsor).await?;
    new_load.wait_for(200).await?;
    let mut agents = load.end().await?;
    agents.extend(new_load.end().await?);
    settle_and_leave(&ground, &facilitator, &agents).await?;
    assert_eq!(lamports(&ground, &ground.sponsor).await?, left);
    ensure!(lamports(&ground, &sponsor.pubkey()).await? < LAMPORTS_PER_SOL, "the new sponsor pays");
    eprintln!("a sponsor changed under load, in {:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_book_when_its_operator_changes_then_the_new_key_gives_payers_their_rest_and_the_old_one_does_not()
-> Result<()> {
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 1 };
    let chain = DevChain::start(Ports::Free, Blocks::Every(pace.slot)).await?;
    deploy_with_progress(&chain, &Artifact::released()?, Progress::Silent).await?;
    let keys = Keys::fresh();
    let (payee, operator) = (keys.payee.insecure_clone(), Keypair::new());
    let ground = Ground::on(chain, keys, pace, Progress::Silent).await?;
    let facilitator = Process::facilitator(&ground).await?;
    let [old, new] = [&ground.operator, &operator].map(|key| paywall(&ground, &facilitator.url(), OLD, key));
    let [old, new] = [Shop::open(&old?, "$0.0005", 0).await?, Shop::open(&new?, "$0.0005", 0).await?];

    let file = ground.folder().join("payee.json");
    keys::write(&file, &payee)?;
    let (book, to) = (ground.book.address.to_string(), operator.pubkey().to_string());
    let file = file.display().to_string();
    let (status, report) = tallybook(&ground, &["book", "set-operator", &book, &to, "--keypair", &file]).await?;
    assert_eq!((status, report["operator"].as_str()), (Some(0), Some(to.as_str())), "{report}");

    // Then the new key gives a payer its rest, as soon as the facilitator has read the book again
    let (agent, channel) = paid_once(&ground, &new).await?;
    let began = Instant::now();
    let closed = loop {
        match agent.close(channel).await {
            Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(200)).await,
            closed => break closed?,
        }
    };
    assert_eq!(closed.returned, DEPOSIT.minus(PRICE)?);
    // And the old one does not any more
    let (agent, channel) = paid_once(&ground, &old).await?;
    let refused = agent.close(channel).await;
    ensure!(refused.is_err(), "the old key still gives money back: {refused:?}");
    Ok(())
}

/// Somebody who has paid for one call, which needs no operator.
async fn paid_once(ground: &Ground, shop: &Shop) -> Result<(Agent, Key)> {
    let wallet = Keypair::new();
    ground.mint.fund(&ground.chain, &[wallet.pubkey()], LAMPORTS_PER_SOL / 100, DEPOSIT).await?;
    let agent = ground.agent(wallet, ground.policy(&shop.host(), PRICE, DEPOSIT))?;
    let url = format!("http://{}/facts", shop.host());
    let request = reqwest::Client::new().post(&url).body("to pay or not to pay").build()?;
    ensure!(agent.execute(request).await?.status().is_success(), "the call was not served");
    let channel = agent.channels().first().context("a channel")?.id;
    Ok((agent, channel))
}
