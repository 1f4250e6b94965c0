//! How a request comes to the facilitator that can answer it.

use crate::app::App;
use crate::config::Config;
use crate::facilitator::Failure;
use crate::holding::Door;
use crate::metrics;
use crate::problem::{FULL, Problem};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::Rejection;
use tallybook_settler::Chain;
use tallybook_store::Node;
use tallybook_wire::MAX_BODY_BYTES;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Bears a request that was handed on once: it is not handed on again.
const HANDED_ON: HeaderName = HeaderName::from_static("tallybook-handed-on");
/// How long a request waits for somebody to hold its book: what it takes to notice that one is gone, and to take over.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How long another may take to be reached.
const CONNECT: Duration = Duration::from_secs(2);
/// How often one that does not answer is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(100);
/// The pause between two looks, however many are in a hurry.
const LEAST: Duration = Duration::from_millis(50);
/// The longest answer that is handed back.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// What belongs to a connection, and not to what is said over it.
const OF_THE_CONNECTION: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::HOST, header::UPGRADE];

/// Marks an answer that says no more than that another is to be asked: who holds this book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elsewhere(pub(crate) [u8; 32]);

/// The way to the other facilitators.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    http: reqwest::Client,
}

impl Carrier {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let patience = Duration::from_secs(config.limits.request_seconds.into());
        let http = reqwest::Client::builder().connect_timeout(CONNECT).timeout(patience).no_proxy().build();
        Ok(Self { http: http.map_err(|error| Failure::Stopped(error.to_string()))? })
    }

    /// Asks the facilitator at `address` what this one was asked.
    pub(super) async fn ask(&self, address: &str, head: &Parts, body: Bytes) -> Result<Response, reqwest::Error> {
        let mut headers = without_connection(&head.headers);
        headers.insert(HANDED_ON, HeaderValue::from_static("1"));
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = self.http.request(head.method.clone(), format!("{address}{path}")).headers(headers).body(body);
        let mut answer = request.send().await?;
        let mut whole = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() > MAX_ANSWER_BYTES {
                return Ok(Problem::from(Rejection::Overloaded).into_response());
            }
        }
        let mut response = Response::new(Body::from(whole));
        *response.status_mut() = answer.status();
        *response.headers_mut() = without_connection(answer.headers());
        Ok(response)
    }
}

/// Whether somebody else has handed this on.
pub(crate) fn was_handed_on(headers: &HeaderMap) -> bool {
    headers.contains_key(HANDED_ON)
}

/// What is said of a request without an answer: whether it was done is not known where it ends something.
pub(super) fn unanswered(path: &str, never_arrived: bool) -> Rejection {
    let ends = ["/settle", "/release", "/admin"].iter().any(|begin| path.starts_with(begin));
    if ends && !never_arrived { Rejection::SettlementPending } else { Rejection::StoreUnavailable }
}

fn without_connection(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    OF_THE_CONNECTION.iter().for_each(|name| drop(headers.remove(name)));
    headers
}

/// What a facilitator knows of the others that work on the same database.
#[derive(Debug)]
pub(crate) struct Line {
    carrier: Carrier,
    /// Who works on what, as it was seen last: a hint, since whoever is asked says no where it is wrong.
    nodes: watch::Sender<Vec<Node>>,
    /// For requests that are handed on, so that others have places left when another facilitator is slow.
    places: Semaphore,
    nudge: Notify,
    leaving: CancellationToken,
    number: u16,
}

impl Line {
    pub(crate) fn new(config: &Config, number: u16) -> Result<Self, Failure> {
        let places = usize::try_from(config.limits.requests_in_flight / 2).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self {
            carrier: Carrier::new(config)?,
            nodes: watch::Sender::new(Vec::new()),
            places: Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)),
            nudge: Notify::new(),
            leaving: CancellationToken::new(),
            number,
        })
    }

    /// The number of this node.
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Takes in who works on what.
    pub(crate) fn tell(&self, nodes: Vec<Node>) {
        self.nodes.send_replace(nodes);
    }

    /// Has it looked at once who works on what.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits for so long, or until somebody is in a hurry.
    pub(crate) async fn until_nudged(&self, patience: Duration) {
        tokio::time::sleep(LEAST).await;
        drop(timeout(patience.saturating_sub(LEAST), self.nudge.notified()).await);
    }

    /// This node is about to end.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Whether it is.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Where the others answer.
    pub(crate) fn others(&self) -> Vec<String> {
        let nodes = self.nodes.borrow();
        nodes.iter().filter(|node| !node.is_this_one).map(|node| node.address.clone()).collect()
    }

    /// Whether each of these is held by somebody.
    pub(crate) fn are_held(&self, books: &[[u8; 32]]) -> bool {
        let nodes = self.nodes.borrow();
        books.iter().all(|book| nodes.iter().any(|node| node.holds(book)))
    }

    /// Where the one answers that holds a book, if it is another one.
    fn holder(&self, book: &[u8; 32]) -> Option<String> {
        let nodes = self.nodes.borrow();
        nodes.iter().find(|node| node.holds(book) && !node.is_this_one).map(|node| node.address.clone())
    }

    /// What each of the others says to the same question; nothing of one that does not answer, with false.
    pub(crate) async fn ask_others(&self, path: &str, headers: &HeaderMap) -> (Vec<Response>, bool) {
        let (mut answers, mut are_all) = (Vec::new(), true);
        for address in self.others() {
            let mut request = Request::builder().method(Method::GET).uri(path);
            if let Some(of_request) = request.headers_mut() {
                of_request.clone_from(headers);
            }
            let Ok(request) = request.body(()) else { continue };
            match self.carrier.ask(&address, &request.into_parts().0, Bytes::new()).await {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    tracing::warn!(address, %error, "another facilitator does not answer");
                    are_all = false;
                }
            }
        }
        (answers, are_all)
    }
}

/// Stands behind the guard, which has taken the body in, and before the routes: what they cannot answer because its book is held
/// elsewhere is answered by who holds it.
pub(crate) async fn elsewhere<C: Chain>(State(app): State<Arc<App<C>>>, request: Request, next: Next) -> Response {
    let Some(line) = &app.line else { return next.run(request).await };
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return Problem::from(Rejection::RequestTooLarge).into_response();
    };
    let run = || next.clone().run(Request::from_parts(head.clone(), Body::from(body.clone())));
    let response = run().await;
    let Some(Elsewhere(book)) = response.extensions().get().copied() else { return response };
    if was_handed_on(&head.headers) {
        // Another takes this one for its holder, which it is about to be, or was.
        let is_coming = || app.holding.door(&book) == Some(Door::Coming);
        let begun = Instant::now();
        while is_coming() && begun.elapsed() < PATIENCE {
            app.holding.wait(AGAIN, |holding| holding.door(&book) != Some(Door::Coming)).await;
        }
        return run().await;
    }
    let Ok(_place) = line.places.try_acquire() else { return FULL.into_response() };
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if app.holding.door(&book) == Some(Door::Open) {
            let response = run().await;
            if response.extensions().get::<Elsewhere>().is_none() {
                return response;
            }
        } else if let Some(address) = line.holder(&book) {
            match line.carrier.ask(&address, &head, body.clone()).await {
                // It has just given the book away: another look says to whom.
                Ok(answer) if answer.status() == StatusCode::MISDIRECTED_REQUEST => {}
                Ok(answer) => {
                    metrics::handed_on();
                    return answer;
                }
                // It never got there: another may have the book by now.
                Err(error) if error.is_connect() => tracing::debug!(address, %error, "a book's holder does not answer"),
                Err(error) => {
                    tracing::warn!(address, %error, "what was handed on was not answered");
                    return Problem::from(unanswered(head.uri.path(), false)).into_response();
                }
            }
        }
        line.nudge();
        let mut nodes = line.nodes.subscribe();
        let changed = async { drop(nodes.changed().await) };
        tokio::select! {
            () = changed => {}
            () = app.holding.wait(AGAIN, |holding| holding.door(&book) == Some(Door::Open)) => {}
        }
    }
    Problem::from(unanswered(head.uri.path(), true)).into_response()
}
