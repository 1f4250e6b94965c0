//! Several facilitators on one database hand requests on to each other, so that whoever asks may ask any of them.
//!
//! At work, each holds some books, and hands on what is asked of the others ([`handing`], [`crate::nodes`]). While one has the
//! database alone, as an older version or an import has, the others wait and hand everything on to that one.

mod handing;

pub(crate) use handing::{Elsewhere, Line, elsewhere, was_handed_on};

use crate::config::{Config, Database};
use crate::connections::Connections;
use crate::facilitator::{Facilitator, Failure};
use crate::problem::{FULL, Problem};
use crate::{metrics, serve};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use handing::{AGAIN, Carrier, PATIENCE, unanswered};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tallybook_ledger::Purpose;
use tallybook_rules::Rejection;
use tallybook_sequencer::Sequencer;
use tallybook_settler::RpcChain;
use tallybook_store::{PostgresStore, PostgresUrl, VoucherStore};
use tallybook_wire::MAX_BODY_BYTES;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How often the owner looks whether it still has the database, when there is nothing to write.
const PULSE: Duration = Duration::from_secs(2);

/// Who hands everything on, while somebody has the database alone.
#[derive(Clone)]
struct Waiting {
    carrier: Carrier,
    owner: watch::Receiver<Option<String>>,
    /// Where this process itself answers.
    own: String,
    places: Arc<Semaphore>,
    /// How long a request may take in all.
    patience: Duration,
}

/// The database and the address of one that works with others; none of one that is alone.
pub(crate) fn place(config: &Config) -> Option<(PostgresUrl, String)> {
    match (&config.database, &config.address) {
        (Database::Postgres(url), Some(address)) => Some(((**url).clone(), address.clone())),
        _ => None,
    }
}

/// Listens, and takes its place among those on the database. Returns once requests are answered, by whomever.
pub(crate) async fn start(config: Config, (url, address): (PostgresUrl, String)) -> Result<Facilitator, Failure> {
    metrics::install();
    let listen = config.listen;
    let problem = |error| Failure::Listen(listen, error);
    let socket = std::net::TcpListener::bind(listen).map_err(problem)?;
    socket.set_nonblocking(true).map_err(problem)?;
    let local_addr = socket.local_addr().map_err(problem)?;
    let drain = CancellationToken::new();
    let supervisor = tokio::spawn(stand(config, (url, address), socket, drain.clone()));
    Ok(Facilitator::of(local_addr, drain, supervisor))
}

/// Waits, then works, to the end.
async fn stand(
    config: Config,
    (url, address): (PostgresUrl, String),
    socket: std::net::TcpListener,
    drain: CancellationToken,
) -> Result<(), Failure> {
    let problem = |error| Failure::Listen(config.listen, error);
    // Both ways of answering have the same socket: who connects in between waits, and is not refused.
    let waiting = TcpListener::from_std(socket.try_clone().map_err(problem)?).map_err(problem)?;
    let working = TcpListener::from_std(socket).map_err(problem)?;
    let Some(store) = queue(&config, url, address, waiting, &drain).await? else { return Ok(()) };
    tracing::info!("at work on the database");
    let chain = RpcChain::new(&config.rpc_url, Duration::from_secs(config.chain.timeout_seconds.into()));
    Facilitator::start_on(config, chain, store, Some(working), drain).await?.stopped().await
}

/// Hands requests on until nobody has the database alone; none when it is to end before.
async fn queue(
    config: &Config,
    url: PostgresUrl,
    address: String,
    listener: TcpListener,
    drain: &CancellationToken,
) -> Result<Option<Box<dyn VoucherStore>>, Failure> {
    let local = listener.local_addr().map_err(|error| Failure::Listen(config.listen, error))?;
    let host = if local.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { local.ip() };
    let own = format!("http://{}", SocketAddr::new(host, local.port()));
    let (tell, owner) = watch::channel(None);
    tracing::info!(database = %url, address, "opening");
    let router = Waiting::new(config, owner, own.clone())?.router();
    let seats = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let connections = Connections::new(seats(config.limits.connections), seats(config.limits.connections_per_address));
    let head = Duration::from_secs(config.limits.head_seconds.into());
    let closed = CancellationToken::new();
    let serving = tokio::spawn(serve::serve(listener, router, connections, head, closed.clone()));
    let teller = tell.clone();
    let mut waiting = tokio::task::spawn_blocking(move || PostgresStore::among(&url, &address, teller));
    let opened = tokio::select! {
        opened = &mut waiting => opened.map_err(|error| Failure::Stopped(error.to_string()))?,
        () = drain.cancelled() => {
            closed.cancel();
            // With the last who hears of it the waiting ends, too.
            drop(tokio::time::timeout(Duration::from_secs(config.limits.drain_seconds.into()), serving).await);
            return Ok(None);
        }
    };
    let store = opened?;
    // What waits for an owner is answered here, like all that comes from now on.
    tell.send_replace(Some(own));
    closed.cancel();
    Ok(Some(Box::new(store)))
}

/// Looks again and again whether the store still answers, so that whoever has lost the database ends although nobody pays.
pub(crate) async fn pulse(sequencer: Sequencer) {
    loop {
        tokio::time::sleep(PULSE).await;
        let asked = sequencer.insist(|desk| desk.ask_store(|store| store.last_attempt(Purpose::Batch(0)).map(drop)));
        if asked.await.is_err() {
            return;
        }
    }
}

impl Waiting {
    fn new(config: &Config, owner: watch::Receiver<Option<String>>, own: String) -> Result<Self, Failure> {
        let limits = &config.limits;
        let places = usize::try_from(limits.requests_in_flight).unwrap_or(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let patience = Duration::from_secs(limits.request_seconds.into());
        Ok(Self { carrier: Carrier::new(config)?, owner, own, places, patience })
    }

    /// Everything is handed on, except what is asked of this process itself.
    fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(|| async { metrics::text() }))
            .fallback(|State(waiting): State<Self>, request: Request| async move {
                waiting.hand_on(request).await.unwrap_or_else(Problem::into_response)
            })
            .with_state(self)
    }

    async fn hand_on(mut self, request: Request) -> Result<Response, Problem> {
        let places = Arc::clone(&self.places);
        let _place = places.try_acquire().map_err(|_| FULL)?;
        let until = Instant::now().checked_add(PATIENCE).unwrap_or_else(Instant::now);
        // Another takes this one for one at work, which it is about to be, or was.
        if was_handed_on(request.headers()) {
            let own = self.own.clone();
            let has_it = timeout_at(until, self.owner.wait_for(|owner| owner.as_ref() == Some(&own))).await;
            has_it.ok().and_then(Result::ok).ok_or(Rejection::StoreUnavailable)?;
        }
        let (head, body) = request.into_parts();
        let read = tokio::time::timeout(self.patience, axum::body::to_bytes(body, MAX_BODY_BYTES)).await;
        let body = read.map_err(|_| Problem::TooSlow)?.map_err(|_| Rejection::RequestTooLarge)?;
        loop {
            let owner = self.owner(until).await?;
            match self.carrier.ask(&owner, &head, body.clone()).await {
                Ok(answer) => return Ok(answer),
                // It never got there: another one may have the database by now.
                Err(error) if error.is_connect() && Instant::now() < until => {
                    tracing::debug!(owner, %error, "the owner does not answer");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    tracing::warn!(owner, %error, "what was handed on was not answered");
                    return Err(unanswered(head.uri.path(), error.is_connect()).into());
                }
            }
        }
    }

    /// Where the owner answers, as soon as there is one.
    async fn owner(&mut self, until: Instant) -> Result<String, Rejection> {
        let known = timeout_at(until, self.owner.wait_for(Option::is_some)).await;
        known.ok().and_then(Result::ok).and_then(|owner| owner.clone()).ok_or(Rejection::StoreUnavailable)
    }
}
