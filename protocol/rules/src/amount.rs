use crate::Rejection;
use bytemuck::{Pod, Zeroable};
use core::fmt;

/// An amount of money in base units of the mint (USDC: 10^-6 dollars).
///
/// Plain integers with checked operations only; there is no way to get a wrapped or rounded amount out of it.
/// Any `u64` is a valid amount; what a channel may hold is bounded by [`Amount::DEPOSIT_LIMIT`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One more than the largest deposit of a channel, 2^48 base units: a claim row carries 48 bits.
    pub const DEPOSIT_LIMIT: Self = Self(1 << 48);
    /// The largest deposit of a channel, 2^48 − 1 base units (281 million USDC).
    pub const MAX_DEPOSIT: Self = Self((1 << 48) - 1);

    /// An amount of `base_units`.
    pub const fn new(base_units: u64) -> Self {
        Self(base_units)
    }

    /// The amount in base units.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// True for nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self + other`, or [`Rejection::Overflow`].
    pub const fn plus(self, other: Self) -> Result<Self, Rejection> {
        match self.0.checked_add(other.0) {
            Some(sum) => Ok(Self(sum)),
            None => Err(Rejection::Overflow),
        }
    }

    /// `self − other`, or [`Rejection::Overflow`] when `other` is larger.
    pub const fn minus(self, other: Self) -> Result<Self, Rejection> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Ok(Self(difference)),
            None => Err(Rejection::Overflow),
        }
    }

    /// `self − other`, or nothing when `other` is larger: what is left of a limit.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self · times`, or [`Rejection::Overflow`].
    pub const fn times(self, times: u64) -> Result<Self, Rejection> {
        match self.0.checked_mul(times) {
            Some(product) => Ok(Self(product)),
            None => Err(Rejection::Overflow),
        }
    }

    /// `floor(self · basis_points / 10,000)` for at most 10,000 basis points, exactly and without 128-bit numbers:
    /// with `self = 10,000·q + r` it is `q·basis_points + floor(r·basis_points / 10,000)`.
    pub const fn share(self, basis_points: u16) -> Result<Self, Rejection> {
        if basis_points > crate::TOTAL_BASIS_POINTS {
            return Err(Rejection::BadSplits);
        }
        #[expect(clippy::as_conversions, reason = "u16 to u64 is lossless; From is not const")]
        let (points, total) = (basis_points as u64, crate::TOTAL_BASIS_POINTS as u64);
        #[expect(clippy::arithmetic_side_effects, reason = "total is a constant, not zero")]
        let (whole, rest) = (self.0 / total, self.0 % total);
        match (whole.checked_mul(points), rest.checked_mul(points)) {
            (Some(whole), Some(rest)) => {
                #[expect(clippy::arithmetic_side_effects, reason = "total is a constant, not zero")]
                let rest = rest / total;
                Self(whole).plus(Self(rest))
            }
            _ => Err(Rejection::Overflow),
        }
    }

    /// Reads a decimal number of whole tokens, `"0.0005"` or `"$0.0005"`, for a mint with `decimals` places.
    ///
    /// Refused, never rounded ([`Rejection::MalformedAmount`]): signs, exponents, separators, more places than the
    /// mint has, anything beyond 64 bits.
    pub fn parse_decimal(text: &str, decimals: u8) -> Result<Self, Rejection> {
        let text = text.strip_prefix('$').unwrap_or(text);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let places = usize::from(decimals);
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > places {
            return Err(Rejection::MalformedAmount);
        }
        let padding = core::iter::repeat_n(b'0', places.saturating_sub(fraction.len()));
        let mut value = 0u64;
        for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
            let digit = match digit {
                b'0'..=b'9' => u64::from(digit).checked_sub(u64::from(b'0')),
                _ => None,
            };
            value =
                digit.and_then(|digit| value.checked_mul(10)?.checked_add(digit)).ok_or(Rejection::MalformedAmount)?;
        }
        Ok(Self(value))
    }

    /// For showing the amount to people as whole tokens: `0.0005`.
    pub const fn decimal(self, decimals: u8) -> Decimal {
        Decimal { amount: self, decimals }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An [`Amount`] shown in whole tokens, with all places of the mint: `0.000500`. Made by [`Amount::decimal`].
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    amount: Amount,
    decimals: u8,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(unit) = 10u64.checked_pow(u32::from(self.decimals)) else {
            return write!(f, "{}e-{}", self.amount, self.decimals);
        };
        let places = usize::from(self.decimals);
        let whole = self.amount.0.checked_div(unit).unwrap_or_default();
        match (places, self.amount.0.checked_rem(unit)) {
            (0, _) | (_, None) => write!(f, "{whole}"),
            (_, Some(rest)) => write!(f, "{whole}.{rest:0places$}"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the reference is wide enough")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn dollars_become_base_units_exactly_or_not_at_all() {
        for (text, decimals, base_units) in [
            ("$0.0005", 6, 500),
            ("1", 6, 1_000_000),
            (".5", 1, 5),
            ("3.", 2, 300),
            ("0", 0, 0),
            ("18446744073709551615", 0, u64::MAX),
        ] {
            assert_eq!(Amount::parse_decimal(text, decimals), Ok(Amount(base_units)), "{text}");
        }
        for text in
            ["", ".", "$", "-1", "+1", "1e3", "1,000", "0.0000001", "１", "99999999999999999999", " 1", "$$1", "1.2.3"]
        {
            assert_eq!(Amount::parse_decimal(text, 6), Err(Rejection::MalformedAmount), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(units: u64, decimals in 0u8..20) {
            let shown = Amount(units).decimal(decimals).to_string();
            if decimals < 20 && 10u64.checked_pow(u32::from(decimals)).is_some() {
                prop_assert_eq!(Amount::parse_decimal(&shown, decimals), Ok(Amount(units)));
            }
        }

        #[test]
        fn a_share_is_the_exact_floor(units: u64, points in 0u16..=10_000) {
            let exact = u128::from(units) * u128::from(points) / 10_000;
            prop_assert_eq!(u128::from(Amount(units).share(points).unwrap().get()), exact);
        }
    }
}
