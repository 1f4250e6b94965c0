//! Handing vouchers to the facilitator, so that they are settled: in the background, many at once, again and again until
//! it says that it has them. After a restart all are handed over anew, which changes nothing for those it has.

use super::Embedded;
use crate::keeper::Failure;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tallybook_ledger::Channel;
use tallybook_rules::Rejection;
use tallybook_wire::{
    BAZAAR, FacilitatorRequest, ForwardRequest, ForwardedVoucher, Key, MAX_FORWARDED, MAX_SOLD, PaymentRequirements,
    Sold,
};

/// The longest pause between two tries while the facilitator does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// So many channels are remembered with what they paid for, until their vouchers are handed over.
const SOLD_KEPT: usize = 64;
/// How often the facilitator is asked for its terms.
const TERMS_EVERY: Duration = Duration::from_secs(60);

/// The channels of which the facilitator does not have everything, as far as is known: noted with each charge, so that
/// nobody walks through all channels to find them.
#[derive(Default, Debug)]
pub(super) struct Forwarded(Mutex<Held>);

#[derive(Default, Debug)]
struct Held {
    waiting: HashSet<[u8; 32]>,
    /// Channels that are closing: handed over at once.
    urgent: HashSet<[u8; 32]>,
    /// What channels have paid for last that declares itself: a hint for the facilitator's catalogue, sent along once.
    sold: HashMap<[u8; 32], Sold>,
}

impl Forwarded {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of the channel is to be handed over, or may be.
    pub(super) fn is_waiting(&self, channel_id: [u8; 32]) {
        self.lock().waiting.insert(channel_id);
    }

    /// The channel has paid for something. Of what declares itself the last is sent along with its voucher.
    pub(super) fn has_paid_for(&self, channel_id: [u8; 32], payment: &FacilitatorRequest) {
        let paid = &payment.payment_payload;
        let extension = paid.extensions.as_ref().and_then(|extensions| extensions.get(BAZAAR));
        let (Some(resource), Some(extension)) = (&paid.resource, extension) else { return };
        let mut held = self.lock();
        if held.sold.len() >= SOLD_KEPT && !held.sold.contains_key(&channel_id) {
            return;
        }
        let amount = paid.accepted.amount;
        let requirements = PaymentRequirements { amount, ..payment.payment_requirements.clone() };
        let (resource, extension) = (resource.clone(), extension.clone());
        held.sold.insert(channel_id, Sold { channel_id: channel_id.into(), resource, extension, requirements });
    }

    /// What some of these channels have paid for, to be sent along.
    fn sold_by(&self, vouchers: &[ForwardedVoucher]) -> Vec<Sold> {
        let mut held = self.lock();
        let sold = vouchers.iter().filter_map(|forwarded| held.sold.remove(forwarded.voucher.channel_id.as_bytes()));
        sold.take(MAX_SOLD).collect()
    }

    /// The channel closes: its voucher cannot wait.
    pub(super) fn is_urgent(&self, channel_id: [u8; 32]) {
        let mut held = self.lock();
        held.waiting.insert(channel_id);
        held.urgent.insert(channel_id);
    }

    /// The channel is over.
    pub(super) fn forget(&self, channel_id: &[u8; 32]) {
        let mut held = self.lock();
        held.waiting.remove(channel_id);
        held.urgent.remove(channel_id);
    }

    fn is_anything_urgent(&self) -> bool {
        !self.lock().urgent.is_empty()
    }

    /// Takes all that waits. What is charged from now on waits anew.
    fn take(&self) -> Vec<[u8; 32]> {
        self.lock().waiting.drain().collect()
    }

    /// What was taken and not handed over waits again.
    fn put_back(&self, channels: impl IntoIterator<Item = [u8; 32]>) {
        self.lock().waiting.extend(channels);
    }

    /// What was taken is handed over, or there is nothing of it.
    fn is_done(&self, channel_id: &[u8; 32]) {
        self.lock().urgent.remove(channel_id);
    }
}

impl Embedded {
    /// Hands over what the facilitator does not have yet. Says whether all of it was taken.
    async fn hand_all_over(&self) -> Result<bool, Failure> {
        let taken = self.forwarded.take();
        let mut all_taken = true;
        for (done, some) in (0usize..).zip(taken.chunks(MAX_FORWARDED)) {
            let handed = match self.newest_of(some).await {
                Ok(vouchers) => self.hand(vouchers).await,
                Err(rejection) => Err(rejection.into()),
            };
            match handed {
                Ok(taken) => all_taken &= taken,
                Err(failure) => {
                    let left = taken.chunks(MAX_FORWARDED).skip(done).flatten();
                    self.forwarded.put_back(left.copied());
                    return Err(failure);
                }
            }
        }
        Ok(all_taken)
    }

    /// What there is to hand over of some channels.
    async fn newest_of(&self, channels: &[[u8; 32]]) -> Result<Vec<ForwardedVoucher>, Rejection> {
        self.sequencer.prove(channels.iter().copied()).await?;
        let found = self.sequencer.insist(|desk| {
            let found = channels.iter().map(|id| (id, desk.ledger.channel(id).and_then(|channel| forwarded(&channel))));
            found.collect::<Vec<_>>()
        });
        let found = found.await?;
        found.iter().filter(|(_, voucher)| voucher.is_none()).for_each(|(id, _)| self.forwarded.is_done(id));
        Ok(found.into_iter().filter_map(|(_, voucher)| voucher).collect())
    }

    /// Hands over one channel's voucher, and returns once the facilitator has it.
    pub(super) async fn hand_over(&self, channel_id: &Key) -> Result<(), Failure> {
        let id = channel_id.0;
        self.sequencer.prove([id]).await?;
        let channel =
            self.sequencer.ask(move |desk| desk.ledger.channel(&id).and_then(|channel| forwarded(&channel))).await?;
        match channel {
            Some(voucher) if !self.hand(vec![voucher]).await? => Err(Failure::Unknown),
            Some(_) | None => Ok(()),
        }
    }

    async fn hand(&self, vouchers: Vec<ForwardedVoucher>) -> Result<bool, Failure> {
        if vouchers.is_empty() {
            return Ok(true);
        }
        let mut sent: HashSet<Key> = vouchers.iter().map(|sent| sent.voucher.channel_id).collect();
        let sold = self.forwarded.sold_by(&vouchers);
        let answer = self.facilitator.forward(&ForwardRequest { book: self.book, vouchers, sold }).await?;
        for one in &answer.taken {
            // Only what we have sent counts, whatever the facilitator says it holds.
            match &one.error {
                None if sent.remove(&one.channel_id) => self.forwarded.is_done(one.channel_id.as_bytes()),
                Some(reason) if sent.contains(&one.channel_id) => {
                    tracing::warn!(channel = %one.channel_id, reason = %reason.name(), "the facilitator does not take a voucher");
                }
                None | Some(_) => {}
            }
        }
        self.forwarded.put_back(sent.iter().map(|channel_id| channel_id.0));
        Ok(sent.is_empty())
    }
}

/// What is to be handed over of a channel; nothing before it has paid for anything.
fn forwarded(channel: &Channel) -> Option<ForwardedVoucher> {
    let voucher = channel.newest()?;
    // What somebody has claimed beyond our voucher is settled already.
    let charged = channel.charged().min(voucher.cumulative);
    (!charged.is_zero()).then(|| ForwardedVoucher { voucher: (*voucher).into(), charged })
}

/// Hands over again and again, for as long as somebody uses the ledger.
pub(super) async fn forward(embedded: Weak<Embedded>) {
    let mut pause = Duration::ZERO;
    let mut terms_asked = None::<Instant>;
    loop {
        let Some(this) = embedded.upgrade() else { return };
        if terms_asked.is_none_or(|asked| asked.elapsed() >= TERMS_EVERY) {
            this.refresh_terms().await;
            terms_asked = Some(Instant::now());
        }
        let every = this.settings.forward_every;
        pause = match this.hand_all_over().await {
            Ok(true) => every,
            Err(failure) if failure == Rejection::StoreUnavailable.into() => return,
            // A closing channel does not wait longer because the others do.
            _ if this.forwarded.is_anything_urgent() => every,
            Ok(false) => pause.saturating_mul(2).clamp(every, MAX_PAUSE),
            Err(failure) => {
                tracing::warn!(reason = %failure.reason().name(), "vouchers wait: the facilitator does not take them now");
                pause.saturating_mul(2).clamp(every, MAX_PAUSE)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = this.urgent.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_channels_that_wait_when_taken_then_each_is_there_once_and_what_is_charged_meanwhile_waits_anew() {
        let forwarded = Forwarded::default();
        [1, 2, 1].iter().for_each(|channel| forwarded.is_waiting([*channel; 32]));
        let mut taken = forwarded.take();
        taken.sort_unstable();
        assert_eq!(taken, [[1; 32], [2; 32]]);
        assert!(forwarded.take().is_empty(), "only what has changed since");
        forwarded.is_waiting([1; 32]);
        forwarded.put_back([[2; 32]]);
        assert_eq!(forwarded.take().len(), 2);
        forwarded.is_waiting([3; 32]);
        forwarded.forget(&[3; 32]);
        assert!(forwarded.take().is_empty(), "what is over waits for nothing");
    }

    #[test]
    fn given_a_channel_that_closes_when_it_is_handed_over_then_nothing_is_urgent_any_more() {
        let forwarded = Forwarded::default();
        forwarded.is_urgent([1; 32]);
        assert_eq!(forwarded.take(), [[1; 32]]);
        assert!(forwarded.is_anything_urgent());
        forwarded.is_done(&[1; 32]);
        assert!(!forwarded.is_anything_urgent());
    }
}
