//! What a paid call makes of an answer: done, once more, corrected, or given up.

use crate::answer::{self, Outcome, Receipt, Remedy};
use crate::call::{Call, Last, Next};
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::pool::lock;
use crate::stream::Stream;
use http::StatusCode;
use reqwest::Response;
use std::time::Duration;
use tallybook_rpc::Chain;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{Extra, PaymentRequired, Reason};

/// So many channels may turn out to be of no use in one call.
const MAX_GIVEN_UP: u32 = 2;
/// So many attempts are made before the wallet pays for what a sponsor that is away does not.
const SPONSOR_PATIENCE: u32 = 3;

/// So many attempts are made before a server is taken at its word that it does not know a new channel.
const SERVER_PATIENCE: u32 = 6;
/// So long a channel is new, in seconds.
const NEW_SECONDS: i64 = 60;

impl<C: Chain> Call<C> {
    pub(crate) async fn look_at(&mut self, response: Response) -> Result<Next, AgentError> {
        let status = response.status();
        let outcome = answer::outcome(status, response.headers());
        match outcome {
            Outcome::Charged(receipt) => {
                self.charged(status, &receipt).await?;
                Ok(Next::Return(response))
            }
            Outcome::Streams(meter) => {
                self.opened();
                self.see_top_up().await;
                Ok(Next::Return(Stream::start(self, response, meter)))
            }
            Outcome::NotCharged => {
                self.with_sent(|channel, _| channel.not_served());
                Ok(Next::Return(response))
            }
            Outcome::Unclear => {
                // It may have been charged: it stays counted, and the next call on the channel finds out.
                self.spend = None;
                self.list(status.as_u16(), None, None);
                Ok(Next::Return(response))
            }
            Outcome::Lost(wait) => {
                self.mark_unseen();
                Ok(Next::Again(self.wait(wait)))
            }
            Outcome::Refused(reason, wait, sent) => {
                if self.open_without_sponsor(&reason).await? || self.refuses_top_up(&reason) {
                    return Ok(Next::Again(Duration::ZERO));
                }
                if answer::remedy(&reason) == Remedy::GiveUp {
                    return Err(AgentError::Refused(reason));
                }
                // While the channel is busy the voucher is not looked at; anything else may have got further.
                if reason.rejection() == Some(Rejection::ChannelBusy) {
                    self.not_accepted();
                } else {
                    self.mark_unseen();
                }
                self.last = Some(sent.map_or_else(|| Last::Refused(status, reason), Last::Pending));
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

    /// Served, and charged as the receipt says: at most what was signed, whatever it says.
    async fn charged(&mut self, status: StatusCode, receipt: &Receipt) -> Result<(), AgentError> {
        let Some(sent) = self.sent.clone() else { return Ok(()) };
        self.opened();
        let cost = {
            let mut channel = lock(&sent.channel);
            let total = receipt.total(&channel.id, sent.charged_before);
            let cost = channel.served(total.unwrap_or(sent.cumulative), sent.cumulative);
            channel.recorded = channel.recorded.max(channel.charged);
            cost
        };
        if let Some(spend) = self.spend.take() {
            spend.settle(cost);
        }
        self.list(status.as_u16(), Some(cost), Some(receipt));
        self.see_top_up().await;
        Ok(())
    }

    /// What was served may have been paid from an addition: the chain says how much the channel holds now. If it cannot be
    /// asked, the next call does.
    async fn see_top_up(&self) {
        let Some(sent) = &self.sent else { return };
        if let Err(error) = self.agent.decide_top_up(&sent.channel).await {
            tracing::debug!(%error, channel = %sent.id, "the top-up is not seen yet");
        }
    }

    /// What was served was paid from an open channel. (After any other answer to a deposit the chain is asked.)
    fn opened(&self) {
        self.with_sent(|channel, _| {
            if let Phase::Opening { .. } = channel.phase {
                channel.phase = Phase::Open;
            }
        });
    }

    /// A sponsor that opens no channel, where the wallet may pay the fee itself: done when this says true.
    async fn open_without_sponsor(&mut self, reason: &Reason) -> Result<bool, AgentError> {
        let refuses = match reason.rejection() {
            Some(Rejection::QuotaExceeded | Rejection::FeeTooHigh) => true,
            // It may be back in a moment.
            Some(Rejection::FacilitatorUnavailable | Rejection::Draining | Rejection::Overloaded) => {
                self.attempts >= SPONSOR_PATIENCE
            }
            _ => false,
        };
        let Some(sent) = self.sent.clone().filter(|_| refuses && self.agent.policy.own_fees) else {
            return Ok(false);
        };
        if !matches!(lock(&sent.channel).phase, Phase::Opening { .. }) {
            return Ok(false);
        }
        self.deposit = None;
        self.agent.open_ourselves(&sent.channel).await?;
        Ok(true)
    }

    /// True when a refusal was about an addition to a deposit: another channel pays then.
    fn refuses_top_up(&mut self, reason: &Reason) -> bool {
        let concerns_it = matches!(answer::remedy(reason), Remedy::GiveUp | Remedy::OpenAgain);
        let sent = self.sent.clone().filter(|_| concerns_it && self.deposit.is_some());
        let given_up = sent.is_some_and(|sent| self.agent.give_up_top_up(&sent.channel));
        if given_up {
            self.deposit = None;
            self.not_accepted();
        }
        given_up
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
        if self.open_without_sponsor(reason).await? || self.refuses_top_up(reason) {
            return Ok(Next::Again(Duration::ZERO));
        }
        match answer::remedy(reason) {
            Remedy::NewOffer => {}
            Remedy::Adopt => self.adopt(told.as_ref(), reason).await?,
            Remedy::AnotherChannel if self.is_new_to_server(reason) => return Ok(Next::Again(self.backoff())),
            Remedy::AnotherChannel => self.give_up_channel(reason).await?,
            Remedy::OpenAgain => self.deposit = None,
            Remedy::Wait => return Ok(Next::Again(self.wait(wait))),
            Remedy::GiveUp => return Err(AgentError::Refused(reason.clone())),
        }
        // The first correction is done at once; if it does not help, take more time each time.
        let hurry = self.attempts <= 2;
        Ok(Next::Again(if hurry { Duration::ZERO } else { self.backoff() }))
    }

    /// Takes over where the channel stands. Never pays twice for one call without being told to.
    async fn adopt(&mut self, told: Option<&Extra>, reason: &Reason) -> Result<(), AgentError> {
        let (Some(sent), Some(state)) = (self.sent.clone(), told.and_then(|extra| extra.channel_state)) else {
            return Err(AgentError::Refused(Rejection::WrongCumulative.into()));
        };
        let voucher = told.and_then(|extra| extra.voucher_state);
        self.agent.adopt(&sent.channel, &state, voucher.as_ref()).await?;
        let Some(unseen) = self.unseen.as_ref().filter(|unseen| unseen.id == sent.id) else { return Ok(()) };
        let is_used = reason.rejection() == Some(Rejection::VoucherUsed) && unseen.cumulative == sent.cumulative;
        let cost = lock(&sent.channel).cost_of(unseen.charged_before, unseen.cumulative, is_used);
        // Where it is not known, the call counts as spent.
        let Some(charged) = cost else { return self.refuse_to_pay_twice() };
        if charged.is_zero() {
            return Ok(());
        }
        if let Some(spend) = self.spend.take() {
            spend.settle(charged);
        }
        Err(AgentError::ChargedWithoutAnswer { charged })
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

    /// A server sees a channel that was opened without it, or found again, a moment later than its payer.
    fn is_new_to_server(&self, reason: &Reason) -> bool {
        let unknown = reason.rejection() == Some(Rejection::UnknownChannel) && self.attempts <= SERVER_PATIENCE;
        self.sent.as_ref().filter(|_| unknown).is_some_and(|sent| {
            let channel = lock(&sent.channel);
            let age = (self.agent.budget.clock)().saturating_sub(channel.used_at);
            channel.phase == Phase::Open && channel.charged.is_zero() && age <= NEW_SECONDS
        })
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
        let sent = self.sent.clone().filter(|sent| !sent.is_probe);
        self.unseen = sent.or(self.unseen.take());
    }
}
