//! What a metered call runs up, and a stream's way of being paid as it comes.
//!
//! A stream is a chain of ordinary calls on one channel, its *parts*: the first is reserved before the handler runs; when
//! a part is used up it is committed in full and the next one, whose voucher the client has sent meanwhile, is reserved;
//! the last one is committed for what was used of it. So the client has at risk what it has signed and not received, at
//! most two parts; and the server what it has delivered of one part.

use crate::builder::Shared;
use crate::reservation::{Reserved, commit, reserve};
use crate::respond::Refused;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{ChannelState, FacilitatorRequest, SettleResponse};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

/// What a tab asks of its client.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Nothing now.
    Nothing,
    /// A voucher for the next part, above this cumulative amount.
    Next(Amount),
    /// Nothing any more: how it ended.
    Ended(Result<Box<SettleResponse>, Rejection>),
}

/// One call that is metered.
#[derive(Debug)]
pub(crate) struct Tab {
    shared: Arc<Shared>,
    /// The ceiling of each part.
    part: Amount,
    /// Whether the client can sign on beyond the first part.
    is_stream: bool,
    count: Mutex<Count>,
    /// Where the channel stood when the tab was opened.
    state: Option<ChannelState>,
    /// The part under way. Held while one part turns into the next.
    now: tokio::sync::Mutex<Now>,
    asked: watch::Sender<Ask>,
    /// The voucher for the next part, once the client has sent it.
    next: Mutex<Option<Box<FacilitatorRequest>>>,
    /// Something has come, or the client has gone.
    news: Notify,
    /// For clients that sign on, each of whom is kept waiting.
    waiters: Semaphore,
}

/// How far a tab has come.
#[derive(Debug)]
struct Now {
    /// The reservation of the part under way.
    reserved: Option<Reserved>,
    /// The receipt of the part before it.
    receipt: Option<SettleResponse>,
}

impl Now {
    /// The payment of the part under way, to be committed.
    fn take(&mut self) -> Option<Box<FacilitatorRequest>> {
        self.reserved.take()?.take()
    }
}

/// What was used. Amounts in base units.
#[derive(Debug)]
struct Count {
    /// What may be used of the part under way.
    ceiling: Amount,
    /// What was used of it.
    used: Amount,
    /// What the parts before it cost.
    committed: Amount,
    /// The cumulative amount of the part under way.
    cumulative: Amount,
    /// True once the handler has said anything at all.
    said: bool,
    /// The client has gone or does not pay: nothing more is sold.
    over: bool,
}

impl Count {
    /// Uses as much of `amount` as the part has left, and says what is beyond it.
    fn use_up(&mut self, amount: Amount) -> Result<Amount, Rejection> {
        self.said = true;
        let here = amount.min(self.ceiling.less(self.used));
        self.used = self.used.plus(here)?;
        amount.minus(here)
    }

    /// What the part under way costs: all of it when the handler never said anything.
    fn charge(&self) -> Amount {
        if self.said { self.used } else { self.ceiling }
    }

    /// True once half of the part is used: then the next voucher is asked for, so that it is there in time.
    fn is_half_used(&self) -> bool {
        self.used >= self.ceiling.less(self.used)
    }
}

/// Clients of one stream that are kept waiting at once: one, and those that it has lost on the way.
const WAITERS: usize = 4;

impl Tab {
    /// A tab whose first part is reserved.
    pub(crate) fn open(shared: Arc<Shared>, reserved: Reserved, part: Amount, is_stream: bool) -> Arc<Self> {
        let cumulative = reserved.voucher().map_or(Amount::ZERO, |voucher| voucher.max_claimable_amount);
        let state = reserved.state;
        let count =
            Count { ceiling: part, used: Amount::ZERO, committed: Amount::ZERO, cumulative, said: false, over: false };
        Arc::new(Self {
            shared,
            part,
            is_stream,
            count: Mutex::new(count),
            state,
            now: tokio::sync::Mutex::new(Now { reserved: Some(reserved), receipt: None }),
            asked: watch::Sender::new(Ask::Nothing),
            next: Mutex::default(),
            news: Notify::new(),
            waiters: Semaphore::new(WAITERS),
        })
    }

    /// A place for a client that signs on, while there is one.
    pub(crate) fn waiter(&self) -> Option<SemaphorePermit<'_>> {
        self.waiters.try_acquire().ok()
    }

    /// [`crate::Charge::add`].
    pub(crate) fn add(&self, amount: Amount) -> Result<(), Rejection> {
        let mut count = lock(&self.count);
        if count.over {
            return Err(Rejection::PaymentOverdue);
        }
        if amount > count.ceiling.less(count.used) {
            return Err(Rejection::ChargeAboveCeiling);
        }
        count.use_up(amount)?;
        self.look_ahead(&count);
        Ok(())
    }

    /// Sets what the call costs in all, at most its ceiling. Of a stream it says nothing: that is paid for as it comes.
    pub(crate) fn say(&self, amount: Amount) {
        if !self.is_stream {
            let mut count = lock(&self.count);
            count.used = amount.min(count.ceiling);
            count.said = true;
        }
    }

    /// See [`Reserved::renew`]: of the part under way.
    pub(crate) async fn renew(&self) -> Result<(), Refused> {
        match &mut self.now.lock().await.reserved {
            Some(reserved) => reserved.renew().await,
            None => Ok(()),
        }
    }

    /// [`crate::Charge::pay`].
    pub(crate) async fn pay(&self, amount: Amount) -> Result<(), Rejection> {
        if !self.is_stream {
            return self.add(amount);
        }
        let mut now = self.now.lock().await;
        let mut left = amount;
        loop {
            let before = {
                let mut count = lock(&self.count);
                if count.over {
                    return Err(Rejection::PaymentOverdue);
                }
                let before = count.used;
                left = count.use_up(left)?;
                self.look_ahead(&count);
                before
            };
            if left.is_zero() {
                return Ok(());
            }
            let next = tokio::time::timeout(self.shared.stream_patience, self.next_voucher()).await;
            let Ok(Some(next)) = next else {
                // What was to be paid for is not delivered.
                lock(&self.count).used = before;
                self.close();
                return Err(Rejection::PaymentOverdue);
            };
            if let Err(refused) = self.turn(&mut now, next).await {
                self.close();
                return Err(refused.rejection());
            }
        }
    }

    /// Asks for the next voucher when it is time.
    fn look_ahead(&self, count: &Count) {
        if self.is_stream && !count.over && count.is_half_used() && lock(&self.next).is_none() {
            self.asked.send_if_modified(|ask| {
                let asks_anew = matches!(ask, Ask::Nothing);
                if asks_anew {
                    *ask = Ask::Next(count.cumulative);
                }
                asks_anew
            });
        }
    }

    /// One part is used up: commits it, and reserves the next one.
    async fn turn(&self, now: &mut Now, next: Box<FacilitatorRequest>) -> Result<(), Refused> {
        let cumulative = next.payment_payload.payload.voucher().max_claimable_amount;
        if let Some(reserved) = &mut now.reserved {
            reserved.renew().await?;
        }
        let used_up = now.take().ok_or(Rejection::NoReservation)?;
        now.receipt = Some(commit(&self.shared, used_up, self.part).await?);
        {
            // From here on the old part is history, whatever becomes of the next one.
            let mut count = lock(&self.count);
            count.committed = count.committed.plus(self.part)?;
            (count.used, count.ceiling, count.cumulative) = (Amount::ZERO, Amount::ZERO, cumulative);
        }
        now.reserved = Some(reserve(&self.shared, next).await?);
        lock(&self.count).ceiling = self.part;
        Ok(())
    }

    /// The voucher that the client has sent; none once it has gone.
    async fn next_voucher(&self) -> Option<Box<FacilitatorRequest>> {
        loop {
            let news = self.news.notified();
            if let Some(next) = lock(&self.next).take() {
                return Some(next);
            }
            if lock(&self.count).over {
                return None;
            }
            news.await;
        }
    }

    /// Takes the voucher for the next part; the one that was sent before is taken once more and is no other, and one that
    /// comes when all is over is not needed. [`Rejection::WrongCumulative`] when another one was asked for.
    pub(crate) fn take(&self, payment: Box<FacilitatorRequest>) -> Result<(), Rejection> {
        let voucher = *payment.payment_payload.payload.voucher();
        {
            let count = lock(&self.count);
            if count.over || count.cumulative == voucher.max_claimable_amount {
                return Ok(());
            }
        }
        let mut next = lock(&self.next);
        if next.as_ref().is_some_and(|held| *held.payment_payload.payload.voucher() == voucher) {
            return Ok(());
        }
        let mut taken = Err(Rejection::WrongCumulative);
        self.asked.send_if_modified(|ask| {
            if let Ask::Next(base) = ask
                && base.plus(self.part) == Ok(voucher.max_claimable_amount)
            {
                taken = Ok(());
                *ask = Ask::Nothing;
            }
            false
        });
        if taken.is_ok() {
            *next = Some(payment);
            self.news.notify_one();
        }
        taken
    }

    /// What is asked now, and the changes of it.
    pub(crate) fn asks(&self) -> watch::Receiver<Ask> {
        self.asked.subscribe()
    }

    /// What the client is to sign above, and where the channel stands.
    pub(crate) fn state_above(&self, base: Amount) -> Option<ChannelState> {
        self.state.map(|state| ChannelState { charged_cumulative_amount: base, ..state })
    }

    /// The cumulative amount of the part under way.
    pub(crate) fn base(&self) -> Amount {
        lock(&self.count).cumulative
    }

    /// What the part under way costs as things stand.
    pub(crate) fn charge(&self) -> Amount {
        lock(&self.count).charge()
    }

    /// True when the answer must not go on.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.count).over
    }

    /// Sells nothing more, and asks for nothing. Whoever waits for the client is told.
    pub(crate) fn close(&self) {
        lock(&self.count).over = true;
        self.asked.send_if_modified(|ask| {
            if let Ask::Next(_) = ask {
                *ask = Ask::Nothing;
            }
            false
        });
        self.news.notify_one();
    }

    /// Gives the reservation back: the handler failed before it delivered anything.
    pub(crate) async fn abandon(&self) {
        self.close();
        drop(self.now.lock().await.reserved.take());
    }

    /// Commits what was used of the last part. The receipt is of the whole tab.
    pub(crate) async fn settle(&self) -> Result<SettleResponse, Refused> {
        self.close();
        let mut now = self.now.lock().await;
        let (charge, committed) = {
            let count = lock(&self.count);
            (count.charge(), count.committed)
        };
        if let Some(reserved) = &mut now.reserved {
            reserved.renew().await?;
        }
        let settled = match now.take() {
            Some(last) => commit(&self.shared, last, charge).await,
            // The next part was refused after the one before it was committed.
            None => now.receipt.clone().ok_or_else(|| Rejection::PaymentOverdue.into()),
        };
        let settled = settled.map(|receipt| of_all_parts(receipt, committed.plus(charge)));
        let ended = settled.as_ref().map(|receipt| Box::new(receipt.clone())).map_err(Refused::rejection);
        self.asked.send_replace(Ask::Ended(ended));
        settled
    }
}

/// The receipt of the last part, with what all of them cost.
fn of_all_parts(receipt: SettleResponse, total: Result<Amount, Rejection>) -> SettleResponse {
    match receipt {
        SettleResponse::Settled { transaction, network, payer, amount, mut extra } => {
            extra.charged_amount = total.ok();
            SettleResponse::Settled { transaction, network, payer, amount, extra }
        }
        failed @ SettleResponse::Failed { .. } => failed,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
