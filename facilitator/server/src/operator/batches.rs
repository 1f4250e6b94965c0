//! Batches: what was sent, with its transactions and what each claim has cost.

use super::figures::{ago, number, tokens, transaction};
use super::layout::table;
use super::snapshot::Snapshot;
use crate::money::PageGlance;
use maud::{Markup, html};
use std::collections::BTreeMap;
use tallybook_wire::{BatchList, BatchStatus, BatchView, Key};

/// One page of all batches, newest first.
pub(super) fn page(listed: &BatchList, snapshot: &Snapshot, now: i64) -> Markup {
    html! {
        h1 { "Batches" }
        (list(&listed.batches, &snapshot.pages, &snapshot.decimals, now))
        p.note { "Of the store, as this page was loaded." }
        @if let Some(next) = listed.next {
            p.more { a href={ "/operator/batches?before=" (next) } { "Older batches" } }
        }
    }
}

/// A table of batches.
pub(super) fn list(batches: &[BatchView], pages: &[PageGlance], decimals: &BTreeMap<Key, u8>, now: i64) -> Markup {
    let head = [
        ("Batch", true),
        ("Planned", false),
        ("State", false),
        ("Channels", true),
        ("Claimed", true),
        ("Lamports", true),
        ("A claim", true),
        ("Transaction", false),
    ];
    let rows = html! {
        @for batch in batches {
            @let decimals = decimals_of(batch, pages, decimals);
            tr {
                td.number { (batch.id) }
                td { (ago(batch.planned_at, now)) }
                td { span.state-of.(name(batch.status)) { (name(batch.status)) } }
                td.number { (batch.rows) }
                td.number { (tokens(batch.claimed, decimals)) }
                td.number { @if let Some(fee) = batch.fee_lamports { (number(fee)) } @else { "—" } }
                td.number { @if let Some(each) = each(batch) { (number(each)) } @else { "—" } }
                td {
                    @if let Some(sent) = &batch.transaction { (transaction(sent)) }
                    @if batch.transactions > 1 { " and " (batch.transactions.saturating_sub(1)) " before" }
                }
            }
        }
    };
    html! {
        @if batches.is_empty() { p.empty { "Nothing was claimed yet." } } @else { (table("Batches, newest first", &head, rows)) }
    }
}

/// What each channel's claim has cost, in lamports, rounded up.
fn each(batch: &BatchView) -> Option<u64> {
    let rows = u64::from(batch.rows).max(1);
    Some(batch.fee_lamports?.div_ceil(rows))
}

/// Of the mint of the batch's page; none where that page is not served any more.
fn decimals_of(batch: &BatchView, pages: &[PageGlance], decimals: &BTreeMap<Key, u8>) -> u8 {
    let at = pages.binary_search_by_key(&batch.page, |page| page.address).ok();
    let book = at.and_then(|at| pages.get(at)).map(|page| page.book);
    book.and_then(|book| decimals.get(&book).copied()).unwrap_or_default()
}

const fn name(status: BatchStatus) -> &'static str {
    match status {
        BatchStatus::Planned => "planned",
        BatchStatus::Sent => "sent",
        BatchStatus::Confirmed => "confirmed",
        BatchStatus::Finalized => "finalized",
        BatchStatus::Failed => "failed",
    }
}
