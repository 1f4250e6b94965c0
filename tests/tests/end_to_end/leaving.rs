//! Leaving without the server's help, while the facilitator is away.

use crate::customer::{Customer, PRICE, stage, until};
use anyhow::Result;
use tallybook_rules::{Amount, Status};

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_nobody_saw_is_claimed_after_a_restart() -> Result<()> {
    // Given a channel whose last calls are not settled, and a facilitator that is down
    let stage = stage().await?;
    let deposit = Amount::new(10_000);
    let customer = Customer::arrive(&stage, deposit).await?;
    for _ in 0..3 {
        customer.buy(&stage).await?;
    }
    let (channel, due) = (customer.channel()?, PRICE.times(3)?);
    // When its payer asks the chain to close it meanwhile
    let (stage, closing_at) = stage
        .without_facilitator(async |ground| {
            let closing_at = customer.agent.force_close(channel.id).await?;
            let slot = *ground.page().await?.slot(channel.parts.slot)?;
            assert_eq!((slot.status()?, slot.closing_at), (Status::Closing, closing_at));
            Ok(closing_at)
        })
        .await?;
    // Then the facilitator sees it when it is back, and claims long before the grace period ends
    let ground = &stage.ground;
    until("the closing channel is claimed", async || {
        let settled = ground.page().await?.slot(channel.parts.slot)?.settled;
        Ok(Some(()).filter(|()| settled == due))
    })
    .await?;
    assert!(ground.chain.now().await? < closing_at);
    until("the payee is paid", async || {
        let held = ground.mint.held_by(&ground.chain, &ground.payee).await?;
        Ok(Some(()).filter(|()| held == due))
    })
    .await?;
    // And it takes nothing more on that channel
    assert!(customer.agent.withdraw(channel.id).await.is_err(), "the grace period is not over");

    // When the grace period is over
    ground.chain.travel_to(closing_at + 1).await?;
    let closed = customer.agent.withdraw(channel.id).await?;
    // Then the payer has the rest, and the slot is free
    assert_eq!((closed.charged, closed.returned), (due, deposit.minus(due)?));
    assert_eq!(customer.held(ground).await?, customer.funds.minus(due)?);
    assert_eq!(ground.page().await?.slot(channel.parts.slot)?.status()?, Status::Free);
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.page).await?, Amount::ZERO);
    stage.shut_down().await
}
