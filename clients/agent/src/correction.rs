//! What a paid call makes of an answer: done, once more, corrected, or given up.

use crate::answer::{self, Outcome, Remedy};
use crate::call::{Call, Last, Next};
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::pool::lock;
use http::StatusCode;
use reqwest::Response;
use std::time::Duration;
use tallybook_rpc::Chain;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{ChannelState, Extra, PaymentRequired, Reason};

/// So many channels may turn out to be of no use in one call.
const MAX_GIVEN_UP: u32 = 2;

impl<C: Chain> Call<'_, C> {
    pub(crate) async fn look_at(&mut self, response: Response) -> Result<Next, AgentError> {
        let status = response.status();
        let outcome = answer::outcome(status, response.headers());
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
                if reason.rejection() == Some(Rejection::ChannelBusy) {
                    self.not_accepted();
                } else {
                    self.mark_unseen();
                }
                self.last = Some(Last::Refused(status, reason));
                Ok(Next::Again(self.wait(wait)))
            }
            Outcome::PayAgain => {
                self.not_accepted();
                let wait = answer::retry_after(response.headers());
                let required = answer::payment_required(response).await?;
                self.correct(&required, wait).await
            }
        }
    }

    /// Served: the channel is open, and charged as the receipt says. (After any other answer to a deposit the chain is
    /// asked whether it is.)
    fn charged(&self, state: Option<&ChannelState>) {
        self.with_sent(|channel, cumulative| {
            let said = state.filter(|state| state.channel_id == channel.id);
            let charged = said.map_or(cumulative, |state| state.charged_cumulative_amount);
            channel.served(charged, cumulative);
            if let Phase::Opening { .. } = channel.phase {
                channel.phase = Phase::Open;
            }
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
            let adopted = channel.adopt(&state, voucher.as_ref(), &signer);
            if adopted.is_err() && channel.phase == Phase::Open {
                channel.phase = Phase::GivenUp;
            }
            adopted
        };
        self.agent.save(&sent.channel).await?;
        if let Err(possible) = adopted {
            return Err(AgentError::Dishonest { channel: sent.id, claimed: state.charged_cumulative_amount, possible });
        }
        let charged = state.charged_cumulative_amount;
        match self.unseen {
            // Never pay twice for one call without being told to.
            Some((id, cumulative)) if id == sent.id && charged >= cumulative => {
                Err(AgentError::ChargedWithoutAnswer { charged: self.offer.amount })
            }
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

    /// The voucher on its way was refused.
    fn not_accepted(&self) {
        if let Some(sent) = &self.sent {
            lock(&sent.channel).refused(sent.before);
        }
    }

    pub(crate) fn mark_unseen(&mut self) {
        self.unseen = self.sent.as_ref().map(|sent| (sent.id, sent.cumulative));
    }
}
