//! What a call costs, and who says so.

use core::fmt;
use http::request::Parts;
use std::sync::Arc;
use tallybook_rules::{Amount, Rejection};

/// What one call costs, in base units of the book's mint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Price {
    /// Nothing: the handler runs unpaid.
    Free,
    /// Exactly this much.
    Exactly(Amount),
    /// At most this much: the handler says by its [`Charge`](crate::Charge) what it really was. One that does not say
    /// charges all of it.
    UpTo(Amount),
    /// A stream that is paid as it comes, in parts of at most this much: the client signs on while the answer runs, and
    /// the answer ends where it is not paid any more.
    Streamed {
        /// The ceiling of each part: what either side has at risk.
        part: Amount,
    },
}

impl Price {
    /// The most that the next voucher pays for.
    pub(crate) const fn ceiling(self) -> Amount {
        match self {
            Self::Free => Amount::ZERO,
            Self::Exactly(amount) | Self::UpTo(amount) | Self::Streamed { part: amount } => amount,
        }
    }

    /// Whether less than the ceiling may be charged.
    pub(crate) const fn is_metered(self) -> bool {
        matches!(self, Self::UpTo(_) | Self::Streamed { .. })
    }

    /// A price of nothing is no price to ask for.
    pub(crate) const fn is_free(self) -> bool {
        self.ceiling().is_zero()
    }
}

/// How a route comes by its price.
#[derive(Clone)]
pub(crate) enum Pricing {
    Fixed(Price),
    PerRequest(Arc<dyn Fn(&Parts) -> Price + Send + Sync>),
}

impl Pricing {
    pub(crate) fn of(&self, request: &Parts) -> Price {
        match self {
            Self::Fixed(price) => *price,
            Self::PerRequest(price) => price(request),
        }
    }
}

impl fmt::Debug for Pricing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(price) => price.fmt(f),
            Self::PerRequest(_) => f.write_str("PerRequest"),
        }
    }
}

/// A price by measure: so many base units for so many tokens, bytes, seconds or whatever is counted.
///
/// Prices below one base unit for one piece are no trouble: what is charged is `floor(pieces · amount / per)` of all that
/// was counted, so the roundings of single pieces never add up.
///
/// ```
/// use tallybook_paywall::Rate;
/// use tallybook_rules::Amount;
///
/// // $2 for a million tokens.
/// let rate = Rate::new(Amount::new(2_000_000), 1_000_000).unwrap();
/// assert_eq!(rate.cost(1_500), Ok(Amount::new(3_000)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    amount: Amount,
    per: u64,
}

impl Rate {
    /// `amount` base units for every `per` pieces; `None` for every nothing.
    pub const fn new(amount: Amount, per: u64) -> Option<Self> {
        if per == 0 { None } else { Some(Self { amount, per }) }
    }

    /// What so many pieces cost in all: `floor(pieces · amount / per)`, or [`Rejection::Overflow`] beyond 64 bits.
    pub fn cost(&self, pieces: u64) -> Result<Amount, Rejection> {
        let product = u128::from(pieces).checked_mul(u128::from(self.amount.get()));
        let cost = product.and_then(|product| product.checked_div(u128::from(self.per)));
        cost.and_then(|cost| u64::try_from(cost).ok()).map(Amount::new).ok_or(Rejection::Overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_rate_below_one_base_unit_when_pieces_are_counted_one_by_one_then_roundings_do_not_add_up() {
        let rate = Rate::new(Amount::new(1), 3).unwrap();
        let mut charged = Amount::ZERO;
        for pieces in 1..=300 {
            let cost = rate.cost(pieces).unwrap();
            charged = charged.plus(cost.minus(charged).unwrap()).unwrap();
        }
        assert_eq!(charged, Amount::new(100));
        assert_eq!(Rate::new(Amount::new(1), 0), None);
        assert_eq!(Rate::new(Amount::new(u64::MAX), 1).unwrap().cost(2), Err(Rejection::Overflow));
    }
}
