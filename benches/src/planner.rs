//! What the planner bench measures, as the report reads it.

use serde::{Deserialize, Serialize};

/// Planning among more and more channels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Planner {
    /// The ratio of `all_due` to n·log2 n of the most channels, divided by that of the fewest: at most 1 where the work grows no
    /// faster than n log n. Counted in looks and comparisons, so the same on every machine.
    pub work_growth: f64,
    /// The same of the measured time, in which caches have a part that work has not.
    pub time_growth: f64,
    /// One entry for each number of channels, from the smallest.
    pub sizes: Vec<Size>,
    /// True when the runs of some size differ by more than a fifth of their median.
    pub noisy: bool,
}

/// One number of channels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Size {
    /// Open channels, in pages of 96, every one with a voucher that is not settled.
    pub channels: u64,
    /// Every channel is due.
    pub all_due: Plan,
    /// One page in a hundred is due.
    pub one_in_a_hundred: Plan,
    /// Nothing is due: what each tick costs while nothing happens.
    pub nothing_due: Plan,
    /// Heap bytes of the ledger for each channel, its queue included; the process's own count.
    pub ledger_bytes_per_channel: f64,
    /// The most heap bytes that a plan of everything takes beside the ledger, for each channel, its result included.
    pub plan_bytes_per_channel: f64,
}

/// One plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Rows that it has.
    pub rows: u64,
    /// Transactions that it fills.
    pub transactions: u64,
    /// Pages and channels looked at, and comparisons.
    pub looks: u64,
    /// `looks / (n · log2 n)`, n being all channels.
    pub looks_per_n_log_n: f64,
    /// `median_seconds / (n · log2 n)`, in nanoseconds.
    pub nanoseconds_per_n_log_n: f64,
    /// Of all runs, in seconds.
    pub median_seconds: f64,
    /// Each run, in seconds.
    pub runs: Vec<f64>,
}
