//! The local chain that everything here stands on.

use crate::customer::until;
use anyhow::Result;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::borrow::Cow;
use std::time::Duration;
use tallybook_cli::dev_chain::{Artifact, Blocks, DevChain, DevMint, Ports, deploy};
use tallybook_rules::Amount;

#[tokio::test(flavor = "multi_thread")]
async fn chains_stand_side_by_side_and_travel_on_their_own() -> Result<()> {
    // Given two chains, with blocks by the clock and by transaction
    let by_clock = DevChain::start(Ports::Free, Blocks::Every(Duration::from_millis(50))).await?;
    let by_transaction = DevChain::start(Ports::Free, Blocks::PerTransaction).await?;
    assert_ne!(by_clock.genesis_hash(), by_transaction.genesis_hash());
    for chain in [&by_clock, &by_transaction] {
        // When tokens are minted on each
        let mint = DevMint::create(chain, &Keypair::new()).await?;
        let owners: Vec<_> = (0..7).map(|_| Keypair::new().pubkey()).collect();
        mint.fund(chain, &owners, 1_000_000, Amount::new(5)).await?;
        // Then everybody has them, and all that was minted is known
        for owner in &owners {
            assert_eq!(mint.held_by(chain, owner).await?, Amount::new(5));
        }
        assert_eq!(mint.minted(), Amount::new(35));
        assert_eq!(mint.held_by(chain, &Keypair::new().pubkey()).await?, Amount::ZERO);
    }
    // And when one of them travels
    let (then, other) = (by_clock.now().await? + 10_000, by_transaction.now().await?);
    by_clock.travel_to(then).await?;
    // Then its clock goes on from there, and the other's does not
    until("the clock", async || Ok(Some(by_clock.now().await?).filter(|now| *now >= then))).await?;
    assert!(by_transaction.now().await? < other + 5_000);
    assert!(by_clock.travel_to(then - 100).await.is_err(), "there is no way back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_verify_is_not_deployed() -> Result<()> {
    let chain = DevChain::start(Ports::Free, Blocks::Every(Duration::from_millis(50))).await?;
    let released = Artifact::released()?;
    // Given the released program with its code spoilt
    let mut elf = released.elf.to_vec();
    let middle = elf.len() / 2;
    elf[middle..middle + 4_000].fill(0xff);
    let program = released.program.pubkey();
    let spoilt = Artifact { elf: Cow::Owned(elf), program: released.program };
    // When it is deployed, then the loader refuses it
    assert!(deploy(&chain, &spoilt, |_, _| ()).await.is_err());
    assert!(chain.rpc().get_account(&program).await.is_err());
    // And the good one is executable afterwards
    deploy(&chain, &Artifact::released()?, |_, _| ()).await?;
    assert!(chain.rpc().get_account(&program).await?.executable);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_an_error_and_not_a_second_chain() -> Result<()> {
    let first = DevChain::start(Ports::Free, Blocks::Every(Duration::from_millis(50))).await?;
    let port = |url: String| url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    let taken = Ports::Fixed { rpc: port(first.rpc_url()), ws: port(first.ws_url()) };
    assert!(DevChain::start(taken, Blocks::Every(Duration::from_millis(50))).await.is_err());
    Ok(())
}
