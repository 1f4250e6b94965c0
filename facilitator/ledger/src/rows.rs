//! All channels, packed: what a channel rarely has is kept beside it only while it has it, and nothing is kept twice. A
//! channel is unpacked for a decision and packed again after it; both are copies of some hundred bytes.
//!
//! What is known twice of a channel, and so kept once: its id and its signer stand in its newest voucher too; the last call
//! was mostly paid for by the newest voucher; its page is that of many.

use crate::channel::{Newest, Reservation};
use crate::slab::{Named, Slab};
use crate::{Channel, LastCall, Place};
use std::collections::{BTreeMap, HashMap};
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_rules::{Amount, Slot};

/// All channels, by id.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    slab: Slab<Row>,
    pages: Pages,
    rares: Rares,
    /// What all of them can claim together.
    unsettled: u128,
    /// How many of a page have a stored voucher that was not verified again yet; only pages with one.
    unproven: BTreeMap<u32, u32>,
}

/// A packed channel.
#[derive(Clone)]
struct Row {
    bound: Bound,
    payer: [u8; 32],
    deposit: Amount,
    settled: Amount,
    closing_at: i64,
    last_activity: i64,
    funded: Amount,
    final_deposit: Amount,
    charged: Amount,
    unsettled_since: i64,
    /// What the last call cost, if it is [`Last::OfNewest`].
    last_charge: Amount,
    /// Where its [`Rare`] is, or [`NO_RARE`].
    rare: u32,
    generation: u32,
    page: u32,
    slot: u8,
    status_byte: u8,
    spare: [u8; 3],
    last: Last,
    in_flight: bool,
}

/// Whose vouchers bind a channel, with the newest of them.
#[derive(Clone, Copy)]
enum Bound {
    Unpaid {
        id: [u8; 32],
        signer: [u8; 32],
    },
    /// As it was stored, not verified again yet.
    Stored {
        voucher: SignedVoucher,
        signer: [u8; 32],
    },
    Paid(VerifiedVoucher),
}

/// What is known of the last call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// There was none.
    Never,
    /// Paid for by the newest voucher; its charge is beside it.
    OfNewest,
    /// The same, and what it cost is not known.
    OfNewestForSomething,
    /// Paid for by another voucher, in [`Rare`].
    OfAnother,
}

/// What few channels have at a time.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Rare {
    reservation: Option<Reservation>,
    last: Option<LastCall>,
    leaving_since: i64,
    claim_after: i64,
}

/// What is rare, each in a place of its own. A place that was given back is used again, so that a call, which has a
/// reservation for a moment, allocates nothing.
#[derive(Clone, Default)]
struct Rares {
    all: Vec<Rare>,
    free: Vec<u32>,
}

/// The place of what is not there.
const NO_RARE: u32 = u32::MAX;

impl Rares {
    fn at(&self, at: u32) -> Rare {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.all.get(at).copied().unwrap_or_default()
    }

    /// Keeps it in the place of what was at `before`; gives its place, none for nothing.
    fn put(&mut self, before: u32, rare: Rare) -> u32 {
        if rare == Rare::default() {
            self.free.extend(Some(before).filter(|before| *before != NO_RARE));
            return NO_RARE;
        }
        let at = if before == NO_RARE { self.free.pop() } else { Some(before) };
        let at = at.unwrap_or_else(|| {
            self.all.push(Rare::default());
            u32::try_from(self.all.len()).unwrap_or(NO_RARE).saturating_sub(1)
        });
        if let Some(place) = usize::try_from(at).ok().and_then(|at| self.all.get_mut(at)) {
            *place = rare;
        }
        at
    }
}

impl Rows {
    /// The channel of this id.
    pub(crate) fn get(&self, id: &[u8; 32]) -> Option<Channel> {
        self.slab.get(id).map(|row| self.unpacked(row))
    }

    /// Keeps a channel, in the place of what was kept of it.
    pub(crate) fn put(&mut self, channel: &Channel) {
        let Self { slab, pages, rares, unsettled, unproven } = self;
        let page = pages.number(&channel.place.page);
        slab.put_after(&channel.id, |before| {
            let rare_before = before.map_or(NO_RARE, |before| {
                *unsettled = unsettled.saturating_sub(before.channel(pages, rares).gain().get().into());
                count(unproven, before, -1);
                before.rare
            });
            *unsettled = unsettled.saturating_add(channel.gain().get().into());
            let (mut row, rare) = Row::of(channel, page);
            row.rare = rares.put(rare_before, rare);
            count(unproven, &row, 1);
            row
        });
    }

    /// Takes a channel out.
    pub(crate) fn remove(&mut self, id: &[u8; 32]) -> Option<Channel> {
        let row = self.slab.remove(id)?;
        let channel = self.unpacked(&row);
        count(&mut self.unproven, &row, -1);
        self.rares.put(row.rare, Rare::default());
        self.unsettled = self.unsettled.saturating_sub(channel.gain().get().into());
        Some(channel)
    }

    /// The first page of which a channel has a stored voucher that was not verified again yet.
    pub(crate) fn unproven_page(&self) -> Option<[u8; 32]> {
        self.unproven.first_key_value().map(|(page, _)| self.pages.address(*page))
    }

    /// The same, all of them.
    pub(crate) fn unproven_pages(&self) -> Vec<[u8; 32]> {
        self.unproven.keys().map(|page| self.pages.address(*page)).collect()
    }

    fn unpacked(&self, row: &Row) -> Channel {
        row.channel(&self.pages, &self.rares)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// What all of them can claim together now, in base units of all mints, as far as 64 bits say it.
    pub(crate) fn unsettled(&self) -> Amount {
        Amount::new(u64::try_from(self.unsettled).unwrap_or(u64::MAX))
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Channel> + '_ {
        self.slab.iter().map(|row| self.unpacked(row))
    }
}

impl Named for Row {
    fn id(&self) -> &[u8; 32] {
        match &self.bound {
            Bound::Unpaid { id, .. } => id,
            Bound::Stored { voucher, .. } => &voucher.channel_id,
            Bound::Paid(newest) => &newest.voucher().channel_id,
        }
    }
}

impl Last {
    /// How a last call is told beside the newest voucher: its kind, and what it cost where that is beside it.
    pub(crate) fn of(last: Option<&LastCall>, newest: Option<&SignedVoucher>) -> (Self, Amount) {
        match last {
            None => (Self::Never, Amount::ZERO),
            Some(call) if newest.is_some_and(|newest| call.is_of(newest)) => match call.charge {
                Some(charge) => (Self::OfNewest, charge),
                None => (Self::OfNewestForSomething, Amount::ZERO),
            },
            Some(_) => (Self::OfAnother, Amount::ZERO),
        }
    }

    /// The call that was told so.
    pub(crate) fn call(
        self,
        charge: Amount,
        newest: Option<&SignedVoucher>,
        other: Option<LastCall>,
    ) -> Option<LastCall> {
        let of_newest = |charge| {
            newest.map(|voucher| LastCall { cumulative: voucher.cumulative, signature: voucher.signature, charge })
        };
        match self {
            Self::Never => None,
            Self::OfNewest => of_newest(Some(charge)),
            Self::OfNewestForSomething => of_newest(None),
            Self::OfAnother => other,
        }
    }
}

/// Counts a row in its page, or out of it, if its stored voucher was not verified again yet.
fn count(unproven: &mut BTreeMap<u32, u32>, row: &Row, by: i32) {
    if !matches!(row.bound, Bound::Stored { .. }) {
        return;
    }
    let rows = unproven.entry(row.page).or_default();
    *rows = rows.saturating_add_signed(by);
    if *rows == 0 {
        unproven.remove(&row.page);
    }
}

impl Row {
    /// A channel packed, and what is rare of it, which has no place yet.
    fn of(channel: &Channel, page: u32) -> (Self, Rare) {
        let Channel { id, place, on_chain, newest, last, .. } = *channel;
        let signer = on_chain.signer;
        let bound = match newest {
            Newest::None => Bound::Unpaid { id, signer },
            Newest::Unproven(voucher) => Bound::Stored { voucher, signer },
            Newest::Proven(voucher) => Bound::Paid(voucher),
        };
        let (last, last_charge) = Last::of(last.as_ref(), newest.voucher());
        let rare = Rare {
            reservation: channel.reservation,
            last: channel.last.filter(|_| last == Last::OfAnother),
            leaving_since: channel.leaving_since,
            claim_after: channel.claim_after,
        };
        let row = Self {
            bound,
            payer: on_chain.payer,
            deposit: on_chain.deposit,
            settled: on_chain.settled,
            closing_at: on_chain.closing_at,
            last_activity: on_chain.last_activity,
            funded: channel.funded,
            final_deposit: channel.final_deposit,
            charged: channel.charged,
            unsettled_since: channel.unsettled_since,
            last_charge,
            rare: NO_RARE,
            generation: on_chain.generation,
            page,
            slot: place.slot,
            status_byte: on_chain.status_byte,
            spare: on_chain.spare,
            last,
            in_flight: channel.in_flight,
        };
        (row, rare)
    }

    fn channel(&self, pages: &Pages, rares: &Rares) -> Channel {
        let (id, signer, newest) = match &self.bound {
            Bound::Unpaid { id, signer } => (*id, *signer, Newest::None),
            Bound::Stored { voucher, signer } => (voucher.channel_id, *signer, Newest::Unproven(*voucher)),
            Bound::Paid(newest) => (newest.voucher().channel_id, *newest.signer(), Newest::Proven(*newest)),
        };
        let rare = if self.rare == NO_RARE { Rare::default() } else { rares.at(self.rare) };
        let last = self.last.call(self.last_charge, newest.voucher(), rare.last);
        Channel {
            id,
            place: Place { page: pages.address(self.page), slot: self.slot, generation: self.generation },
            on_chain: Slot {
                payer: self.payer,
                signer,
                deposit: self.deposit,
                settled: self.settled,
                closing_at: self.closing_at,
                last_activity: self.last_activity,
                generation: self.generation,
                status_byte: self.status_byte,
                spare: self.spare,
            },
            funded: self.funded,
            final_deposit: self.final_deposit,
            charged: self.charged,
            newest,
            last,
            unsettled_since: self.unsettled_since,
            leaving_since: rare.leaving_since,
            reservation: rare.reservation,
            in_flight: self.in_flight,
            claim_after: rare.claim_after,
        }
    }
}

/// Addresses of pages, each once, by a number that is given when a channel is first met in it. None is ever forgotten:
/// pages are few, and seldom closed.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    addresses: Vec<[u8; 32]>,
    numbers: HashMap<[u8; 32], u32>,
}

impl Pages {
    pub(crate) fn number(&mut self, page: &[u8; 32]) -> u32 {
        if let Some(number) = self.numbers.get(page) {
            return *number;
        }
        let number = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        self.addresses.push(*page);
        self.numbers.insert(*page, number);
        number
    }

    /// The number of a page in which a channel was met.
    pub(crate) fn known(&self, page: &[u8; 32]) -> Option<u32> {
        self.numbers.get(page).copied()
    }

    pub(crate) fn address(&self, number: u32) -> [u8; 32] {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.addresses.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("channels", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
