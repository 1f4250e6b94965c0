//! The agents: most are honest, three make trouble.

use super::ground::{GRACE_SECONDS, Ground};
use super::mischief;
use super::stage::Stage;
use super::traffic::{self, Tally};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use reqwest::Client;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_agent::{Agent, Closed};
use tallybook_rules::Amount;
use tallybook_wire::{Key, Reason};
use tokio::task::JoinSet;

/// Calls that an honest agent could make beyond those that it makes.
const SPARE_CALLS: u64 = 20;

/// What an agent is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Pays its calls.
    Honest,
    /// Asks the chain to close its channel half way, without the server.
    Leaves,
    /// Presents its newest voucher a second time.
    Replays,
    /// Uses its whole deposit up, and signs one call above it.
    Overspends,
}

/// An agent before the first call.
pub(super) struct Actor {
    /// What it is up to.
    pub(super) role: Role,
    /// Paid calls that it makes.
    pub(super) calls: u64,
    /// What it puts into its channel.
    pub(super) deposit: Amount,
    price: Amount,
    wallet: Keypair,
    number: u64,
}

/// What an agent did.
#[derive(Clone, Debug)]
pub struct Act {
    /// What it was up to.
    pub role: Role,
    /// Its channel.
    pub channel: Key,
    /// What it put into it.
    pub deposit: Amount,
    /// Its calls.
    pub tally: Tally,
    /// How its mischief was refused.
    pub refused: Option<Reason>,
    /// When it may withdraw, in the chain's Unix seconds.
    pub closing_at: Option<i64>,
}

impl Actor {
    /// Its wallet's address.
    pub(super) fn address(&self) -> Address {
        self.wallet.pubkey()
    }
}

/// The agents, with `calls` shared among them; who leaves half way leaves its other half to the rest.
pub(super) fn cast(agents: u64, calls: u64, price: Amount) -> Result<Vec<Actor>> {
    let leaving = traffic::share(calls, agents, 0) / 2;
    let (others, rest) = (agents.saturating_sub(1), calls.saturating_sub(leaving));
    let mut actors = Vec::new();
    for number in 0..agents {
        let (role, calls) = match number.checked_sub(1) {
            None => (Role::Leaves, leaving),
            Some(at) => {
                let role = match at {
                    0 => Role::Replays,
                    1 => Role::Overspends,
                    _ => Role::Honest,
                };
                (role, traffic::share(rest, others, at))
            }
        };
        let affordable = match role {
            Role::Overspends => calls,
            Role::Honest | Role::Leaves | Role::Replays => calls.saturating_add(SPARE_CALLS),
        };
        actors.push(Actor { role, calls, deposit: price.times(affordable)?, price, wallet: Keypair::new(), number });
    }
    Ok(actors)
}

/// All agents make their calls and their trouble, at the same time. They come back in their order.
pub(super) async fn play(
    stage: &Stage,
    actors: Vec<Actor>,
    bar: &ProgressBar,
) -> Result<(Tally, Vec<(Actor, Agent)>, Vec<Act>)> {
    let mut playing = JoinSet::new();
    for actor in actors {
        let agent = stage.ground.agent(
            actor.wallet.insecure_clone(),
            stage.ground.policy(&stage.shop.host(), actor.price, actor.deposit),
        )?;
        let (url, bar) = (stage.shop.paid(), bar.clone());
        playing.spawn(async move {
            let act = act(&actor, &agent, &url, &bar).await;
            let act = act.with_context(|| format!("agent {} ({:?})", actor.number, actor.role))?;
            anyhow::Ok((actor, agent, act))
        });
    }
    let mut played = Vec::new();
    while let Some(one) = playing.join_next().await {
        played.push(one??);
    }
    played.sort_by_key(|(actor, _, _)| actor.number);
    let (mut all, mut left, mut acts) = (Tally::new()?, Vec::new(), Vec::new());
    for (actor, agent, act) in played {
        all.join(&act.tally)?;
        left.push((actor, agent));
        acts.push(act);
    }
    Ok((all, left, acts))
}

async fn act(actor: &Actor, agent: &Agent, url: &str, bar: &ProgressBar) -> Result<Act> {
    let client = Client::new();
    let tally = traffic::pay(agent, &client, url, actor.calls, actor.number << 32, bar).await?;
    let channels = agent.channels();
    let [channel] = channels.as_slice() else {
        anyhow::bail!("it has {} channels instead of one", channels.len());
    };
    let mut act =
        Act { role: actor.role, channel: channel.id, deposit: channel.deposit, tally, refused: None, closing_at: None };
    match actor.role {
        Role::Honest => {}
        Role::Leaves => act.closing_at = Some(agent.force_close(channel.id).await?),
        Role::Replays => {
            let newest = channel.charged;
            act.refused = Some(mischief::present(&client, url, &actor.wallet, channel.id, newest).await?);
        }
        Role::Overspends => {
            let above = channel.deposit.plus(actor.price)?;
            act.refused = Some(mischief::present(&client, url, &actor.wallet, channel.id, above).await?);
        }
    }
    Ok(act)
}

/// Everybody leaves: the one that asked the chain withdraws after its grace period, the others ask the server.
pub(super) async fn leave(ground: &Ground, actors: &[(Actor, Agent)], acts: &[Act]) -> Result<()> {
    let mut leaving = JoinSet::new();
    for ((actor, agent), act) in actors.iter().zip(acts) {
        let (agent, id, closing_at) = (agent.clone(), act.channel, act.closing_at);
        if let Some(closing_at) = closing_at {
            ensure!(
                closing_at >= ground.chain.now().await?,
                "the grace period of {GRACE_SECONDS} seconds is over already"
            );
            ground.chain.travel_to(closing_at.saturating_add(1)).await?;
        }
        let (number, deposit, charged) = (actor.number, act.deposit, act.tally.charged);
        leaving.spawn(async move {
            let closed = match closing_at {
                Some(_) => agent.withdraw(id).await,
                None => agent.close(id).await,
            };
            let closed = closed.with_context(|| format!("agent {number} could not close its channel"))?;
            anyhow::Ok((number, closed, deposit.minus(charged)?))
        });
    }
    while let Some(left) = leaving.join_next().await {
        let (number, Closed { returned, .. }, unspent) = left??;
        ensure!(returned == unspent, "agent {number} got {returned} base units back instead of {unspent}");
    }
    Ok(())
}
