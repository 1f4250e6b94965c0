//! Handing vouchers to the facilitator, so that they are settled: in the background, many at once, again and again until
//! it says that it has them. After a restart all are handed over anew, which changes nothing for those it has.

use super::Embedded;
use crate::keeper::Failure;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tallybook_ledger::Channel;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{ForwardRequest, ForwardedVoucher, Key, MAX_FORWARDED};

/// The longest pause between two tries while the facilitator does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How often the facilitator is asked for its terms.
const TERMS_EVERY: Duration = Duration::from_secs(60);

/// What the facilitator has said that it holds.
#[derive(Default, Debug)]
pub(super) struct Forwarded(Mutex<Held>);

#[derive(Default, Debug)]
struct Held {
    /// Charged, by channel.
    charged: HashMap<[u8; 32], Amount>,
    /// Channels that are closing: handed over at once.
    urgent: HashSet<[u8; 32]>,
}

impl Forwarded {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel closes: its voucher cannot wait.
    pub(super) fn is_urgent(&self, channel_id: [u8; 32]) {
        self.lock().urgent.insert(channel_id);
    }

    /// The channel is over.
    pub(super) fn forget(&self, channel_id: &[u8; 32]) {
        let mut held = self.lock();
        held.charged.remove(channel_id);
        held.urgent.remove(channel_id);
    }

    fn has(&self, channel: &Channel) -> bool {
        self.lock().charged.get(channel.id()).is_some_and(|held| *held >= channel.charged())
    }

    fn is_anything_urgent(&self) -> bool {
        !self.lock().urgent.is_empty()
    }

    fn took(&self, channel_id: [u8; 32], charged: Amount) {
        let mut held = self.lock();
        held.urgent.remove(&channel_id);
        let known = held.charged.entry(channel_id).or_default();
        *known = (*known).max(charged);
    }
}

impl Embedded {
    /// Hands over what the facilitator does not have yet. Says whether all of it was taken.
    async fn hand_all_over(self: &Arc<Self>) -> Result<bool, Failure> {
        let this = Arc::clone(self);
        let waiting = self.sequencer.insist(move |desk| {
            let channels = desk.ledger.channels().filter(|channel| !this.forwarded.has(channel));
            channels.filter_map(forwarded).collect::<Vec<_>>()
        });
        let mut all_taken = true;
        for some in waiting.await?.chunks(MAX_FORWARDED) {
            all_taken &= self.hand(some.to_vec()).await?;
        }
        Ok(all_taken)
    }

    /// Hands over one channel's voucher, and returns once the facilitator has it.
    pub(super) async fn hand_over(&self, channel_id: &Key) -> Result<(), Failure> {
        let id = channel_id.0;
        let channel = self.sequencer.ask(move |desk| desk.ledger.channel(&id).and_then(forwarded)).await?;
        match channel {
            Some(voucher) if !self.hand(vec![voucher]).await? => Err(Failure::Unknown),
            Some(_) | None => Ok(()),
        }
    }

    async fn hand(&self, vouchers: Vec<ForwardedVoucher>) -> Result<bool, Failure> {
        let charged: HashMap<Key, Amount> =
            vouchers.iter().map(|sent| (sent.voucher.channel_id, sent.charged)).collect();
        let answer = self.facilitator.forward(&ForwardRequest { book: self.book, vouchers }).await?;
        let mut taken = 0usize;
        for one in &answer.taken {
            // Only what we have sent counts, whatever the facilitator says it holds.
            match (charged.get(&one.channel_id), &one.error) {
                (Some(sent), None) => {
                    self.forwarded.took(one.channel_id.0, *sent);
                    taken = taken.saturating_add(1);
                }
                (Some(_), Some(reason)) => {
                    tracing::warn!(channel = %one.channel_id, reason = %reason.name(), "the facilitator does not take a voucher");
                }
                (None, _) => {}
            }
        }
        Ok(taken >= charged.len())
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
