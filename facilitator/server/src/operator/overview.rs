//! The overview: where the money is, what closes, what is sent, what is refused.

use super::access::{Role, Visitor};
use super::figures::{ago, base_units, key, left, many, number, sol, tokens};
use super::layout::{button, table};
use super::snapshot::{BookDebts, Snapshot, State, TokenMoney};
use super::{batches, plot};
use crate::money::Closing;
use maud::{Markup, html};
use tallybook_rules::Amount;

/// The whole: what is live, with what an administrator may do before it, who may have paused it a moment ago.
pub(super) fn overview(snapshot: &Snapshot, paused: bool, visitor: &Visitor, now: i64) -> Markup {
    html! {
        div.headline {
            h1 { "Overview" }
            p.live id="live" role="status" { "As loaded" }
        }
        @if visitor.role == Role::Administrator { (actions(paused, visitor)) }
        div id="pieces" data-events="/operator/events" data-now=(now) { (pieces(snapshot, now)) }
    }
}

/// What is live, as it looks at `now`. Each piece is replaced by itself, so that nobody loses their place in the others.
pub(super) fn pieces(snapshot: &Snapshot, now: i64) -> Markup {
    if snapshot.at == 0 {
        return html! { p.empty id="state" data-piece { "The money is being looked at for the first time since the start." } };
    }
    html! {
        (state(snapshot, now))
        @for token in &snapshot.tokens { (money(token, snapshot.at, now)) }
        div.plots {
            (plot::payments(&snapshot.trend))
            (plot::latency(&snapshot.trend))
        }
        (closings(snapshot, now))
        (newest_batches(snapshot, now))
        (debts(snapshot, now))
        div.halves {
            (wallets(snapshot, now))
            (rejections(snapshot))
        }
    }
}

fn actions(paused: bool, visitor: &Visitor) -> Markup {
    html! {
        section.actions aria-labelledby="actions-title" {
            h2.unseen id="actions-title" { "Actions" }
            @if paused {
                (button(visitor, "/operator/resume", "Resume", "primary", &[]))
            } @else {
                (button(visitor, "/operator/pause", "Pause accepting", "plain", &[]))
            }
            (button(visitor, "/operator/settle", "Settle now", "plain", &[]))
            a.button href="/operator/vouchers" download="vouchers.jsonl" { "Export vouchers" }
        }
    }
}

fn state(snapshot: &Snapshot, now: i64) -> Markup {
    let State { administration, draining, chain_slot, chain_at, chain_answers, unread, batches_under_way } =
        snapshot.state;
    let (class, text) = match (draining, administration.paused, chain_answers) {
        (true, _, _) => ("warning", "Ending: nothing new is taken on"),
        (_, true, _) => ("warning", "Paused by an administrator: nothing new is taken on"),
        (_, _, false) => ("warning", "Taking payments; the chain does not answer"),
        _ => ("good", "Taking payments"),
    };
    html! {
        section.state id="state" data-piece aria-label="State" {
            p.status { span.dot.(class) aria-hidden="true" {} (text) }
            dl {
                div { dt { "Figures of" } dd { (ago(snapshot.at, now)) } }
                div { dt { "Chain" } dd { "slot " (number(chain_slot)) ", " (ago(chain_at, now)) } }
                div { dt { "Batches on their way" } dd { (number(batches_under_way)) } }
                @if unread > 0 { div { dt { "Pages not read yet" } dd { (number(unread)) } } }
            }
        }
    }
}

fn money(token: &TokenMoney, at: i64, now: i64) -> Markup {
    let TokenMoney { mint, decimals, channels, owed } = token;
    let id = format!("money-{mint}");
    let figures = [
        ("Deposited", channels.deposited, "in channels that stand"),
        ("Charged", channels.charged, "what their calls have cost"),
        ("Settled", channels.settled, "of that, on chain"),
        ("Unclaimed", channels.unclaimed, "of that, not on chain yet"),
        ("In flight", channels.in_flight, "of that, in batches"),
        ("Owed", *owed, "claimed, not paid out yet"),
    ];
    html! {
        section.money id=(id) data-piece aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { "Money in " (key(mint)) }
            dl.figures {
                @for (name, amount, meaning) in figures {
                    div {
                        dt { (name) }
                        dd {
                            (tokens(amount, *decimals))
                            small { (base_units(amount)) }
                            small.meaning { (meaning) }
                        }
                    }
                }
            }
            (plot::shares(channels))
            p.note {
                (many(channels.channels.into(), "channel")) ", " (number(channels.closing)) " closing, "
                (number(channels.reserved)) " with a call under way. Of the ledger, " (ago(at, now))
                @if let Some(since) = channels.unclaimed_since { "; the oldest unclaimed is of " (ago(since, now)) }
                "."
            }
        }
    }
}

fn closings(snapshot: &Snapshot, now: i64) -> Markup {
    let rows = html! {
        @for closing in &snapshot.closings {
            @let Closing { channel_id, payer, book, at, unclaimed, in_flight } = closing;
            @let decimals = snapshot.decimals.get(book).copied().unwrap_or_default();
            tr {
                td { a href={ "/operator/channels?q=" (channel_id) } { (key(channel_id)) } }
                td { (key(payer)) }
                td.number { (tokens(*unclaimed, decimals)) }
                td {
                    @if unclaimed.is_zero() { "claimed" } @else if *in_flight { "on its way" } @else { strong { "to be claimed" } }
                }
                td.number { (left(*at, now)) }
            }
        }
    };
    let head = [("Channel", false), ("Payer", false), ("Unclaimed", true), ("Claim", false), ("Time left", true)];
    html! {
        section id="closings" data-piece aria-labelledby="closings-title" {
            h2 id="closings-title" { "Closings" span.count { (number(snapshot.closing)) } }
            @if snapshot.closings.is_empty() {
                p.empty { "No channel is closing on chain." }
            } @else {
                (table("Channels that close, those with the least time left first", &head, rows))
            }
        }
    }
}

fn newest_batches(snapshot: &Snapshot, now: i64) -> Markup {
    html! {
        section id="batches" data-piece aria-labelledby="batches-title" {
            h2 id="batches-title" { "Batches" }
            (batches::list(&snapshot.batches, &snapshot.pages, &snapshot.decimals, now))
            @if !snapshot.batches.is_empty() { p.note { a href="/operator/batches" { "All batches" } } }
        }
    }
}

fn debts(snapshot: &Snapshot, now: i64) -> Markup {
    let owes = |book: &BookDebts| book.legs.iter().any(|leg| leg.owed > Amount::ZERO);
    let rows = html! {
        @for book in &snapshot.books {
            @for leg in &book.legs {
                tr {
                    td { (key(&book.book)) }
                    td { (key(&leg.recipient)) }
                    td.number { (share(leg.basis_points)) }
                    td.number { (tokens(leg.paid, book.decimals)) }
                    td.number { (tokens(leg.owed, book.decimals)) }
                }
            }
        }
    };
    let head = [("Book", false), ("Recipient", false), ("Share", true), ("Paid out", true), ("Owed", true)];
    let owing = snapshot.books.iter().filter(|book| owes(book)).count();
    html! {
        section id="owed" data-piece aria-labelledby="owed-title" {
            h2 id="owed-title" { "Recipients" @if owing > 0 { span.count { (number(owing)) " owed" } } }
            (table("What recipients were paid and are owed", &head, rows))
            p.note {
                "Of the chain, " (ago(snapshot.state.chain_at, now)) "."
                @if snapshot.books_in_all > snapshot.books.len() {
                    " The " (number(snapshot.books.len())) " books that owe most, of " (number(snapshot.books_in_all)) "."
                }
            }
        }
    }
}

/// Basis points as a percentage.
fn share(basis_points: u16) -> String {
    format!("{}.{:02} %", basis_points / 100, basis_points % 100)
}

fn wallets(snapshot: &Snapshot, now: i64) -> Markup {
    let spent = snapshot.state.administration;
    let rows = html! {
        @for (address, lamports) in &snapshot.wallets {
            tr { td { (key(address)) } td.number { (sol(*lamports)) } }
        }
    };
    html! {
        section id="wallets" data-piece aria-labelledby="wallets-title" {
            h2 id="wallets-title" { "Sponsor wallets" }
            @if snapshot.wallets.is_empty() {
                p.empty { "The chain does not say what they hold." }
            } @else {
                (table("What each wallet holds", &[("Address", false), ("SOL", true)], rows))
            }
            p.note {
                "Spent for others within a day: " (sol(spent.sponsored)) " of " (sol(spent.sponsored_at_most)) " SOL. "
                "Of the chain, " (ago(snapshot.at, now)) "."
            }
        }
    }
}

fn rejections(snapshot: &Snapshot) -> Markup {
    let rows = html! {
        @for (reason, count) in &snapshot.rejections {
            tr { td { code { (reason) } } td.number { (number(count)) } }
        }
    };
    html! {
        section id="rejections" data-piece aria-labelledby="rejections-title" {
            h2 id="rejections-title" { "Rejections" }
            @if snapshot.rejections.is_empty() {
                p.empty { "No payment was refused since the start." }
            } @else {
                (table("Payments that were refused, by reason", &[("Reason", false), ("Since the start", true)], rows))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_ledger::PageMoney;
    use tallybook_wire::Key;

    const AT: i64 = 1_790_000_000;

    fn snapshot() -> Snapshot {
        let channels = PageMoney { deposited: Amount::new(5_000_000), charged: Amount::new(1), ..PageMoney::default() };
        Snapshot {
            at: AT,
            state: State { chain_at: AT - 30, chain_answers: true, ..State::default() },
            tokens: vec![TokenMoney { mint: Key([2; 32]), decimals: 6, channels, owed: Amount::ZERO }],
            rejections: vec![("<script>alert(1)</script>\"'&".to_owned(), 3)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn given_a_snapshot_when_it_is_shown_later_then_every_figure_says_how_old_it_is_by_then() {
        let shown = pieces(&snapshot(), AT + 12).into_string();
        let age = |seconds: i64, text: &str| format!("data-age=\"{}\">{text}</time>", AT - seconds);
        assert_eq!(shown.matches(&age(0, "12 s ago")).count(), 3, "state, money, wallets: {shown}");
        assert_eq!(shown.matches(&age(30, "42 s ago")).count(), 2, "the chain, recipients: {shown}");
        assert!(shown.contains("datetime=\"2026-09-21T14:13:20Z\""), "{shown}");
    }

    #[test]
    fn given_names_from_outside_when_they_are_shown_then_they_are_text() {
        let shown = pieces(&snapshot(), AT).into_string();
        assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"), "{shown}");
        assert!(!shown.contains("<script"), "{shown}");
    }

    #[test]
    fn given_how_a_facilitator_is_when_shown_then_the_worst_of_it_is_said_in_words() {
        let told = |change: fn(&mut State)| {
            let mut snapshot = snapshot();
            change(&mut snapshot.state);
            pieces(&snapshot, AT).into_string()
        };
        assert!(told(|_| {}).contains("Taking payments</p>"));
        assert!(told(|state| state.chain_answers = false).contains("the chain does not answer"));
        assert!(told(|state| state.administration.paused = true).contains("Paused by an administrator"));
        assert!(told(|state| state.draining = true).contains("Ending"));
    }
}
