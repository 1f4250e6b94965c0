//! The way out of a channel with the server's help: at once, and at the sponsor's expense.

use crate::agent::Agent;
use crate::answer::{self, Outcome, Remedy};
use crate::channel::Phase;
use crate::error::AgentError;
use crate::opening::Landing;
use crate::pool::{Lease, Shared, lock};
use crate::state::{AgentState, pool_key};
use http::{Method, StatusCode};
use reqwest::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tallybook_rpc::Chain;
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Status};
use tallybook_wire::{ChannelPayload, Key, PaymentPayload, PaymentRequired, Reason, header};

/// The first wait for server or chain; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A channel that is over. Amounts in base units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Its id.
    pub id: Key,
    /// What its calls cost in all.
    pub charged: Amount,
    /// What came back to the wallet.
    pub returned: Amount,
}

impl<C: Chain> Agent<C> {
    /// Closes a channel with the server's help: what is unspent comes back at once, at the sponsor's expense. Waits for
    /// calls under way.
    pub async fn close(&self, id: Key) -> Result<Closed, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        self.shared.close(&channel).await
    }

    /// [`Agent::close`] for every channel that is neither over nor closing.
    pub async fn close_all(&self) -> Vec<(Key, Result<Closed, AgentError>)> {
        let mut outcomes = Vec::new();
        for pool in self.shared.pools() {
            let lease = pool.all_turns().await;
            for channel in lease.pool().channels() {
                let (id, phase) = {
                    let channel = lock(&channel);
                    (channel.id, channel.phase)
                };
                if !matches!(phase, Phase::Ended | Phase::Closing { .. }) {
                    outcomes.push((id, self.shared.close(&channel).await));
                }
            }
        }
        outcomes
    }

    /// A channel that nobody else uses while the lease is held.
    pub(crate) async fn exclusive(&self, id: Key) -> Result<(Lease, Shared), AgentError> {
        let channel = lock(&self.shared.channels).get(&id).map(Arc::clone);
        let channel = channel.ok_or(AgentError::NoSuchChannel(id))?;
        let key = pool_key(&lock(&channel));
        Ok((self.shared.pool(&key).all_turns().await, channel))
    }
}

impl<C: Chain> AgentState<C> {
    pub(crate) async fn close(&self, channel: &Shared) -> Result<Closed, AgentError> {
        if let Some(closed) = self.settle_opening(channel).await? {
            return Ok(closed);
        }
        self.decide_top_up(channel).await?;
        {
            let mut channel = lock(channel);
            channel.unsure |= channel.possible() > channel.charged;
        }
        match self.ask_refund(channel).await {
            Ok(()) => self.see_refund(channel).await,
            // An answer may have been lost: what the chain says counts.
            Err(error) => self.refunded(channel).await?.ok_or(error),
        }
    }

    /// A channel whose opening is not decided: decides it. `Some` when there is nothing to close.
    async fn settle_opening(&self, channel: &Shared) -> Result<Option<Closed>, AgentError> {
        let (id, phase) = {
            let channel = lock(channel);
            (channel.id, channel.phase)
        };
        let not_now = |why| AgentError::NotNow { channel: id, why };
        let never = Closed { id, charged: Amount::ZERO, returned: Amount::ZERO };
        match phase {
            Phase::Open | Phase::GivenUp => return Ok(None),
            Phase::Closing { .. } => return Err(not_now("it is closing on chain already: withdraw it in time")),
            Phase::Ended => return Err(not_now("it is over")),
            Phase::Opening { .. } => {}
        }
        // Asked before the page is read: what has not landed once it is too late never will.
        let latest = self.chain.latest_blockhash().await?;
        match (self.look_for(channel).await?, phase) {
            (Landing::Landed, _) => Ok(None),
            (Landing::Never, _) => Ok(Some(never)),
            (Landing::Undecided(_), Phase::Opening { last_valid_height }) if !latest.is_past(last_valid_height) => {
                Err(not_now("its deposit may still land: try again in two minutes"))
            }
            (Landing::Undecided(_), _) => {
                self.end(channel, Amount::ZERO).await?;
                Ok(Some(never))
            }
        }
    }

    /// Asks the server until it says that the rest was refunded.
    async fn ask_refund(&self, channel: &Shared) -> Result<(), AgentError> {
        let mut wait = FIRST_WAIT;
        let (mut last, mut pending) = ((StatusCode::GATEWAY_TIMEOUT, None), None);
        for _ in 0..self.policy.attempts {
            if let Ok(response) = self.send_refund(channel).await? {
                let status = response.status();
                last = (status, None);
                match answer::outcome(status, response.headers()) {
                    Outcome::Charged(_) => return Ok(()),
                    Outcome::Refused(reason, _, sent) => {
                        pending = sent;
                        if answer::remedy(&reason) != Remedy::Wait {
                            return Err(AgentError::Refused(reason));
                        }
                        last.1 = Some(reason);
                    }
                    Outcome::PayAgain => last.1 = Some(self.correct_refund(channel, response).await?),
                    Outcome::NotCharged | Outcome::Streams(_) | Outcome::Unclear | Outcome::Lost(_) => {}
                }
            }
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(self.policy.max_wait);
        }
        let ((status, reason), attempts) = (last, self.policy.attempts);
        Err(match pending {
            Some(transaction) => AgentError::Pending { attempts, transaction },
            None => AgentError::Unavailable { attempts, status, reason },
        })
    }

    /// Sends the refund; or, while it is not known what was charged, a voucher over nothing, which is never accepted and
    /// always corrected. The inner error is a lost answer.
    async fn send_refund(&self, channel: &Shared) -> Result<Result<Response, AgentError>, AgentError> {
        let (request, payment) = {
            let channel = lock(channel);
            let method = Method::from_bytes(channel.method.as_bytes()).unwrap_or(Method::GET);
            let sign = |cumulative| SignedVoucher::sign(&self.signer, channel.id.0, cumulative).into();
            let payload = if channel.unsure {
                ChannelPayload::Voucher { voucher: sign(Amount::ZERO) }
            } else {
                ChannelPayload::Refund { voucher: sign(channel.charged), transaction: None }
            };
            let url = channel.url.parse().map_err(|_| AgentError::NotNow {
                channel: channel.id,
                why: "its journal names no URL to ask: force its close",
            })?;
            (Request::new(method, url), PaymentPayload::new(channel.terms.clone(), payload))
        };
        let value = header(&payment).map_err(AgentError::Unreadable)?;
        Ok(self.send(&request, Some(value)).await)
    }

    /// Takes over what a 402 says about the channel or the terms; an error when there is nothing to correct.
    async fn correct_refund(&self, channel: &Shared, response: Response) -> Result<Reason, AgentError> {
        let required: PaymentRequired = answer::payment_required(response).await?;
        let reason = required.error.clone().unwrap_or_else(|| Reason::from("payment_required".to_owned()));
        let told = required.channel_offers().find(|offer| self.policy.can_pay(offer));
        let state = told.and_then(|offer| offer.extra.channel_state);
        match (answer::remedy(&reason), told, state) {
            (Remedy::Adopt, Some(offer), Some(state)) => {
                self.adopt(channel, &state, offer.extra.voucher_state.as_ref()).await?;
            }
            // Where it stands is not told to everybody's refund, but to whoever asks.
            (Remedy::Adopt, _, None) if !lock(channel).unsure => lock(channel).unsure = true,
            (Remedy::NewOffer, Some(offer), _) => lock(channel).terms = offer.clone(),
            (Remedy::Wait, _, _) => {}
            _ => return Err(AgentError::Refused(reason)),
        }
        Ok(reason)
    }

    /// The server says that it refunded: the chain must say so too.
    async fn see_refund(&self, channel: &Shared) -> Result<Closed, AgentError> {
        let mut wait = FIRST_WAIT;
        for _ in 0..self.policy.attempts {
            if let Some(closed) = self.refunded(channel).await? {
                return Ok(closed);
            }
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(self.policy.max_wait);
        }
        lock(channel).phase = Phase::GivenUp;
        self.save(channel).await?;
        let id = lock(channel).id;
        let why = "the server says that it refunded the rest, but the chain does not: force its close";
        Err(AgentError::NotNow { channel: id, why })
    }

    /// The channel's end, if the chain shows that nothing of it is left to give back.
    pub(crate) async fn refunded(&self, channel: &Shared) -> Result<Option<Closed>, AgentError> {
        let slot = self.see(channel).await?;
        let (id, parts, deposit, charged) = {
            let channel = lock(channel);
            (channel.id, channel.parts, channel.deposit, channel.charged)
        };
        // A node that is behind shows the slot before the channel was opened: that is not its end.
        let is_before = slot.generation < parts.generation;
        let gone = slot.generation > parts.generation || slot.status() == Ok(Status::Free);
        if is_before || (!gone && slot.deposit > charged) {
            return Ok(None);
        }
        self.end(channel, charged).await?;
        Ok(Some(Closed { id, charged, returned: deposit.less(charged) }))
    }
}
