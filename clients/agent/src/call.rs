//! One paid call: pay, look at the answer, correct, pay again, within bounds.

use crate::answer::{self, Receipt};
use crate::approval::Asked;
use crate::budget::Spend;
use crate::channel::Phase;
use crate::error::AgentError;
use crate::opening::Landing;
use crate::paid::{Bought, Paid};
use crate::pool::{Lease, PoolKey, Shared, lock};
use crate::route::Route;
use crate::state::AgentState;
use crate::terms::Confirmed;
use crate::topping::Topping;
use http::StatusCode;
use reqwest::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tallybook_rpc::Chain;
use tallybook_rules::Amount;
use tallybook_wire::{
    ChannelPayload, Deposit, Key, PaymentPayload, PaymentRequired, PaymentRequirements, Reason, Signature, Voucher,
    header,
};

/// A call that is paid for.
pub(crate) struct Call<C> {
    pub(crate) agent: Arc<AgentState<C>>,
    pub(crate) request: Request,
    pub(crate) route: Route,
    pub(crate) offer: Arc<PaymentRequirements>,
    pub(crate) lease: Lease,
    /// The deposit that this call sent, to be sent again as it is.
    pub(crate) deposit: Option<(Key, Deposit)>,
    /// How many channels turned out to be of no use.
    pub(crate) given_up: u32,
    /// The price was asked for again because the page that was remembered is full.
    pub(crate) asked_afresh: bool,
    /// How often the request was sent with a payment.
    pub(crate) attempts: u32,
    /// The voucher that is on its way.
    pub(crate) sent: Option<Sent>,
    /// A voucher of this call whose outcome was not seen.
    pub(crate) unseen: Option<Sent>,
    /// Why the last attempt failed.
    pub(crate) last: Option<Last>,
    /// What the budget counts for this call.
    pub(crate) spend: Option<Spend>,
    /// The highest price that needs no (further) approval.
    approved: Amount,
    /// The most that this call may cost, where the policy allows more.
    pub(crate) limit: Option<Amount>,
}

/// A voucher that was sent.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) channel: Shared,
    pub(crate) id: Key,
    pub(crate) cumulative: Amount,
    /// What the server could have charged before this voucher was signed, and what is known that it did.
    pub(crate) before: Amount,
    pub(crate) charged_before: Amount,
    /// It is over nothing, and only asks where the channel stands.
    pub(crate) is_probe: bool,
}

/// Why an attempt failed.
pub(crate) enum Last {
    Refused(StatusCode, Reason),
    /// A transaction was sent for it, and what became of it is not known.
    Pending(Signature),
    Error(AgentError),
}

/// What comes after an answer.
pub(crate) enum Next {
    Return(Response),
    Again(Duration),
}

impl<C: Chain> Call<C> {
    /// Checks the policy and waits for a turn.
    pub(crate) async fn new(
        agent: &Arc<AgentState<C>>,
        request: Request,
        route: Route,
        offer: Arc<PaymentRequirements>,
        limit: Option<Amount>,
    ) -> Result<Self, AgentError> {
        agent.policy.check_host(route.host(), route.authority())?;
        agent.policy.check_offer(&offer, limit)?;
        agent.approve(Asked::Call, offer.amount, &route, offer.pay_to).await?;
        let lease = agent.pool(&pool_key(&route, &offer)).turn().await;
        Ok(Self {
            agent: Arc::clone(agent),
            request,
            route,
            approved: offer.amount,
            limit,
            offer,
            lease,
            deposit: None,
            given_up: 0,
            asked_afresh: false,
            attempts: 0,
            sent: None,
            unseen: None,
            last: None,
            spend: None,
        })
    }

    /// Sends until there is an answer or no more to try.
    pub(crate) async fn run(mut self) -> Result<Response, AgentError> {
        let outcome = self.answer().await;
        self.close_books();
        outcome
    }

    /// The call is over: what it may have cost counts on, and nothing else does.
    pub(crate) fn close_books(&mut self) {
        if let Some(spend) = self.spend.take() {
            match &self.unseen {
                None => spend.settle(Amount::ZERO),
                // It counts as spent, and is listed as what may have been charged.
                Some(_) => self.list(0, None, None),
            }
        }
    }

    async fn answer(&mut self) -> Result<Response, AgentError> {
        loop {
            let payment = match self.next_payment().await {
                Err(AgentError::NoFreeSlot) if !self.asked_afresh => match self.ask_afresh().await? {
                    Some(response) => return Ok(response),
                    None => continue,
                },
                payment => payment?,
            };
            let value = header(&payment).map_err(AgentError::Unreadable)?;
            match self.agent.send(&self.request, Some(value)).await {
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
    }

    /// What the next attempt pays with; an error when there is no more to try.
    pub(crate) async fn next_payment(&mut self) -> Result<PaymentPayload, AgentError> {
        if self.attempts >= self.agent.policy.attempts {
            return Err(self.exhausted());
        }
        self.attempts = self.attempts.saturating_add(1);
        let payload = self.payment().await?;
        Ok(self.agent.payment(&self.route, &self.offer, payload))
    }

    /// Puts the call on the list of payments.
    pub(crate) fn list(&self, status: u16, charged: Option<Amount>, receipt: Option<&Receipt>) {
        let Some(sent) = &self.sent else { return };
        let paid = Paid {
            what: Bought::Call,
            host: self.route.authority().to_owned(),
            method: self.route.method().to_string(),
            path: self.route.path().to_owned(),
            status,
            price: self.offer.amount,
            charged,
            signed: sent.cumulative,
            transaction: receipt.and_then(|receipt| receipt.transaction).map(String::from),
            receipt: receipt.and_then(|receipt| self.agent.signed_for(receipt)),
            ..lock(&sent.channel).paid((self.agent.budget.clock)())
        };
        self.agent.payments.record(paid);
    }

    /// The page that was remembered is full: asks for another one. A response is an answer without payment.
    async fn ask_afresh(&mut self) -> Result<Option<Response>, AgentError> {
        self.asked_afresh = true;
        let response = self.agent.send(&self.request, None).await?;
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            return Ok(Some(response));
        }
        let required = answer::payment_required(response).await?;
        self.take_offer(&required).await?;
        Ok(None)
    }

    /// Takes up what a 402 offers, if the policy allows it.
    pub(crate) async fn take_offer(&mut self, required: &PaymentRequired) -> Result<(), AgentError> {
        let book = self.offer.extra.book;
        self.offer = self.agent.learn(&self.route, required)?;
        self.agent.policy.check_offer(&self.offer, self.limit)?;
        if self.offer.amount > self.approved {
            self.agent.approve(Asked::Call, self.offer.amount, &self.route, self.offer.pay_to).await?;
            self.approved = self.offer.amount;
        }
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
    pub(crate) fn refuse_to_pay_twice(&mut self) -> Result<(), AgentError> {
        match self.unseen {
            Some(_) => Err(self.exhausted()),
            None => Ok(()),
        }
    }

    /// The payment of the next attempt, with everything durable that must be.
    async fn payment(&mut self) -> Result<ChannelPayload, AgentError> {
        loop {
            let (price, top_up) = (self.offer.amount, self.agent.policy.top_up);
            let roomy = self.lease.channel_for(self.room(), top_up);
            let Some(channel) = roomy.or_else(|| self.lease.channel_for(price, top_up)) else {
                return self.open_new().await;
            };
            let (opening, covers, has_room) = {
                let channel = lock(&channel);
                let covers = |amount| channel.next_cumulative(amount).is_some();
                let has_room = covers(self.room()) || channel.no_top_up || !top_up;
                (matches!(channel.phase, Phase::Opening { .. }), covers(price), has_room)
            };
            if covers && has_room {
                let voucher = self.voucher(&channel).await?;
                return Ok(ChannelPayload::Voucher { voucher });
            }
            if !opening {
                match self.agent.add_to(&channel, &self.route, &self.offer, self.room()).await {
                    Ok(Topping::Signed(deposit)) => return self.deposit_payload(&channel, deposit).await,
                    Ok(Topping::Decided) => continue, // what it may pay says so now: choose again
                    // There is no room for more, and this call needs none.
                    Err(error) if covers => {
                        tracing::debug!(%error, "a channel is not topped up in advance");
                        let voucher = self.voucher(&channel).await?;
                        return Ok(ChannelPayload::Voucher { voucher });
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.agent.look_for(&channel).await? {
                Landing::Landed | Landing::Never => {} // its phase says so now: choose again
                Landing::Undecided(confirmed) => return self.open_again(&channel, &confirmed).await,
            }
        }
    }

    /// What a channel should have left for this call. A stream cannot be topped up under way, so what is metered begins
    /// with as much as it may cost, as far as one deposit goes.
    fn room(&self) -> Amount {
        let price = self.offer.amount;
        if !self.offer.extra.metered {
            return price;
        }
        price.max(self.agent.policy.limit_for(&self.offer, self.limit).min(self.agent.policy.deposit))
    }

    async fn open_new(&mut self) -> Result<ChannelPayload, AgentError> {
        let (channel, deposit) = self.agent.open(&self.route, &self.request, &self.offer).await?;
        self.lease.use_new(Arc::clone(&channel));
        // In a pool already, so that it is not lost if this call is given up here.
        if let Err(error) = self.agent.commit(&channel).await {
            self.lease.forget_channel();
            return Err(error);
        }
        self.deposit_payload(&channel, deposit).await
    }

    /// The same slot and generation once more: at most one of the two transactions can land.
    async fn open_again(&mut self, channel: &Shared, confirmed: &Confirmed) -> Result<ChannelPayload, AgentError> {
        let id = {
            let mut channel = lock(channel);
            channel.unsure = false; // it is not open, so nothing was charged
            channel.id
        };
        let deposit = match self.deposit.take() {
            Some((of, deposit)) if of == id => deposit,
            _ => self.agent.sign_again(channel, confirmed).await?,
        };
        self.deposit_payload(channel, deposit).await
    }

    pub(crate) async fn deposit_payload(
        &mut self,
        channel: &Shared,
        deposit: Deposit,
    ) -> Result<ChannelPayload, AgentError> {
        let (id, parts) = {
            let channel = lock(channel);
            (channel.id, channel.parts)
        };
        let voucher = self.voucher(channel).await?;
        self.deposit = Some((id, deposit.clone()));
        Ok(ChannelPayload::Deposit { channel: parts, voucher, deposit })
    }

    /// Signs `charged + amount`, once the ceiling is durable and the budget counts it.
    async fn voucher(&mut self, channel: &Shared) -> Result<Voucher, AgentError> {
        let price = self.offer.amount;
        if !lock(channel).unsure {
            self.count(price).await?;
        }
        let (sent, must_save) = {
            let mut known = lock(channel);
            let (before, charged_before, is_probe) = (known.possible(), known.charged, known.unsure);
            let cumulative = known.to_sign(price).map_err(AgentError::Amount)?;
            let must_save = known.reserve(cumulative, price).map_err(AgentError::Amount)?;
            known.used_at = (self.agent.budget.clock)();
            let (channel, id) = (Arc::clone(channel), known.id);
            (Sent { channel, id, cumulative, before, charged_before, is_probe }, must_save)
        };
        if must_save {
            self.agent.save(channel).await?;
        }
        let signed = lock(channel).sign(&self.agent.signer, sent.cumulative);
        self.sent = Some(sent);
        Ok(signed.into())
    }

    /// Counts the call once, at its last price.
    async fn count(&mut self, price: Amount) -> Result<(), AgentError> {
        if self.spend.as_ref().is_some_and(|spend| spend.amount() == price) {
            return Ok(());
        }
        if let Some(spend) = self.spend.take().filter(|_| self.unseen.is_none()) {
            spend.settle(Amount::ZERO);
        }
        self.spend = Some(self.agent.budget.spend(price).await?);
        Ok(())
    }

    pub(crate) fn wait(&self, asked: Option<Duration>) -> Duration {
        asked.map_or_else(|| self.backoff(), |asked| asked.min(self.agent.policy.max_wait))
    }

    /// 50 ms, and twice as long with each attempt.
    pub(crate) fn backoff(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.attempts.saturating_sub(1));
        Duration::from_millis(50).saturating_mul(doubled).min(self.agent.policy.max_wait)
    }

    fn exhausted(&mut self) -> AgentError {
        let attempts = self.attempts;
        match self.last.take() {
            Some(Last::Pending(transaction)) => AgentError::Pending { attempts, transaction },
            _ if self.unseen.is_some() => AgentError::AnswerLost { attempts, at_risk: self.offer.amount },
            Some(Last::Error(error)) => error,
            Some(Last::Refused(status, reason)) => AgentError::Unavailable { attempts, status, reason: Some(reason) },
            None => AgentError::NoFreeSlot,
        }
    }
}

fn pool_key(route: &Route, offer: &PaymentRequirements) -> PoolKey {
    PoolKey { authority: route.authority().to_owned(), book: offer.extra.book }
}
