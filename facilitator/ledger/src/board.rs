use crate::Place;
use tallybook_rules::{PageHeader, Rejection, Slot};

/// A page as the chain showed it once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSeen<'a> {
    /// The page's address.
    pub address: [u8; 32],
    /// The chain's slot number when it was read: an older sight never replaces a newer one.
    pub chain_slot: u64,
    /// Totals and identity.
    pub header: &'a PageHeader,
    /// The channels.
    pub slots: &'a [Slot],
}

/// How much place there is in a book.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Room {
    /// Its pages that stand now.
    pub pages: u32,
    /// Their slots.
    pub slots: u32,
    /// Slots that a channel can be opened in.
    pub free_slots: u32,
}

/// What became of asking to hold a slot for a deposit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// The slot is held for this channel.
    Free,
    /// The channel is open already: the deposit has landed before.
    Open,
}

/// One slot, seen as a place that a channel can have.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seat {
    /// The generation of the channel in it, or of the last one.
    pub(crate) generation: u32,
    /// Who has it.
    pub(crate) channel: Option<[u8; 32]>,
    /// When it was last offered to anybody, in Unix seconds.
    offered_at: i64,
    /// The channel whose deposit is on its way, and until when the slot is kept for it.
    hold: Option<([u8; 32], i64)>,
}

/// A page seen as a row of seats.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) header: PageHeader,
    pub(crate) chain_slot: u64,
    pub(crate) seats: Vec<Seat>,
}

impl Board {
    pub(crate) fn new(seen: &PageSeen<'_>) -> Self {
        Self { header: *seen.header, chain_slot: seen.chain_slot, seats: vec![Seat::default(); seen.slots.len()] }
    }

    /// The seat to offer next, with its rank: the free one that was offered longest ago, before those that are taken.
    pub(crate) fn longest_unoffered(&self, now: i64) -> Option<((bool, i64), u8)> {
        (0u8..)
            .zip(&self.seats)
            .filter(|(_, seat)| seat.generation < u32::MAX)
            .map(|(at, seat)| ((!seat.is_free(now), seat.offered_at), at))
            .min()
    }

    /// In how many seats a channel can be opened.
    pub(crate) fn free_seats(&self, now: i64) -> usize {
        self.seats.iter().filter(|seat| seat.is_free(now) && seat.generation < u32::MAX).count()
    }

    /// Offers a seat: says with which generation it is opened.
    pub(crate) fn offer(&mut self, at: u8, now: i64) -> Result<u32, Rejection> {
        let seat = self.seats.get_mut(usize::from(at)).ok_or(Rejection::NoSuchSlot)?;
        seat.offered_at = now;
        seat.generation.checked_add(1).ok_or(Rejection::Overflow)
    }

    /// Holds a seat for a channel until a time; a later call of the same channel prolongs it.
    pub(crate) fn hold(
        &mut self,
        place: &Place,
        channel_id: [u8; 32],
        until: i64,
        now: i64,
    ) -> Result<Held, Rejection> {
        let seat = self.seats.get_mut(usize::from(place.slot)).ok_or(Rejection::NoSuchSlot)?;
        if seat.channel == Some(channel_id) {
            return Ok(Held::Open);
        }
        let taken = seat.channel.is_some() || seat.live_hold(now).is_some_and(|holder| holder != channel_id);
        if taken {
            return Err(Rejection::SlotTaken);
        }
        if seat.generation.checked_add(1) != Some(place.generation) {
            return Err(Rejection::WrongGeneration);
        }
        seat.hold = Some((channel_id, until));
        Ok(Held::Free)
    }

    /// Ends a hold of this channel.
    pub(crate) fn unhold(&mut self, at: u8, channel_id: &[u8; 32]) {
        if let Some(seat) = self.seats.get_mut(usize::from(at))
            && seat.hold.is_some_and(|(holder, _)| holder == *channel_id)
        {
            seat.hold = None;
        }
    }

    /// Writes down who has a seat, as the chain shows it.
    pub(crate) fn seat(&mut self, at: u8, slot: &Slot, channel: Option<[u8; 32]>) {
        if let Some(seat) = self.seats.get_mut(usize::from(at)) {
            seat.generation = slot.generation;
            seat.channel = channel;
            if channel.is_some() {
                seat.hold = None;
            }
        }
    }
}

impl Seat {
    fn live_hold(&self, now: i64) -> Option<[u8; 32]> {
        self.hold.filter(|(_, until)| now < *until).map(|(holder, _)| holder)
    }

    fn is_free(&self, now: i64) -> bool {
        self.channel.is_none() && self.live_hold(now).is_none()
    }
}
