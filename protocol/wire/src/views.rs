//! What the facilitator shows: the offer that a paywall needs, and the books for people and monitors.

use crate::{Channel, Extra, Key, Network, PaymentRequirements, Scheme, Signature, decimal};
use core::num::NonZeroU32;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use tallybook_rules::Amount;

/// `GET /books/{book}/offer`: everything of [`PaymentRequirements`] but price and timeout, with a free slot that
/// rotates from answer to answer, so that simultaneous openers rarely meet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The cluster.
    pub network: Network,
    /// The mint.
    pub asset: Key,
    /// The payee.
    pub pay_to: Key,
    /// The longest reservation that the facilitator makes, in seconds.
    pub max_timeout_seconds: NonZeroU32,
    /// Book, slot, sponsor and terms.
    pub extra: Extra,
    /// Slots of the book that a channel can be opened in, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_slots: Option<u32>,
    /// Pages of the book.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<u32>,
}

impl Offer {
    /// The requirements of a call that costs `amount` and takes at most `timeout_seconds`.
    pub fn priced(&self, amount: Amount, timeout_seconds: NonZeroU32) -> PaymentRequirements {
        PaymentRequirements {
            scheme: Scheme,
            network: self.network.clone(),
            amount,
            asset: self.asset,
            pay_to: self.pay_to,
            max_timeout_seconds: timeout_seconds.min(self.max_timeout_seconds),
            extra: self.extra.clone(),
            other: Map::new(),
        }
    }
}

/// `GET /channels/{id}`: a channel in the ledger. Amounts in base units.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelView {
    /// Its id.
    pub channel_id: Key,
    /// Its parts.
    pub channel: Channel,
    /// Whether it takes vouchers.
    pub status: ChannelStatus,
    /// All that was put in and not refunded.
    #[serde(with = "decimal")]
    pub deposit: Amount,
    /// The cumulative of the newest durable voucher.
    #[serde(with = "decimal")]
    pub signed: Amount,
    /// What calls really cost so far.
    #[serde(with = "decimal")]
    pub charged: Amount,
    /// The cumulative of the call under way, or nothing.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Amount>,
    /// What is recorded on chain.
    #[serde(with = "decimal")]
    pub settled: Amount,
    /// Closing on chain: when it may be withdrawn, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<i64>,
}

/// What a channel is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelStatus {
    /// Takes vouchers.
    Open,
    /// Takes none any more: the payer asked to leave, or a refund is under way.
    Closing,
    /// Over.
    Closed,
}

/// `GET /batches`: one page of batches, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BatchList {
    /// Newest first.
    pub batches: Vec<BatchView>,
    /// `before` of the next page, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The claims of one transaction. Amounts in base units.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchView {
    /// Rises from batch to batch.
    pub id: u64,
    /// The page.
    pub page: Key,
    /// Channels claimed.
    pub rows: u8,
    /// What the claim adds on chain: expected until confirmed, then as read.
    #[serde(with = "decimal")]
    pub claimed: Amount,
    /// How far it is.
    pub status: BatchStatus,
    /// The transaction that was sent last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Signature>,
    /// How many transactions are confirmed: one, or more where rows were split or refused.
    #[serde(default)]
    pub transactions: u32,
    /// What the sponsor paid for them, in lamports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_lamports: Option<u64>,
    /// What they used of the chain, in compute units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_units: Option<u64>,
    /// When it was planned, in Unix seconds.
    pub planned_at: i64,
}

/// How far a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchStatus {
    /// Recorded, not sent.
    Planned,
    /// Sent; its outcome is not known yet.
    Sent,
    /// On chain, confirmed.
    Confirmed,
    /// On chain, for good.
    Finalized,
    /// Refused by the chain or expired; its rows are planned anew.
    Failed,
}

/// `GET /health`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// The facilitator's version.
    pub version: String,
    /// The slot of the chain that was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_slot: Option<u64>,
    /// Channels in the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u64>,
    /// What is charged and not settled yet, in base units of all mints together.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Amount>,
    /// The number of this facilitator, where it is one of several on one database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
    /// How many books such a one works on now: all that is said here is of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub books: Option<u32>,
    /// Pages that were not read since the start: each is read at once when somebody pays from a channel in it. Not said once
    /// there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_pages: Option<u64>,
}

/// Health in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Vouchers are taken and claims are sent.
    Ok,
    /// Vouchers are taken, but the chain does not answer, or the sponsor has no SOL to pay for claims.
    Degraded,
    /// Shutting down: nothing new is taken.
    Draining,
}
