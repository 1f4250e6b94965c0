//! All channels, packed: what a channel rarely has is kept beside it only while it has it, and nothing is kept twice. A
//! channel is unpacked for a decision and packed again after it; both are copies of some hundred bytes.
//!
//! What is known twice of a channel, and so kept once: its id and its signer stand in its newest voucher too; the last call
//! was mostly paid for by the newest voucher; its page is that of many.

use crate::channel::Reservation;
use crate::{Channel, LastCall, Place};
use hashbrown::HashTable;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use tallybook_rules::signing::VerifiedVoucher;
use tallybook_rules::{Amount, Slot};

/// Rows that are allocated together: a table that grows moves none of them.
const CHUNK: usize = 1_024;

/// All channels, by id.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    /// Where each row is, by the hash of its id. Seeded, so that nobody can choose ids that fall together.
    places: HashTable<u32>,
    seed: RandomState,
    chunks: Vec<Vec<Option<Row>>>,
    /// Rows that are free.
    free: Vec<u32>,
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
enum Last {
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
        let at = self.places.find(self.hash(id), |at| self.is(*at, id))?;
        Some(self.row(*at)?.channel(&self.pages))
    }

    /// Keeps a channel, in the place of what was kept of it.
    pub(crate) fn put(&mut self, channel: &Channel) {
        let page = self.pages.number(&channel.place.page);
        let row = Row::of(channel, page);
        let hash = self.hash(&channel.id);
        self.unsettled = self.unsettled.saturating_add(channel.gain().get().into());
        if let Some(at) = self.places.find(hash, |at| self.is(*at, &channel.id)).copied() {
            self.unsettled = self.unsettled.saturating_sub(self.gain(at));
            self.set(at, Some(row));
            return;
        }
        let at = self.free.pop().unwrap_or_else(|| self.grow());
        self.set(at, Some(row));
        let Self { places, seed, chunks, .. } = self;
        places.insert_unique(hash, at, |at| row_in(chunks, *at).map_or(0, |row| seed.hash_one(row.id())));
    }

    /// Takes a channel out.
    pub(crate) fn remove(&mut self, id: &[u8; 32]) -> Option<Channel> {
        let channel = self.get(id)?;
        let hash = self.hash(id);
        let Self { places, chunks, .. } = self;
        let is = |at: &u32| row_in(chunks, *at).is_some_and(|row| row.id() == id);
        let (at, _) = places.find_entry(hash, is).ok()?.remove();
        self.unsettled = self.unsettled.saturating_sub(channel.gain().get().into());
        self.set(at, None);
        self.free.push(at);
        Some(channel)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// What all of them can claim together now, in base units of all mints, as far as 64 bits say it.
    pub(crate) fn unsettled(&self) -> Amount {
        Amount::new(u64::try_from(self.unsettled).unwrap_or(u64::MAX))
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Channel> + '_ {
        self.chunks.iter().flatten().flatten().map(|row| row.channel(&self.pages))
    }

    fn hash(&self, id: &[u8; 32]) -> u64 {
        self.seed.hash_one(id)
    }

    fn row(&self, at: u32) -> Option<&Row> {
        row_in(&self.chunks, at)
    }

    fn is(&self, at: u32, id: &[u8; 32]) -> bool {
        self.row(at).is_some_and(|row| row.id() == id)
    }

    fn gain(&self, at: u32) -> u128 {
        self.row(at).map_or(0, |row| row.channel(&self.pages).gain().get().into())
    }

    fn set(&mut self, at: u32, row: Option<Row>) {
        let (chunk, within) = split(at);
        if let Some(place) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.get_mut(within)) {
            *place = row;
        }
    }

    /// One more row. Beyond 2^32 of them, which no memory holds, the last one is given again.
    fn grow(&mut self) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = self.chunks.len().saturating_sub(1).saturating_mul(CHUNK);
        let Some(chunk) = self.chunks.last_mut() else { return u32::MAX };
        chunk.push(None);
        u32::try_from(before.saturating_add(chunk.len()).saturating_sub(1)).unwrap_or(u32::MAX)
    }
}

fn split(at: u32) -> (usize, usize) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    (at / CHUNK, at % CHUNK)
}

fn row_in(chunks: &[Vec<Option<Row>>], at: u32) -> Option<&Row> {
    let (chunk, within) = split(at);
    chunks.get(chunk)?.get(within)?.as_ref()
}

impl Row {
    fn of(channel: &Channel, page: u32) -> Self {
        let Channel { id, place, on_chain, newest, last, .. } = *channel;
        let bound = newest.map_or(Bound::Unpaid { id, signer: on_chain.signer }, Bound::Paid);
        let (last, last_charge) = match last {
            None => (Last::Never, Amount::ZERO),
            Some(call) if newest.is_some_and(|newest| call.is_of(newest.voucher())) => match call.charge {
                Some(charge) => (Last::OfNewest, charge),
                None => (Last::OfNewestForSomething, Amount::ZERO),
            },
            Some(_) => (Last::OfAnother, Amount::ZERO),
        };
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

    fn id(&self) -> &[u8; 32] {
        match &self.bound {
            Bound::Unpaid { id, .. } => id,
            Bound::Paid(newest) => &newest.voucher().channel_id,
        }
    }

    fn channel(&self, pages: &Pages) -> Channel {
        let (id, signer, newest) = match &self.bound {
            Bound::Unpaid { id, signer } => (*id, *signer, None),
            Bound::Paid(newest) => (newest.voucher().channel_id, *newest.signer(), Some(*newest)),
        };
        let rare = self.rare.as_deref().copied().unwrap_or_default();
        let of_newest = |charge| {
            let voucher = newest.as_ref()?.voucher();
            Some(LastCall { cumulative: voucher.cumulative, signature: voucher.signature, charge })
        };
        let last = match self.last {
            Last::Never => None,
            Last::OfNewest => of_newest(Some(self.last_charge)),
            Last::OfNewestForSomething => of_newest(None),
            Last::OfAnother => rare.last,
        };
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
struct Pages {
    addresses: Vec<[u8; 32]>,
    numbers: HashMap<[u8; 32], u32>,
}

impl Pages {
    fn number(&mut self, page: &[u8; 32]) -> u32 {
        if let Some(number) = self.numbers.get(page) {
            return *number;
        }
        let number = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        self.addresses.push(*page);
        self.numbers.insert(*page, number);
        number
    }

    fn address(&self, number: u32) -> [u8; 32] {
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
