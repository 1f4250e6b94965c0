use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tallybook_ledger::Event;

/// Whose vouchers bind each open channel: read by requests, so that signatures are verified without waiting for the
/// writer. Clones share one list.
#[derive(Clone, Default, Debug)]
pub struct Signers(Arc<RwLock<HashMap<[u8; 32], Sides>>>);

/// Who pays from a channel.
#[derive(Clone, Copy, Debug)]
struct Sides {
    payer: [u8; 32],
    signer: [u8; 32],
}

impl Signers {
    /// The signer of a channel; none of one that no observed page shows.
    pub fn of(&self, channel_id: &[u8; 32]) -> Option<[u8; 32]> {
        let signers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        signers.get(channel_id).map(|sides| sides.signer)
    }

    /// The payer of a channel; none of one that no observed page shows.
    pub fn payer_of(&self, channel_id: &[u8; 32]) -> Option<[u8; 32]> {
        let signers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        signers.get(channel_id).map(|sides| sides.payer)
    }

    /// Forgets channels that somebody else keeps from now on.
    pub(crate) fn forget(&self, channel_ids: &[[u8; 32]]) {
        let mut signers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for channel_id in channel_ids {
            signers.remove(channel_id);
        }
    }

    /// Takes in what the chain has shown.
    pub(crate) fn note(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let mut signers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            match event {
                Event::Opened { channel_id, payer, signer } => {
                    signers.insert(*channel_id, Sides { payer: *payer, signer: *signer });
                }
                Event::Over { channel_id, .. } => drop(signers.remove(channel_id)),
                Event::Closing { .. } => {}
            }
        }
    }
}
