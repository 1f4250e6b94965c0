use crate::{Key, text};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize};
use tallybook_rules::Rejection;

/// The name of the scheme.
pub const SCHEME: &str = "@tallybook/channel";

/// The scheme `@tallybook/channel`: there is only this one value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize)]
#[serde(into = "&'static str")]
pub struct Scheme;

impl<'de> Deserialize<'de> for Scheme {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::read(deserializer, |name| (name == SCHEME).then_some(Self).ok_or(Rejection::UnsupportedScheme))
    }
}

impl From<Scheme> for &'static str {
    fn from(_: Scheme) -> Self {
        SCHEME
    }
}

/// Version 2 of x402: there is only this one value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Version;

impl Version {
    /// The number.
    pub const NUMBER: u64 = 2;
}

impl TryFrom<u64> for Version {
    type Error = Rejection;

    fn try_from(number: u64) -> Result<Self, Rejection> {
        (number == Self::NUMBER).then_some(Self).ok_or(Rejection::UnsupportedVersion)
    }
}

impl From<Version> for u64 {
    fn from(_: Version) -> Self {
        Version::NUMBER
    }
}

/// A Solana cluster by its CAIP-2 id, `solana:` and the first 32 characters of the genesis hash in base58.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(String);

impl Network {
    const NAMESPACE: &'static str = "solana:";
    const REFERENCE_CHARS: usize = 32;

    /// Mainnet beta.
    pub fn mainnet() -> Self {
        Self("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp".to_owned())
    }

    /// Devnet; also what local chains announce, which have no id of their own.
    pub fn devnet() -> Self {
        Self("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1".to_owned())
    }

    /// The id of the cluster with this genesis hash.
    pub fn of_genesis(genesis_hash: &[u8; 32]) -> Self {
        let reference: String = Key(*genesis_hash).to_string().chars().take(Self::REFERENCE_CHARS).collect();
        Self(format!("{}{reference}", Self::NAMESPACE))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Network {
    type Error = Rejection;

    fn try_from(text: String) -> Result<Self, Rejection> {
        let reference = text.strip_prefix(Self::NAMESPACE).unwrap_or_default();
        let base58 = reference.bytes().all(|c| c.is_ascii_alphanumeric());
        if reference.len() == Self::REFERENCE_CHARS && base58 { Ok(Self(text)) } else { Err(Rejection::WrongNetwork) }
    }
}

impl core::str::FromStr for Network {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        Self::try_from(text.to_owned())
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
