//! What the program tells those who listen: the events in the logs of its transactions, and what a claim's instruction says of
//! each channel, which its event sums up. From both the history of a page can be read, and checked against the page itself.

use crate::instruction::discriminator;
use borsh::BorshDeserialize;
use tallybook_rules::half_aggregation::{BELOW_ROW_BYTES, BelowRow, ROW_BYTES, Row, split_claim};
use tallybook_rules::{Amount, Rejection};

/// One change, as the program told of it. The byte before its fields is the number of the instruction; `claim_below` tells
/// what `claim` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A book was made.
    BookMade(BookMade),
    /// A page was added.
    PageAdded(PageAdded),
    /// A channel was opened.
    Opened(Opened),
    /// Somebody added to a channel's deposit.
    ToppedUp(ToppedUp),
    /// A batch was claimed.
    Claimed(Claimed),
    /// Claimed money was paid out.
    PaidOut(PaidOut),
    /// A payer asked to leave, or somebody began to close an idle channel.
    Closing(Closing),
    /// A closing channel was withdrawn: its slot is free.
    Withdrawn(Withdrawn),
    /// Unclaimed money of a channel was given back.
    Refunded(Refunded),
    /// The payee named another operator.
    OperatorSet(OperatorSet),
    /// A page and its vault were closed.
    PageClosed(PageClosed),
}

/// A book was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct BookMade {
    /// The book.
    pub book: [u8; 32],
    /// Its payee.
    pub payee: [u8; 32],
    /// Its mint.
    pub mint: [u8; 32],
}

/// A page was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct PageAdded {
    /// The book.
    pub book: [u8; 32],
    /// The page.
    pub page: [u8; 32],
    /// Its number.
    pub index: u32,
    /// Its slots.
    pub capacity: u8,
}

/// A channel was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct Opened {
    /// The page.
    pub page: [u8; 32],
    /// The slot.
    pub slot: u8,
    /// The slot's generation from now on.
    pub generation: u32,
    /// Who funded it.
    pub payer: [u8; 32],
    /// Whose vouchers bind it.
    pub signer: [u8; 32],
    /// What was put in, in base units.
    pub deposit: u64,
}

/// Somebody added to a channel's deposit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct ToppedUp {
    /// The page.
    pub page: [u8; 32],
    /// The slot.
    pub slot: u8,
    /// Its generation.
    pub generation: u32,
    /// What was added, in base units.
    pub amount: u64,
    /// The deposit from now on, in base units.
    pub deposit: u64,
}

/// A batch was claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct Claimed {
    /// The page.
    pub page: [u8; 32],
    /// Rows of the batch.
    pub rows: u8,
    /// By how much they raised what is settled, in base units.
    pub added: u64,
    /// All that was ever claimed from the page, in base units.
    pub claimed_total: u64,
}

/// Claimed money was paid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct PaidOut {
    /// The page.
    pub page: [u8; 32],
    /// The legs that were paid, a bit each; a leg that was named and is not here stays owed.
    pub legs: u8,
    /// What they were paid together, in base units.
    pub amount: u64,
}

/// A channel began to close: at its payer's wish, or since nobody used it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct Closing {
    /// The page.
    pub page: [u8; 32],
    /// The slot.
    pub slot: u8,
    /// Its generation.
    pub generation: u32,
    /// When it may be withdrawn, in Unix seconds; claim before.
    pub closing_at: i64,
}

/// A closing channel was withdrawn: its slot is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct Withdrawn {
    /// The page.
    pub page: [u8; 32],
    /// The slot.
    pub slot: u8,
    /// What went back to the payer, in base units.
    pub returned: u64,
}

/// Unclaimed money of a channel was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct Refunded {
    /// The page.
    pub page: [u8; 32],
    /// The slot.
    pub slot: u8,
    /// The channel's generation.
    pub generation: u32,
    /// What went back to the payer, in base units.
    pub returned: u64,
}

/// The payee named another operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct OperatorSet {
    /// The book.
    pub book: [u8; 32],
    /// The operator from now on.
    pub operator: [u8; 32],
}

/// A page and its vault were closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshDeserialize)]
pub struct PageClosed {
    /// The book.
    pub book: [u8; 32],
    /// The page.
    pub page: [u8; 32],
    /// Its number.
    pub index: u32,
    /// Dust and donations that went to the payee, in base units.
    pub left: u64,
}

impl Event {
    /// Reads what stands in a log line of the program after `Program data: `, decoded from base64.
    /// [`Rejection::MalformedPayload`] for anything that is no event of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Rejection> {
        let (number, fields) = bytes.split_first().ok_or(Rejection::MalformedPayload)?;
        match *number {
            discriminator::INIT_BOOK => read(fields).map(Self::BookMade),
            discriminator::ADD_PAGE => read(fields).map(Self::PageAdded),
            discriminator::OPEN => read(fields).map(Self::Opened),
            discriminator::TOP_UP => read(fields).map(Self::ToppedUp),
            discriminator::CLAIM => read(fields).map(Self::Claimed),
            discriminator::PAYOUT => read(fields).map(Self::PaidOut),
            discriminator::REQUEST_CLOSE | discriminator::IDLE_CLOSE => read(fields).map(Self::Closing),
            discriminator::WITHDRAW => read(fields).map(Self::Withdrawn),
            discriminator::REFUND => read(fields).map(Self::Refunded),
            discriminator::SET_OPERATOR => read(fields).map(Self::OperatorSet),
            discriminator::CLOSE_PAGE => read(fields).map(Self::PageClosed),
            _ => Err(Rejection::MalformedPayload),
        }
    }

    /// The page that it concerns; none for what concerns a whole book.
    pub const fn page(&self) -> Option<[u8; 32]> {
        match self {
            Self::BookMade(_) | Self::OperatorSet(_) => None,
            Self::PageAdded(event) => Some(event.page),
            Self::Opened(event) => Some(event.page),
            Self::ToppedUp(event) => Some(event.page),
            Self::Claimed(event) => Some(event.page),
            Self::PaidOut(event) => Some(event.page),
            Self::Closing(event) => Some(event.page),
            Self::Withdrawn(event) => Some(event.page),
            Self::Refunded(event) => Some(event.page),
            Self::PageClosed(event) => Some(event.page),
        }
    }
}

/// Reads an event's fields; nothing may stand behind them.
fn read<T: BorshDeserialize>(fields: &[u8]) -> Result<T, Rejection> {
    T::try_from_slice(fields).map_err(|_| Rejection::MalformedPayload)
}

/// Up to what a claim's instruction settles each channel that it names, as (slot, base units): at most the channel's deposit.
/// `None` for the data of any other instruction, and for data that the program refuses.
pub fn claimed_rows(data: &[u8]) -> Option<Vec<(u8, Amount)>> {
    let (number, body) = data.split_first()?;
    match *number {
        discriminator::CLAIM => {
            let (_, rows) = split_claim::<ROW_BYTES>(body).ok()?;
            Some(rows.iter().map(Row::from_bytes).map(|row| (row.slot, row.cumulative)).collect())
        }
        discriminator::CLAIM_BELOW => {
            let (_, rows) = split_claim::<BELOW_ROW_BYTES>(body).ok()?;
            Some(rows.iter().map(BelowRow::from_bytes).map(|row| (row.signed.slot, row.amount)).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_bytes_of_an_event_when_read_then_its_fields_are_there_and_nothing_may_be_missing_or_too_much() {
        let mut bytes = vec![discriminator::REFUND];
        bytes.extend([9; 32]);
        bytes.push(4);
        bytes.extend(7u32.to_le_bytes());
        bytes.extend(1_500u64.to_le_bytes());
        let refunded = Refunded { page: [9; 32], slot: 4, generation: 7, returned: 1_500 };
        assert_eq!(Event::from_bytes(&bytes), Ok(Event::Refunded(refunded)));
        assert_eq!(Event::Refunded(refunded).page(), Some([9; 32]));
        for wrong in [&bytes[..bytes.len() - 1], &[bytes.as_slice(), &[0]].concat(), &[], &[6], &[99, 1]] {
            assert_eq!(Event::from_bytes(wrong), Err(Rejection::MalformedPayload));
        }
    }

    #[test]
    fn given_a_claim_of_either_kind_when_its_rows_are_read_then_each_says_up_to_what_it_settles() {
        let amount = Amount::new;
        let row = Row { slot: 3, cumulative: amount(700), nonce: [1; 32] };
        let signed = Row { slot: 95, cumulative: amount(900), nonce: [2; 32] };
        let below = BelowRow { signed, amount: amount(20) };
        let claim = [&[discriminator::CLAIM], &[0; 32][..], &row.to_bytes().unwrap()].concat();
        let claim_below = [&[discriminator::CLAIM_BELOW], &[0; 32][..], &below.to_bytes().unwrap()].concat();
        assert_eq!(claimed_rows(&claim), Some(vec![(3, amount(700))]));
        assert_eq!(claimed_rows(&claim_below), Some(vec![(95, amount(20))]));
        assert_eq!(claimed_rows(&claim[..claim.len() - 1]), None, "cut");
        assert_eq!(claimed_rows(&[discriminator::PAYOUT, 1]), None);
    }
}
