//! Members that are strings, read where they stand: without a copy of the string.

use core::fmt;
use serde::de::{Deserializer, Error, Visitor};
use tallybook_rules::Rejection;

/// Reads a string by `parse`.
pub(crate) fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, Rejection>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Parse(parse))
}

struct Parse<T>(fn(&str) -> Result<T, Rejection>);

impl<T> Visitor<'_> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}
