//! The ways out of a channel: with the server's help at once, without it after the grace period.

use crate::agent::{Agent, AgentState, pool_key};
use crate::answer::{self, Outcome, Remedy};
use crate::channel::Phase;
use crate::error::AgentError;
use crate::opening::Landing;
use crate::pool::{Lease, Shared, lock};
use crate::transact;
use http::{Method, StatusCode};
use reqwest::{Request, Response};
use solana_signer::Signer;
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::{BookView, PROGRAM_ID, PageView};
use tallybook_rpc::{Chain, View};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Slot, Status};
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

    /// Asks the program to close a channel, without the server, at the wallet's expense (it needs some lamports). Says
    /// when [`Agent::withdraw`] can be called, in Unix seconds; until then the payee may claim what it is owed.
    pub async fn force_close(&self, id: Key) -> Result<i64, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        self.shared.force_close(&channel).await
    }

    /// Takes what is unspent out of a channel whose grace period is over, at the wallet's expense.
    pub async fn withdraw(&self, id: Key) -> Result<Closed, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        self.shared.withdraw(&channel).await
    }

    /// A channel that nobody else uses while the lease is held.
    async fn exclusive(&self, id: Key) -> Result<(Lease, Shared), AgentError> {
        let channel = lock(&self.shared.channels).get(&id).map(Arc::clone);
        let channel = channel.ok_or(AgentError::NoSuchChannel(id))?;
        let key = pool_key(&lock(&channel));
        Ok((self.shared.pool(&key).all_turns().await, channel))
    }
}

impl<C: Chain> AgentState<C> {
    async fn close(&self, channel: &Shared) -> Result<Closed, AgentError> {
        if let Some(closed) = self.settle_opening(channel).await? {
            return Ok(closed);
        }
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
        let mut last = (StatusCode::GATEWAY_TIMEOUT, None);
        for _ in 0..self.policy.attempts {
            if let Ok(response) = self.send_refund(channel).await? {
                let status = response.status();
                last = (status, None);
                match answer::outcome(status, response.headers()) {
                    Outcome::Charged(_) => return Ok(()),
                    Outcome::Refused(reason, _) => {
                        if answer::remedy(&reason) != Remedy::Wait {
                            return Err(AgentError::Refused(reason));
                        }
                        last.1 = Some(reason);
                    }
                    Outcome::PayAgain => last.1 = Some(self.correct_refund(channel, response).await?),
                    Outcome::NotCharged | Outcome::Unclear | Outcome::Lost(_) => {}
                }
            }
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(self.policy.max_wait);
        }
        let (status, reason) = last;
        Err(AgentError::Unavailable { attempts: self.policy.attempts, status, reason })
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
        let mut channel = lock(channel);
        match (answer::remedy(&reason), told, state) {
            (Remedy::Adopt, Some(offer), Some(state)) => {
                let voucher = offer.extra.voucher_state;
                let adopted = channel.adopt(&state, voucher.as_ref(), &self.signer_key().0);
                adopted.map_err(|possible| AgentError::Dishonest {
                    channel: channel.id,
                    claimed: state.charged_cumulative_amount,
                    possible,
                })?;
            }
            (Remedy::NewOffer, Some(offer), _) => channel.terms = offer.clone(),
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
    async fn refunded(&self, channel: &Shared) -> Result<Option<Closed>, AgentError> {
        let (id, parts, deposit, charged) = {
            let channel = lock(channel);
            (channel.id, channel.parts, channel.deposit, channel.charged)
        };
        let (_, slot) = self.slot_of(channel).await?;
        let gone = slot.generation != parts.generation || slot.status() == Ok(Status::Free);
        if !gone && slot.deposit > charged {
            return Ok(None);
        }
        self.end(channel, charged).await?;
        Ok(Some(Closed { id, charged, returned: deposit.less(charged) }))
    }

    async fn force_close(&self, channel: &Shared) -> Result<i64, AgentError> {
        let (id, parts) = {
            let channel = lock(channel);
            (channel.id, channel.parts)
        };
        let (_, mut slot) = self.slot_of(channel).await?;
        if slot.generation != parts.generation || slot.status() == Ok(Status::Free) {
            let why = "no such channel is open on chain";
            return Err(AgentError::NotNow { channel: id, why });
        }
        if slot.status() == Ok(Status::Open) {
            let instruction = Instructions::new(PROGRAM_ID).request_close(
                &parts.book.0.into(),
                &parts.page.0.into(),
                &self.wallet.pubkey(),
                parts.slot,
                parts.generation,
            );
            transact::run(&self.chain, &self.wallet, instruction).await?;
            slot = self.slot_of(channel).await?.1;
        }
        let closing_at = slot.closing_at;
        lock(channel).phase = Phase::Closing { closing_at };
        self.save(channel).await?;
        Ok(closing_at)
    }

    async fn withdraw(&self, channel: &Shared) -> Result<Closed, AgentError> {
        let (id, parts) = {
            let channel = lock(channel);
            (channel.id, channel.parts)
        };
        let (book, slot) = self.slot_of(channel).await?;
        if slot.generation != parts.generation || slot.status() != Ok(Status::Closing) {
            let why = "it is not closing on chain: force its close first";
            return Err(AgentError::NotNow { channel: id, why });
        }
        let place = [(parts.slot, self.wallet.pubkey())];
        let instruction = Instructions::new(PROGRAM_ID).withdraw(&book, &parts.page.0.into(), &place);
        transact::run(&self.chain, &self.wallet, instruction).await?;
        let (_, after) = self.slot_of(channel).await?;
        if after.generation == parts.generation && after.status() == Ok(Status::Closing) {
            let why = "its withdrawal was skipped: the wallet's token account is missing or frozen";
            return Err(AgentError::NotNow { channel: id, why });
        }
        self.end(channel, slot.settled).await?;
        Ok(Closed { id, charged: slot.settled, returned: slot.deposit.less(slot.settled) })
    }

    /// Book and slot as the chain has them.
    async fn slot_of(&self, channel: &Shared) -> Result<(BookView, Slot), AgentError> {
        let parts = lock(channel).parts;
        let addresses = [parts.book.0.into(), parts.page.0.into()];
        let accounts = self.chain.accounts(&addresses, View::CONFIRMED).await?;
        let mut ours = accounts.list.into_iter().map(|account| {
            let account = account.filter(|account| account.owner == PROGRAM_ID);
            account.ok_or(AgentError::Terms("an account of the channel is gone"))
        });
        let mut next = || ours.next().unwrap_or(Err(AgentError::Terms("an account of the channel is gone")));
        let (book, page) = (next()?, next()?);
        let book = BookView::parse(parts.book.0.into(), &book.data).map_err(AgentError::Unreadable)?;
        let page = PageView::parse(parts.page.0.into(), &page.data).map_err(AgentError::Unreadable)?;
        Ok((book, *page.slot(parts.slot).map_err(AgentError::Unreadable)?))
    }
}
