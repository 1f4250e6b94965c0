use crate::text;
use base64::{Engine, engine::general_purpose::STANDARD};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tallybook_rules::Rejection;

/// The largest transaction on the wire: one packet of the network.
pub const MAX_TRANSACTION_BYTES: usize = 1_232;
/// The longest base64 of such a transaction, padding included.
const MAX_TRANSACTION_CHARS: usize = MAX_TRANSACTION_BYTES.div_ceil(3) * 4;

/// Implements base58 reading, writing and showing for a newtype over an array of bytes: on the stack, since a payment has
/// a dozen of them.
macro_rules! base58 {
    ($name:ident, $bytes:literal, $max_chars:literal, $decode:path, $encode:path) => {
        impl $name {
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            fn with_text<T>(&self, then: impl FnOnce(&str) -> T) -> T {
                let mut chars = [0; $max_chars];
                let length = $encode(&self.0, &mut chars);
                let text = chars.get(..usize::from(length)).and_then(|chars| core::str::from_utf8(chars).ok());
                // Base58 is ASCII, and never longer than its room.
                then(text.unwrap_or_default())
            }
        }

        impl From<[u8; $bytes]> for $name {
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; $bytes] {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl FromStr for $name {
            type Err = Rejection;

            fn from_str(text: &str) -> Result<Self, Rejection> {
                let mut bytes = [0; $bytes];
                // Only the one spelling of exactly so many bytes is read, at most $max_chars characters.
                $decode(text, &mut bytes).map_err(|_| Rejection::MalformedPayload)?;
                Ok(Self(bytes))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text::read(deserializer, str::parse)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.with_text(|text| serializer.serialize_str(text))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.with_text(|text| f.write_str(text))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// 32 bytes in base58: an address, a channel id or a hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub [u8; 32]);

/// 64 bytes in base58: an Ed25519 signature, of a voucher or of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

base58!(Key, 32, 44, five8::decode_32, five8::encode_32);
base58!(Signature, 64, 88, five8::decode_64, five8::encode_64);

impl Key {
    /// Reads base58 or 64 hexadecimal digits, as a channel id may stand in a path.
    pub fn from_base58_or_hex(text: &str) -> Result<Self, Rejection> {
        if text.len() != 64 {
            return text.parse();
        }
        let mut bytes = [0; 32];
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let digits = core::str::from_utf8(pair).map_err(|_| Rejection::MalformedPayload)?;
            let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(digits, 16).ok().filter(|_| hex).ok_or(Rejection::MalformedPayload)?;
        }
        Ok(Self(bytes))
    }
}

/// A serialized transaction, 1 ..= [`MAX_TRANSACTION_BYTES`] bytes, in padded base64.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TransactionBytes(Vec<u8>);

impl TransactionBytes {
    /// Wraps bytes, or [`Rejection::RequestTooLarge`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, Rejection> {
        match bytes.len() {
            0 => Err(Rejection::MalformedPayload),
            1..=MAX_TRANSACTION_BYTES => Ok(Self(bytes)),
            _ => Err(Rejection::RequestTooLarge),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for TransactionBytes {
    type Error = Rejection;

    fn try_from(text: String) -> Result<Self, Rejection> {
        if text.len() > MAX_TRANSACTION_CHARS {
            return Err(Rejection::RequestTooLarge);
        }
        Self::new(STANDARD.decode(text).map_err(|_| Rejection::MalformedPayload)?)
    }
}

impl From<TransactionBytes> for String {
    fn from(transaction: TransactionBytes) -> Self {
        STANDARD.encode(transaction.0)
    }
}

impl fmt::Debug for TransactionBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionBytes({} bytes)", self.0.len())
    }
}
