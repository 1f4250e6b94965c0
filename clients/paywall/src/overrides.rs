//! `Settlement-Overrides`: how a handler says by a header what its call really cost, as x402's own middlewares let it. For
//! handlers that are behind another server, in any language.

use crate::builder::Shared;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use tallybook_rules::Amount;

/// Handler to paywall, never to the client: `{"amount": …}`.
const SETTLEMENT_OVERRIDES: HeaderName = HeaderName::from_static("settlement-overrides");
/// The longest such header, in bytes.
const MAX_BYTES: usize = 256;
/// Hundredths of a percent in the whole.
const WHOLE: u64 = 10_000;

#[derive(Deserialize)]
struct Overrides {
    amount: Option<String>,
}

/// A header that says nothing that can be charged: no amount, or more than was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Senseless;

/// Takes it off where the price is fixed: it has no effect there, and is nothing for clients either.
pub(crate) fn drop_unread(headers: &mut HeaderMap) {
    headers.remove(SETTLEMENT_OVERRIDES);
}

/// Takes what a handler says out of its answer.
pub(crate) fn take(headers: &mut HeaderMap, shared: &Shared, ceiling: Amount) -> Result<Option<Amount>, Senseless> {
    let Some(value) = headers.remove(SETTLEMENT_OVERRIDES) else { return Ok(None) };
    if value.len() > MAX_BYTES {
        return Err(Senseless);
    }
    let overrides: Overrides = serde_json::from_slice(value.as_bytes()).map_err(|_| Senseless)?;
    let Some(text) = overrides.amount else { return Ok(None) };
    let amount = amount(&text, ceiling, |money| shared.amount(money)).ok_or(Senseless)?;
    if amount > ceiling { Err(Senseless) } else { Ok(Some(amount)) }
}

/// Base units, `"1000"`; a share of the ceiling with at most two decimals, `"50%"`, rounded down; or money, `"$0.05"`.
fn amount(text: &str, ceiling: Amount, money: impl Fn(&str) -> Option<Amount>) -> Option<Amount> {
    if let Some(percent) = text.strip_suffix('%') {
        // Two decimals of a percent are base units of a token of two decimals.
        let percent = Some(percent).filter(|percent| !percent.starts_with('$'))?;
        let share = Amount::parse_decimal(percent, 2).ok().filter(|share| share.get() <= WHOLE)?;
        let units = u128::from(ceiling.get()).checked_mul(share.get().into())?.checked_div(WHOLE.into())?;
        return u64::try_from(units).ok().map(Amount::new);
    }
    if text.starts_with('$') {
        return money(text);
    }
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| text.parse().ok().map(Amount::new)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_what_a_handler_may_say_when_it_is_read_then_it_is_base_units_and_nothing_else_is() {
        let of = |text: &str| {
            let read = amount(text, Amount::new(1_001), |money| Amount::parse_decimal(money, 6).ok());
            read.map(Amount::get)
        };
        for (text, units) in [
            ("0", 0),
            ("1000", 1_000),
            ("2000", 2_000),
            ("50%", 500),
            ("0%", 0),
            ("100%", 1_001),
            ("12.5%", 125),
            ("33.33%", 333),
            ("$0.0005", 500),
        ] {
            assert_eq!(of(text), Some(units), "{text}");
        }
        for bad in ["", "-1", "+1", "1.5", "101%", "%", "1e3", "0x10", "$", "$5%", "12.345%", "99999999999999999999"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
