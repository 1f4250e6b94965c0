//! The routes of the operator's page, and what stands before them.

use super::access::{Role, Visitor, visitor};
use super::actions::{self, Done};
use super::assets::{Asset, ICON, SCRIPT, STYLE};
use super::channels::Question;
use super::form::{Fields, from_elsewhere};
use super::layout::{Place, page};
use super::refused::Refused;
use super::{batches, channels, events, is_on, overview, pages, sign_in};
use crate::app::App;
use crate::problem::Problem;
use crate::{export, show};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;

/// What browsers are told: nothing from elsewhere, in nobody's frame, kept nowhere.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Shared<C> = State<Arc<App<C>>>;
type Who = Extension<Visitor>;

/// All routes of the page.
pub(crate) fn router<C: Chain>(app: &Arc<App<C>>) -> Router<Arc<App<C>>> {
    let file = |asset: Asset| get(move |headers: HeaderMap| async move { asset.answer(&headers) });
    let done = |of: Act| {
        post(move |State(app): Shared<C>, Extension(visitor): Who, headers: HeaderMap, body: Bytes| {
            act(of, app, visitor, headers, body)
        })
    };
    Router::new()
        .route("/", get(|| async { Redirect::to("/operator") }))
        .route("/operator", get(overview_page::<C>))
        .route("/operator/events", get(live::<C>))
        .route("/operator/channels", get(channels_page::<C>))
        .route("/operator/batches", get(batches_page::<C>))
        .route("/operator/pages", get(pages_page::<C>))
        .route("/operator/vouchers", get(vouchers::<C>))
        .route("/operator/sign-in", get(ask::<C>).post(sign_in_by_form::<C>))
        .route("/operator/sign-out", done(Act::SignOut))
        .route("/operator/pause", done(Act::Pause))
        .route("/operator/resume", done(Act::Resume))
        .route("/operator/settle", done(Act::Settle))
        .route("/operator/pay-out", done(Act::PayOut))
        .route_layer(from_fn_with_state(Arc::clone(app), meet::<C>))
        .route("/operator/page.css", file(STYLE))
        .route("/operator/page.js", file(SCRIPT))
        .route("/operator/mark.svg", file(ICON))
        .route_layer(from_fn(with_headers))
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Says who asks. Where nobody may see the page, nobody does.
async fn meet<C: Chain>(State(app): Shared<C>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let visitor = visitor(&app, &head);
    if !is_on(&app.config) {
        if head.uri.path() == "/" {
            return Problem::NoRoute.into_response();
        }
        return Refused::NoPage.answer(&visitor, &app.network);
    }
    head.extensions.insert(visitor);
    next.run(Request::from_parts(head, body)).await
}

/// A page for who may read.
async fn read<C: Chain>(
    app: &App<C>,
    visitor: &Visitor,
    (title, place): (&str, Place),
    body: impl Future<Output = Result<Markup, Refused>>,
) -> Response {
    let body = if visitor.role > Role::Stranger { body.await } else { Err(Refused::NotSignedIn) };
    match body {
        Ok(body) => page(title, place, visitor, &app.network, body).into_response(),
        Err(refused) => refused.answer(visitor, &app.network),
    }
}

async fn overview_page<C: Chain>(State(app): Shared<C>, Extension(visitor): Who) -> Response {
    let paused = app.paused.load(Ordering::Relaxed);
    let body = async { Ok(overview::overview(&app.operator.now().snapshot, paused, &visitor, clock())) };
    read(&app, &visitor, ("Overview", Place::Overview), body).await
}

async fn live<C: Chain>(State(app): Shared<C>, Extension(visitor): Who) -> Response {
    let events = if visitor.role > Role::Stranger { events::events(&app) } else { Err(Refused::NotAdministrator) };
    events.unwrap_or_else(|refused| refused.answer(&visitor, &app.network))
}

async fn channels_page<C: Chain>(
    State(app): Shared<C>,
    Extension(visitor): Who,
    question: Result<Query<Question>, QueryRejection>,
) -> Response {
    let body = async {
        let Query(question) = question.map_err(|_| Problem::Question("Each parameter may stand once."))?;
        channels::page(&app, &question).await
    };
    read(&app, &visitor, ("Channels", Place::Channels), body).await
}

/// From which batch on, as it stands in the address.
#[derive(Deserialize)]
struct Before {
    before: Option<u64>,
}

async fn batches_page<C: Chain>(
    State(app): Shared<C>,
    Extension(visitor): Who,
    question: Result<Query<Before>, QueryRejection>,
) -> Response {
    const ROWS: u32 = 50;
    let body = async {
        let Query(Before { before }) = question.map_err(|_| Problem::Question("Name a batch by its number."))?;
        let listed = show::batches(&app, before, Some(ROWS)).await?;
        Ok(batches::page(&listed, &app.operator.now().snapshot, clock()))
    };
    read(&app, &visitor, ("Batches", Place::Batches), body).await
}

async fn pages_page<C: Chain>(State(app): Shared<C>, Extension(visitor): Who) -> Response {
    let body = async { Ok(pages::page(&app.operator.now().snapshot, &visitor, clock())) };
    read(&app, &visitor, ("Pages", Place::Pages), body).await
}

async fn vouchers<C: Chain>(State(app): Shared<C>, Extension(visitor): Who, headers: HeaderMap) -> Response {
    let exported = if visitor.role != Role::Administrator {
        Err(Refused::NotAdministrator)
    } else if from_elsewhere(&headers) {
        Err(Refused::ForeignForm)
    } else {
        export::vouchers(&app, visitor.name.as_deref()).await.map_err(Refused::from)
    };
    exported.unwrap_or_else(|refused| refused.answer(&visitor, &app.network))
}

async fn ask<C: Chain>(State(app): Shared<C>, Extension(visitor): Who) -> Response {
    sign_in::ask(&app, &visitor)
}

async fn sign_in_by_form<C: Chain>(
    State(app): Shared<C>,
    Extension(visitor): Who,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = sign_in::sign_in(&app, &visitor, &headers, &body).await;
    answer.unwrap_or_else(|refused| refused.answer(&visitor, &app.network))
}

/// What an administrator does by a button.
#[derive(Clone, Copy, Debug)]
enum Act {
    Pause,
    Resume,
    Settle,
    PayOut,
    SignOut,
}

/// Does it, after the same checks before whatever it is.
async fn act<C: Chain>(act: Act, app: Arc<App<C>>, visitor: Visitor, headers: HeaderMap, body: Bytes) -> Response {
    let done = async {
        let fields = Fields::of_act(&visitor, &headers, &body)?;
        let by = visitor.name.as_deref();
        let (title, told): Done = match act {
            Act::Pause => actions::pause(&app, true, by).await?,
            Act::Resume => actions::pause(&app, false, by).await?,
            Act::Settle => actions::settle(&app, by).await?,
            Act::PayOut => actions::pay_out(&app, &fields, by).await?,
            Act::SignOut => return sign_in::sign_out(&app, &headers),
        };
        let body = html! { h1 { (title) } (told) p.more { a href="/operator" { "Back to the overview" } } };
        Ok(page(title, Place::Elsewhere, &visitor, &app.network, body).into_response())
    };
    done.await.unwrap_or_else(|refused: Refused| refused.answer(&visitor, &app.network))
}
