//! Deposits and refunds behind a bad line: money is where the chain says it is, and an unknown outcome is called one.

use crate::fault::{Fault, Plan, each_in_turn, on};
use crate::house::{Customer, DEPOSIT, FUNDS, House, PRICE};
use crate::proxy::until;
use crate::tape::{Tape, Turn};
use anyhow::{Context, Result, ensure};
use http::StatusCode;
use std::time::Duration;

/// Everything that the facilitator asks of its node for a deposit or a refund.
fn faults() -> Vec<Vec<Fault>> {
    let line = Fault::OF_THE_LINE.chunks(2).map(<[_]>::to_vec);
    let methods = ["getSignatureStatuses", "sendTransaction", "simulateTransaction", "getMultipleAccounts"];
    line.chain(methods.iter().map(|method| Fault::of_node(method).to_vec())).collect()
}

/// Buys, leaves, and has exactly the rest back; whatever is in the way.
async fn come_and_go(house: &House, plan: impl Fn() -> Plan) -> Result<Customer> {
    let mut customer = Customer::arrive(house, 1).await?;
    house.line.suffer(plan());
    customer.buy_in_the_end(house).await?;
    house.line.suffer(plan());
    let id = customer.agent.channels().iter().find(|one| one.charged == PRICE).context("no channel")?.id;
    let left = customer.agent.close(id).await;
    house.heal();
    // What was said of it while nobody could know may have to be asked again.
    if left.is_err() {
        until("the channel is left", 30, async || {
            let open =
                customer.agent.channels().iter().any(|one| one.id == id && one.phase != tallybook_agent::Phase::Ended);
            if open {
                customer.agent.close(id).await?;
            }
            Ok(Some(()))
        })
        .await?;
    }
    ensure!(customer.held(house).await? == FUNDS.minus(PRICE)?, "not all of the rest is back");
    Ok(customer)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_each_kind_of_fault_when_customers_come_and_go_then_each_has_paid_for_its_call_and_nothing_else()
-> Result<()> {
    let house = House::open().await?;
    let (mut customers, mut charged) = (Vec::new(), PRICE.minus(PRICE)?);
    for faults in faults() {
        let customer = come_and_go(&house, || each_in_turn(faults.clone()));
        customers.push(customer.await.with_context(|| format!("{faults:?}: {:?}", house.line.done()))?);
        charged = charged.plus(PRICE)?;
    }
    let customers: Vec<&Customer> = customers.iter().collect();
    house.settled(charged, &customers).await?;
    house.close().await
}

/// A customer's first call over a tape, while `plan` happens; made once, so that its first refusal is its last word.
async fn first_call(house: &House, plan: Plan) -> Result<(Tape, Customer, Turn)> {
    let tape = Tape::before(house.shop.paid()).await?;
    let customer = Customer::arrive_at(house, &tape.host, 1).await?;
    house.line.suffer(plan);
    let failed = customer.ask(&format!("http://{}/facts", tape.host)).await;
    let error = failed.err().context("the call went through")?.to_string();
    let turn = tape.turns().last().cloned().context("nothing was paid")?;
    ensure!(
        turn.transaction().is_err() || error.contains(&turn.transaction()?),
        "the customer is not told what to look up: {error}"
    );
    Ok((tape, customer, turn))
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_deposit_of_unknown_outcome_when_it_is_answered_then_as_pending_by_name_and_its_retry_is_final()
-> Result<()> {
    let house = House::open_with(|config| config.chain.patience_seconds = 2).await?;
    let statuses = "getSignatureStatuses";
    let unseen = |after: u32| -> Plan {
        let (mut passed, mut told) = (0, false);
        Box::new(move |method| {
            told |= method == "sendTransaction";
            passed += u32::from(told && method == statuses);
            (passed > after && method == statuses).then_some(Fault::LostAnswer)
        })
    };
    let read_back_lost: Plan = {
        let mut landed = false;
        Box::new(move |method| {
            landed |= method == "sendTransaction";
            (landed && method == "getMultipleAccounts").then_some(Fault::Broken)
        })
    };
    let plans: [(&str, Plan); 4] = [
        ("it is dropped", on("sendTransaction", Fault::Dropped, u32::MAX)),
        ("it lands, and the answer to the send is lost", on("sendTransaction", Fault::LostAnswer, u32::MAX)),
        ("it lands, and nobody can be asked", unseen(0)),
        ("it lands, and what it did cannot be read", read_back_lost),
    ];
    for (what, plan) in plans {
        // Given a deposit whose outcome the facilitator cannot know
        let lands = what == "it lands, and the answer to the send is lost";
        if lands {
            let tape = Tape::before(house.shop.paid()).await?;
            let customer = Customer::arrive_at(&house, &tape.host, 1).await?;
            house.line.suffer(plan);
            // That alone is no reason to know less: the chain is asked.
            customer.ask(&format!("http://{}/facts", tape.host)).await?;
            ensure!(tape.turns().len() == 1 && tape.turns()[0].status == StatusCode::OK, "{:?}", tape.turns());
            house.heal();
            continue;
        }
        let (tape, customer, turn) = first_call(&house, plan).await.context(what)?;
        // Then it is called pending, with the name of what was sent, and is no demand for another payment
        ensure!(turn.reason() == "settlement_pending", "{what}: {}", turn.reason());
        ensure!(turn.status == StatusCode::SERVICE_UNAVAILABLE, "{what}: {}", turn.status);
        let name = turn.transaction().context(what)?;
        // When the same is sent again once the line is good, then that is the final answer
        house.heal();
        let again = tape.again(&turn).await?;
        ensure!(again.status == StatusCode::OK, "{what}: {}", again.reason());
        let known = house.ground.chain.rpc().get_signature_statuses(&[name.parse()?]).await?.value;
        ensure!(known.first().is_some_and(Option::is_some), "{what}: {name} is not on chain");
        // And the deposit was made once, and the call charged once, however often it is asked
        let once_more = tape.again(&turn).await?;
        ensure!(once_more.status == StatusCode::OK, "{what}: {}", once_more.reason());
        ensure!(customer.held(&house).await? == FUNDS.minus(DEPOSIT)?, "{what}: deposited more than once");
        let id = customer.agent.channels().first().context("no channel")?.id;
        ensure!(house.channel(&id).await?.charged == PRICE, "{what}: not charged once");
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_deposit_that_was_dropped_when_its_blockhash_has_expired_then_it_is_said_and_another_one_pays()
-> Result<()> {
    // Given a node that drops deposits until their blockhash, of seven seconds, has expired
    let house = House::open_with(|config| config.chain.patience_seconds = 20).await?;
    let mut customer = Customer::arrive(&house, 1).await?;
    house.line.suffer(on("sendTransaction", Fault::Dropped, 5));
    // When the customer goes on asking, then it pays one deposit in the end, and knows of one channel
    customer.buy_in_the_end(&house).await?;
    ensure!(customer.held(&house).await? == FUNDS.minus(DEPOSIT)?, "deposited more than once");
    house.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(customer.held(&house).await? == FUNDS.minus(DEPOSIT)?, "what was given up has landed");
    house.settled(customer.answered, &[&customer]).await?;
    house.close().await
}
