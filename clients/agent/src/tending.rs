//! Looking after channels while nobody waits: what was opened and never landed, what is used up, idle or closing.

use crate::agent::Agent;
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::opening::Landing;
use crate::pool::{Lease, lock};
use crate::state::{AgentState, pool_key};
use std::sync::Arc;
use tallybook_rpc::Chain;
use tallybook_rules::Amount;
use tallybook_wire::Key;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A server that did not close a channel is asked again after so long, in seconds.
const PATIENCE_SECONDS: i64 = 900;

/// What was done about a channel.
#[derive(Debug)]
pub struct Tended {
    /// The channel.
    pub id: Key,
    /// What was tried.
    pub what: Tending,
    /// How it went. What failed is tried again the next time; a close that failed, after a quarter of an hour.
    pub outcome: Result<(), AgentError>,
}

/// Kinds of [`Tended`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tending {
    /// An opening or a top-up whose outcome was not known was looked for on chain.
    Looked,
    /// A channel that pays no more calls was closed with the server's help.
    Closed,
    /// A channel that nobody used was closed with the server's help.
    ClosedIdle,
    /// What was unspent was taken out after a grace period.
    Withdrawn,
}

/// The task in the background, and how to end it.
pub(crate) struct Background {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl<C: Chain> Agent<C> {
    /// Looks after the channels that nobody uses just now, once: finds out what became of openings and top-ups, closes with
    /// the server's help what is used up, given up, or idle ([`crate::Policy::close_idle_after`]), and withdraws what is due if
    /// the wallet may pay for it ([`crate::Policy::own_fees`]). Says what it did.
    ///
    /// An agent that was built within a Tokio runtime does so by itself every minute ([`crate::Policy::tend_every`]).
    pub async fn tend(&self) -> Vec<Tended> {
        self.shared.tend().await
    }

    /// Ends the work in the background, once what is under way there is done, and gives back what was drawn from the
    /// budget ahead of calls. Calls and streams that run go on; what is in the channels stays there.
    pub async fn shutdown(&self) -> Result<(), AgentError> {
        let background = lock(&self.shared.background).take();
        if let Some(Background { stop, task }) = background {
            // Nobody listens when the task has ended already.
            stop.send(true).ok();
            task.await.ok();
        }
        self.shared.budget.give_back().await
    }
}

/// Looks after channels every now and then, as long as an agent is there.
pub(crate) fn start<C: Chain>(state: &Arc<AgentState<C>>) {
    let (Some(period), Ok(runtime)) = (state.policy.tend_every, tokio::runtime::Handle::try_current()) else {
        return;
    };
    let (stop, mut stopped) = watch::channel(false);
    let weak = Arc::downgrade(state);
    let task = runtime.spawn(async move {
        loop {
            // Ends when told to, and when the last agent is gone and the sender with it.
            if tokio::time::timeout(period, stopped.changed()).await.is_ok() {
                return;
            }
            let Some(state) = weak.upgrade() else { return };
            for tended in state.tend().await {
                if let Err(error) = tended.outcome {
                    tracing::warn!(channel = %tended.id, what = ?tended.what, %error, "not done yet");
                }
            }
        }
    });
    *lock(&state.background) = Some(Background { stop, task });
}

impl<C: Chain> AgentState<C> {
    async fn tend(&self) -> Vec<Tended> {
        let mut tended = Vec::new();
        let ids: Vec<Key> = lock(&self.channels).keys().copied().collect();
        let chain_time = self.chain_time_if_needed().await;
        for id in ids {
            let Some(lease) = self.take(&id) else { continue };
            if let Some((what, outcome)) = self.tend_one(&lease, chain_time).await {
                tended.push(Tended { id, what, outcome });
            }
        }
        tended
    }

    /// A channel that nobody uses.
    fn take(&self, id: &Key) -> Option<Lease> {
        let channel = lock(&self.channels).get(id).map(Arc::clone)?;
        let key = pool_key(&lock(&channel));
        self.pool(&key).take(id)
    }

    /// The chain's time, if a channel waits for it.
    async fn chain_time_if_needed(&self) -> Option<i64> {
        let waits = |channel: &OwnChannel| matches!(channel.phase, Phase::Closing { .. });
        let any = lock(&self.channels).values().any(|channel| waits(&lock(channel)));
        if any { self.chain_time().await.ok().flatten() } else { None }
    }

    async fn tend_one(&self, lease: &Lease, chain_time: Option<i64>) -> Option<(Tending, Result<(), AgentError>)> {
        let channel = lease.channel()?;
        let (phase, tops_up, what) = {
            let channel = lock(channel);
            (channel.phase, channel.top_up.is_some(), self.why_close(&channel))
        };
        match phase {
            Phase::Opening { .. } => Some((Tending::Looked, self.decide_opening(lease).await)),
            Phase::Open | Phase::GivenUp if tops_up => Some((Tending::Looked, self.decide_top_up(channel).await)),
            Phase::Open | Phase::GivenUp => {
                let what = what?;
                let closed = self.close(channel).await.map(|_| ());
                if closed.is_err() {
                    lock(channel).rests_until = (self.budget.clock)().saturating_add(PATIENCE_SECONDS);
                }
                Some((what, closed))
            }
            Phase::Closing { closing_at } => {
                let due = self.policy.own_fees && chain_time.is_some_and(|now| now >= closing_at);
                let withdrawn = if due { self.withdraw(channel, &self.wallet).await.map(|_| ()) } else { return None };
                Some((Tending::Withdrawn, withdrawn))
            }
            Phase::Ended => None,
        }
    }

    /// Why an open channel that nobody uses should be closed, if it should.
    fn why_close(&self, channel: &OwnChannel) -> Option<Tending> {
        let now = (self.budget.clock)();
        if now < channel.rests_until {
            return None;
        }
        if channel.phase == Phase::GivenUp {
            return Some(Tending::Closed);
        }
        // Used up, and not to be filled again: another channel pays by now, or will.
        let may_grow = self.policy.top_up && !channel.no_top_up;
        if !may_grow && channel.next_cumulative(channel.terms.amount).is_none() {
            return Some(Tending::Closed);
        }
        let idle_after = i64::try_from(self.policy.close_idle_after?.as_secs()).unwrap_or(i64::MAX);
        let idle_at = channel.used_at.saturating_add(idle_after);
        (now >= idle_at).then_some(Tending::ClosedIdle)
    }

    /// An opening that nobody waits for: what has expired is over, what landed is open.
    async fn decide_opening(&self, lease: &Lease) -> Result<(), AgentError> {
        let Some(channel) = lease.channel() else { return Ok(()) };
        let phase = lock(channel).phase;
        // Asked before the page is read: what has not landed once it is too late never will.
        let latest = self.chain.latest_blockhash().await?;
        let undecided = matches!(self.look_for(channel).await?, Landing::Undecided(_));
        if let Phase::Opening { last_valid_height } = phase
            && undecided
            && latest.is_past(last_valid_height)
        {
            self.end(channel, Amount::ZERO).await?;
        }
        Ok(())
    }
}
