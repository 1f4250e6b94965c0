//! Records of channels that do not stand on chain as far as is known: read back and not met yet, or ended and not final yet.
//! Packed as channels are. Their vouchers are verified when they are met, a page's at once.

use crate::rows::{Last, Pages};
use crate::slab::{Named, Slab};
use crate::{ChannelRecord, LastCall, Place};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;

/// All of them, by id.
#[derive(Clone, Default)]
pub(crate) struct Records {
    slab: Slab<Packed>,
    pages: Pages,
}

#[derive(Clone)]
struct Packed {
    voucher: SignedVoucher,
    payer: [u8; 32],
    signer: [u8; 32],
    charged: Amount,
    unsettled_since: i64,
    leaving_since: i64,
    /// What the last call cost, if it is [`Last::OfNewest`].
    last_charge: Amount,
    /// The last call, if it is [`Last::OfAnother`].
    other: Option<Box<LastCall>>,
    generation: u32,
    page: u32,
    slot: u8,
    last: Last,
}

impl Named for Packed {
    fn id(&self) -> &[u8; 32] {
        &self.voucher.channel_id
    }
}

impl Records {
    /// Keeps a record, in the place of what was kept of its channel.
    pub(crate) fn put(&mut self, record: &ChannelRecord) {
        let (last, last_charge) = Last::of(record.last.as_ref(), Some(&record.voucher));
        self.slab.put(Packed {
            voucher: record.voucher,
            payer: record.payer,
            signer: record.signer,
            charged: record.charged,
            unsettled_since: record.unsettled_since,
            leaving_since: record.leaving_since,
            last_charge,
            other: record.last.filter(|_| last == Last::OfAnother).map(Box::new),
            generation: record.place.generation,
            page: self.pages.number(&record.place.page),
            slot: record.place.slot,
            last,
        });
    }

    /// The voucher of a channel, and who is said to have signed it.
    pub(crate) fn voucher(&self, id: &[u8; 32]) -> Option<(SignedVoucher, [u8; 32])> {
        self.slab.get(id).map(|packed| (packed.voucher, packed.signer))
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, id: &[u8; 32]) -> Option<ChannelRecord> {
        self.slab.remove(id).map(|packed| packed.record(&self.pages))
    }

    /// Takes out all that are over; gives their ids, in order.
    pub(crate) fn remove_if(&mut self, mut is_over: impl FnMut(&[u8; 32], &Place) -> bool) -> Vec<[u8; 32]> {
        let over = self.slab.iter().filter(|packed| is_over(packed.id(), &packed.place(&self.pages)));
        let mut over: Vec<_> = over.map(|packed| *packed.id()).collect();
        over.sort_unstable();
        over.iter().for_each(|id| drop(self.slab.remove(id)));
        over
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }
}

impl Packed {
    fn place(&self, pages: &Pages) -> Place {
        Place { page: pages.address(self.page), slot: self.slot, generation: self.generation }
    }

    fn record(self, pages: &Pages) -> ChannelRecord {
        ChannelRecord {
            place: self.place(pages),
            payer: self.payer,
            signer: self.signer,
            voucher: self.voucher,
            charged: self.charged,
            last: self.last.call(self.last_charge, Some(&self.voucher), self.other.as_deref().copied()),
            unsettled_since: self.unsettled_since,
            leaving_since: self.leaving_since,
        }
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("channels", &self.len()).finish_non_exhaustive()
    }
}
