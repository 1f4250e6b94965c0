use crate::Place;
use crate::offers::Opening;
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
#[derive(Clone, Default, Debug)]
pub(crate) struct Seat {
    /// The generation of the channel in it, or of the last one.
    pub(crate) generation: u32,
    /// Who has it.
    pub(crate) channel: Option<[u8; 32]>,
    /// When it was last offered to anybody, in Unix seconds.
    offered_at: i64,
    /// For whom the slot is kept.
    hold: Option<Box<Hold>>,
}

/// A channel whose deposit is on its way. Few seats have one.
#[derive(Clone, Copy, Debug)]
struct Hold {
    channel_id: [u8; 32],
    /// In Unix seconds.
    until: i64,
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

    /// A seat by the order of its offering, if a channel can be opened in it.
    pub(crate) fn opening(&self, page: &[u8; 32], slot: u8) -> Option<Opening> {
        let seat = self.seats.get(usize::from(slot))?;
        let is_open = seat.channel.is_none() && seat.generation < u32::MAX;
        is_open.then_some(Opening { offered_at: seat.offered_at, index: self.header.index, slot, page: *page })
    }

    /// The seat that was offered longest ago, whoever has it.
    pub(crate) fn longest_unoffered(&self) -> Option<u8> {
        let seats = (0u8..).zip(&self.seats).filter(|(_, seat)| seat.generation < u32::MAX);
        seats.map(|(at, seat)| (seat.offered_at, at)).min().map(|(_, at)| at)
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
        seat.hold = Some(Box::new(Hold { channel_id, until }));
        Ok(Held::Free)
    }

    /// Ends a hold of this channel; says whether there was one.
    pub(crate) fn unhold(&mut self, at: u8, channel_id: &[u8; 32]) -> bool {
        let seat = self.seats.get_mut(usize::from(at));
        seat.is_some_and(|seat| seat.hold.take_if(|hold| hold.channel_id == *channel_id).is_some())
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
        self.hold.as_ref().filter(|hold| now < hold.until).map(|hold| hold.channel_id)
    }
}
