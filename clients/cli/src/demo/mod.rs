//! `tallybook demo`: the main job from end to end, on a chain of its own, with trouble on the way.
//!
//! Reading path: [`perform`] → `stage` (what is set up) → `cast` (who calls) → `traffic` (the calls) → `audit` (what the
//! chain says) → `report` (the table and the checks).

mod audit;
mod cast;
mod ground;
mod mischief;
mod report;
mod shop;
mod stage;
mod table;
mod traffic;
mod words;

pub use cast::{Act, Role};
pub use ground::{GRACE_SECONDS, Ground, Keys, Pace};
pub use mischief::{offer, present};
pub use report::Check;
pub use shop::{FAILS_EVERY, Shop};
pub use stage::Stage;
pub use traffic::Tally;

use crate::dev_chain::{DevMint, LAMPORTS_PER_SOL};
use crate::output::{Money, Output};
use crate::progress::Progress;
use anyhow::{Result, ensure};
use audit::{Holdings, Sent};
use cast::Actor;
use clap::Parser;
use serde::Serialize;
use solana_address::Address;
use std::fmt;
use std::time::Duration;
use tallybook_agent::Closed;
use tallybook_rules::Amount;
use tallybook_wire::ChannelView;
use tokio::time::Instant;

/// What a call costs.
pub const PRICE: &str = "$0.0005";
/// So many unpaid calls for each paid one.
const PAID_FOR_EACH_UNPAID: u64 = 4;
/// What an agent's wallet holds beyond its deposit, in base units.
const SPARE: Amount = Amount::new(1_000_000);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Arguments of `tallybook demo`.
#[derive(Parser, Clone, Debug)]
#[command(after_help = "Example: a small one\n  tallybook demo --calls 1000 --agents 8")]
pub struct Demo {
    /// Paid calls in all.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(200..=1_000_000))]
    pub calls: u64,
    /// Agents, each with a wallet and a channel of its own; the page must not fill up.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(4..=90))]
    pub agents: u64,
    /// Milliseconds of a slot of the local chain.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(20..=1_000))]
    pub slot_milliseconds: u64,
    /// After how many seconds what was charged is claimed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub settle_after_seconds: u64,
}

/// What happened.
pub struct Story {
    /// Paid calls that were asked for.
    pub calls: u64,
    /// Base units of a call.
    pub price: Amount,
    /// The unpaid calls.
    pub unpaid: Tally,
    /// The paid calls.
    pub paid: Tally,
    /// What each agent did.
    pub acts: Vec<Act>,
    /// Each agent's channel in the facilitator's ledger when all was settled.
    pub channels: Vec<ChannelView>,
    /// How each agent's channel ended.
    pub closed: Vec<Closed>,
    /// The sponsor's transactions.
    pub sent: Vec<Sent>,
    /// All tokens that were minted.
    pub minted: Amount,
    /// Who held what before the first call.
    pub before: Holdings,
    /// Who held what in the end.
    pub after: Holdings,
    /// What the sponsor paid in all, by its balances.
    pub sponsor_lamports: u64,
}

impl Demo {
    /// Performs, prints what happened, and fails unless everything holds.
    pub async fn run(self, output: Output) -> Result<()> {
        let (agents, calls) = (self.agents, table::grouped(self.calls));
        output.hint(format_args!(
            "Tallybook: {agents} agents make {calls} paid calls at {PRICE}, on a local Solana chain\n"
        ));
        let story = perform(&self, output.progress()).await?;
        output.report(&DemoReport::of(&story)?)?;
        let checks = story.checks()?;
        let failed = checks.iter().filter(|check| !check.holds).count();
        ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
        Ok(())
    }
}

/// What `tallybook demo` prints: a table for people, its most important numbers for programs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoReport {
    /// Paid calls that were served.
    pub paid_calls: u64,
    /// What they cost.
    pub charged: Money,
    /// Calls that failed in the handler, and cost nothing.
    pub failed_calls: u64,
    /// How long the paid calls took together.
    pub paid_milliseconds: u128,
    /// What must hold.
    pub checks: Vec<Check>,
    #[serde(skip)]
    table: String,
}

impl DemoReport {
    fn of(story: &Story) -> Result<Self> {
        Ok(Self {
            paid_calls: story.paid.served,
            charged: Money::new(story.paid.charged, DevMint::DECIMALS),
            failed_calls: story.paid.failed,
            paid_milliseconds: story.paid.time.as_millis(),
            checks: story.checks()?,
            table: story.table()?,
        })
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nCHECKS", self.table)?;
        self.checks.iter().try_for_each(|check| writeln!(f, "{check}"))
    }
}

/// Everything, from an empty chain to the last withdrawal.
pub async fn perform(demo: &Demo, progress: Progress) -> Result<Story> {
    let price = Amount::parse_decimal(PRICE, DevMint::DECIMALS)?;
    let pace =
        Pace { slot: Duration::from_millis(demo.slot_milliseconds), settle_after_seconds: demo.settle_after_seconds };
    let stage = Stage::set(pace, PRICE, progress).await?;
    let ground = &stage.ground;
    let actors = hire(ground, demo, price).await?;
    let addresses: Vec<Address> = actors.iter().map(Actor::address).collect();
    progress.done(format_args!("{} agents with wallets of their own", addresses.len()));
    let before = Holdings::read(ground, &addresses).await?;
    let lamports_before = ground.chain.rpc().get_balance(&ground.sponsor).await?;

    let bar = progress.bar(demo.calls / PAID_FOR_EACH_UNPAID, "unpaid calls");
    let unpaid = traffic::unpaid(&stage.shop.unpaid(), demo.agents, demo.calls / PAID_FOR_EACH_UNPAID, &bar).await?;
    bar.finish_and_clear();
    let bar = progress.bar(demo.calls, "paid calls");
    let (paid, actors, acts) = cast::play(&stage, actors, &bar).await?;
    bar.finish_and_clear();
    progress.done(format_args!("{} paid calls in {}", table::grouped(paid.served), table::seconds(paid.time)));

    let channels = settled(&stage, &acts, progress).await?;
    let closed = cast::leave(ground, &actors, &acts).await?;
    progress.done(format_args!("every channel closed, every deposit's rest returned"));
    let after = Holdings::read(ground, &addresses).await?;
    let lamports_after = ground.chain.rpc().get_balance(&ground.sponsor).await?;
    let story = Story {
        calls: demo.calls,
        price,
        unpaid,
        paid,
        acts,
        channels,
        closed,
        sent: audit::transactions_of(&ground.chain, &ground.sponsor).await?,
        minted: ground.mint.minted(),
        before,
        after,
        sponsor_lamports: lamports_before.saturating_sub(lamports_after),
    };
    stage.shut_down().await?;
    Ok(story)
}

/// Makes the agents and funds their wallets.
async fn hire(ground: &Ground, demo: &Demo, price: Amount) -> Result<Vec<Actor>> {
    let actors = cast::cast(demo.agents, demo.calls, price)?;
    let mut largest = Amount::ZERO;
    for actor in &actors {
        largest = largest.max(actor.deposit);
    }
    let addresses: Vec<Address> = actors.iter().map(Actor::address).collect();
    // Only the agent that leaves without help pays fees itself, but who knows beforehand which one that is?
    let lamports = LAMPORTS_PER_SOL / 100;
    ground.mint.fund(&ground.chain, &addresses, lamports, largest.plus(SPARE)?).await?;
    Ok(actors)
}

/// Waits until everything that was charged is settled on chain.
async fn settled(stage: &Stage, acts: &[Act], progress: Progress) -> Result<Vec<ChannelView>> {
    let spinner = progress.spinner("settling what is left");
    let began = Instant::now();
    loop {
        let mut channels = Vec::with_capacity(acts.len());
        for act in acts {
            channels.push(stage.channel(&act.channel).await?);
        }
        let open = channels.iter().filter(|channel| channel.settled != channel.charged).count();
        if open == 0 {
            spinner.finish_and_clear();
            progress.done(format_args!("everything settled, {} after the last call", table::seconds(began.elapsed())));
            return Ok(channels);
        }
        ensure!(
            began.elapsed() < SETTLE_TIMEOUT,
            "{open} channels were not settled within {} seconds",
            SETTLE_TIMEOUT.as_secs()
        );
        tokio::time::sleep(POLL).await;
    }
}
