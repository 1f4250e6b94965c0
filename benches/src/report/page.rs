//! The page itself, ratios first.

use super::machine::machine;
use super::plot::number;
use super::settlement::Compared;
use super::{Measured, request, settlement};
use crate::planner::Planner;

/// All of it.
pub(super) fn page(measured: &Measured) -> String {
    let (settled, asked) = (&measured.settlement, &measured.request);
    let bodies = [
        "# What it costs, measured".to_owned(),
        "Made by `just bench`; the figures behind it are the JSON files in this folder. Ratios are of numbers that were measured in \
         turn within one run, and are what to compare between machines; each is the median of several runs, and a noisy one (its runs \
         spread over more than a fifth of it) says so. What the chain charges is exact: bytes, compute units, and lamports that were \
         missing from balances afterwards."
            .to_owned(),
        machine(),
        format!("## Ratios\n\n{}", ratios(measured)),
        format!(
            "## Settling\n\nOn {}. Claims and their payout in one transaction:\n\n{}",
            settled.chain,
            settlement::batches(settled)
        ),
        format!(
            "The same in the layout of the payment-channels program: for each channel a signature for the Ed25519 precompile and a \
             small instruction, then a payout of its own. Precompile, sizes and fees are real; the program is a stand-in with the same \
             accounts and data, and what it computes is quoted.\n\n{}",
            settlement::peer(settled)
        ),
        "![channels in one transaction](claims.svg)\n\n![lamports for a channel](lamports.svg)".to_owned(),
        format!("What that makes of a call:\n\n{}", settlement::calls(settled)),
        settlement::rest(settled),
        format!(
            "## A call\n\nEvery commit is synced to disk before it is answered for. The bound of an HTTP route is what these cores could do \
             at most: an unpaid call and a signature check, 1 / (1 / unpaid + 1 / signatures).\n\n{}",
            request::throughput(asked)
        ),
        "![calls a second](throughput.svg)".to_owned(),
        format!("One call after another, the server's own ledger:\n\n{}", request::latencies(asked)),
        "![what a call takes](latency.svg)".to_owned(),
        format!("## Many channels\n\n{}", many(measured)),
    ];
    format!("{}\n", bodies.join("\n\n").replace("\n\n\n", "\n\n").trim_end())
}

fn ratios(measured: &Measured) -> String {
    let (settled, asked) = (&measured.settlement, &measured.request);
    let (ratios, compared) = (&settled.ratios, Compared::of(settled));
    let mut table = "| | |\n|---|---:|\n".to_owned();
    let mut row = |name: &str, value: String| table.push_str(&format!("| {name} | **{value}** |\n"));
    let times = |ratio: f64| format!("{ratio:.0} ×");
    row(
        &format!(
            "cheaper to settle a channel than payment channels as the x402 specification packs them: {} claims in v0",
            compared.v0.claims
        ),
        times(ratios.peer_by_specification_to_ours_of_23),
    );
    row("… than they are at their best in v0", times(ratios.peer_at_best_to_ours_of_23));
    row(
        &format!("as the specification packs them: {} claims in v1", compared.v1.claims),
        times(ratios.peer_by_specification_to_ours_of_94),
    );
    row("… than they are at their best in v0", times(ratios.peer_at_best_to_ours_of_94));
    row(
        "a channel's whole life with one settlement, as the specification packs it",
        format!("{:.1} ×", ratios.peer_life_to_ours),
    );
    if let Some(busy) = asked.in_process.iter().find(|row| row.callers == 64) {
        row("verified, decided, durable by the raw signature rate, 64 callers", request::median(&busy.ratio, 2));
    }
    row("paid by the bound over HTTP, the server's own ledger", request::median(&asked.embedded.ratio_of_bound, 2));
    row("paid by the bound over HTTP, asking a facilitator", request::median(&asked.remote.ratio_of_bound, 2));
    row(
        "work of a plan by n log n, from the fewest channels to the most",
        format!("{:.2} ×", measured.planner.work_growth),
    );
    table
}

fn many(measured: &Measured) -> String {
    let Planner { sizes, time_growth, noisy, .. } = &measured.planner;
    let scale = &measured.request.scale;
    let mut text = format!(
        "The ledger keeps {:.0} bytes in memory for each of {} channels with a voucher each, and the list of signers {:.0} more. From a store \
         with {} channels it is open after {:.1} seconds, with {:.0} bytes for each, and a facilitator \
         has given its first answer {:.1} seconds after its start, and taken a payment from a page that it had not read before \
         after {:.1}. Meanwhile the pages are read, and what was stored is verified with the desk unlocked, which takes {:.1} \
         microseconds for each channel in all; the longest that a call waited for the desk was {:.1} milliseconds.\n\nA plan of everything, of one page in a hundred, and of nothing:\n\n\
         | channels | looks | ns by n log n | one in a hundred, looks | nothing due, looks | bytes a channel while planning |\n\
         |---:|---:|---:|---:|---:|---:|\n",
        scale.ledger_bytes_per_channel,
        number(count(scale.channels)),
        scale.list_bytes_per_channel,
        number(count(scale.stored)),
        scale.start_seconds,
        scale.stored_bytes_per_channel,
        scale.first_answer_seconds,
        scale.first_payment_seconds,
        scale.meet_seconds * 1e6 / count(scale.stored),
        scale.desk_millis,
    );
    for size in sizes {
        let looks = [size.one_in_a_hundred.looks, size.nothing_due.looks].map(|looks| number(wide(looks)));
        text.push_str(&format!(
            "| {} | {} | {:.1} | {} | {:.0} |\n",
            number(wide(size.channels)),
            number(wide(size.all_due.looks)),
            size.all_due.nanoseconds_per_n_log_n,
            looks.join(" | "),
            size.plan_bytes_per_channel,
        ));
    }
    let care = if *noisy { " (noisy)" } else { "" };
    text.push_str(&format!("\nTime by n log n grew {time_growth:.2} × from the smallest to the largest{care}.\n"));
    text
}

#[expect(clippy::as_conversions, reason = "a number to be written")]
fn count(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::as_conversions, reason = "a number to be written")]
fn wide(number: u64) -> f64 {
    number as f64
}
