use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tallybook_chain::shape::Shape;
use tallybook_settler::{FeePolicy, Pace, Settings, ShapeChoice};

/// How the chain is asked, and what it may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChainSettings {
    /// How often the served pages are read, in milliseconds. Where reading takes more than half of that, it pauses as long as it took.
    pub poll_milliseconds: u64,
    /// How long one question to the node may take, in seconds.
    pub timeout_seconds: u32,
    /// How long one call waits for a transaction to be decided, in seconds; later it is asked for again.
    pub patience_seconds: u32,
    /// The shape of claim transactions: by default the largest that the chain takes.
    pub transaction: Transaction,
    /// How the price of compute is found for own transactions.
    pub priority_fee: PriorityFee,
    /// What is bid by "fixed", and at least by "recent", in micro-lamports a compute unit.
    pub compute_price: u64,
    /// The most that is bid by "recent", in micro-lamports a compute unit.
    pub compute_price_cap: u64,
    /// Which of the recent prices is bid by "recent": 50 is the median.
    pub compute_price_percentile: u8,
    /// The highest compute price of a deposit that is sponsored, in micro-lamports a unit.
    pub max_compute_price: u64,
    /// The highest compute limit of a deposit that is sponsored, in units.
    pub max_compute_units: u32,
    /// Make a payee's missing token account at the sponsor's expense.
    pub create_payee_accounts: bool,
    /// Make a lookup table for each page at the sponsor's expense where the chain takes no transactions of version 1: 23
    /// claims in a transaction, else 19.
    pub make_tables: bool,
}

/// The shape of claim transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transaction {
    /// The largest that the chain takes: version 1, else v0 with the page's lookup table, else legacy.
    Auto,
    /// Version 1, without asking.
    V1,
    /// Version 0.
    V0,
    /// Without version.
    Legacy,
}

/// How the price of compute is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriorityFee {
    /// A percentile of what recent blocks took for the same accounts, within bounds.
    Recent,
    /// Always `compute_price`.
    Fixed,
    /// None is bid.
    Off,
}

impl Default for ChainSettings {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            poll_milliseconds: 1_000,
            timeout_seconds: 10,
            patience_seconds: 30,
            transaction: Transaction::Auto,
            priority_fee: PriorityFee::Recent,
            compute_price: 1_000,
            compute_price_cap: 50_000,
            compute_price_percentile: 50,
            max_compute_price: settings.max_compute_price,
            max_compute_units: settings.max_compute_units,
            create_payee_accounts: settings.create_payee_accounts,
            make_tables: settings.make_tables,
        }
    }
}

impl ChainSettings {
    /// The highest price of compute that is bid, in micro-lamports a unit.
    pub(crate) const fn highest_price(&self) -> u64 {
        self.fees().most()
    }

    const fn fees(&self) -> FeePolicy {
        match self.priority_fee {
            PriorityFee::Off => FeePolicy::Off,
            PriorityFee::Fixed => FeePolicy::Fixed(self.compute_price),
            PriorityFee::Recent => FeePolicy::Recent {
                percentile: self.compute_price_percentile,
                floor: self.compute_price,
                cap: self.compute_price_cap,
            },
        }
    }

    /// What the settler is to do.
    pub(crate) fn settler(&self) -> Settings {
        Settings {
            fees: self.fees(),
            shape: match self.transaction {
                Transaction::Auto => ShapeChoice::Auto,
                Transaction::V1 => ShapeChoice::Only(Shape::V1),
                Transaction::V0 => ShapeChoice::Only(Shape::V0),
                Transaction::Legacy => ShapeChoice::Only(Shape::Legacy),
            },
            max_compute_units: self.max_compute_units,
            max_compute_price: self.max_compute_price,
            create_payee_accounts: self.create_payee_accounts,
            make_tables: self.make_tables,
            pace: Pace { patience: Duration::from_secs(u64::from(self.patience_seconds)), ..Pace::default() },
        }
    }
}
