//! What every page of the operator's has around it.

use super::access::{Role, Visitor};
use maud::{DOCTYPE, Markup, html};
use tallybook_wire::Network;

/// Where one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Overview,
    Channels,
    Batches,
    Pages,
    /// Somewhere that no link leads to.
    Elsewhere,
}

const LINKS: [(Place, &str, &str); 4] = [
    (Place::Overview, "/operator", "Overview"),
    (Place::Channels, "/operator/channels", "Channels"),
    (Place::Batches, "/operator/batches", "Batches"),
    (Place::Pages, "/operator/pages", "Pages"),
];

/// A whole page.
pub(super) fn page(title: &str, place: Place, visitor: &Visitor, network: &Network, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Tallybook" }
                link rel="icon" href="/operator/mark.svg" type="image/svg+xml";
                link rel="stylesheet" href="/operator/page.css";
                script src="/operator/page.js" defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header.top {
                    div.brand { (mark()) strong { "Tallybook" } span.network { (network.as_str()) } }
                    @if visitor.role > Role::Stranger { (links(place)) }
                    (who(visitor))
                }
                main id="content" tabindex="-1" { (body) }
            }
        }
    }
}

fn links(place: Place) -> Markup {
    html! {
        nav aria-label="Pages of the operator" {
            ul {
                @for (of, to, name) in LINKS {
                    li { a href=(to) aria-current=[(of == place).then_some("page")] { (name) } }
                }
            }
        }
    }
}

fn who(visitor: &Visitor) -> Markup {
    let role = match visitor.role {
        Role::Stranger => return html! {},
        Role::Reader => "may read",
        Role::Administrator => "administrator",
    };
    html! {
        div.who {
            @if let Some(name) = &visitor.name { span.name { (name) } }
            span.role { (role) }
            @if visitor.has_session {
                (button(visitor, "/operator/sign-out", "Sign out", "quiet", &[]))
            } @else if visitor.role == Role::Reader && visitor.name.is_none() {
                a href="/operator/sign-in" { "Sign in" }
            }
        }
    }
}

/// A form of one button, which bears what makes it this visitor's own.
pub(super) fn button(visitor: &Visitor, to: &str, label: &str, class: &str, fields: &[(&str, &str)]) -> Markup {
    html! {
        form method="post" action=(to) {
            input type="hidden" name="form" value=(visitor.form_token);
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button.(class) type="submit" { (label) }
        }
    }
}

/// Five strokes: a tally.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            path d="M5 4v16M10 4v16M15 4v16M20 4v16M2 17 22 7" {}
        }
    }
}

/// A table that may be wider than the page: it scrolls by itself, also by keyboard.
pub(super) fn table(caption: &str, head: &[(&str, bool)], rows: Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(caption) tabindex="0" {
            table {
                caption.unseen { (caption) }
                thead { tr { @for (name, is_number) in head { th.number[*is_number] scope="col" { (name) } } } }
                tbody { (rows) }
            }
        }
    }
}
