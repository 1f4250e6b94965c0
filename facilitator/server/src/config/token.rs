//! What others show to be let in.

use serde::Deserialize;
use std::fmt;
use tallybook_keys::{Problem, Source};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;
use toml::Value;

/// A bearer token: itself, or `file:PATH`, `env:NAME` or `command:PROGRAM` that gives it. Or several, of which any is as good:
/// one that is new and one that goes, while those who show it change. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Token(Vec<String>);

/// How a token that stands elsewhere begins.
const ELSEWHERE: [&str; 3] = ["file:", "env:", "command:"];

impl TryFrom<Value> for Token {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        // The usual message would show the value.
        let refused = "must be text in quotes, or a list of one to 8 such texts";
        let tokens = value.as_array().map_or_else(|| std::slice::from_ref(&value), Vec::as_slice);
        if !(1..=Self::MAX_TOKENS).contains(&tokens.len()) {
            return Err(refused);
        }
        let tokens = tokens.iter().map(|token| token.as_str().map(str::to_owned).ok_or(refused));
        Ok(Self(tokens.collect::<Result<_, _>>()?))
    }
}

impl Token {
    /// Fewest characters.
    const MIN_CHARS: usize = 16;
    /// Most that are good at a time: each is compared with what is shown.
    const MAX_TOKENS: usize = 8;

    /// A token; [`Config::check`](crate::Config::check) refuses one shorter than 16 characters.
    pub fn new(token: &str) -> Self {
        Self(vec![token.to_owned()])
    }

    /// Fetches what stands elsewhere.
    pub(super) fn read(&mut self) -> Result<(), Problem> {
        for token in &mut self.0 {
            if ELSEWHERE.iter().any(|beginning| token.starts_with(beginning)) {
                *token = token.parse::<Source>()?.text()?.to_string();
            }
        }
        Ok(())
    }

    /// Whether one of them could be guessed.
    pub(super) fn is_short(&self) -> bool {
        self.0.iter().any(|token| token.len() < Self::MIN_CHARS)
    }

    /// Whether one of them is one of the other's.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        self.0.iter().any(|token| other.0.contains(token))
    }

    /// Whether one of them is what is shown. Hashes are compared, all of them, so that the time it takes tells nothing of any.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        let shown = Sha2::sha256(&[shown]);
        self.0.iter().fold(false, |found, token| (Sha2::sha256(&[token.as_bytes()]) == shown) | found)
    }

    /// The first of them, to be shown to a facilitator of the same configuration.
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
