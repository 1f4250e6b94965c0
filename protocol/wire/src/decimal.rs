//! Amounts as x402 writes them: decimal strings of base units, `"500"`. For `#[serde(with = "decimal")]`.

use crate::text;
use serde::{Deserializer, Serializer};
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
