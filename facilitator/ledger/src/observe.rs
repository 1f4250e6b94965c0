use crate::board::Board;
use crate::queue::Standing;
use crate::{Change, Channel, Ledger, PageSeen, Place};
use std::collections::HashSet;
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
        /// Who funds it.
        payer: [u8; 32],
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
    /// What to write; only what is final.
    pub changes: Vec<Change>,
    /// Channels that stand here and of which another signer is stored than the chain shows: what is stored is damaged. None of
    /// them is taken up, so that nothing is accepted or claimed that rests on it, and whoever keeps the store has to end.
    pub damaged: Vec<[u8; 32]>,
}

impl Ledger {
    /// Takes in what the chain shows of a page: new channels, deposits, what is settled, closings, freed slots. No signature
    /// is verified here: a channel that was read back stands with its stored voucher [`crate::Unproven`].
    ///
    /// A sight older than the last one changes nothing. [`Rejection::InvariantBroken`] for a page that no program of
    /// ours has written; then too nothing is changed.
    pub fn observe(&mut self, seen: &PageSeen<'_>, finality: Finality, now: i64) -> Result<Observed, Rejection> {
        seen.slots.iter().try_for_each(Slot::check)?;
        if finality == Finality::Final {
            return Ok(self.finalise(seen));
        }
        let offers = self.offers.entry(seen.header.book).or_default();
        let board = self.boards.entry(seen.address).or_insert_with(|| {
            offers.add_page(seen.address, seen.slots.len());
            let board = Board::new(seen);
            (0u8..).take(seen.slots.len()).for_each(|at| offers.moved(None, board.opening(&seen.address, at)));
            board
        });
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
            self.observe_slot(seen, (at, slot), now, &mut observed)?;
        }
        Ok(observed)
    }

    fn observe_slot(
        &mut self,
        seen: &PageSeen<'_>,
        (at, slot): (u8, &Slot),
        now: i64,
        observed: &mut Observed,
    ) -> Result<(), Rejection> {
        let board = self.boards.get_mut(&seen.address).ok_or(Rejection::UnknownPage)?;
        let before = board.seats.get(usize::from(at)).and_then(|seat| seat.channel);
        let stands = before.and_then(|before| self.channels.get(&before));
        if stands.is_some_and(|channel| channel.on_chain == *slot) {
            // As it was last time, as nearly all are: nothing is hashed for it.
            return Ok(());
        }
        let id = id_in(seen, at, slot);
        let opening = board.opening(&seen.address, at);
        board.seat(at, slot, id);
        if let Some(offers) = self.offers.get_mut(&board.header.book) {
            offers.moved(opening, board.opening(&seen.address, at));
        }
        if let Some(gone) = before.filter(|before| id != Some(*before)) {
            self.end(&gone, observed);
        }
        let Some(channel_id) = id else { return Ok(()) };
        let known = self.channels.get(&channel_id);
        let stood = known.as_ref().map_or(Standing::Idle, Channel::standing);
        let (channel, was_open) = match known {
            Some(channel) => (channel.observed(*slot, now)?, channel.on_chain.status() == Ok(Status::Open)),
            None => {
                let place = Place { page: seen.address, slot: at, generation: slot.generation };
                let stored = self.stored.remove(&channel_id);
                if let Some(record) = stored.filter(|record| record.signer != slot.signer) {
                    // What is stored stays as it is.
                    self.stored.put(&record);
                    observed.damaged.push(channel_id);
                    return Ok(());
                }
                observed.events.push(Event::Opened { channel_id, payer: slot.payer, signer: slot.signer });
                (Channel::seen(channel_id, place, *slot, stored)?, true)
            }
        };
        if was_open && slot.status()? == Status::Closing {
            observed.events.push(Event::Closing { channel_id, closing_at: slot.closing_at, unsettled: channel.gain() });
        }
        self.keep(stood, &channel);
        Ok(())
    }

    /// Drops the pages of `books` that a finalized look at `chain_slot` does not show among `shown`: they were closed, so
    /// that nothing is offered in them any more. A page that was seen at that slot or later is not final yet, and stays.
    pub fn drop_closed(&mut self, books: &[[u8; 32]], shown: &[[u8; 32]], chain_slot: u64) -> Observed {
        let shown: HashSet<&[u8; 32]> = shown.iter().collect();
        let is_closed = |page: &[u8; 32], board: &Board| {
            board.chain_slot < chain_slot && books.contains(&board.header.book) && !shown.contains(page)
        };
        let closed: Vec<([u8; 32], Board)> = self.boards.extract_if(.., |page, board| is_closed(page, board)).collect();
        let mut observed = Observed::default();
        for (page, board) in closed {
            if let Some(offers) = self.offers.get_mut(&board.header.book) {
                offers.drop_page(&page);
            }
            self.offers.retain(|_, offers| !offers.is_empty());
            // A page closes without channels; one that was not seen to end has ended with it.
            board.seats.iter().filter_map(|seat| seat.channel).for_each(|channel| self.end(&channel, &mut observed));
            observed.changes.extend(ended(self.stored.remove_of(&page, |_, _| true)));
        }
        observed
    }

    /// Forgets pages with all that is in them, as if they had never been shown: somebody else keeps them from now on, and has
    /// everything that was written of them. Nothing of it ends by this. Gives the channels that stood in them.
    pub fn forget(&mut self, pages: &[[u8; 32]]) -> Vec<[u8; 32]> {
        let mut forgotten = Vec::new();
        for page in pages {
            if let Some(board) = self.boards.remove(page) {
                if let Some(offers) = self.offers.get_mut(&board.header.book) {
                    offers.drop_page(page);
                }
                for channel_id in board.seats.iter().filter_map(|seat| seat.channel) {
                    if let Some(channel) = self.channels.remove(&channel_id) {
                        self.queue.left(&channel);
                        forgotten.push(channel_id);
                    }
                }
            }
            self.stored.remove_of(page, |_, _| true);
        }
        self.offers.retain(|_, offers| !offers.is_empty());
        forgotten
    }

    /// Takes a channel out whose slot was freed. Its record is kept until that is final.
    fn end(&mut self, channel_id: &[u8; 32], observed: &mut Observed) {
        let Some(channel) = self.channels.remove(channel_id) else {
            return;
        };
        self.queue.left(&channel);
        observed.events.push(Event::Over {
            channel_id: *channel_id,
            unsettled: channel.gain(),
            refunded: channel.leaving_since != 0,
        });
        if let Some(record) = channel.record() {
            self.stored.put(&record);
        }
    }

    /// The channel that a sight shows in a slot, if it is known.
    fn channel_in(&self, seen: &PageSeen<'_>, at: u8, slot: &Slot) -> Option<Channel> {
        let seated = self.boards.get(&seen.address).and_then(|board| board.seats.get(usize::from(at))?.channel);
        let seated = seated.and_then(|id| self.channels.get(&id));
        // The same payer and signer in the same generation are the same channel: nothing is hashed for it.
        let is_same = |channel: &Channel| {
            let known = &channel.on_chain;
            slot.status() != Ok(Status::Free)
                && (known.generation, known.payer, known.signer) == (slot.generation, slot.payer, slot.signer)
        };
        seated.filter(is_same).or_else(|| self.channels.get(&id_in(seen, at, slot)?))
    }

    /// Deposits that nothing can undo any more, and channels that are over for good.
    fn finalise(&mut self, seen: &PageSeen<'_>) -> Observed {
        for (at, slot) in (0u8..).zip(seen.slots) {
            if let Some(channel) = self.channel_in(seen, at, slot)
                && channel.final_deposit != slot.deposit
            {
                self.channels.put(&Channel { final_deposit: slot.deposit, ..channel });
            }
        }
        let over = self.stored.remove_of(&seen.address, |id, place| is_over(seen, id, place));
        Observed { changes: ended(over), ..Observed::default() }
    }
}

/// What to write of channels that are over for good.
fn ended(over: Vec<[u8; 32]>) -> Vec<Change> {
    over.into_iter().map(|channel_id| Change::Over { channel_id }).collect()
}

/// True when the page shows that this channel of it has ended. A chain that has not come to the channel's generation yet
/// says nothing about it.
fn is_over(seen: &PageSeen<'_>, id: &[u8; 32], place: &Place) -> bool {
    let slot = seen.slots.get(usize::from(place.slot));
    slot.is_some_and(|slot| slot.generation >= place.generation && id_in(seen, place.slot, slot) != Some(*id))
}

/// The id of the channel in a slot; none in a free one.
fn id_in(seen: &PageSeen<'_>, at: u8, slot: &Slot) -> Option<[u8; 32]> {
    let is_free = slot.status() == Ok(Status::Free);
    (!is_free).then(|| channel_id(&seen.header.page_domain, at, slot.generation, &slot.payer, &slot.signer))
}
