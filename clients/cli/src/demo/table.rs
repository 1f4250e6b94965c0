//! Text in columns.

use std::time::Duration;
use tallybook_rules::Amount;
use tallybook_wire::decimal;

/// A number with separators: `10,000`.
pub(super) fn grouped(number: u64) -> String {
    decimal::grouped(number, ',')
}

/// Milliseconds with two places: `3.07 ms`.
pub(super) fn milliseconds(microseconds: u64) -> String {
    let hundredths = microseconds / 10;
    format!("{}.{:02} ms", grouped(hundredths / 100), hundredths % 100)
}

/// Seconds with one place: `12.3 s`.
pub(super) fn seconds(time: Duration) -> String {
    format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100)
}

/// How many a second.
pub(super) fn rate(count: u64, time: Duration) -> String {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let a_second = count.saturating_mul(1_000).checked_div(milliseconds).unwrap_or(count);
    grouped(a_second)
}

/// `a / b` with one place, or a dash when there is nothing to divide by.
pub(super) fn quotient(a: u64, b: u64) -> String {
    a.saturating_mul(10)
        .checked_div(b)
        .map_or_else(|| "-".to_owned(), |tenths| format!("{}.{}", grouped(tenths / 10), tenths % 10))
}

/// `after − before` in whole tokens, with its sign.
pub(super) fn difference(before: Amount, after: Amount, decimals: u8) -> String {
    if after >= before {
        format!("+{}", after.less(before).decimal(decimals))
    } else {
        format!("-{}", before.less(after).decimal(decimals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(milliseconds(3_079), "3.07 ms");
        assert_eq!(seconds(Duration::from_millis(12_345)), "12.3 s");
        assert_eq!(rate(10_000, Duration::from_millis(12_500)), "800");
        assert_eq!((quotient(47, 3), quotient(1, 0)), ("15.6".to_owned(), "-".to_owned()));
        assert_eq!(difference(Amount::new(2), Amount::new(1), 1), "-0.1");
        assert_eq!(difference(Amount::new(1), Amount::new(21), 1), "+2.0");
    }
}
