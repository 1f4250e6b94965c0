//! What monitors see. One recorder for the process, also when it runs several facilitators.

use crate::settlement::priority_lamports;
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;
use tallybook_ledger::Landed;

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
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().ok()).as_ref()
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

/// The pages were read; how much is charged and not settled, in base units of all mints together.
pub(crate) fn watched(chain_slot: u64, channels: usize) {
    // Gauges are floating point by their format; these are counts, not money.
    #[expect(clippy::as_conversions, reason = "a gauge is a float; 2^53 slots are a billion years")]
    gauge!("tallybook_chain_slot").set(chain_slot as f64);
    #[expect(clippy::as_conversions, reason = "a gauge is a float; channels are few")]
    gauge!("tallybook_channels").set(channels as f64);
}
