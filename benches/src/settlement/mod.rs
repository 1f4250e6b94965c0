//! What settling, closing and a whole life of channels cost on a chain, ours and in the layout of the payment-channels
//! program: the figures of `benches/settlement.rs`, and the worlds that they are measured in.
//!
//! All is exact: bytes as they are serialized, compute units as the chain charges them, lamports as they are missing from
//! balances afterwards.

pub mod peer;
pub mod world;

use serde::{Deserialize, Serialize};

/// Everything that the bench measures.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Settlement {
    /// What the readme quotes; the rest is what it comes from.
    pub ratios: Ratios,
    /// The chain that it was measured on, in words.
    pub chain: String,
    /// Claims with their payout.
    pub batches: Vec<Batch>,
    /// The same in the layout of the payment-channels program.
    pub peer: Vec<PeerBatch>,
    /// Lookup tables, which transactions of version 0 need once.
    pub tables: Vec<Table>,
    /// Channels closed in bulk.
    pub closing: Vec<Closing>,
    /// A channel's whole life.
    pub lives: Vec<Life>,
}

/// Lamports of the payment-channels program for one of ours; no unit.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Ratios {
    /// A settlement as the x402 specification packs it, to one of 23 in a transaction of version 0.
    pub peer_by_specification_to_ours_of_23: f64,
    /// The same at its very best.
    pub peer_at_best_to_ours_of_23: f64,
    /// As the specification packs it, to one of 94 in a transaction of version 1.
    pub peer_by_specification_to_ours_of_94: f64,
    /// The same at its very best.
    pub peer_at_best_to_ours_of_94: f64,
    /// A whole life as the specification packs it, to ours with one settlement among 23 and a close of its own.
    pub peer_life_to_ours: f64,
    /// At best, which is without a settlement before the close, to ours settled among 94 and closed in bulk.
    pub peer_life_at_best_to_ours_at_best: f64,
}

/// What one transaction took.
#[derive(Clone, Copy, Serialize, Deserialize, Default, Debug)]
pub struct Taken {
    /// Serialized bytes, signatures included.
    pub bytes: u64,
    /// Compute units.
    pub compute_units: u64,
    /// Lamports that were missing from balances after it.
    pub lamports: u64,
}

/// A batch of claims and the payout of all of it, in one transaction.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Batch {
    /// Claims.
    pub claims: u64,
    /// `v0 with lookup table` or `v1`.
    pub format: String,
    /// The token program.
    pub token: String,
    /// Recipients that the payout went to.
    pub legs: u64,
    /// The transaction.
    pub taken: Taken,
    /// Base units of the mint that left the vault.
    pub tokens_moved: u64,
}

/// Channels settled and paid out in the layout of the payment-channels program.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct PeerBatch {
    /// Channels.
    pub channels: u64,
    /// How they are packed.
    pub packing: String,
    /// Serialized bytes of each transaction.
    pub bytes: Vec<u64>,
    /// Lamports that were missing from balances after all of them.
    pub lamports: u64,
    /// Compute units of the program itself for all channels: quoted from a measurement of it, not measured here.
    pub quoted_compute_units: u64,
}

/// A lookup table.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Table {
    /// For whom.
    pub owner: String,
    /// Channels whose settlements it serves.
    pub channels: u64,
    /// Addresses in it.
    pub addresses: u64,
    /// Lamports of fees, gone.
    pub fees: u64,
    /// Lamports of rent, which come back when the table is closed.
    pub refundable_rent: u64,
}

/// Many channels closed in one transaction: all that fit.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Closing {
    /// `refund` or `withdraw`.
    pub instruction: String,
    /// `v0 with lookup table` or `v1`.
    pub format: String,
    /// Channels.
    pub channels: u64,
    /// The transaction.
    pub taken: Taken,
    /// Base units of the mint that went back to payers.
    pub tokens_moved: u64,
}

/// The fees of a channel's whole life with one settlement, in lamports for each channel. No rent: a slot locks none.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Life {
    /// Whose, and how packed.
    pub name: String,
    /// To open it.
    pub open: f64,
    /// To settle and pay out once.
    pub settle: f64,
    /// To close it and what comes after.
    pub close: f64,
    /// All of it.
    pub total: f64,
    /// False where it is quoted from a measurement of the payment-channels program.
    pub measured_here: bool,
}

impl Batch {
    /// Lamports for each claim.
    #[must_use]
    pub fn lamports_per_claim(&self) -> f64 {
        per(self.taken.lamports, self.claims)
    }
}

impl PeerBatch {
    /// Lamports for each channel.
    #[must_use]
    pub fn lamports_per_channel(&self) -> f64 {
        per(self.lamports, self.channels)
    }
}

/// A share of an exact sum.
#[must_use]
#[expect(clippy::as_conversions, clippy::float_arithmetic, reason = "for people and plots; the sums stand beside it")]
pub fn per(sum: u64, count: u64) -> f64 {
    sum as f64 / count as f64
}
