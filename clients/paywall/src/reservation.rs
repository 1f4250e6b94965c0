//! A voucher that is reserved for a call, until it is committed or given back.

use crate::builder::Shared;
use crate::respond::Refused;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    ChannelState, FacilitatorRequest, ForwardedVoucher, Key, SettleResponse, VerifyResponse, Voucher,
};

/// How often a commit whose outcome is unknown is asked for again, after growing pauses.
const COMMIT_TRIES: u32 = 3;
/// The first of those pauses.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// A reservation. Given back when dropped, unless it was taken to be committed: so that neither a handler that panics nor
/// a client that hangs up keeps its channel busy.
#[derive(Debug)]
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    /// On the heap by itself, since it is some hundred bytes and handed on at every step of a call.
    payment: Option<Box<FacilitatorRequest>>,
    /// It holds until then at least.
    until: Instant,
    /// Who pays.
    pub(crate) payer: Key,
    /// Where the channel stands, if that was said.
    pub(crate) state: Option<ChannelState>,
}

impl Reserved {
    /// The voucher that pays.
    pub(crate) fn voucher(&self) -> Option<&Voucher> {
        self.payment.as_ref().map(|payment| payment.payment_payload.payload.voucher())
    }

    /// Reserves anew what its handler was too slow for: meanwhile the same voucher may have paid for another call, and a
    /// commit would then be taken for that one's. Comes before anything is told of the answer.
    pub(crate) async fn renew(&mut self) -> Result<(), Refused> {
        if Instant::now() >= self.until
            && let Some(payment) = self.payment.take()
        {
            *self = reserve(&self.shared, payment).await?;
        }
        Ok(())
    }

    /// Takes the payment out, to be committed.
    pub(crate) const fn take(&mut self) -> Option<Box<FacilitatorRequest>> {
        self.payment.take()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(payment) = self.payment.take() else { return };
        let shared = Arc::clone(&self.shared);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Nobody waits for it; if it is lost the reservation ends by itself.
            runtime.spawn(async move { shared.keeper.release(&payment).await });
        }
    }
}

pub(crate) async fn reserve(shared: &Arc<Shared>, payment: Box<FacilitatorRequest>) -> Result<Reserved, Refused> {
    let until = Instant::now().checked_add(Duration::from_secs(shared.timeout_seconds.get().into()));
    let answer = shared.keeper.reserve(&payment).await;
    let mut reserved = Reserved {
        shared: Arc::clone(shared),
        payment: Some(payment),
        until: until.unwrap_or_else(Instant::now),
        payer: Key([0; 32]),
        state: None,
    };
    match answer {
        Ok(VerifyResponse::Valid { payer, extra }) => {
            reserved.payer = payer;
            reserved.state = extra.channel_state;
            Ok(reserved)
        }
        Ok(VerifyResponse::Invalid { reason, extra, .. }) => {
            reserved.payment = None;
            Err(Refused::new(reason, extra))
        }
        // It may be reserved: dropped here, and so given back.
        Err(failure) => Err(failure.into()),
    }
}

/// Commits `charge`, at most what was reserved, to the end: the handler has done its work, so a client that hangs up now has
/// still been served, and finds its answer when it asks again.
pub(crate) async fn commit(
    shared: &Arc<Shared>,
    payment: Box<FacilitatorRequest>,
    charge: Amount,
) -> Result<SettleResponse, Refused> {
    let shared = Arc::clone(shared);
    ToTheEnd(Some(Box::pin(async move { commit_until_known(&shared, payment, charge).await }))).await
}

/// A future that is run to its end: by whoever awaits it, which costs no turn of another task, and in a task of its own
/// once nobody awaits it any more.
struct ToTheEnd<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Out of its place meanwhile, so that one that panics is not run on.
        let Some(mut future) = self.0.take() else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            self.0 = Some(future);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let (Some(future), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(future);
        }
    }
}

async fn commit_until_known(
    shared: &Arc<Shared>,
    mut payment: Box<FacilitatorRequest>,
    charge: Amount,
) -> Result<SettleResponse, Refused> {
    let ceiling = core::mem::replace(&mut payment.payment_requirements.amount, charge);
    let mut pause = COMMIT_PAUSE;
    for _ in 0..COMMIT_TRIES {
        match shared.keeper.commit(&payment).await {
            Ok(settled @ SettleResponse::Settled { .. }) => {
                keep_voucher(shared, *payment.payment_payload.payload.voucher(), ceiling.less(charge)).await;
                return Ok(settled);
            }
            // The ledger was started again during the call, or the handler took long: nothing is lost by reserving
            // once more.
            Ok(SettleResponse::Failed { reason, .. }) if reason == Rejection::NoReservation.into() => {
                let mut again = payment.clone();
                again.payment_requirements.amount = ceiling;
                reserve(shared, again).await?.take();
            }
            Ok(SettleResponse::Failed { reason, extra, .. }) => return Err(Refused::new(reason, extra)),
            Err(failure) => {
                tracing::warn!(reason = %failure.reason().name(), "a commit's outcome is not known yet");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
    }
    Err(Rejection::SettlementPending.into())
}

/// The server's own copy of a voucher of which `unused` base units were not charged. Failing to write it is told to the operator; the facilitator has the durable one.
async fn keep_voucher(shared: &Arc<Shared>, voucher: Voucher, unused: Amount) {
    if shared.vouchers.is_none() {
        return;
    }
    let kept = ForwardedVoucher { voucher, charged: voucher.max_claimable_amount.less(unused) };
    let shared = Arc::clone(shared);
    let kept = tokio::task::spawn_blocking(move || shared.vouchers.as_ref().map(|vouchers| vouchers.keep(kept)));
    if let Ok(Some(Err(error))) = kept.await {
        tracing::error!(%error, "cannot keep the newest voucher in the local file: only the facilitator has it");
    }
}
