//! What monitors see, by the conventions of Prometheus: base units of measure, totals named so, money as gauges by token. One
//! recorder for the process, also when it runs several facilitators. `ops/` has a dashboard and alerts over these names.

use crate::app::App;
use crate::money::Glance;
use crate::settlement::priority_lamports;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tallybook_ledger::Landed;
use tallybook_rules::Amount;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;

/// Bounds of the histograms of durations, in seconds: from a commit to memory to a transaction that is waited for.
const SECONDS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The text of `GET /metrics`; empty when the process has a recorder of its own.
pub(crate) fn text() -> String {
    recorder().map(PrometheusHandle::render).unwrap_or_default()
}

/// Starts counting.
pub(crate) fn install() {
    recorder();
}

fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS).ok()?;
        let recorder = builder.install_recorder().ok()?;
        describe();
        // From the start, or the first one would be no increase.
        counter!("tallybook_wrong_admin_tokens_total").increment(0);
        gauge!("tallybook_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Some(recorder)
    };
    RECORDER.get_or_init(install).as_ref()
}

/// A request was answered.
pub(crate) fn answered(route: &'static str, status: u16, took: Duration) {
    counter!("tallybook_requests_total", "route" => route, "status" => status.to_string()).increment(1);
    histogram!("tallybook_request_seconds", "route" => route).record(took);
}

/// A payment was refused, by this name.
pub(crate) fn refused(reason: &'static str) {
    counter!("tallybook_rejections_total", "reason" => reason).increment(1);
}

/// Somebody has shown another token where the admin token is asked for.
pub(crate) fn wrong_admin_token() {
    counter!("tallybook_wrong_admin_tokens_total").increment(1);
}

/// A request was handed on to who holds its book, and answered.
pub(crate) fn handed_on() {
    counter!("tallybook_handed_on_total").increment(1);
}

/// So many books are held here.
pub(crate) fn held(books: usize) {
    gauge!("tallybook_books_held").set(float(u64::try_from(books).unwrap_or(u64::MAX)));
}

/// Something paid for is not listed, by this reason.
pub(crate) fn unlisted(reason: &'static str) {
    counter!("tallybook_unlisted_total", "reason" => reason).increment(1);
}

/// Batches that shared transactions have ended; each transaction stands in each of its batches.
pub(crate) fn settled(landed: &[Landed]) {
    let transactions: BTreeSet<[u8; 64]> = landed.iter().map(|landed| landed.signature).collect();
    let transactions = u64::try_from(transactions.len()).unwrap_or(u64::MAX);
    counter!("tallybook_settlement_transactions_total").increment(transactions);
    counter!("tallybook_settlement_priority_lamports_total").increment(priority_lamports(landed));
    for part in landed {
        counter!("tallybook_claims_total").increment(part.rows.into());
        counter!("tallybook_settlement_lamports_total").increment(part.fee_lamports);
    }
}

/// The pages were read.
pub(crate) fn watched(chain_slot: u64, channels: usize) {
    gauge!("tallybook_chain_slot").set(float(chain_slot));
    gauge!("tallybook_chain_answered_timestamp_seconds").set(float(u64::try_from(clock()).unwrap_or_default()));
    gauge!("tallybook_channels").set(float(u64::try_from(channels).unwrap_or(u64::MAX)));
}

/// Where money is.
pub(crate) fn glanced<C: Chain>(glance: &Glance, app: &App<C>) {
    let age = |since: Option<i64>| float(since.map_or(0, |since| glance.at.saturating_sub(since).unsigned_abs()));
    for (mint, money) in &glance.mints {
        let mint = mint.to_string();
        let base_units =
            |name: &'static str, amount: Amount| gauge!(name, "mint" => mint.clone()).set(float(amount.get()));
        let channels = &money.channels;
        base_units("tallybook_deposited_base_units", channels.deposited);
        base_units("tallybook_charged_base_units", channels.charged);
        base_units("tallybook_settled_base_units", channels.settled);
        base_units("tallybook_unclaimed_base_units", channels.unclaimed);
        base_units("tallybook_in_flight_base_units", channels.in_flight);
        base_units("tallybook_closing_unclaimed_base_units", channels.closing_unclaimed);
        base_units("tallybook_owed_base_units", money.owed);
        gauge!("tallybook_closing_channels", "mint" => mint.clone()).set(f64::from(channels.closing));
        gauge!("tallybook_reserved_channels", "mint" => mint.clone()).set(f64::from(channels.reserved));
        gauge!("tallybook_unclaimed_age_seconds", "mint" => mint.clone()).set(age(channels.unclaimed_since));
        let left = channels.closing_at.map(|at| at.saturating_sub(glance.at).max(0).unsigned_abs());
        gauge!("tallybook_closing_left_seconds", "mint" => mint.clone()).set(left.map_or(f64::INFINITY, float));
    }
    for (address, lamports) in &glance.sponsors {
        gauge!("tallybook_sponsor_lamports", "address" => address.to_string()).set(float(*lamports));
    }
    gauge!("tallybook_sponsored_left_lamports").set(float(glance.sponsored_left));
    let (batches, oldest) = glance.under_way;
    gauge!("tallybook_batches_in_flight").set(float(u64::try_from(batches).unwrap_or(u64::MAX)));
    gauge!("tallybook_batch_age_seconds").set(age(oldest));
    gauge!("tallybook_paused").set(f64::from(u8::from(app.paused.load(Ordering::Relaxed))));
    gauge!("tallybook_money_timestamp_seconds").set(float(u64::try_from(glance.at).unwrap_or_default()));
}

/// As Prometheus has numbers: beyond 2^53 the last digits are lost, so money is read from the store or the chain, never from here.
fn float(number: u64) -> f64 {
    #[expect(clippy::as_conversions, reason = "a gauge is a float by its format")]
    let float = number as f64;
    float
}

/// What each name means, as `GET /metrics` says it.
fn describe() {
    describe_counter!("tallybook_requests_total", "Requests that were answered, by route and status.");
    describe_histogram!("tallybook_request_seconds", "How long an answer took, by route.");
    describe_counter!("tallybook_rejections_total", "Payments that were refused, by the name of the reason.");
    describe_counter!("tallybook_wrong_admin_tokens_total", "Tokens that were shown for the admin token and are not.");
    describe_counter!("tallybook_handed_on_total", "Requests that another facilitator on the same database answered.");
    describe_gauge!("tallybook_books_held", "Books that this facilitator works on, of those on its database.");
    describe_counter!("tallybook_changes_total", "Changes that were made durable.");
    describe_histogram!("tallybook_commit_seconds", "How long a group commit of the store took.");
    describe_counter!("tallybook_settlement_transactions_total", "Transactions of claims that landed.");
    describe_counter!("tallybook_settlement_lamports_total", "What they cost the sponsor, in lamports.");
    describe_counter!("tallybook_settlement_priority_lamports_total", "How much of that was bid for compute.");
    describe_counter!("tallybook_claims_total", "Channels that were claimed from.");
    describe_gauge!("tallybook_build_info", "1, with the version of the program.");
    describe_gauge!("tallybook_chain_slot", "The slot of the chain at which the pages were read last.");
    describe_gauge!("tallybook_chain_answered_timestamp_seconds", "When that was.");
    describe_gauge!("tallybook_channels", "Channels that stand.");
    describe_gauge!("tallybook_closing_channels", "Channels that are closing or on their way to a refund.");
    describe_gauge!("tallybook_reserved_channels", "Channels with a call under way.");
    describe_gauge!("tallybook_deposited_base_units", "Put into channels that stand and not given back.");
    describe_gauge!("tallybook_charged_base_units", "What calls on channels that stand have cost.");
    describe_gauge!("tallybook_settled_base_units", "How much of that is settled on chain.");
    describe_gauge!(
        "tallybook_unclaimed_base_units",
        "Charged and not claimed: what a loss of the store would cost payees."
    );
    describe_gauge!(
        "tallybook_unclaimed_age_seconds",
        "For how long something has not been claimed; 0 when nothing is."
    );
    describe_gauge!("tallybook_in_flight_base_units", "How much of the unclaimed is on its way in a batch.");
    describe_gauge!("tallybook_closing_unclaimed_base_units", "How much of it is of channels that close.");
    describe_gauge!(
        "tallybook_closing_left_seconds",
        "Until the first of those may be withdrawn; +Inf when there is none."
    );
    describe_gauge!("tallybook_owed_base_units", "Claimed and not paid out.");
    describe_gauge!("tallybook_batches_in_flight", "Batches that have not ended.");
    describe_gauge!("tallybook_batch_age_seconds", "For how long the oldest of them is on its way; 0 when none is.");
    describe_gauge!("tallybook_sponsor_lamports", "What the sponsor and each key that pays for claims hold.");
    describe_gauge!("tallybook_sponsored_left_lamports", "What others may still make the sponsor pay within the day.");
    describe_gauge!("tallybook_paused", "1 while an administrator has stopped what is new.");
    describe_gauge!("tallybook_money_timestamp_seconds", "When the gauges of money were looked at.");
}
