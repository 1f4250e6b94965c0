use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tallybook_ledger::Event;

/// Whose vouchers bind each open channel: read by requests, so that signatures are verified without waiting for the
/// writer. Clones share one list.
///
/// It is divided by the first byte of the id: a part that grows moves all that is in it, and calls wait meanwhile.
#[derive(Clone, Debug)]
pub struct Signers(Arc<[RwLock<Part>; 256]>);

/// Those whose ids begin alike. Seeded, so that nobody can choose ids that fall together in it.
type Part = HashMap<[u8; 32], Sides>;

/// Who pays from a channel.
#[derive(Clone, Copy, Debug)]
struct Sides {
    payer: [u8; 32],
    signer: [u8; 32],
}

impl Default for Signers {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| RwLock::default())))
    }
}

impl Signers {
    /// The signer of a channel; none of one that no observed page shows.
    pub fn of(&self, channel_id: &[u8; 32]) -> Option<[u8; 32]> {
        self.sides(channel_id).map(|sides| sides.signer)
    }

    /// The payer of a channel; none of one that no observed page shows.
    pub fn payer_of(&self, channel_id: &[u8; 32]) -> Option<[u8; 32]> {
        self.sides(channel_id).map(|sides| sides.payer)
    }

    /// Forgets channels that somebody else keeps from now on.
    pub(crate) fn forget(&self, channel_ids: &[[u8; 32]]) {
        for channel_id in channel_ids {
            self.change(channel_id, |part| part.remove(channel_id));
        }
    }

    /// Takes in what the chain has shown.
    pub(crate) fn note(&self, events: &[Event]) {
        for event in events {
            match event {
                Event::Opened { channel_id, payer, signer } => {
                    let sides = Sides { payer: *payer, signer: *signer };
                    self.change(channel_id, |part| part.insert(*channel_id, sides));
                }
                Event::Over { channel_id, .. } => self.change(channel_id, |part| part.remove(channel_id)),
                Event::Closing { .. } => {}
            }
        }
    }

    fn sides(&self, channel_id: &[u8; 32]) -> Option<Sides> {
        let part = self.part(channel_id)?.read().unwrap_or_else(PoisonError::into_inner);
        part.get(channel_id).copied()
    }

    fn change(&self, channel_id: &[u8; 32], change: impl FnOnce(&mut Part) -> Option<Sides>) {
        if let Some(part) = self.part(channel_id) {
            change(&mut part.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// There is one for every byte.
    fn part(&self, channel_id: &[u8; 32]) -> Option<&RwLock<Part>> {
        let [first, ..] = *channel_id;
        self.0.get(usize::from(first))
    }
}
