use crate::board::Board;
use crate::{Change, Channel, Ledger, PageSeen, Place};
use tallybook_rules::signing::channel_id;
use tallybook_rules::{Amount, Rejection, Slot, Status};

/// How sure a sight of the chain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finality {
    /// A supermajority has voted for it; a fork could still undo it.
    Confirmed,
    /// Nothing can undo it.
    Final,
}

/// Something that the chain has shown for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A channel stands in a slot.
    Opened {
        /// Which one.
        channel_id: [u8; 32],
        /// Whose vouchers bind it.
        signer: [u8; 32],
    },
    /// Its payer asked to leave: what is unsettled must be claimed before the grace period ends.
    Closing {
        /// Which one.
        channel_id: [u8; 32],
        /// When it may be withdrawn, in Unix seconds.
        closing_at: i64,
        /// What the newest voucher can still claim.
        unsettled: Amount,
    },
    /// Its slot was freed.
    Over {
        /// Which one.
        channel_id: [u8; 32],
        /// What the newest voucher could still claim when the channel was last seen. After a refund, which claims and
        /// frees at once, this is not a loss.
        unsettled: Amount,
        /// True when the payer left by a refund.
        refunded: bool,
    },
}

/// What a sight of a page has changed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Observed {
    /// What is new, in the order of the slots.
    pub events: Vec<Event>,
    /// What to write.
    pub changes: Vec<Change>,
}

impl Ledger {
    /// Takes in what the chain shows of a page: new channels, deposits, what is settled, closings, freed slots.
    ///
    /// A sight older than the last one changes nothing. [`Rejection::InvariantBroken`] for a page that no program of
    /// ours has written; then too nothing is changed.
    pub fn observe(&mut self, seen: &PageSeen<'_>, finality: Finality, now: i64) -> Result<Observed, Rejection> {
        seen.slots.iter().try_for_each(Slot::check)?;
        if finality == Finality::Final {
            self.finalise(seen);
            return Ok(Observed::default());
        }
        let board = self.boards.entry(seen.address).or_insert_with(|| Board::new(seen));
        if seen.chain_slot < board.chain_slot {
            return Ok(Observed::default());
        }
        if board.seats.len() != seen.slots.len() || board.header.page_domain != seen.header.page_domain {
            return Err(Rejection::InvariantBroken);
        }
        board.header = *seen.header;
        board.chain_slot = seen.chain_slot;
        let mut observed = Observed::default();
        for (at, slot) in (0u8..).zip(seen.slots) {
            self.observe_slot(seen, at, slot, now, &mut observed)?;
        }
        self.forget_unmet(&seen.address, &mut observed);
        Ok(observed)
    }

    fn observe_slot(
        &mut self,
        seen: &PageSeen<'_>,
        at: u8,
        slot: &Slot,
        now: i64,
        observed: &mut Observed,
    ) -> Result<(), Rejection> {
        let id = id_in(seen, at, slot);
        let board = self.boards.get_mut(&seen.address).ok_or(Rejection::UnknownPage)?;
        let before = board.seats.get(usize::from(at)).and_then(|seat| seat.channel);
        board.seat(at, slot, id);
        if let Some(gone) = before.filter(|before| id != Some(*before)) {
            self.end(&gone, observed);
        }
        let Some(channel_id) = id else { return Ok(()) };
        let (channel, was_open) = match self.channels.get(&channel_id) {
            Some(channel) => (
                channel.observed(*slot, now)?,
                channel.on_chain.status() == Ok(Status::Open),
            ),
            None => {
                let place = Place {
                    page: seen.address,
                    slot: at,
                    generation: slot.generation,
                };
                let stored = self.stored.remove(&channel_id);
                observed.events.push(Event::Opened {
                    channel_id,
                    signer: slot.signer,
                });
                (Channel::seen(channel_id, place, *slot, stored)?, true)
            }
        };
        if was_open && slot.status()? == Status::Closing {
            observed.events.push(Event::Closing {
                channel_id,
                closing_at: slot.closing_at,
                unsettled: channel.gain(),
            });
        }
        self.channels.insert(channel_id, channel);
        Ok(())
    }

    /// Takes a channel out whose slot was freed.
    fn end(&mut self, channel_id: &[u8; 32], observed: &mut Observed) {
        let Some(channel) = self.channels.remove(channel_id) else {
            return;
        };
        observed.events.push(Event::Over {
            channel_id: *channel_id,
            unsettled: channel.gain(),
            refunded: channel.leaving_since != 0,
        });
        if channel.newest.is_some() {
            observed.changes.push(Change::Over {
                channel_id: *channel_id,
            });
        }
    }

    /// Records of this page that no slot has any more: their channels ended while nobody looked.
    fn forget_unmet(&mut self, page: &[u8; 32], observed: &mut Observed) {
        let ended = self.stored.extract_if(|_, stored| stored.record.place.page == *page);
        let mut ended: Vec<_> = ended.collect();
        ended.sort_by_key(|(_, stored)| stored.record.place);
        for (channel_id, stored) in ended {
            observed.events.push(Event::Over {
                channel_id,
                // What was settled since is not known here.
                unsettled: Amount::ZERO,
                refunded: stored.record.leaving_since != 0,
            });
            observed.changes.push(Change::Over { channel_id });
        }
    }

    /// Deposits that nothing can undo any more.
    fn finalise(&mut self, seen: &PageSeen<'_>) {
        for (at, slot) in (0u8..).zip(seen.slots) {
            if let Some(channel) = id_in(seen, at, slot).and_then(|id| self.channels.get_mut(&id)) {
                channel.final_deposit = slot.deposit;
            }
        }
    }
}

/// The id of the channel in a slot; none in a free one.
fn id_in(seen: &PageSeen<'_>, at: u8, slot: &Slot) -> Option<[u8; 32]> {
    let is_free = slot.status() == Ok(Status::Free);
    (!is_free).then(|| channel_id(&seen.header.page_domain, at, slot.generation, &slot.payer, &slot.signer))
}
