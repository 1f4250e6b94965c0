use crate::board::Board;
use crate::channel::Newest;
use crate::offers::Offers;
use crate::queue::{Queue, Standing};
use crate::records::Records;
use crate::rows::Rows;
use crate::{Channel, ChannelRecord, Held, Place, Reservation, Room};
use std::collections::{BTreeMap, HashMap};
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_rules::{Amount, Rejection};

/// What the owner of a ledger decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Up to how much may be spent of a deposit that is confirmed but not final yet.
    pub credit: Amount,
    /// How long a row that the chain refused is left alone, in seconds.
    pub retry_seconds: i64,
}

impl Default for Settings {
    /// 10 USDC of credit, half a minute between tries.
    fn default() -> Self {
        Self { credit: Amount::new(10_000_000), retry_seconds: 30 }
    }
}

/// A rejection, with the channel as it stands, so that a client can find out where it went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why not.
    pub rejection: Rejection,
    /// The channel, if there is one.
    pub channel: Option<Box<Channel>>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, channel: None }
    }
}

/// What a ledger has done, to be told only after `change` is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The channel after it.
    pub channel: Channel,
    /// What the call cost; for a call that was committed before, what it cost then.
    pub charge: Amount,
    /// What to write; nothing when the same was committed before.
    pub change: Option<ChannelRecord>,
}

/// All channels of the served pages. One writer owns it.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) settings: Settings,
    pub(crate) boards: BTreeMap<[u8; 32], Board>,
    /// What can be offered, by book: told of each seat that is taken, freed or offered.
    pub(crate) offers: HashMap<[u8; 32], Offers>,
    pub(crate) channels: Rows,
    /// Records of channels that do not stand on chain: read back and not met yet, or ended and not final yet.
    pub(crate) stored: Records,
    /// What waits to be claimed: told of each channel that changes.
    pub(crate) queue: Queue,
}

impl Ledger {
    /// A ledger that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            boards: BTreeMap::new(),
            offers: HashMap::new(),
            channels: Rows::default(),
            stored: Records::default(),
            queue: Queue::default(),
        }
    }

    /// Takes back what was stored of a channel, before its page is observed for the first time. From then on its voucher is to
    /// be verified again, since a disk is trusted no more than a network: see [`crate::Unproven`].
    /// [`Rejection::InvariantBroken`] when the record is damaged.
    pub fn restore(&mut self, record: ChannelRecord) -> Result<(), Rejection> {
        record.check()?;
        self.stored.put(&record);
        Ok(())
    }

    /// How many stored channels were not met on chain yet; after every page was observed, those of pages that are no
    /// longer served.
    pub fn unmet(&self) -> usize {
        self.stored.len()
    }

    /// Where a channel was that is stored and was not met on chain yet.
    pub fn stored_place(&self, channel_id: &[u8; 32]) -> Option<Place> {
        self.stored.place(channel_id)
    }

    /// Reserves `amount` for a call, the most that it may cost: nothing is charged until [`Ledger::commit`], and nothing else is accepted on the
    /// channel until then, [`Ledger::release`], or `expires`.
    ///
    /// The very voucher that paid for the last call may pay for this one too, if that cost less than its ceiling. Then the
    /// last call is forgotten, or its answer would pass for that of this call once the reservation is lost: see
    /// [`Channel::was_paid_by`], and write the channel's record down.
    ///
    /// In order of precedence: unknown_channel, overloaded (while its stored voucher was not verified again: see
    /// [`Channel::unproven`], as everywhere here), channel_closing, bad_signature, channel_busy, voucher_used,
    /// wrong_cumulative, deposit_exceeded, settlement_pending.
    pub fn reserve(
        &mut self,
        voucher: VerifiedVoucher,
        amount: Amount,
        now: i64,
        expires: i64,
    ) -> Result<Channel, Refused> {
        let mut channel = self.proven(&voucher.voucher().channel_id)?;
        let decided = channel.decide(&voucher, amount, self.settings.credit, now);
        decided.map_err(|rejection| channel.refuse(rejection))?;
        if channel.was_paid_by(voucher.voucher()) {
            channel.last = None;
        }
        channel.reservation = Some(Reservation { voucher, amount, expires });
        self.channels.put(&channel);
        Ok(channel)
    }

    /// Whether a voucher would pay for a call of at most `amount` once `addition` is on top of the channel's deposit: what is
    /// asked before somebody pays for a top-up. Changes nothing; refuses as [`Ledger::reserve`] does, but not for a deposit
    /// that is not final.
    pub fn foresee(
        &self,
        voucher: &VerifiedVoucher,
        amount: Amount,
        addition: Amount,
        now: i64,
    ) -> Result<Channel, Refused> {
        let channel = self.proven(&voucher.voucher().channel_id)?;
        let mut topped_up = channel;
        topped_up.on_chain.deposit = channel.on_chain.deposit.plus(addition)?;
        let decided = topped_up.decide(voucher, amount, Amount::MAX_DEPOSIT, now);
        decided.map(|()| channel).map_err(|rejection| channel.refuse(rejection))
    }

    /// Charges `charge` for the call whose voucher is reserved, at most what was reserved. The voucher of the last call
    /// again is the same answer, and no second charge.
    ///
    /// The signature needs no second verification: it is compared with the reserved one, or with that of the last call.
    /// unknown_channel, no_reservation, charge_above_ceiling, or deposit_exceeded when the payee took the deposit back
    /// meanwhile.
    pub fn commit(&mut self, voucher: &SignedVoucher, charge: Amount, now: i64) -> Result<Committed, Refused> {
        let channel = self.proven(&voucher.channel_id)?;
        let reserved = channel.live_reservation(now);
        // A reservation first: the voucher of the next call may be the very same as that of the last one.
        let Some(reserved) = reserved.filter(|reserved| reserved.voucher.voucher() == voucher) else {
            let last = channel.last.filter(|last| last.is_of(voucher));
            let last = last.ok_or_else(|| channel.refuse(Rejection::NoReservation))?;
            return Ok(Committed { channel, charge: last.charge.unwrap_or(charge), change: None });
        };
        let charged = channel.charge(&reserved, charge, now).map_err(|rejection| channel.refuse(rejection))?;
        self.keep(channel.standing(), &charged);
        Ok(Committed { channel: charged, charge, change: charged.record() })
    }

    /// Takes over what another ledger of the same payee has accepted on a channel, open or closing: its newest voucher, and
    /// what calls cost there. Of each, the larger counts, so that the same again, or something older, changes nothing.
    ///
    /// In order of precedence: unknown_channel, bad_signature, amount_above_signed, deposit_exceeded.
    pub fn adopt(&mut self, voucher: VerifiedVoucher, charged: Amount, now: i64) -> Result<Committed, Refused> {
        let before = self.proven(&voucher.voucher().channel_id)?;
        let channel = before.adopted(voucher, charged, now).map_err(|rejection| before.refuse(rejection))?;
        let change = if channel == before { None } else { channel.record() };
        self.keep(before.standing(), &channel);
        Ok(Committed { channel, charge: Amount::ZERO, change })
    }

    /// Gives a reservation back: the call failed, nothing is charged. Asking twice does no harm.
    pub fn release(&mut self, voucher: &SignedVoucher) -> Result<Channel, Refused> {
        let mut channel = self.known(&voucher.channel_id)?;
        channel.reservation = channel.reservation.filter(|reservation| reservation.voucher.voucher() != voucher);
        self.channels.put(&channel);
        Ok(channel)
    }

    /// Marks a channel as on its way to a refund, at the wish of its signer who signs for exactly what is charged. It
    /// accepts nothing more, for good; what is charged is claimed with the refund, or later by itself.
    ///
    /// unknown_channel, bad_signature, channel_busy, wrong_cumulative; the same again is the same answer.
    pub fn leave(&mut self, voucher: VerifiedVoucher, now: i64) -> Result<Committed, Refused> {
        let before = self.proven(&voucher.voucher().channel_id)?;
        let refusal = if voucher.signer() != &before.on_chain.signer {
            Some(Rejection::BadSignature)
        } else if before.live_reservation(now).is_some() {
            Some(Rejection::ChannelBusy)
        } else if voucher.voucher().cumulative != before.charged {
            Some(Rejection::WrongCumulative)
        } else {
            None
        };
        if let Some(rejection) = refusal {
            return Err(before.refuse(rejection));
        }
        let mut next = before;
        if next.leaving_since == 0 {
            next.leaving_since = now.max(1);
        }
        if next.newest().is_none_or(|newest| newest.cumulative < next.charged) {
            next.newest = Newest::Proven(voucher);
        }
        next.check()?;
        self.keep(before.standing(), &next);
        let change = if next == before { None } else { next.record() };
        Ok(Committed { channel: next, charge: Amount::ZERO, change })
    }

    /// A free slot of the book for somebody who may want to open a channel: the one that was offered longest ago, so that
    /// simultaneous openers rarely meet. It is held for nobody.
    ///
    /// When none is free, one that is taken: whoever has a channel needs the rest of an offer all the same, and whoever
    /// opens one is told [`Rejection::BookFull`] by [`Ledger::hold`]. [`Rejection::UnknownBook`]; [`Rejection::BookFull`]
    /// for a book without a page.
    pub fn offer(&mut self, book: &[u8; 32], now: i64) -> Result<Place, Rejection> {
        let offers = self.offers.get_mut(book).ok_or(Rejection::UnknownBook)?;
        let (page, slot) = match offers.next(now) {
            Some(opening) => (opening.page, Some(opening.slot)),
            None => (offers.any_page().ok_or(Rejection::BookFull)?, None),
        };
        let board = self.boards.get_mut(&page).ok_or(Rejection::BookFull)?;
        let slot = slot.or_else(|| board.longest_unoffered()).ok_or(Rejection::BookFull)?;
        let before = board.opening(&page, slot);
        let generation = board.offer(slot, now)?;
        offers.moved(before, board.opening(&page, slot));
        Ok(Place { page, slot, generation })
    }

    /// How much place there is in a book, as far as is known; none in a book that is not served.
    pub fn room(&self, book: &[u8; 32], now: i64) -> Room {
        self.offers.get(book).map(|offers| offers.room(now)).unwrap_or_default()
    }

    /// Holds a slot for a checked and signed deposit until a time. [`Rejection::UnknownPage`],
    /// [`Rejection::NoSuchSlot`], [`Rejection::SlotTaken`] ([`Rejection::BookFull`] when no other slot is free either),
    /// [`Rejection::WrongGeneration`].
    pub fn hold(&mut self, place: &Place, channel_id: [u8; 32], until: i64, now: i64) -> Result<Held, Rejection> {
        let board = self.boards.get_mut(&place.page).ok_or(Rejection::UnknownPage)?;
        let offers = self.offers.entry(board.header.book).or_default();
        let held = board.hold(place, channel_id, until, now);
        if held == Ok(Held::Free) {
            offers.hold(place, until, now);
        }
        if held == Err(Rejection::SlotTaken) && offers.next(now).is_none() {
            return Err(Rejection::BookFull);
        }
        held
    }

    /// Gives a held slot back.
    pub fn unhold(&mut self, place: &Place, channel_id: &[u8; 32]) {
        if let Some(board) = self.boards.get_mut(&place.page)
            && board.unhold(place.slot, channel_id)
            && let Some(offers) = self.offers.get_mut(&board.header.book)
        {
            offers.unhold(place);
        }
    }

    /// Notes that claims of these channels are on their way: they are not planned again until [`Ledger::ended`].
    pub fn sent(&mut self, channel_ids: impl IntoIterator<Item = [u8; 32]>) {
        for channel_id in channel_ids {
            if let Some(before) = self.channels.get(&channel_id) {
                self.keep(before.standing(), &Channel { in_flight: true, ..before });
            }
        }
    }

    /// Notes that nothing of a batch is on its way any more; rows that the chain refused, by slot, are left alone for a
    /// while. Observe the page first, or what was settled is planned again.
    pub fn ended(&mut self, channel_ids: impl IntoIterator<Item = [u8; 32]>, refused: &[(u8, Rejection)], now: i64) {
        let claim_after = now.saturating_add(self.settings.retry_seconds);
        for channel_id in channel_ids {
            if let Some(before) = self.channels.get(&channel_id) {
                let mut channel = Channel { in_flight: false, ..before };
                if refused.iter().any(|(slot, _)| *slot == channel.place.slot) {
                    channel.claim_after = claim_after;
                }
                self.keep(before.standing(), &channel);
            }
        }
    }

    /// The book of a served page.
    pub fn book_of(&self, page: &[u8; 32]) -> Option<[u8; 32]> {
        self.boards.get(page).map(|board| board.header.book)
    }

    /// The channel of this id, as it stands.
    pub fn channel(&self, channel_id: &[u8; 32]) -> Option<Channel> {
        self.channels.get(channel_id)
    }

    /// All channels, in no order. Not for anything that every call does: it walks all of them.
    pub fn channels(&self) -> impl Iterator<Item = Channel> + '_ {
        self.channels.iter()
    }

    /// How many channels stand.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// True when no channel stands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is charged and can be claimed of all channels, in base units of all mints together. Kept, not counted.
    pub fn unsettled(&self) -> Amount {
        self.channels.unsettled()
    }

    fn known(&self, channel_id: &[u8; 32]) -> Result<Channel, Rejection> {
        self.channels.get(channel_id).ok_or(Rejection::UnknownChannel)
    }

    /// A channel that can be decided on: what is stored of it was verified again.
    fn proven(&self, channel_id: &[u8; 32]) -> Result<Channel, Refused> {
        let channel = self.known(channel_id)?;
        if channel.unproven().is_some() { Err(channel.refuse(Rejection::Overloaded)) } else { Ok(channel) }
    }

    /// Keeps a channel that stood as `before` as it is now.
    pub(crate) fn keep(&mut self, before: Standing, channel: &Channel) {
        self.queue.moved(before, channel);
        self.channels.put(channel);
    }
}

impl Channel {
    fn refuse(&self, rejection: Rejection) -> Refused {
        Refused { rejection, channel: Some(Box::new(*self)) }
    }
}
