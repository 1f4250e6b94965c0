//! What an administrator does by a button, and what they are told of it.

use super::figures::{base_units, key, tokens, transaction};
use super::form::Fields;
use super::refused::Refused;
use crate::administration;
use crate::app::App;
use crate::problem::Problem;
use maud::{Markup, html};
use std::sync::Arc;
use tallybook_settler::Chain;
use tallybook_wire::{Key, PaidOut};

/// What was done: a title, and what came of it.
pub(super) type Done = (&'static str, Markup);

/// `POST /operator/pause` and `/operator/resume`.
pub(super) async fn pause<C: Chain>(app: &App<C>, paused: bool, by: Option<&str>) -> Result<Done, Refused> {
    administration::pause(app, paused, by).await?;
    Ok(if paused {
        let told = html! {
            p.outcome {
                "Nothing new is taken on: calls, deposits and pages are refused as " code { "draining" }
                " until somebody resumes, or the facilitator is started again."
            }
            p { "What was begun goes on: calls are charged, refunds are made, claims are sent." }
        };
        ("Paused", told)
    } else {
        ("Resumed", html! { p.outcome { "What is new is taken on again." } })
    })
}

/// `POST /operator/settle`.
pub(super) async fn settle<C: Chain>(app: &App<C>, by: Option<&str>) -> Result<Done, Refused> {
    administration::settle_now(app, by).await?;
    let told = html! {
        p.outcome { "All that is charged is planned to be claimed now, however little and however new it is." }
        p { "Its batches appear in the overview within a second, and are confirmed some seconds later." }
    };
    Ok(("Settling", told))
}

/// `POST /operator/pay-out`.
pub(super) async fn pay_out<C: Chain>(app: &Arc<App<C>>, fields: &Fields, by: Option<&str>) -> Result<Done, Refused> {
    let page: Key = fields.get("page").parse().map_err(|_| Problem::Question("Name a page by its address."))?;
    let PaidOut { owed, left, transactions, .. } = administration::pay_out(app, page, by).await?;
    let book = app.page(page.as_bytes()).and_then(|view| app.book(&view.header.book));
    let decimals = book.map_or(0, |book| book.state.decimals);
    let told = html! {
        @if owed.is_zero() {
            p.outcome { "The page " (key(&page)) " owes nothing." }
        } @else {
            p.outcome { "The page " (key(&page)) " owed " (tokens(owed, decimals)) " (" (base_units(owed)) ")." }
            @for sent in &transactions { p { "Paid out by " (transaction(sent)) } }
            @if left.is_zero() { p { "It owes nothing now." } } @else {
                p {
                    "It owes " (tokens(left, decimals)) " (" (base_units(left)) ") still: "
                    "a recipient without a token account cannot be paid."
                }
            }
        }
    };
    Ok(("Paid out", told))
}
