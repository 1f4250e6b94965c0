//! Random faults by a seed, over whole lives of channels; what the chain holds in the end is held against what was bought.

use crate::fault::seeded;
use crate::house::{Customer, DEPOSIT, FUNDS, House};
use crate::proxy::until;
use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};
use tallybook_agent::Phase;
use tallybook_rules::Amount;

/// Lives in every run of the tests; `TALLYBOOK_FAULT_LIVES=100` runs more.
const LIVES: u64 = 4;
/// The first seed; `TALLYBOOK_FAULT_SEED=…` runs from another.
const SEED: u64 = 0x7a11_b006;
/// Customers of one life, and calls that each is to make.
const CUSTOMERS: usize = 2;
const CALLS: u32 = 6;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_random_faults_on_every_line_when_lives_are_lived_then_all_is_settled_once_and_all_rests_are_back()
-> Result<()> {
    let house = House::open().await?;
    let mut charged = Amount::ZERO;
    let (first, lives) = (number("TALLYBOOK_FAULT_SEED", SEED), number("TALLYBOOK_FAULT_LIVES", LIVES));
    let mut all: Vec<Customer> = Vec::new();
    for seed in (first..).take(usize::try_from(lives)?) {
        let begun = Instant::now();
        let lived = live(&house, seed).await;
        let faults = (house.line.done(), house.agents_line.done());
        let (customers, cost) = lived.with_context(|| format!("seed {seed:#x}; faults so far {faults:#?}"))?;
        charged = charged.plus(cost)?;
        all.extend(customers);
        let customers: Vec<&Customer> = all.iter().collect();
        house.settled(charged, &customers).await.with_context(|| format!("seed {seed:#x}"))?;
        println!("seed {seed:#x}: {} base units in {:?}", cost, begun.elapsed());
    }
    // Every channel is over: nothing is left where it could be forgotten.
    ensure!(house.ground.mint.held_by(&house.ground.chain, &house.ground.page).await? == Amount::ZERO);
    let faults: u32 = house.line.done().values().chain(house.agents_line.done().values()).sum();
    println!("{lives} lives with {faults} faults, {charged} base units settled");
    house.close().await
}

/// Customers come, buy, are restarted, leave; while both lines suffer. Says what their calls have cost in all.
async fn live(house: &House, seed: u64) -> Result<(Vec<Customer>, Amount)> {
    let mut random = StdRng::seed_from_u64(seed);
    let often = [100, 250, 500][random.random_range(0..3)];
    let mut customers = Vec::new();
    for _ in 0..CUSTOMERS {
        customers.push(Customer::arrive(house, 1 + random.random_range(0..2)).await?);
    }
    house.line.suffer(seeded(random.random(), often));
    house.agents_line.suffer(seeded(random.random(), often / 2));
    for _ in 0..CALLS {
        for customer in &mut customers {
            // What goes wrong now is asked about later.
            drop(customer.buy(house).await);
        }
        if random.random_bool(0.2) {
            let (back, lasts) = (random.random_range(500..3_000), random.random_range(500..2_000));
            house.line.roll_back(Duration::from_millis(back), Duration::from_millis(lasts));
        }
        if random.random_bool(0.2) {
            let at = random.random_range(0..customers.len());
            let restarted = customers.remove(at).restart(house).await?;
            customers.push(restarted);
        }
    }
    // Half of them leave while everything is bad, the rest when it is good again.
    for customer in customers.iter().take(CUSTOMERS / 2) {
        drop(customer.agent.close_all().await);
    }
    house.heal();
    let mut cost = Amount::ZERO;
    for customer in &mut customers {
        let restarted = leave(house, customer).await?;
        cost = cost.plus(restarted)?;
    }
    Ok((customers, cost))
}

/// Leaves every channel, and holds what is back against what was bought: says what the calls have cost.
async fn leave(house: &House, customer: &Customer) -> Result<Amount> {
    until("every channel is left", 90, async || {
        for (id, left) in customer.agent.close_all().await {
            left.with_context(|| format!("channel {id}"))?;
        }
        let open = customer.agent.channels().into_iter().filter(|channel| channel.phase != Phase::Ended).count();
        Ok(Some(()).filter(|()| open == 0))
    })
    .await?;
    let cost = FUNDS.minus(customer.held(house).await?)?;
    ensure!(cost >= customer.answered, "{cost} was paid for answers of {}", customer.answered);
    ensure!(cost <= DEPOSIT.times(2)?, "a deposit is gone: {cost}");
    ensure!(cost == customer.agent.spent(), "the agent counts {}, the chain {cost}", customer.agent.spent());
    Ok(cost)
}
