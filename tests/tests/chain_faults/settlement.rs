//! The settler behind a bad line: it never pays twice, and never stops for good.

use crate::fault::{Fault, each_in_turn, on};
use crate::house::{Customer, House, PRICE};
use anyhow::{Result, ensure};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn given_each_kind_of_fault_on_every_question_when_calls_are_settled_then_once_each_and_to_the_base_unit()
-> Result<()> {
    // Given a channel at a facilitator whose line is good
    let house = House::open().await?;
    let mut customer = Customer::arrive(&house, 1).await?;
    customer.buy(&house).await?;
    house.settled(customer.answered, &[&customer]).await?;
    // When every question suffers some faults, three kinds at a time, while a call is charged and claimed
    let of_node = ["getSignatureStatuses", "sendTransaction", "simulateTransaction", "getMultipleAccounts"];
    let of_node: Vec<Vec<Fault>> = of_node.iter().map(|method| Fault::of_node(method).to_vec()).collect();
    let of_line: Vec<Vec<Fault>> = Fault::OF_THE_LINE.chunks(3).map(<[_]>::to_vec).collect();
    for faults in [of_line, of_node].concat() {
        house.line.suffer(each_in_turn(faults.clone()));
        customer.buy(&house).await?;
        // Then it is paid, once, also when it is looked at again later
        house.settled(customer.answered, &[&customer]).await.inspect_err(|error| eprintln!("{faults:?}: {error}"))?;
        house.line.heal();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    house.settled(customer.answered, &[&customer]).await?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_confirmed_claims_that_are_rolled_back_when_they_are_back_then_nothing_is_paid_twice() -> Result<()> {
    let house = House::open().await?;
    let mut customer = Customer::arrive(&house, 1).await?;
    customer.buy(&house).await?;
    house.settled(customer.answered, &[&customer]).await?;
    for _ in 0..2 {
        // Given a call that is claimed and paid out
        customer.buy(&house).await?;
        house.settled(customer.answered, &[&customer]).await?;
        // When the chain takes the last seconds back, so that the claim is gone, and then has it again
        house.line.roll_back(Duration::from_secs(3), Duration::from_secs(3));
        tokio::time::sleep(Duration::from_secs(3)).await;
        customer.buy(&house).await?;
        // Then what was claimed counts once, and the next call too
        house.settled(customer.answered, &[&customer]).await?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_node_that_drops_everything_when_it_is_mended_then_all_is_settled_by_itself() -> Result<()> {
    let house = House::open().await?;
    let mut customer = Customer::arrive(&house, 1).await?;
    customer.buy(&house).await?;
    house.settled(customer.answered, &[&customer]).await?;
    // Given a node that says that it takes what it drops, until the blockhash has expired and the patience is over
    house.line.suffer(on("sendTransaction", Fault::Dropped, u32::MAX));
    customer.buy(&house).await?;
    tokio::time::sleep(Duration::from_secs(12)).await;
    ensure!(house.paid().await? == PRICE, "nothing can have landed");
    // And calls go on meanwhile: they need no chain
    customer.buy(&house).await?;
    // When it is mended, then all is settled
    house.heal();
    house.settled(customer.answered, &[&customer]).await?;
    house.close().await
}
