//! Keys and tokens change while agents go on paying: what is under way ends right, and nobody is refused.

use super::process::Process;
use super::{Load, Result, Shop, ground, settle_and_leave};
use anyhow::ensure;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::time::Instant;
use tallybook_cli::demo::Ground;
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::keys;
use tallybook_paywall::Paywall;
use tallybook_rules::Amount;

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
