//! What a facilitator earns and spends.

use crate::{Key, decimal};
use serde::{Deserialize, Serialize};
use tallybook_rules::Amount;

/// `GET /income`: one entry for each served book.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IncomeList {
    /// By book, in the order of the configuration.
    pub books: Vec<IncomeView>,
}

/// What one book brings and costs its facilitator. Amounts in base units of the mint, costs in lamports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncomeView {
    /// The book.
    pub book: Key,
    /// Its payee.
    pub payee: Key,
    /// Its mint.
    pub mint: Key,
    /// Decimals of the mint.
    pub decimals: u8,
    /// The facilitator's share by the book's splits, in basis points; 0 when it has none.
    pub basis_points: u16,
    /// What was claimed in all pages of the book that stand now.
    #[serde(with = "decimal")]
    pub claimed: Amount,
    /// The facilitator's share of that.
    #[serde(with = "decimal")]
    pub earned: Amount,
    /// What of it was paid out.
    #[serde(with = "decimal")]
    pub paid: Amount,
    /// What the sponsor spent for the book.
    pub spent: Spent,
}

/// What a sponsor spent for one book, in lamports, by what for; counted since the store was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    /// Fees of claims and payouts.
    pub claims: u64,
    /// Fees of channels opened and topped up.
    pub deposits: u64,
    /// Fees of cooperative closes.
    pub refunds: u64,
    /// Fees of pages and lookup tables, and the rent that is locked in them.
    pub pages: u64,
}
