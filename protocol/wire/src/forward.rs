//! What a resource server that keeps a ledger of its own tells its facilitator, so that it is settled.

use crate::{Key, PaymentRequirements, Reason, ResourceInfo, Voucher, decimal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tallybook_rules::Amount;

/// The most vouchers of one request.
pub const MAX_FORWARDED: usize = 128;
/// The most things sold that one request names.
pub const MAX_SOLD: usize = 8;

/// `POST /vouchers`: the newest vouchers of channels of one book. The same again changes nothing, so whatever was sent
/// without an answer is sent again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ForwardRequest {
    /// The payee's book.
    pub book: Key,
    /// At most [`MAX_FORWARDED`], each channel once.
    pub vouchers: Vec<ForwardedVoucher>,
    /// What some of them have paid for, where that declares itself: at most [`MAX_SOLD`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sold: Vec<Sold>,
}

/// What a channel has paid for last, for a facilitator that keeps a catalogue (x402, `bazaar`).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sold {
    /// The channel: one of those whose vouchers come along.
    pub channel_id: Key,
    /// What was sold.
    pub resource: ResourceInfo,
    /// What it declares.
    pub extension: Value,
    /// What was asked for it.
    pub requirements: PaymentRequirements,
}

/// A channel's newest voucher, and how much of it calls really cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForwardedVoucher {
    /// The voucher.
    pub voucher: Voucher,
    /// What calls cost so far, in base units: what is to be settled, at most what the voucher says.
    #[serde(with = "decimal")]
    pub charged: Amount,
}

/// A line of an export of vouchers, JSON without a line break: a channel's newest voucher, and where it is. What `tallybook
/// vouchers export` and `GET /admin/vouchers` write, and `tallybook settle` and `tallybook watch` read.
///
/// It names no secret key, but whoever has it can claim for the payee, and sees who paid what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VoucherLine {
    /// Channel, signed amount, signature.
    pub voucher: Voucher,
    /// What calls really cost so far, in base units: what is to be settled.
    #[serde(with = "decimal")]
    pub charged: Amount,
    /// The page that the channel is in, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Key>,
    /// The page's book, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub book: Option<Key>,
}

impl VoucherLine {
    /// What is to be settled: never more than was signed.
    pub fn due(&self) -> Amount {
        self.charged.min(self.voucher.max_claimable_amount)
    }
}

/// The answer of `POST /vouchers`: durable when it is given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForwardResponse {
    /// One for each voucher, in their order.
    pub taken: Vec<Taken>,
}

/// What became of one voucher.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The channel.
    pub channel_id: Key,
    /// What the facilitator holds as charged for it now, in base units: at least what was sent unless `error` is set.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub charged: Option<Amount>,
    /// What is recorded on chain, in base units.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub settled: Option<Amount>,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Reason>,
}
