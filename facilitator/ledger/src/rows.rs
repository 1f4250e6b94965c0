//! All channels, packed: what a channel rarely has is kept beside it only while it has it, and nothing is kept twice. A
//! channel is unpacked for a decision and packed again after it; both are copies of some hundred bytes.
//!
//! What is known twice of a channel, and so kept once: its id and its signer stand in its newest voucher too; the last call
//! was mostly paid for by the newest voucher; its page is that of many.

use crate::channel::Reservation;
use crate::slab::{Named, Slab};
use crate::{Channel, LastCall, Place};
use std::collections::HashMap;
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_rules::{Amount, Slot};

/// All channels, by id.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    slab: Slab<Row>,
    pages: Pages,
    /// What all of them can claim together.
    unsettled: u128,
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
    rare: Option<Box<Rare>>,
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
    Unpaid { id: [u8; 32], signer: [u8; 32] },
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

impl Rows {
    /// The channel of this id.
    pub(crate) fn get(&self, id: &[u8; 32]) -> Option<Channel> {
        self.slab.get(id).map(|row| row.channel(&self.pages))
    }

    /// Keeps a channel, in the place of what was kept of it.
    pub(crate) fn put(&mut self, channel: &Channel) {
        let page = self.pages.number(&channel.place.page);
        self.unsettled = self.unsettled.saturating_add(channel.gain().get().into());
        if let Some(before) = self.slab.put(Row::of(channel, page)) {
            self.unsettled = self.unsettled.saturating_sub(before.channel(&self.pages).gain().get().into());
        }
    }

    /// Takes a channel out.
    pub(crate) fn remove(&mut self, id: &[u8; 32]) -> Option<Channel> {
        let channel = self.slab.remove(id)?.channel(&self.pages);
        self.unsettled = self.unsettled.saturating_sub(channel.gain().get().into());
        Some(channel)
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
        self.slab.iter().map(|row| row.channel(&self.pages))
    }
}

impl Named for Row {
    fn id(&self) -> &[u8; 32] {
        match &self.bound {
            Bound::Unpaid { id, .. } => id,
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

impl Row {
    fn of(channel: &Channel, page: u32) -> Self {
        let Channel { id, place, on_chain, newest, last, .. } = *channel;
        let bound = newest.map_or(Bound::Unpaid { id, signer: on_chain.signer }, Bound::Paid);
        let (last, last_charge) = Last::of(last.as_ref(), newest.as_ref().map(VerifiedVoucher::voucher));
        let rare = Rare {
            reservation: channel.reservation,
            last: channel.last.filter(|_| last == Last::OfAnother),
            leaving_since: channel.leaving_since,
            claim_after: channel.claim_after,
        };
        Self {
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
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
            generation: on_chain.generation,
            page,
            slot: place.slot,
            status_byte: on_chain.status_byte,
            spare: on_chain.spare,
            last,
            in_flight: channel.in_flight,
        }
    }

    fn channel(&self, pages: &Pages) -> Channel {
        let (id, signer, newest) = match &self.bound {
            Bound::Unpaid { id, signer } => (*id, *signer, None),
            Bound::Paid(newest) => (newest.voucher().channel_id, *newest.signer(), Some(*newest)),
        };
        let rare = self.rare.as_deref().copied().unwrap_or_default();
        let last = self.last.call(self.last_charge, newest.as_ref().map(VerifiedVoucher::voucher), rare.last);
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
