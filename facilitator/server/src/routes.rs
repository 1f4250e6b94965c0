//! The HTTP surface: what stands in front of every route, and the routes.

use crate::app::App;
use crate::guard::guard;
use crate::holding::To;
use crate::line::elsewhere;
use crate::problem::{Problem, json};
use crate::{administration, backup, discovery, expenses, export, forward, grow, metrics, operator, show, traces};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tallybook_rules::Rejection;
use tallybook_settler::Chain;
use tallybook_wire::{EXTENSION_RESPONSES, ForwardRequest, Key, MAX_BODY_BYTES, body, read_body};
use tower_http::trace::TraceLayer;

/// All routes. A request passes, from outside to inside: tracing (of
/// method, path and status, never of headers or bodies), the cap on its body, the places for requests at work with the time
/// limits (`guard`), the way to who holds its book (`elsewhere`), and for what only resource servers and operators may the access token (`only_resource_servers`).
pub(crate) fn router<C: Chain>(app: Arc<App<C>>) -> Router {
    let payments = Router::new()
        .route("/verify", post(verify::<C>))
        .route("/settle", post(settle::<C>))
        .route("/release", post(release::<C>))
        .route("/vouchers", post(vouchers::<C>))
        .route("/books/{book}/pages", post(pages::<C>))
        .route("/income", get(income::<C>))
        .route_layer(from_fn_with_state(Arc::clone(&app), only_resource_servers::<C>));
    let administration = Router::new()
        .route("/admin", get(administered::<C>))
        .route("/admin/pause", post(pause::<C>))
        .route("/admin/resume", post(resume::<C>))
        .route("/admin/settle", post(settle_now::<C>))
        .route("/admin/backup", post(take_backup::<C>))
        .route("/admin/pages/{page}/pay-out", post(pay_out::<C>))
        .route("/admin/vouchers", get(exported::<C>))
        .route_layer(from_fn_with_state(Arc::clone(&app), only_administrators::<C>));
    Router::new()
        .route("/supported", get(supported::<C>))
        .route("/books/{book}/offer", get(offer::<C>))
        .route("/health", get(health::<C>))
        .route("/livez", get(live::<C>))
        .route("/readyz", get(ready::<C>))
        .route("/channels/{id}", get(channel::<C>))
        .route("/batches", get(batches::<C>))
        .route("/metrics", get(|| async { metrics::text() }))
        .route("/discovery/resources", get(listed::<C>))
        .route("/discovery/search", get(found::<C>))
        .route("/discovery/status", get(listing_status::<C>))
        .merge(payments)
        .merge(administration)
        .merge(operator::router(&app))
        .method_not_allowed_fallback(|| async { Problem::WrongMethod })
        .fallback(|| async { Problem::NoRoute })
        .layer(from_fn_with_state(Arc::clone(&app), elsewhere::<C>))
        .layer(from_fn_with_state(Arc::clone(&app), guard::<C>))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(TraceLayer::new_for_http().make_span_with(traces::of_request).on_response(traces::answered))
        .with_state(app)
}

async fn only_resource_servers<C: Chain>(
    State(app): State<Arc<App<C>>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (Some(token), shown) = (&app.config.access_token, shown(&request)) else {
        return Ok(next.run(request).await);
    };
    let administrator = app.config.admin_token.as_ref().is_some_and(|token| token.is(shown));
    if administrator || token.is(shown) { Ok(next.run(request).await) } else { Err(Rejection::Unauthorized.into()) }
}

async fn only_administrators<C: Chain>(
    State(app): State<Arc<App<C>>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match &app.config.admin_token {
        None => Err(Problem::NoAdministration),
        Some(token) if token.is(shown(&request)) => Ok(next.run(request).await),
        Some(_) => {
            // Who shows none has not guessed.
            if !shown(&request).is_empty() {
                metrics::wrong_admin_token();
            }
            Err(Problem::NotAdministrator)
        }
    }
}

/// The bearer token that comes with a request; empty without one.
fn shown(request: &Request) -> &[u8] {
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    shown.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default()
}

/// The body of a request.
fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    Ok(read_body(&whole(body)?)?)
}

/// The same, for a scheme to read.
fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|error| match error.into_response().status().as_u16() {
        413 => Rejection::RequestTooLarge.into(),
        _ => Rejection::MalformedPayload.into(),
    })
}

async fn verify<C: Chain>(
    State(app): State<Arc<App<C>>>,
    request: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    Ok(json(app.schemes.verify(&app, &whole(request)?).await?))
}

async fn settle<C: Chain>(
    State(app): State<Arc<App<C>>>,
    request: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let (settled, extensions) = app.schemes.settle(&app, &whole(request)?).await?;
    let mut response = json(settled).into_response();
    if let Some(extensions) = extensions {
        response.headers_mut().insert(EXTENSION_RESPONSES, extensions);
    }
    Ok(response)
}

async fn release<C: Chain>(
    State(app): State<Arc<App<C>>>,
    request: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    Ok(json(app.schemes.release(&app, &whole(request)?).await?))
}

async fn vouchers<C: Chain>(
    State(app): State<Arc<App<C>>>,
    request: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let request: ForwardRequest = read(request)?;
    let _visit = app.enter(request.book.as_bytes(), To::Begin)?;
    Ok(json(body(&forward::take(&app, &request).await?)?))
}

async fn pages<C: Chain>(
    State(app): State<Arc<App<C>>>,
    Path(book): Path<String>,
    request: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let book: Key = book.parse().map_err(|_| Rejection::UnknownBook)?;
    let _visit = app.enter(book.as_bytes(), To::Begin)?;
    Ok(json(body(&grow::grow(&app, &book, &read(request)?).await?)?))
}

async fn income<C: Chain>(State(app): State<Arc<App<C>>>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&expenses::income(&app, &headers).await?)?))
}

async fn administered<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&administration::view(&app))?))
}

async fn pause<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&administration::pause(&app, true, None).await?)?))
}

async fn resume<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&administration::pause(&app, false, None).await?)?))
}

async fn settle_now<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&administration::settle_now(&app, None).await?)?))
}

async fn pay_out<C: Chain>(
    State(app): State<Arc<App<C>>>,
    Path(page): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let page: Key = page.parse().map_err(|_| Rejection::UnknownPage)?;
    Ok(json(body(&administration::pay_out(&app, page, None).await?)?))
}

async fn exported<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    export::vouchers(&app, None).await
}

async fn take_backup<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&backup::take(&app).await?)?))
}

async fn supported<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&app.schemes.supported())?))
}

async fn offer<C: Chain>(
    State(app): State<Arc<App<C>>>,
    Path(book): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let book: Key = book.parse().map_err(|_| Rejection::UnknownBook)?;
    let _visit = app.enter(book.as_bytes(), To::End)?;
    Ok(json(body(&show::offer(&app, &book).await?)?))
}

async fn health<C: Chain>(State(app): State<Arc<App<C>>>) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&show::health(&app).await?)?))
}

/// Whether the process is of use at all: one that is not is to be started again.
async fn live<C: Chain>(State(app): State<Arc<App<C>>>) -> impl IntoResponse {
    match app.sequencer.ended().is_cancelled() {
        false => (StatusCode::OK, "alive\n".to_owned()),
        true => (StatusCode::SERVICE_UNAVAILABLE, "the store has failed: start the process again\n".to_owned()),
    }
}

/// Whether new business may be sent here, and why not: a line for each reason. What was begun goes on either way.
async fn ready<C: Chain>(State(app): State<Arc<App<C>>>) -> impl IntoResponse {
    match show::unready(&app).as_slice() {
        [] => (StatusCode::OK, "ready\n".to_owned()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

async fn channel<C: Chain>(
    State(app): State<Arc<App<C>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = Key::from_base58_or_hex(&id)?;
    match show::channel(&app, &id).await {
        Ok(view) => Ok(json(body(&view)?).into_response()),
        Err(Rejection::UnknownChannel) => show::elsewhere(&app, &id, &headers).await,
        Err(rejection) => Err(rejection.into()),
    }
}

/// Which batches are listed.
#[derive(Deserialize)]
struct Listing {
    limit: Option<u32>,
    before: Option<u64>,
}

async fn batches<C: Chain>(
    State(app): State<Arc<App<C>>>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<impl IntoResponse, Problem> {
    let Query(listing) = listing.map_err(|_| Rejection::MalformedPayload)?;
    Ok(json(body(&show::batches(&app, listing.before, listing.limit).await?)?))
}

/// What is asked of the catalogue.
type Asked = Result<Query<discovery::Question>, QueryRejection>;

fn asked(question: Asked) -> Result<discovery::Question, Problem> {
    let asked = question.map_err(|_| Problem::Question("The parameters cannot be read: each may stand once."));
    Ok(asked?.0)
}

async fn listed<C: Chain>(State(app): State<Arc<App<C>>>, question: Asked) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&discovery::list(&app, &asked(question)?)?)?))
}

async fn found<C: Chain>(State(app): State<Arc<App<C>>>, question: Asked) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&discovery::search(&app, asked(question)?).await?)?))
}

async fn listing_status<C: Chain>(
    State(app): State<Arc<App<C>>>,
    question: Asked,
) -> Result<impl IntoResponse, Problem> {
    Ok(json(body(&discovery::status(&app, &asked(question)?)?)?))
}
