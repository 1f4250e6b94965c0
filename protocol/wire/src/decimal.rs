//! Amounts as x402 writes them: decimal strings of base units, `"500"`. For `#[serde(with = "decimal")]`. And numbers as people
//! read them.

use crate::text;
use serde::{Deserializer, Serializer};
use std::fmt::Display;
use tallybook_rules::{Amount, Rejection};

/// Reads `0`, or digits without a leading zero, up to 2^64 − 1. One amount has one spelling.
pub fn parse(text: &str) -> Result<Amount, Rejection> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|digit| digit.is_ascii_digit()));
    match text.parse() {
        Ok(base_units) if canonical => Ok(Amount::new(base_units)),
        _ => Err(Rejection::MalformedAmount),
    }
}

/// Writes an amount.
pub fn serialize<S: Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

/// Reads an amount.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
    text::read(deserializer, parse)
}

/// The same where the amount may be left out, be `null`, or be `""` (which x402 writes for "none").
pub mod option {
    use super::{Amount, Deserializer, Serializer, parse};
    use serde::{Deserialize, de::Error};
    use std::borrow::Cow;

    /// Writes an amount, or `null`.
    pub fn serialize<S: Serializer>(amount: &Option<Amount>, serializer: S) -> Result<S::Ok, S::Error> {
        match amount {
            Some(amount) => serializer.collect_str(amount),
            None => serializer.serialize_none(),
        }
    }

    /// Reads an amount that may be missing.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Amount>, D::Error> {
        match Option::<Cow<'_, str>>::deserialize(deserializer)? {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => parse(&text).map(Some).map_err(D::Error::custom),
        }
    }
}

/// The digits of a whole number in groups of three: `1,234,567`, or `1_234_567` with the mark that TOML takes.
pub fn grouped(number: impl Display, mark: char) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            text.push(mark);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_numbers_when_grouped_then_every_thousand_has_its_mark() {
        let numbers = [0, 12, 999, 1_000, 123_456, 1_234_567, u64::MAX];
        let read = ["0", "12", "999", "1,000", "123,456", "1,234,567", "18,446,744,073,709,551,615"];
        assert_eq!(numbers.map(|number| grouped(number, ',')), read);
        assert_eq!(grouped("10000", '_'), "10_000");
    }
}
