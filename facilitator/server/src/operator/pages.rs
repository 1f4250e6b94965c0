//! Pages of the served books: what is in each, what it owes, and paying that out.

use super::access::{Role, Visitor};
use super::figures::{ago, key, number, tokens};
use super::layout::{button, table};
use super::snapshot::Snapshot;
use crate::money::PageGlance;
use maud::{Markup, html};
use std::cmp::Reverse;

/// The most pages that are shown: those that owe most, then those with most that is unclaimed.
const SHOWN: usize = 100;

/// What pages there are.
pub(super) fn page(snapshot: &Snapshot, visitor: &Visitor, now: i64) -> Markup {
    let may_act = visitor.role == Role::Administrator;
    let mut shown: Vec<&PageGlance> = snapshot.pages.iter().collect();
    shown.sort_by_key(|page| Reverse((page.owed, page.channels.unclaimed)));
    shown.truncate(SHOWN);
    let rows = html! {
        @for page in &shown {
            @let decimals = snapshot.decimals.get(&page.book).copied().unwrap_or_default();
            tr {
                td { (key(&page.address)) }
                td { (key(&page.book)) }
                td.number { (number(page.channels.channels)) }
                td.number { (number(page.channels.closing)) }
                td.number { (tokens(page.channels.deposited, decimals)) }
                td.number { (tokens(page.channels.unclaimed, decimals)) }
                td.number { (tokens(page.owed, decimals)) }
                @if may_act {
                    td {
                        @if !page.owed.is_zero() {
                            (button(visitor, "/operator/pay-out", "Pay out", "small", &[("page", &page.address.to_string())]))
                        }
                    }
                }
            }
        }
    };
    let mut head = vec![
        ("Page", false),
        ("Book", false),
        ("Channels", true),
        ("Closing", true),
        ("Deposited", true),
        ("Unclaimed", true),
        ("Owed", true),
    ];
    head.extend(may_act.then_some(("Act", false)));
    html! {
        h1 { "Pages" }
        (table("Pages, those that owe most first", &head, rows))
        p.note {
            @if shown.len() < snapshot.pages.len() { (number(shown.len())) " of " (number(snapshot.pages.len())) " pages. " }
            "Channels of the ledger, " (ago(snapshot.at, now)) "; what is owed of the chain, "
            (ago(snapshot.state.chain_at, now)) "."
        }
    }
}
