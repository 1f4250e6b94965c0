//! What stands in front of every route: refuses early when too much is at work, takes the body in, ends what takes too long,
//! and counts.
//!
//! What was begun may end: calls that are being served are committed from places that nothing else can take, so that a
//! storm of new ones does not keep finished work from being paid. What only shows something has the fewest places.

use crate::app::App;
use crate::config::Limits;
use crate::metrics;
use crate::problem::{FULL, Problem};
use axum::RequestExt;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallybook_rules::Rejection;
use tallybook_settler::Chain;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What a route is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Class {
    /// Shows something.
    Shows,
    /// Begins something.
    Begins,
    /// Ends what was begun, or is an administrator's.
    Ends,
}

/// A route's name for metrics: few, whatever is asked for.
#[derive(Clone, Copy)]
struct Route(&'static str, Class);

impl Route {
    const ALL: [Self; 36] = [
        Self("/verify", Class::Begins),
        Self("/settle", Class::Ends),
        Self("/release", Class::Ends),
        Self("/vouchers", Class::Begins),
        Self("/books/{book}/pages", Class::Begins),
        Self("/income", Class::Shows),
        Self("/supported", Class::Shows),
        Self("/books/{book}/offer", Class::Begins),
        Self("/health", Class::Shows),
        Self("/channels/{id}", Class::Shows),
        Self("/batches", Class::Shows),
        Self("/metrics", Class::Shows),
        Self("/discovery/resources", Class::Shows),
        Self("/discovery/search", Class::Shows),
        Self("/discovery/status", Class::Shows),
        Self("/admin", Class::Ends),
        Self("/admin/pause", Class::Ends),
        Self("/admin/resume", Class::Ends),
        Self("/admin/settle", Class::Ends),
        Self("/admin/backup", Class::Ends),
        Self("/admin/pages/{page}/pay-out", Class::Ends),
        Self("/admin/vouchers", Class::Ends),
        Self("/operator", Class::Shows),
        Self("/operator/events", Class::Shows),
        Self("/operator/channels", Class::Shows),
        Self("/operator/batches", Class::Shows),
        Self("/operator/pages", Class::Shows),
        Self("/operator/vouchers", Class::Ends),
        Self("/operator/sign-in", Class::Ends),
        Self("/operator/sign-out", Class::Ends),
        Self("/operator/pause", Class::Ends),
        Self("/operator/resume", Class::Ends),
        Self("/operator/settle", Class::Ends),
        Self("/operator/pay-out", Class::Ends),
        Self("/operator/page.css", Class::Shows),
        Self("/operator/page.js", Class::Shows),
    ];

    fn of(request: &Request) -> Self {
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        Self::ALL.into_iter().find(|route| Some(route.0) == matched).unwrap_or(Self("other", Class::Shows))
    }
}

/// Places for requests at work.
#[derive(Debug)]
pub(crate) struct Places {
    all: Semaphore,
    /// Of those, for what begins or shows something.
    begin: Semaphore,
    /// Of those, for what shows something.
    show: Semaphore,
    /// For what waits for the chain, which may be slow: so that calls, which need none, go on.
    on_chain: Semaphore,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        let places = |number: u32| {
            let number = usize::try_from(number).unwrap_or(Semaphore::MAX_PERMITS);
            Semaphore::new(number.clamp(1, Semaphore::MAX_PERMITS))
        };
        let all = limits.requests_in_flight;
        Self {
            all: places(all),
            begin: places(all.saturating_sub(all / 4)),
            show: places(all / 4),
            on_chain: places(limits.deposits_in_flight),
        }
    }

    /// A place for something that waits for the chain.
    pub(crate) fn on_chain(&self) -> Option<SemaphorePermit<'_>> {
        self.on_chain.try_acquire().ok()
    }

    /// The kinds of places that a request of this class needs.
    fn kinds(&self, class: Class) -> impl Iterator<Item = &Semaphore> {
        let kinds = [(Class::Ends, &self.all), (Class::Begins, &self.begin), (Class::Shows, &self.show)];
        kinds.into_iter().filter(move |(of, _)| class <= *of).map(|(_, places)| places)
    }

    /// Whether there is a place now.
    fn is_there_one(&self, class: Class) -> bool {
        self.kinds(class).all(|places| places.available_permits() > 0)
    }

    fn take(&self, class: Class) -> Option<Vec<SemaphorePermit<'_>>> {
        self.kinds(class).map(|places| places.try_acquire().ok()).collect()
    }
}

/// Stands in front of every route.
pub(crate) async fn guard<C: Chain>(State(app): State<Arc<App<C>>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = Route::of(&request);
    let response = serve(&app, route, request, next).await.unwrap_or_else(Problem::into_response);
    metrics::answered(route.0, response.status().as_u16(), begun.elapsed());
    response
}

async fn serve<C: Chain>(app: &App<C>, route: Route, request: Request, next: Next) -> Result<Response, Problem> {
    let limits = &app.config.limits;
    // Before anything of it is read. Whoever sends its body slowly takes no place meanwhile.
    if !app.places.is_there_one(route.1) {
        return Err(FULL);
    }
    let patience = Duration::from_secs(limits.body_seconds.into());
    let request = tokio::time::timeout(patience, with_body(request)).await.map_err(|_| Problem::TooSlow)??;
    let _places = app.places.take(route.1).ok_or(FULL)?;
    let patience = Duration::from_secs(limits.request_seconds.into());
    let served = tokio::time::timeout(patience, next.run(request)).await;
    // Whether it was done is not known where it ends something; what it would have begun was not.
    let unknown = if route.1 == Class::Ends { Rejection::SettlementPending } else { Rejection::Overloaded };
    served.map_err(|_| unknown.into())
}

/// The request with its whole body, up to the cap.
async fn with_body(request: Request) -> Result<Request, Problem> {
    let (head, body) = request.into_parts();
    let read: Result<Bytes, BytesRejection> = Request::from_parts(head.clone(), body).extract().await;
    let bytes = read.map_err(|error| match error.into_response().status().as_u16() {
        413 => Rejection::RequestTooLarge,
        _ => Rejection::MalformedPayload,
    })?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}
