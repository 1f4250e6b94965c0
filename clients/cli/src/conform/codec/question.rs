//! The questions, as they stand on a line: bytes in hexadecimal, amounts as decimal strings, and what is x402's JSON as it
//! stands on the wire.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value;
use tallybook_rules::Amount;
use tallybook_wire::{Key, Network, decimal};

/// Bytes, in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

/// Writes bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads exactly `N` bytes in hexadecimal.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| D::Error::custom(format!("not {N} bytes in hexadecimal")))
    }
}

/// A voucher with its signer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signed {
    pub(super) signer: Hex<32>,
    pub(super) channel_id: Hex<32>,
    #[serde(with = "decimal")]
    pub(super) cumulative: Amount,
    pub(super) signature: Hex<64>,
}

/// A row of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct ClaimRow {
    pub(super) slot: u8,
    #[serde(with = "decimal")]
    pub(super) cumulative: Amount,
    pub(super) nonce: Hex<32>,
}

/// A row of a claim below what was signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct ClaimBelowRow {
    pub(super) slot: u8,
    #[serde(with = "decimal")]
    pub(super) signed: Amount,
    #[serde(with = "decimal")]
    pub(super) amount: Amount,
    pub(super) nonce: Hex<32>,
}

/// What an implementation is asked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Question {
    PageDomain {
        program_id: Hex<32>,
        genesis_hash: Hex<32>,
        page: Hex<32>,
    },
    ChannelId {
        page_domain: Hex<32>,
        slot: u8,
        generation: u32,
        payer: Hex<32>,
        signer: Hex<32>,
    },
    Voucher {
        channel_id: Hex<32>,
        #[serde(with = "decimal")]
        cumulative: Amount,
    },
    Sign {
        seed: Hex<32>,
        channel_id: Hex<32>,
        #[serde(with = "decimal")]
        cumulative: Amount,
    },
    /// By any correct Ed25519 verification: what a client needs.
    Verify(Signed),
    /// Off chain, by whoever keeps a ledger.
    Accept(Signed),
    Aggregate {
        vouchers: Vec<Signed>,
    },
    Claim {
        scalar: Hex<32>,
        rows: Vec<ClaimRow>,
    },
    ClaimBelow {
        scalar: Hex<32>,
        rows: Vec<ClaimBelowRow>,
    },
    BookAddress {
        program_id: Hex<32>,
        payee: Hex<32>,
        mint: Hex<32>,
        book_id: u16,
    },
    PageAddress {
        program_id: Hex<32>,
        book: Hex<32>,
        index: u32,
    },
    TokenAddress {
        owner: Hex<32>,
        token_program: Hex<32>,
        mint: Hex<32>,
    },
    /// Any JSON where an amount must stand.
    Amount {
        value: Value,
    },
    /// The value of `PAYMENT-REQUIRED`, and what the client pays with.
    Offers {
        header: String,
        network: Network,
        asset: Key,
    },
    /// The same, the entry of `accepts` to pay, and the channel to pay from.
    Payment {
        header: String,
        accept: usize,
        seed: Hex<32>,
        channel_id: Hex<32>,
        #[serde(with = "decimal")]
        charged: Amount,
        #[serde(with = "decimal")]
        deposit: Amount,
    },
    /// What a corrective 402 says in `extra`, and what the client knows itself.
    Believe {
        signer: Hex<32>,
        channel_id: Hex<32>,
        #[serde(with = "decimal")]
        charged: Amount,
        #[serde(with = "decimal")]
        possible: Amount,
        /// What the chain has settled.
        #[serde(default, with = "decimal")]
        settled: Amount,
        extra: Value,
    },
}
