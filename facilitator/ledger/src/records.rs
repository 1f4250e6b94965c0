//! Records of channels that do not stand on chain as far as is known: read back and not met yet, or ended and not final yet.
//! Packed as channels are. Their vouchers are verified once they are met: see [`crate::Unproven`].

use crate::rows::{Last, Pages};
use crate::slab::{Named, Slab};
use crate::{ChannelRecord, LastCall, Place};
use std::collections::HashMap;
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;

/// All of them, by id.
#[derive(Clone, Default)]
pub(crate) struct Records {
    slab: Slab<Packed>,
    pages: Pages,
    /// Where those of each page are: a look at one page walks no others, however many there are.
    by_page: HashMap<u32, Vec<u32>>,
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
        // A damaged record may name another page than the one in whose place it comes.
        self.remove(&record.voucher.channel_id);
        let (last, last_charge) = Last::of(record.last.as_ref(), Some(&record.voucher));
        let page = self.pages.number(&record.place.page);
        let at = self.slab.put(Packed {
            voucher: record.voucher,
            payer: record.payer,
            signer: record.signer,
            charged: record.charged,
            unsettled_since: record.unsettled_since,
            leaving_since: record.leaving_since,
            last_charge,
            other: record.last.filter(|_| last == Last::OfAnother).map(Box::new),
            generation: record.place.generation,
            page,
            slot: record.place.slot,
            last,
        });
        self.by_page.entry(page).or_default().push(at);
    }

    /// Where a channel was.
    pub(crate) fn place(&self, id: &[u8; 32]) -> Option<Place> {
        self.slab.get(id).map(|packed| packed.place(&self.pages))
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, id: &[u8; 32]) -> Option<ChannelRecord> {
        let at = self.slab.place(id)?;
        let packed = self.slab.remove(id)?;
        if let Some(places) = self.by_page.get_mut(&packed.page) {
            places.retain(|place| *place != at);
            if places.is_empty() {
                self.by_page.remove(&packed.page);
            }
        }
        Some(packed.record(&self.pages))
    }

    /// Takes out all of a page that are over; gives their ids, in order.
    pub(crate) fn remove_of(
        &mut self,
        page: &[u8; 32],
        mut is_over: impl FnMut(&[u8; 32], &Place) -> bool,
    ) -> Vec<[u8; 32]> {
        let of_page = self.pages.known(page).and_then(|page| self.by_page.get(&page));
        let packed = of_page.into_iter().flatten().filter_map(|at| self.slab.at(*at));
        let over = packed.filter(|packed| is_over(packed.id(), &packed.place(&self.pages)));
        let mut over: Vec<_> = over.map(|packed| *packed.id()).collect();
        over.sort_unstable();
        for id in &over {
            self.remove(id);
        }
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
