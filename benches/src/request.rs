//! What a paid call costs beside an unpaid one, and beside the one thing that cannot be saved: checking its signature.
//!
//! [`Report`] is what the bench writes as JSON. Its parts: `world` (a book full of channels, with their keys), `node` (a
//! JSON-RPC node that shows it), `load` (a client that costs little and the same for all), `scale` (memory and start).

pub mod house;
pub mod inside;
pub mod load;
pub mod node;
pub mod scale;
pub mod world;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One number, measured several times in one run of the bench.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Runs {
    /// Each measurement, in the order in which they were made.
    pub runs: Vec<f64>,
    /// The one in the middle.
    pub median: f64,
    /// True when the largest and the smallest differ by more than a fifth of the median.
    pub noisy: bool,
}

impl Runs {
    /// Of at least one measurement.
    pub fn of(runs: Vec<f64>) -> Self {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let noisy = (sorted[sorted.len() - 1] - sorted[0]) > 0.2 * median.abs();
        Self { runs, median, noisy }
    }
}

/// All that the bench has measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Processors that all of it shared: servers, callers and the load.
    pub cores: usize,
    /// True for the quick form, which only shows that the bench works.
    pub quick: bool,
    /// Verify, decide and make durable, in process, by the number of callers at once.
    pub in_process: Vec<InProcess>,
    /// The paywall with its embedded ledger, over loopback HTTP.
    pub embedded: Http,
    /// The paywall that asks a facilitator twice a call, over loopback HTTP; all parties on these cores.
    pub remote: Http,
    /// The facilitator asked directly: `/verify` and `/settle` of each call.
    pub facilitator: Facilitator,
    /// What a paid call takes longer at low load, with the embedded ledger.
    pub latency: Latency,
    /// How much a channel takes and how long a start.
    pub scale: Scale,
}

/// Verify, decide and make durable through the sequencer and SQLite, with a sync for every commit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InProcess {
    /// Callers at once, each on a channel of its own, each waiting for its answer.
    pub callers: usize,
    /// Accepted calls over verified signatures in the same time on the same cores: at most 1.
    pub ratio: Runs,
    /// Calls a second.
    pub calls_per_second: Runs,
    /// `verify_strict` alone on all cores, signatures a second, with the key decoded beforehand.
    pub verify_per_second: Runs,
    /// The same in groups of 32, as they are checked here.
    pub grouped_per_second: Runs,
    /// What a call takes of a processor, in microseconds: unlike the rates it does not change with what else the machine does.
    pub micros: Runs,
    /// What `verify_strict` takes of one over what a call takes.
    pub ratio_by_micros: Runs,
}

/// A paid route beside the same route unpaid, with the same load.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Http {
    /// Connections at once.
    pub connections: usize,
    /// Paid calls over `1 / (1 / unpaid + 1 / verify)`, the most that these cores could do.
    pub ratio_of_bound: Runs,
    /// Paid calls over unpaid ones.
    pub ratio_to_unpaid: Runs,
    /// Paid calls a second.
    pub paid_per_second: Runs,
    /// Unpaid calls a second.
    pub unpaid_per_second: Runs,
    /// What a paid call takes of a processor in all, load included, in microseconds.
    pub paid_micros: Runs,
    /// The same of an unpaid one.
    pub unpaid_micros: Runs,
    /// What an unpaid call and `verify_strict` take of a processor over what a paid call takes: the ratio of the bound,
    /// whatever else the machine does.
    pub ratio_by_micros: Runs,
    /// What the load itself takes of a processor for a paid call, in microseconds.
    pub load_paid_micros: f64,
    /// The same for an unpaid call.
    pub load_unpaid_micros: f64,
}

/// The facilitator's two questions of a call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Facilitator {
    /// Connections at once.
    pub connections: usize,
    /// Calls over `1 / (2 / plain + 1 / verify)`.
    pub ratio_of_bound: Runs,
    /// Calls (one `/verify`, one `/settle`) a second.
    pub calls_per_second: Runs,
    /// `GET /supported`, which asks nobody, a second.
    pub plain_per_second: Runs,
}

/// Latency of calls one after another on one connection.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Of the unpaid route.
    pub unpaid: Spread,
    /// Of the paid one.
    pub paid: Spread,
    /// What payment adds at the median, in microseconds.
    pub added_p50_micros: f64,
    /// What payment adds at the 99th percentile, in microseconds.
    pub added_p99_micros: f64,
    /// Reading the header and holding it to the offer, in microseconds.
    pub parse_micros: f64,
    /// `verify_strict`, in microseconds.
    pub verify_micros: f64,
    /// Reserving beyond verifying: to the writer and back, in microseconds at the median.
    pub reserve_micros: f64,
    /// Committing, sync included, in microseconds at the median.
    pub commit_micros: f64,
    /// What is left of `added_p50_micros`: the answer kept for who asks again, the receipt, a larger request.
    pub rest_micros: f64,
}

/// How long calls took.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// Calls.
    pub calls: u64,
    /// Half of them took less, in microseconds.
    pub p50_micros: f64,
    /// 99 of a hundred took less, in microseconds.
    pub p99_micros: f64,
    /// (upper end in microseconds, calls up to it and above the last one), rising, to draw.
    pub buckets: Vec<(f64, u64)>,
}

impl Spread {
    /// Of durations in nanoseconds.
    pub fn of(nanos: &[u64]) -> Self {
        let mut histogram = Histogram::<u64>::new(3).expect("3 digits");
        nanos.iter().for_each(|nanos| histogram.record(*nanos).expect("it grows"));
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let buckets = histogram.iter_log(1_000, 1.25).filter(|step| step.count_since_last_iteration() > 0);
        let buckets = buckets.map(|step| (micros(step.value_iterated_to()), step.count_since_last_iteration()));
        Self {
            calls: histogram.len(),
            p50_micros: micros(histogram.value_at_quantile(0.5)),
            p99_micros: micros(histogram.value_at_quantile(0.99)),
            buckets: buckets.collect(),
        }
    }
}

/// How the ledger scales.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scale {
    /// Channels in memory, each with a voucher.
    pub channels: usize,
    /// Resident bytes of the ledger for each of them, slots of the page included.
    pub ledger_bytes_per_channel: f64,
    /// Resident bytes for each of them beyond the ledger: whose vouchers bind it.
    pub list_bytes_per_channel: f64,
    /// Channels in the store that was opened.
    pub stored: usize,
    /// From opening the store to a ledger that decides, in seconds.
    pub start_seconds: f64,
    /// Resident bytes for each channel then, before it is met on chain.
    pub stored_bytes_per_channel: f64,
    /// From there until all of them are met on chain, with their vouchers verified on the way, without the time that an RPC node
    /// takes, in seconds.
    pub meet_seconds: f64,
    /// The longest that somebody who asked the desk meanwhile had to wait for it, in milliseconds.
    #[serde(default)]
    pub desk_millis: f64,
    /// From the start of a facilitator's process over that store to its first answer, with a node that answers at once, in
    /// seconds.
    #[serde(default)]
    pub first_answer_seconds: f64,
    /// The same to the first payment that it takes, from a channel whose page it had not read before.
    #[serde(default)]
    pub first_payment_seconds: f64,
    /// The same until it has read all pages.
    #[serde(default)]
    pub met_seconds: f64,
}
