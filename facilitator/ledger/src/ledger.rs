use crate::board::Board;
use crate::channel::Stored;
use crate::{Channel, ChannelRecord, Held, Place, Reservation};
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
    /// What to write; nothing when the same was committed before.
    pub change: Option<ChannelRecord>,
}

/// All channels of the served pages. One writer owns it.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) settings: Settings,
    pub(crate) boards: BTreeMap<[u8; 32], Board>,
    pub(crate) channels: HashMap<[u8; 32], Channel>,
    /// Records of channels that do not stand on chain: read back and not met yet, or ended and not final yet.
    pub(crate) stored: HashMap<[u8; 32], Stored>,
}

impl Ledger {
    /// A ledger that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, boards: BTreeMap::new(), channels: HashMap::new(), stored: HashMap::new() }
    }

    /// Takes back what was stored of a channel, before its page is observed for the first time.
    ///
    /// [`Rejection::BadSignature`] or [`Rejection::InvariantBroken`] when the record is damaged.
    pub fn restore(&mut self, record: ChannelRecord) -> Result<(), Rejection> {
        let stored = record.verify()?;
        self.stored.insert(record.voucher.channel_id, stored);
        Ok(())
    }

    /// How many stored channels were not met on chain yet; after every page was observed, those of pages that are no
    /// longer served.
    pub fn unmet(&self) -> usize {
        self.stored.len()
    }

    /// Reserves `amount` for a call: nothing is charged until [`Ledger::commit`], and nothing else is accepted on the
    /// channel until then, [`Ledger::release`], or `expires`.
    ///
    /// In order of precedence: unknown_channel, channel_closing, bad_signature, channel_busy, voucher_used,
    /// wrong_cumulative, deposit_exceeded, settlement_pending.
    pub fn reserve(
        &mut self,
        voucher: VerifiedVoucher,
        amount: Amount,
        now: i64,
        expires: i64,
    ) -> Result<Channel, Refused> {
        let credit = self.settings.credit;
        let channel = self.channel_mut(&voucher.voucher().channel_id)?;
        channel.decide(&voucher, amount, credit, now).map_err(|rejection| channel.refuse(rejection))?;
        channel.reservation = Some(Reservation { voucher, expires });
        Ok(*channel)
    }

    /// Charges for the call whose voucher is reserved. The same voucher again is the same answer, and no second charge.
    ///
    /// The signature needs no second verification: it is compared with the reserved one. unknown_channel,
    /// no_reservation, or deposit_exceeded when the payee took the deposit back meanwhile.
    pub fn commit(&mut self, voucher: &SignedVoucher, now: i64) -> Result<Committed, Refused> {
        let channel = self.channel_mut(&voucher.channel_id)?;
        if channel.newest() == Some(voucher) {
            return Ok(Committed { channel: *channel, change: None });
        }
        let reserved = channel
            .live_reservation(now)
            .filter(|reservation| reservation.voucher.voucher() == voucher)
            .ok_or_else(|| channel.refuse(Rejection::NoReservation))?;
        *channel = channel.charge(reserved.voucher, now).map_err(|rejection| channel.refuse(rejection))?;
        Ok(Committed { channel: *channel, change: channel.record() })
    }

    /// Gives a reservation back: the call failed, nothing is charged. Asking twice does no harm.
    pub fn release(&mut self, voucher: &SignedVoucher) -> Result<Channel, Refused> {
        let channel = self.channel_mut(&voucher.channel_id)?;
        channel.reservation = channel.reservation.filter(|reservation| reservation.voucher.voucher() != voucher);
        Ok(*channel)
    }

    /// Marks a channel as on its way to a refund, at the wish of its signer who signs for exactly what is charged. It
    /// accepts nothing more, for good; what is charged is claimed with the refund, or later by itself.
    ///
    /// unknown_channel, bad_signature, channel_busy, wrong_cumulative; the same again is the same answer.
    pub fn leave(&mut self, voucher: VerifiedVoucher, now: i64) -> Result<Committed, Refused> {
        let channel = self.channel_mut(&voucher.voucher().channel_id)?;
        let refusal = if voucher.signer() != &channel.on_chain.signer {
            Some(Rejection::BadSignature)
        } else if channel.live_reservation(now).is_some() {
            Some(Rejection::ChannelBusy)
        } else if voucher.voucher().cumulative != channel.charged {
            Some(Rejection::WrongCumulative)
        } else {
            None
        };
        if let Some(rejection) = refusal {
            return Err(channel.refuse(rejection));
        }
        let before = *channel;
        let mut next = before;
        if next.leaving_since == 0 {
            next.leaving_since = now.max(1);
        }
        if next.newest.is_none_or(|newest| newest.voucher().cumulative < next.charged) {
            next.newest = Some(voucher);
        }
        next.check()?;
        *channel = next;
        Ok(Committed { channel: next, change: if next == before { None } else { next.record() } })
    }

    /// Ends reservations whose time is over; says how many. They count as gone at their time even before this call.
    pub fn expire(&mut self, now: i64) -> usize {
        let mut ended = 0usize;
        for channel in self.channels.values_mut() {
            if channel.reservation.is_some() && channel.live_reservation(now).is_none() {
                channel.reservation = None;
                ended = ended.saturating_add(1);
            }
        }
        ended
    }

    /// A free slot of the book for somebody who may want to open a channel: the one that was offered longest ago, so that
    /// simultaneous openers rarely meet. It is held for nobody.
    ///
    /// [`Rejection::UnknownBook`], [`Rejection::BookFull`].
    pub fn offer(&mut self, book: &[u8; 32], now: i64) -> Result<Place, Rejection> {
        let mut pages = self.boards.iter_mut().filter(|(_, board)| board.header.book == *book).peekable();
        pages.peek().ok_or(Rejection::UnknownBook)?;
        let (_, slot, page, board) = pages
            .filter_map(|(page, board)| {
                let (offered_at, slot) = board.longest_unoffered(now)?;
                Some(((offered_at, board.header.index), slot, *page, board))
            })
            .min_by_key(|(order, ..)| *order)
            .ok_or(Rejection::BookFull)?;
        let generation = board.offer(slot, now)?;
        Ok(Place { page, slot, generation })
    }

    /// Holds a slot for a checked and signed deposit until a time. [`Rejection::UnknownPage`],
    /// [`Rejection::NoSuchSlot`], [`Rejection::SlotTaken`], [`Rejection::WrongGeneration`].
    pub fn hold(&mut self, place: &Place, channel_id: [u8; 32], until: i64, now: i64) -> Result<Held, Rejection> {
        let board = self.boards.get_mut(&place.page).ok_or(Rejection::UnknownPage)?;
        board.hold(place, channel_id, until, now)
    }

    /// Gives a held slot back.
    pub fn unhold(&mut self, place: &Place, channel_id: &[u8; 32]) {
        if let Some(board) = self.boards.get_mut(&place.page) {
            board.unhold(place.slot, channel_id);
        }
    }

    /// Notes that claims of these channels are on their way: they are not planned again until [`Ledger::ended`].
    pub fn sent(&mut self, channel_ids: impl IntoIterator<Item = [u8; 32]>) {
        for channel_id in channel_ids {
            if let Some(channel) = self.channels.get_mut(&channel_id) {
                channel.in_flight = true;
            }
        }
    }

    /// Notes that nothing of a batch is on its way any more; rows that the chain refused, by slot, are left alone for a
    /// while. Observe the page first, or what was settled is planned again.
    pub fn ended(&mut self, channel_ids: impl IntoIterator<Item = [u8; 32]>, refused: &[(u8, Rejection)], now: i64) {
        let claim_after = now.saturating_add(self.settings.retry_seconds);
        for channel_id in channel_ids {
            if let Some(channel) = self.channels.get_mut(&channel_id) {
                channel.in_flight = false;
                if refused.iter().any(|(slot, _)| *slot == channel.place.slot) {
                    channel.claim_after = claim_after;
                }
            }
        }
    }

    /// The book of a served page.
    pub fn book_of(&self, page: &[u8; 32]) -> Option<[u8; 32]> {
        self.boards.get(page).map(|board| board.header.book)
    }

    /// The channel of this id.
    pub fn channel(&self, channel_id: &[u8; 32]) -> Option<&Channel> {
        self.channels.get(channel_id)
    }

    /// All channels, in no order.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = &Channel> {
        self.channels.values()
    }

    fn channel_mut(&mut self, channel_id: &[u8; 32]) -> Result<&mut Channel, Rejection> {
        self.channels.get_mut(channel_id).ok_or(Rejection::UnknownChannel)
    }
}

impl Channel {
    fn refuse(&self, rejection: Rejection) -> Refused {
        Refused { rejection, channel: Some(Box::new(*self)) }
    }
}
