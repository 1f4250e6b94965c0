//! What a paid call costs beside an unpaid one: tables and plots.

use super::plot::{Bar, Scale, Shares, bars, latency, number};
use crate::request::{Http, Report, Runs, Spread};
use std::path::Path;

/// Throughput, and how calls are spread over what they took.
pub(super) fn plots(report: &Report, folder: &Path) {
    let (own, asked) = (&report.embedded, &report.remote);
    let rate = |runs: &Runs| format!("{} a second", number(runs.median.round()));
    let throughput = [
        Bar::theirs("unpaid", own.unpaid_per_second.median, rate(&own.unpaid_per_second)),
        Bar::ours("paid, the server's own ledger", own.paid_per_second.median, rate(&own.paid_per_second)),
        Bar::ours("paid, facilitator on the same cores", asked.paid_per_second.median, rate(&asked.paid_per_second)),
    ];
    let title = format!("Calls a second over loopback HTTP, all parties on {} cores", report.cores);
    bars(&folder.join("throughput.svg"), &title, "calls a second", Scale::Linear, &throughput);
    let title = "What a call takes, one after another, the server's own ledger";
    latency(&folder.join("latency.svg"), title, &shares(&report.latency.unpaid), &shares(&report.latency.paid));
}

#[expect(clippy::as_conversions, clippy::float_arithmetic, reason = "a share, to draw")]
fn shares(spread: &Spread) -> Shares {
    spread.buckets.iter().map(|(end, calls)| (*end, *calls as f64 / spread.calls as f64)).collect()
}

/// A median, and whether it is to be taken with care.
pub(super) fn median(runs: &Runs, digits: usize) -> String {
    let noisy = if runs.noisy { " (noisy)" } else { "" };
    if digits == 0 {
        format!("{}{noisy}", number(runs.median.round()))
    } else {
        format!("{:.digits$}{noisy}", runs.median)
    }
}

/// In process, over HTTP, and the facilitator's two questions.
pub(super) fn throughput(report: &Report) -> String {
    let mut text =
        "| verified, decided and durable, in process | calls a second | × the raw signature rate |\n|---|---:|---:|\n"
            .to_owned();
    for row in &report.in_process {
        let rate = median(&row.calls_per_second, 0);
        text.push_str(&format!("| {} callers at once | {rate} | **{}** |\n", row.callers, median(&row.ratio, 2)));
    }
    text.push_str("\n| over loopback HTTP | unpaid a second | paid a second | × unpaid | × the bound |\n|---|---:|---:|---:|---:|\n");
    let mut http = |name: &str, http: &Http| {
        text.push_str(&format!(
            "| {name}, {} connections | {} | {} | {} | **{}** |\n",
            http.connections,
            median(&http.unpaid_per_second, 0),
            median(&http.paid_per_second, 0),
            median(&http.ratio_to_unpaid, 2),
            median(&http.ratio_of_bound, 2),
        ));
    };
    http("the server's own ledger", &report.embedded);
    http("asking a facilitator twice a call, all on these cores", &report.remote);
    let asked = &report.facilitator;
    text.push_str(&format!(
        "\nThe facilitator alone, `/verify` and `/settle` of a call over {} connections: {} calls a second, **{}** × the bound \
         of two plain requests and a signature.\n",
        asked.connections,
        median(&asked.calls_per_second, 0),
        median(&asked.ratio_of_bound, 2),
    ));
    text
}

/// One call after another.
pub(super) fn latencies(report: &Report) -> String {
    let one = &report.latency;
    let micros = |value: f64| format!("{value:.0}");
    format!(
        "| microseconds | p50 | p99 |\n|---|---:|---:|\n| unpaid | {} | {} |\n| paid | {} | {} |\n| **added** | **{}** | **{}** |\n\n\
         | of what is added at the median | microseconds |\n|---|---:|\n| reading the header | {:.1} |\n| the signature | {:.1} |\n\
         | to the writer and back, decided | {:.1} |\n| the commit, its sync included | {:.1} |\n| the rest | {:.1} |\n",
        micros(one.unpaid.p50_micros),
        micros(one.unpaid.p99_micros),
        micros(one.paid.p50_micros),
        micros(one.paid.p99_micros),
        micros(one.added_p50_micros),
        micros(one.added_p99_micros),
        one.parse_micros,
        one.verify_micros,
        one.reserve_micros,
        one.commit_micros,
        one.rest_micros,
    )
}
