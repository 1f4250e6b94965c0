//! One paid call: pay, look at the answer, correct, pay again, within bounds.

use crate::agent::AgentState;
use crate::answer::{self, Outcome, Remedy};
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::opening::Landing;
use crate::pool::{Lease, PoolKey, Shared, lock};
use crate::route::Route;
use crate::rpc::Chain;
use http::StatusCode;
use reqwest::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    ChannelPayload, ChannelState, Deposit, Extra, Key, PaymentPayload, PaymentRequired, PaymentRequirements, Reason,
    header,
};

/// So many channels may turn out to be of no use in one call.
const MAX_GIVEN_UP: u32 = 2;

/// A call that is paid for.
pub(crate) struct Call<'a, C> {
    pub(crate) agent: &'a AgentState<C>,
    pub(crate) request: &'a Request,
    pub(crate) route: Route,
    pub(crate) offer: Arc<PaymentRequirements>,
    pub(crate) lease: Lease,
    /// The deposit that this call sent, to be sent again as it is.
    pub(crate) deposit: Option<(Key, Deposit)>,
    given_up: u32,
    asked_afresh: bool,
    attempts: u32,
    /// The voucher that is on its way: its channel, its cumulative, and the channel's charge before it.
    sent: Option<Sent>,
    /// A voucher of this call whose outcome was not seen.
    unseen: Option<(Key, Amount)>,
    /// Why the last attempt failed.
    last: Option<Last>,
}

#[derive(Clone)]
struct Sent {
    channel: Shared,
    id: Key,
    cumulative: Amount,
}

enum Last {
    Refused(StatusCode, Reason),
    Error(AgentError),
}

/// What comes after an answer.
enum Next {
    Return(Response),
    Again(Duration),
}

impl<'a, C: Chain> Call<'a, C> {
    /// Checks the policy and waits for a turn.
    pub(crate) async fn new(
        agent: &'a AgentState<C>,
        request: &'a Request,
        route: Route,
        offer: Arc<PaymentRequirements>,
    ) -> Result<Self, AgentError> {
        agent.policy.check_host(route.host(), route.authority())?;
        agent.policy.check_offer(&offer)?;
        let lease = agent.pool(&pool_key(&route, &offer)).turn().await;
        Ok(Self {
            agent,
            request,
            route,
            offer,
            lease,
            deposit: None,
            given_up: 0,
            asked_afresh: false,
            attempts: 0,
            sent: None,
            unseen: None,
            last: None,
        })
    }

    /// Sends until there is an answer or no more to try.
    pub(crate) async fn run(mut self) -> Result<Response, AgentError> {
        while self.attempts < self.agent.policy.attempts {
            self.attempts = self.attempts.saturating_add(1);
            let payload = match self.payment().await {
                Err(AgentError::NoFreeSlot) if !self.asked_afresh => match self.ask_afresh().await? {
                    Some(response) => return Ok(response),
                    None => continue,
                },
                payload => payload?,
            };
            let payment = PaymentPayload::new(self.offer.as_ref().clone(), payload);
            let value = header(&payment).map_err(AgentError::Unreadable)?;
            match self.agent.send(self.request, Some(value)).await {
                Ok(response) => match self.look_at(response).await? {
                    Next::Return(response) => return Ok(response),
                    Next::Again(wait) => tokio::time::sleep(wait).await,
                },
                Err(error) => {
                    if !matches!(&error, AgentError::Http(error) if error.is_connect()) {
                        self.mark_unseen();
                    }
                    self.last = Some(Last::Error(error));
                    tokio::time::sleep(self.backoff()).await;
                }
            }
        }
        Err(self.exhausted())
    }

    /// The page that was remembered is full: asks for another one. A response is an answer without payment.
    async fn ask_afresh(&mut self) -> Result<Option<Response>, AgentError> {
        self.asked_afresh = true;
        let response = self.agent.send(self.request, None).await?;
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            return Ok(Some(response));
        }
        let required = answer::payment_required(response).await?;
        self.take_offer(&required).await?;
        Ok(None)
    }

    /// Takes up what a 402 offers, if the policy allows it.
    async fn take_offer(&mut self, required: &PaymentRequired) -> Result<(), AgentError> {
        let book = self.offer.extra.book;
        self.offer = self.agent.learn(&self.route, required)?;
        self.agent.policy.check_offer(&self.offer)?;
        if self.offer.extra.book != book {
            self.refuse_to_pay_twice()?;
            self.sent = None;
            // Its own turn is given back first, or two calls could wait for each other's.
            self.lease.leave();
            self.lease = self.agent.pool(&pool_key(&self.route, &self.offer)).turn().await;
        }
        Ok(())
    }

    /// A call that may have been charged is not paid on another channel.
    fn refuse_to_pay_twice(&mut self) -> Result<(), AgentError> {
        match self.unseen {
            Some(_) => Err(self.exhausted()),
            None => Ok(()),
        }
    }

    /// The payment of the next attempt, with everything durable that must be.
    async fn payment(&mut self) -> Result<ChannelPayload, AgentError> {
        loop {
            let Some(channel) = self.lease.channel_for(self.offer.amount) else {
                return self.open_new().await;
            };
            let opening = matches!(lock(&channel).phase, Phase::Opening { .. });
            if !opening {
                let voucher = self.voucher(&channel).await?;
                return Ok(ChannelPayload::Voucher { voucher });
            }
            match self.agent.look_for(&channel).await? {
                Landing::Landed | Landing::Never => {} // its phase says so now: choose again
                Landing::Undecided(confirmed) => return self.open_again(&channel, &confirmed).await,
            }
        }
    }

    async fn open_new(&mut self) -> Result<ChannelPayload, AgentError> {
        let (channel, deposit) = self.agent.open(&self.route, self.request, &self.offer).await?;
        self.lease.use_new(Arc::clone(&channel));
        self.deposit_payload(&channel, deposit).await
    }

    /// The same slot and generation once more: at most one of the two transactions can land.
    async fn open_again(
        &mut self,
        channel: &Shared,
        confirmed: &crate::terms::Confirmed,
    ) -> Result<ChannelPayload, AgentError> {
        let id = lock(channel).id;
        let deposit = match self.deposit.take() {
            Some((of, deposit)) if of == id => deposit,
            _ => self.agent.sign_again(channel, confirmed).await?,
        };
        self.deposit_payload(channel, deposit).await
    }

    async fn deposit_payload(&mut self, channel: &Shared, deposit: Deposit) -> Result<ChannelPayload, AgentError> {
        let (id, parts) = {
            let channel = lock(channel);
            (channel.id, channel.parts)
        };
        let voucher = self.voucher(channel).await?;
        self.deposit = Some((id, deposit.clone()));
        Ok(ChannelPayload::Deposit {
            channel: parts,
            voucher,
            deposit,
        })
    }

    /// Signs `charged + amount`, once the ceiling is durable.
    async fn voucher(&mut self, channel: &Shared) -> Result<tallybook_wire::Voucher, AgentError> {
        let price = self.offer.amount;
        let (cumulative, must_save) = {
            let mut channel = lock(channel);
            let cumulative = channel.charged.plus(price).map_err(AgentError::Amount)?;
            let must_save = channel.reserve(cumulative, price).map_err(AgentError::Amount)?;
            (cumulative, must_save)
        };
        if must_save {
            self.agent.save(channel).await?;
        }
        let signed = lock(channel).sign(&self.agent.signer, cumulative);
        self.sent = Some(Sent {
            channel: Arc::clone(channel),
            id: signed.channel_id.into(),
            cumulative,
        });
        Ok(signed.into())
    }

    async fn look_at(&mut self, response: Response) -> Result<Next, AgentError> {
        let status = response.status();
        let outcome = answer::outcome(status, response.headers());
        if status != StatusCode::PAYMENT_REQUIRED {
            self.opened(&outcome);
        }
        match outcome {
            Outcome::Charged(extra) => {
                self.charged(extra.channel_state.as_ref());
                Ok(Next::Return(response))
            }
            Outcome::NotCharged => {
                self.with_sent(|channel, _| channel.not_served());
                Ok(Next::Return(response))
            }
            Outcome::Unclear => Ok(Next::Return(response)),
            Outcome::Lost(wait) => {
                self.mark_unseen();
                Ok(Next::Again(self.wait(wait)))
            }
            Outcome::Refused(reason, wait) => {
                if answer::remedy(&reason) == Remedy::GiveUp {
                    return Err(AgentError::Refused(reason));
                }
                // While the channel is busy the voucher is not looked at; anything else may have got further.
                if reason.rejection() != Some(Rejection::ChannelBusy) {
                    self.mark_unseen();
                }
                self.last = Some(Last::Refused(status, reason));
                Ok(Next::Again(self.wait(wait)))
            }
            Outcome::PayAgain => {
                let wait = response.headers().get(http::header::RETRY_AFTER).and_then(seconds);
                let required = answer::payment_required(response).await?;
                self.correct(&required, wait).await
            }
        }
    }

    /// A deposit was answered by something else than a refusal: the channel is open, or the chain is asked next time.
    fn opened(&self, outcome: &Outcome) {
        if let Outcome::Charged(_) | Outcome::NotCharged = outcome {
            self.with_sent(|channel, _| {
                if let Phase::Opening { .. } = channel.phase {
                    channel.phase = Phase::Open;
                }
            });
        }
    }

    fn charged(&self, state: Option<&ChannelState>) {
        self.with_sent(|channel, cumulative| {
            let said = state.filter(|state| state.channel_id == channel.id);
            let charged = said.map_or(cumulative, |state| state.charged_cumulative_amount);
            channel.served(charged, cumulative);
        });
    }

    /// A 402 to a payment: says why, and where the channel stands.
    async fn correct(&mut self, required: &PaymentRequired, wait: Option<Duration>) -> Result<Next, AgentError> {
        let told = required.channel_offers().find(|offer| self.agent.policy.can_pay(offer));
        let told = told.map(|offer| offer.extra.clone());
        self.take_offer(required).await?;
        let Some(reason) = &required.error else {
            return Ok(Next::Again(self.backoff()));
        };
        self.last = Some(Last::Refused(StatusCode::PAYMENT_REQUIRED, reason.clone()));
        match answer::remedy(reason) {
            Remedy::NewOffer => {}
            Remedy::Adopt => self.adopt(told.as_ref()).await?,
            Remedy::AnotherChannel => self.give_up_channel(reason).await?,
            Remedy::OpenAgain => self.deposit = None,
            Remedy::Wait => return Ok(Next::Again(self.wait(wait))),
            Remedy::GiveUp => return Err(AgentError::Refused(reason.clone())),
        }
        // The first correction is done at once; if it does not help, take more time each time.
        let hurry = self.attempts <= 2;
        Ok(Next::Again(if hurry { Duration::ZERO } else { self.backoff() }))
    }

    async fn adopt(&mut self, told: Option<&Extra>) -> Result<(), AgentError> {
        let (Some(sent), Some(state)) = (self.sent.clone(), told.and_then(|extra| extra.channel_state)) else {
            return Err(AgentError::Refused(Rejection::WrongCumulative.into()));
        };
        let signer = self.agent.signer_key().0;
        let voucher = told.and_then(|extra| extra.voucher_state);
        let adopted = {
            let mut channel = lock(&sent.channel);
            if let Phase::Opening { .. } = channel.phase {
                channel.phase = Phase::Open;
            }
            let adopted = channel.adopt(&state, voucher.as_ref(), &signer);
            if adopted.is_err() {
                channel.phase = Phase::GivenUp;
            }
            adopted
        };
        self.agent.save(&sent.channel).await?;
        if let Err(possible) = adopted {
            return Err(AgentError::Dishonest {
                channel: sent.id,
                claimed: state.charged_cumulative_amount,
                possible,
            });
        }
        let charged = state.charged_cumulative_amount;
        match self.unseen {
            // Never pay twice for one call without being told to.
            Some((id, cumulative)) if id == sent.id && charged >= cumulative => Err(AgentError::ChargedWithoutAnswer {
                charged: self.offer.amount,
            }),
            _ => Ok(()),
        }
    }

    async fn give_up_channel(&mut self, reason: &Reason) -> Result<(), AgentError> {
        self.deposit = None;
        self.given_up = self.given_up.saturating_add(1);
        let Some(sent) = self.sent.take() else { return Ok(()) };
        // A deposit that was refused is not open: the chain says what became of it.
        let opening = matches!(lock(&sent.channel).phase, Phase::Opening { .. });
        if !opening {
            lock(&sent.channel).phase = Phase::GivenUp;
            self.agent.save(&sent.channel).await?;
        }
        self.refuse_to_pay_twice()?;
        if self.given_up > MAX_GIVEN_UP {
            return Err(AgentError::Refused(reason.clone()));
        }
        Ok(())
    }

    fn with_sent(&self, change: impl FnOnce(&mut OwnChannel, Amount)) {
        if let Some(sent) = &self.sent {
            change(&mut lock(&sent.channel), sent.cumulative);
        }
    }

    fn mark_unseen(&mut self) {
        self.unseen = self.sent.as_ref().map(|sent| (sent.id, sent.cumulative));
    }

    fn wait(&self, asked: Option<Duration>) -> Duration {
        asked.map_or_else(|| self.backoff(), |asked| asked.min(self.agent.policy.max_wait))
    }

    /// 50 ms, and twice as long with each attempt.
    fn backoff(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.attempts.saturating_sub(1));
        Duration::from_millis(50)
            .saturating_mul(doubled)
            .min(self.agent.policy.max_wait)
    }

    fn exhausted(&mut self) -> AgentError {
        let attempts = self.attempts;
        match self.last.take() {
            _ if self.unseen.is_some() => AgentError::AnswerLost {
                attempts,
                at_risk: self.offer.amount,
            },
            Some(Last::Error(error)) => error,
            Some(Last::Refused(status, reason)) => AgentError::Unavailable {
                attempts,
                status,
                reason: Some(reason),
            },
            None => AgentError::NoFreeSlot,
        }
    }
}

fn seconds(value: &http::HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

fn pool_key(route: &Route, offer: &PaymentRequirements) -> PoolKey {
    PoolKey {
        authority: route.authority().to_owned(),
        book: offer.extra.book,
    }
}
