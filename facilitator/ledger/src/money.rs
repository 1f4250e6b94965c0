//! Where the money of a page is, for people and monitors: summed when somebody asks, in one look at its channels.

use crate::{Channel, Ledger};
use tallybook_rules::{Amount, Status};

/// A page's money at one moment. Amounts are base units of the book's mint.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PageMoney {
    /// Channels that stand.
    pub channels: u32,
    /// Those of them that are closing on chain, or on their way to a refund.
    pub closing: u32,
    /// Those with a call under way.
    pub reserved: u32,
    /// What was put into them and not given back.
    pub deposited: Amount,
    /// What calls cost.
    pub charged: Amount,
    /// What is settled on chain.
    pub settled: Amount,
    /// What a claim would add now: charged, signed for, and not settled.
    pub unclaimed: Amount,
    /// How much of that is on its way in a batch.
    pub in_flight: Amount,
    /// How much of it is of channels that are closing on chain: lost to the payee if it is not claimed in time.
    pub closing_unclaimed: Amount,
    /// Since when something has not been claimed, in Unix seconds; none when nothing is.
    pub unclaimed_since: Option<i64>,
    /// When the first of the closing channels with something unclaimed may be withdrawn, in Unix seconds.
    pub closing_at: Option<i64>,
}

impl PageMoney {
    /// Both together; a sum that does not fit is the largest that does.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let sum = |one: Amount, other: Amount| one.plus(other).unwrap_or(Amount::new(u64::MAX));
        let earlier = |one: Option<i64>, other: Option<i64>| one.into_iter().chain(other).min();
        Self {
            channels: self.channels.saturating_add(other.channels),
            closing: self.closing.saturating_add(other.closing),
            reserved: self.reserved.saturating_add(other.reserved),
            deposited: sum(self.deposited, other.deposited),
            charged: sum(self.charged, other.charged),
            settled: sum(self.settled, other.settled),
            unclaimed: sum(self.unclaimed, other.unclaimed),
            in_flight: sum(self.in_flight, other.in_flight),
            closing_unclaimed: sum(self.closing_unclaimed, other.closing_unclaimed),
            unclaimed_since: earlier(self.unclaimed_since, other.unclaimed_since),
            closing_at: earlier(self.closing_at, other.closing_at),
        }
    }
}

impl Ledger {
    /// The pages that are served, in the order of their addresses.
    pub fn pages(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.boards.keys().copied()
    }

    /// The same, those of one book.
    pub fn pages_of(&self, book: &[u8; 32]) -> Vec<[u8; 32]> {
        let pages = self.boards.iter().filter(|(_, board)| board.header.book == *book);
        pages.map(|(page, _)| *page).collect()
    }

    /// The same, from this address on.
    pub fn pages_from(&self, page: [u8; 32]) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.boards.range(page..).map(|(page, _)| *page)
    }

    /// The channels of a page, in the order of their slots; none of one that is not served.
    pub fn channels_of(&self, page: &[u8; 32]) -> impl Iterator<Item = Channel> + '_ {
        let seats = self.boards.get(page).into_iter().flat_map(|board| &board.seats);
        seats.filter_map(|seat| self.channels.get(&seat.channel?))
    }

    /// Where the money of a page is at `now`; none of one that is not served. Looks at each of its channels.
    pub fn money_of(&self, page: &[u8; 32], now: i64) -> Option<PageMoney> {
        self.boards.get(page)?;
        Some(self.channels_of(page).fold(PageMoney::default(), |sum, channel| {
            let gain = channel.gain();
            let closing_at = (channel.on_chain.status() == Ok(Status::Closing)).then_some(channel.on_chain.closing_at);
            let (none, owes) = (Amount::ZERO, !gain.is_zero());
            sum.plus(&PageMoney {
                channels: 1,
                closing: channel.is_closing().into(),
                reserved: channel.reserved(now).is_some().into(),
                deposited: channel.deposit(),
                charged: channel.charged(),
                settled: channel.settled(),
                unclaimed: gain,
                in_flight: if channel.in_flight { gain } else { none },
                closing_unclaimed: if closing_at.is_some() { gain } else { none },
                unclaimed_since: owes.then_some(channel.unsettled_since),
                closing_at: closing_at.filter(|_| owes),
            })
        }))
    }
}
