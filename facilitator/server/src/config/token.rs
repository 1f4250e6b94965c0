//! What others show to be let in.

use serde::Deserialize;
use std::fmt;
use tallybook_keys::{Problem, Source};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;
use toml::Value;

/// A bearer token: itself, or `file:PATH`, `env:NAME` or `command:PROGRAM` that gives it. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Token(String);

/// How a token that stands elsewhere begins.
const ELSEWHERE: [&str; 3] = ["file:", "env:", "command:"];

impl TryFrom<Value> for Token {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        // The usual message would show the value.
        let token = value.as_str().ok_or("must be text in quotes")?;
        Ok(Self(token.to_owned()))
    }
}

impl Token {
    /// Fewest characters.
    const MIN_CHARS: usize = 16;

    /// A token; [`Config::check`](crate::Config::check) refuses one shorter than 16 characters.
    pub fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    /// Fetches it, if it stands elsewhere.
    pub(super) fn read(&mut self) -> Result<(), Problem> {
        if ELSEWHERE.iter().any(|beginning| self.0.starts_with(beginning)) {
            self.0 = self.0.parse::<Source>()?.text()?.to_string();
        }
        Ok(())
    }

    /// Whether it could be guessed.
    pub(super) const fn is_short(&self) -> bool {
        self.0.len() < Self::MIN_CHARS
    }

    /// Whether this is what is shown. Hashes are compared, so that the time it takes tells nothing of the token.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        Sha2::sha256(&[shown]) == Sha2::sha256(&[self.0.as_bytes()])
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
