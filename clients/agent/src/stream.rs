//! Answers that are paid for as they come: a task in the background signs on while the caller reads the body.
//!
//! A stream is a chain of calls on one channel, each a part with a ceiling. The first is paid with the request. For each
//! further one the server's meter says what it asks for and from where on; that is signed for if it is within the limits,
//! and above nothing that was not signed before. The task holds the channel until the stream has ended.

use crate::answer::{self, Outcome, Receipt, Remedy};
use crate::approval::Asked;
use crate::breach::Breach;
use crate::budget::Spend;
use crate::call::Call;
use crate::error::AgentError;
use crate::paid::{Bought, Paid};
use crate::pool::{Lease, Shared, lock};
use crate::route::Route;
use crate::state::AgentState;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};
use reqwest::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tallybook_rpc::Chain;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    ChannelPayload, Key, PAYMENT_METER, PaymentPayload, PaymentRequired, PaymentRequirements, Reason, SettleResponse,
    header,
};
use tokio::sync::watch;

/// The meter answers within 25 seconds; whatever takes longer is lost.
const METER_TIMEOUT: Duration = Duration::from_secs(40);
/// A meter that asks for what is not signed is asked again after so long, until it ends the stream.
const DECLINED_WAIT: Duration = Duration::from_secs(1);
/// And so often: by then every server has given up waiting.
const DECLINED_TIMES: u32 = 120;

/// How a stream ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StreamEnd {
    /// What it cost in all, in base units; nothing where the server did not say, which the next call on the channel finds
    /// out.
    pub charged: Option<Amount>,
    /// The most that it can have cost: what was signed for it, in base units.
    pub signed: Amount,
    /// Why the server ended it early, if it did.
    pub reason: Option<Reason>,
    /// Why this agent did not sign on, if it did not.
    pub declined: Option<String>,
}

/// A stream that is paid for as it comes: among the extensions of its response.
///
/// ```no_run
/// # async fn example(agent: tallybook_agent::Agent, url: url::Url) -> Result<(), tallybook_agent::AgentError> {
/// use tallybook_agent::Metered;
/// let mut answer = agent.get(url).await?;
/// let metered = Metered::of(&answer);
/// while let Some(chunk) = answer.chunk().await? {
///     println!("{} bytes", chunk.len());
/// }
/// if let Some(metered) = metered {
///     println!("{:?} base units", metered.ended().await.charged);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Metered {
    ended: watch::Receiver<Option<StreamEnd>>,
}

impl Metered {
    /// The stream of a response, if it is one. The response's body is read as any other; dropping it ends the stream.
    pub fn of(response: &Response) -> Option<Self> {
        response.extensions().get().cloned()
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> StreamEnd {
        let ended = self.ended.wait_for(Option::is_some).await.map(|end| end.clone());
        // A task that ended without a word was cut off with its runtime.
        let unknown = StreamEnd { charged: None, signed: Amount::ZERO, reason: None, declined: None };
        ended.ok().flatten().unwrap_or(unknown)
    }
}

/// A stream under way.
pub(crate) struct Stream<C> {
    agent: Arc<AgentState<C>>,
    route: Route,
    offer: Arc<PaymentRequirements>,
    /// The most that it may cost, where the policy allows more.
    limit: Option<Amount>,
    lease: Lease,
    channel: Shared,
    id: Key,
    /// What the meter is asked with.
    request: Request,
    /// What the channel was charged when it began; where the part under way began; what was signed last.
    start: Amount,
    base: Amount,
    signed: Amount,
    /// What the budget counts for the part under way.
    spend: Option<Spend>,
    may_exceed: bool,
    declined: Option<String>,
    failures: u32,
    end: watch::Sender<Option<StreamEnd>>,
}

/// What the meter says.
enum Said {
    /// It asks for this.
    Asks(Box<PaymentRequired>),
    /// Nothing yet.
    Nothing,
    /// The stream is over.
    Over(Option<Box<Receipt>>, Option<Reason>),
    /// It cannot be understood.
    Nonsense(StatusCode),
}

impl<C: Chain> Stream<C> {
    /// Takes the channel of a call over, and signs on until the stream ends. The response gets its handle.
    pub(crate) fn start(call: &mut Call<C>, mut response: Response, meter: String) -> Response {
        let Some(sent) = call.sent.clone() else { return response };
        let mut request = Request::new(call.request.method().clone(), call.request.url().clone());
        *request.headers_mut() = call.request.headers().clone();
        for name in [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING] {
            request.headers_mut().remove(name);
        }
        let Ok(value) = HeaderValue::try_from(meter) else { return response };
        request.headers_mut().insert(PAYMENT_METER, value);
        *request.timeout_mut() = Some(METER_TIMEOUT);
        let (end, ended) = watch::channel(None);
        response.extensions_mut().insert(Metered { ended });
        let stream = Self {
            agent: Arc::clone(&call.agent),
            route: call.route.clone(),
            offer: Arc::clone(&call.offer),
            limit: call.limit,
            lease: call.lease.hand_over(),
            channel: sent.channel,
            id: sent.id,
            request,
            start: sent.charged_before,
            base: sent.charged_before,
            signed: sent.cumulative,
            spend: call.spend.take(),
            may_exceed: false,
            declined: None,
            failures: 0,
            end,
        };
        tokio::spawn(stream.run());
        response
    }

    async fn run(mut self) {
        let (mut voucher, mut declined) = (None, 0u32);
        while self.failures < self.agent.policy.attempts && declined < DECLINED_TIMES {
            let said = self.ask(voucher.take()).await;
            match said {
                Ok(Said::Nothing) => self.failures = 0,
                Ok(Said::Over(receipt, reason)) => return self.over(receipt.as_deref(), reason),
                Ok(Said::Asks(required)) => match self.sign_on(&required).await {
                    Ok(signed) => voucher = Some(signed),
                    Err(error) => {
                        tracing::debug!(%error, channel = %self.id, "a stream is not paid any further");
                        self.declined = Some(error.to_string());
                        declined = declined.saturating_add(1);
                        tokio::time::sleep(DECLINED_WAIT).await;
                    }
                },
                Ok(Said::Nonsense(status)) => self.fail(&format!("the meter answers {status}")).await,
                Err(error) => self.fail(&error.to_string()).await,
            }
        }
        self.over(None, None);
    }

    async fn fail(&mut self, why: &str) {
        tracing::debug!(why, channel = %self.id, "asking a stream's meter again");
        let doubled = 2u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let wait = Duration::from_millis(50).saturating_mul(doubled).min(self.agent.policy.max_wait);
        tokio::time::sleep(wait).await;
    }

    async fn ask(&self, voucher: Option<HeaderValue>) -> Result<Said, AgentError> {
        let response = self.agent.send(&self.request, voucher).await?;
        let status = response.status();
        // A stream that was ended for want of payment says so in a receipt that failed, also with status 402.
        if let Some(SettleResponse::Failed { reason, extra, transaction, .. }) = answer::receipt(response.headers()) {
            if answer::remedy(&reason) == Remedy::Wait {
                return Ok(Said::Nonsense(status)); // not now: nothing is known of the stream
            }
            let known = extra.channel_state.is_some() || extra.charged_amount.is_some();
            return Ok(Said::Over(
                known.then(|| Box::new(Receipt { extra, transaction, statement: None })),
                Some(reason),
            ));
        }
        if let Outcome::Charged(receipt) = answer::outcome(status, response.headers()) {
            return Ok(Said::Over(Some(receipt), None));
        }
        Ok(match status {
            StatusCode::PAYMENT_REQUIRED => Self::asked(answer::payment_required(response).await?, status),
            StatusCode::NO_CONTENT => Said::Nothing,
            StatusCode::GONE => Said::Over(None, Some(Rejection::NoReservation.into())),
            _ => Said::Nonsense(status),
        })
    }

    /// A 402: it asks for the next part, or for what was sent once more in another amount; any other reason is an end.
    fn asked(required: PaymentRequired, status: StatusCode) -> Said {
        match &required.error {
            None => Said::Asks(Box::new(required)),
            Some(reason) if reason.rejection() == Some(Rejection::WrongCumulative) => Said::Asks(Box::new(required)),
            Some(reason) if answer::remedy(reason) == Remedy::Wait => Said::Nonsense(status),
            Some(reason) => Said::Over(None, Some(reason.clone())),
        }
    }

    /// The voucher for the part that the meter asks for.
    async fn sign_on(&mut self, required: &PaymentRequired) -> Result<HeaderValue, AgentError> {
        let mut offers = required.channel_offers().filter(|offer| self.agent.policy.can_pay(offer));
        let same = |offer: &&PaymentRequirements| {
            offer.pay_to == self.offer.pay_to && offer.extra.book == self.offer.extra.book
        };
        let offer = offers.find(same).ok_or(AgentError::Terms("the stream's meter asks for somebody else"))?;
        // Where it is not said, the part under way will be used up.
        let state = offer.extra.channel_state.filter(|state| state.channel_id == self.id);
        let base = state.map_or(self.signed, |state| state.charged_cumulative_amount);
        if base > self.signed {
            self.hold_against_chain(base).await?;
        }
        if base < self.start || base > self.signed {
            return Err(AgentError::Dishonest { channel: self.id, claimed: base, possible: self.signed });
        }
        let cumulative = base.plus(offer.amount).map_err(AgentError::Amount)?;
        self.check(cumulative, offer.amount).await?;
        // The part under way costs what the new one begins at; asked for the same once more, it counts once.
        if let Some(spend) = self.spend.take() {
            spend.settle(base.less(self.base));
        }
        self.spend = Some(self.agent.budget.spend(offer.amount).await?);
        let must_save = {
            let mut channel = lock(&self.channel);
            channel.used_at = (self.agent.budget.clock)();
            channel.reserve(cumulative, offer.amount).map_err(AgentError::Amount)?
        };
        if must_save {
            self.agent.save(&self.channel).await?;
        }
        self.failures = if cumulative == self.signed { self.failures.saturating_add(1) } else { 0 };
        (self.base, self.signed) = (base, self.signed.max(cumulative));
        let voucher = lock(&self.channel).sign(&self.agent.signer, cumulative).into();
        let payment = PaymentPayload::new(offer.clone(), ChannelPayload::Voucher { voucher });
        header(&payment).map_err(AgentError::Unreadable)
    }

    /// A meter that begins above what was signed: says so where the chain has settled it, by older vouchers than the stream's.
    /// Nothing is signed above that here, where it would count as the stream's; the next call takes it over.
    async fn hold_against_chain(&self, base: Amount) -> Result<(), AgentError> {
        let (_, slot) = self.agent.slot_of(&self.channel).await?;
        let settled = lock(&self.channel).settled_in(&slot);
        if settled < base {
            return Ok(());
        }
        let why = "the chain has settled more of it than was signed for this stream, by earlier vouchers: make the call again";
        Err(AgentError::NotNow { channel: self.id, why })
    }

    /// Refuses what the limits or the deposit do not allow.
    async fn check(&mut self, cumulative: Amount, part: Amount) -> Result<(), AgentError> {
        let (price, limit) = (cumulative.less(self.start), self.agent.policy.limit_for(&self.offer, self.limit));
        if price > limit || part > limit {
            return Err(Breach::PriceTooHigh { price, limit }.into());
        }
        if cumulative > lock(&self.channel).deposit {
            return Err(AgentError::Refused(Rejection::DepositExceeded.into()));
        }
        let free = self.agent.policy.approve_price_above;
        if !self.may_exceed && free.is_some_and(|free| price > free) {
            self.agent.approve(Asked::Stream, limit, &self.route, self.offer.pay_to).await?;
            self.may_exceed = true;
        }
        Ok(())
    }

    /// Over: what it cost is what the receipt says, at most what was signed.
    fn over(mut self, receipt: Option<&Receipt>, reason: Option<Reason>) {
        let total = receipt.and_then(|receipt| receipt.total(&self.id, self.start));
        let (charged, line) = {
            let mut channel = lock(&self.channel);
            let charged = total.map(|total| channel.served(total, self.signed));
            channel.unsure |= charged.is_none();
            channel.recorded = channel.recorded.max(channel.charged);
            (charged, channel.paid((self.agent.budget.clock)()))
        };
        if let (Some(spend), Some(charged)) = (self.spend.take(), charged) {
            let before = self.base.less(self.start);
            spend.settle(charged.less(before));
        }
        let signed = self.signed.less(self.start);
        self.agent.payments.record(Paid {
            what: Bought::Stream,
            host: self.route.authority().to_owned(),
            method: self.route.method().to_string(),
            path: self.route.path().to_owned(),
            status: StatusCode::OK.as_u16(),
            price: signed,
            charged,
            signed: self.signed,
            receipt: receipt.and_then(|receipt| self.agent.signed_for(receipt)),
            ..line
        });
        // The channel is free before the caller hears of the end.
        self.lease.leave();
        self.end.send_replace(Some(StreamEnd { charged, signed, reason, declined: self.declined.take() }));
    }
}
