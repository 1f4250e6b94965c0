//! Starting, serving and ending.

use crate::allowance::Allowance;
use crate::app::App;
use crate::audit::Audit;
use crate::config::{Config, ConfigProblem, Database};
use crate::connections::{Connections, open_files};
use crate::discovery::{self, Discovery};
use crate::expenses::{Bill, Bills};
use crate::holding::{Door, Holding};
use crate::line::Line;
use crate::{expenses, first_sight, line, metrics, money, nodes, routes, serve, settlement, watcher};
use axum::Router;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::{Address, BookView};
use tallybook_ledger::{BatchRecord, Settings};
use tallybook_rules::{Amount, Rejection};
use tallybook_sequencer::{Desk, OpenFailure, Sequencer, clock};
use tallybook_settler::{Chain, Commitment, RpcChain, Settler};
use tallybook_store::{StoreFailure, VoucherStore};
use tallybook_wire::Network;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What others may make the sponsor pay is counted over so long.
pub(crate) const DAY_SECONDS: i64 = 86_400;
/// How often it is looked whether calls under way have ended, while draining.
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Why a facilitator does not start, or has ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// A key of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
    /// Where vouchers are kept.
    #[error("the store: {0}")]
    Store(#[from] StoreFailure),
    /// The chain could not be read.
    #[error("the chain at start: {0}")]
    Chain(Rejection),
    /// What is in it.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// A book is of another cluster than the node.
    #[error("book {0} was made for another cluster than that of rpc_url")]
    OtherCluster(tallybook_wire::Key),
    /// The port.
    #[error("{0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The record of payments.
    #[error("config key `audit_log`: {path}: {error}")]
    Audit {
        /// Its file.
        path: PathBuf,
        /// Why it cannot be written.
        error: std::io::Error,
    },
    /// A thread or task of its own.
    #[error("the facilitator has stopped: {0}")]
    Stopped(String),
}

/// A facilitator that serves.
#[derive(Debug)]
pub struct Facilitator {
    local_addr: SocketAddr,
    drain: CancellationToken,
    supervisor: JoinHandle<Result<(), Failure>>,
}

impl Facilitator {
    /// Checks the configuration, opens the store, reads the chain, and serves. Returns once requests are answered.
    pub async fn start(config: Config) -> Result<Self, Failure> {
        config.check()?;
        if let Some(place) = line::place(&config) {
            return line::start(config, place).await;
        }
        let store = open_store(config.database.clone()).await?;
        let chain = RpcChain::new(&config.rpc_url, Duration::from_secs(config.chain.timeout_seconds.into()));
        Self::start_with(config, chain, store).await
    }

    /// As [`Facilitator::start`], over any chain and store.
    pub async fn start_with<C: Chain>(config: Config, chain: C, store: Box<dyn VoucherStore>) -> Result<Self, Failure> {
        Self::start_on(config, chain, store, None, CancellationToken::new()).await
    }

    /// As [`Facilitator::start_with`], on a listener that is there already, and until `drain`.
    pub(crate) async fn start_on<C: Chain>(
        config: Config,
        chain: C,
        store: Box<dyn VoucherStore>,
        listener: Option<TcpListener>,
        drain: CancellationToken,
    ) -> Result<Self, Failure> {
        metrics::install();
        open_files(config.limits.connections);
        let (desk, opened) = open(&config, store)?;
        let queue = queue_of(&config);
        let (sequencer, writer) = Sequencer::start(desk, queue).map_err(|error| Failure::Stopped(error.to_string()))?;
        let (app, found) = assemble(config, chain, sequencer, opened).await?;

        let listen = app.config.listen;
        let listener = match listener {
            Some(listener) => listener,
            None => TcpListener::bind(listen).await.map_err(|error| Failure::Listen(listen, error))?,
        };
        let local_addr = listener.local_addr().map_err(|error| Failure::Listen(listen, error))?;
        tracing::info!(%local_addr, sponsor = %app.sponsor(), network = app.network.as_str(), "serving");
        let supervisor = tokio::spawn(supervise(app, listener, found, drain.clone(), writer));
        Ok(Self { local_addr, drain, supervisor })
    }

    /// A facilitator without a listener and without a thread: its routes, to be called as a service. What it does beside
    /// them runs as tasks of the Tokio runtime that this is called in, and ends with that, at whatever point it is: nobody
    /// drains it. For a program that decides itself what happens when, such as a simulation.
    pub async fn on_one_thread<C: Chain>(
        config: Config,
        chain: C,
        store: Box<dyn VoucherStore>,
    ) -> Result<Router, Failure> {
        let (desk, opened) = open(&config, store)?;
        let (sequencer, writer) = Sequencer::on_one_thread(desk, queue_of(&config));
        // What it says in the end is seen by everybody who asks it: they are refused.
        tokio::spawn(async move { drop(writer.await) });
        let (app, found) = assemble(config, chain, sequencer, opened).await?;
        // The tasks outlive their handles.
        drop(begin(&app, found, &TaskTracker::new()).await?);
        Ok(routes::router(app))
    }

    /// One that was started elsewhere.
    pub(crate) const fn of(
        local_addr: SocketAddr,
        drain: CancellationToken,
        supervisor: JoinHandle<Result<(), Failure>>,
    ) -> Self {
        Self { local_addr, drain, supervisor }
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops taking payments, lets calls and batches under way end for as long as the configuration says, and ends. What
    /// is not ended by then is durable, and taken up at the next start.
    pub async fn shutdown(self) -> Result<(), Failure> {
        self.drain.cancel();
        self.stopped().await
    }

    /// Returns when it has ended by itself, which it does only when it cannot go on.
    pub async fn stopped(self) -> Result<(), Failure> {
        self.supervisor.await.unwrap_or_else(|error| Err(Failure::Stopped(error.to_string())))
    }

    /// Asks it to end as [`Facilitator::shutdown`] does, when this token is cancelled.
    pub fn drain_token(&self) -> CancellationToken {
        self.drain.clone()
    }
}

/// Serves until `shutdown` is ready, then drains.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let facilitator = Facilitator::start(config).await?;
    let drain = facilitator.drain_token();
    let mut stopped = std::pin::pin!(facilitator.stopped());
    tokio::select! {
        ended = &mut stopped => return ended,
        () = shutdown => tracing::info!("draining"),
    }
    drain.cancel();
    stopped.await
}

/// Opens the store on a thread that may wait: for a file's check, for a server.
async fn open_store(database: Database) -> Result<Box<dyn VoucherStore>, Failure> {
    let shown = database.to_string();
    let opened = tokio::task::spawn_blocking(move || database.open()).await;
    let store = opened.map_err(|error| Failure::Stopped(error.to_string()))??;
    tracing::info!(database = shown, "opened");
    Ok(store)
}

/// What was found at the start, beside the desk.
struct Opened {
    /// The number of this facilitator, where the store is common to several.
    node: Option<u16>,
    /// The batches that were on their way.
    sending: Vec<BatchRecord>,
    allowance: Allowance,
    audit: Option<Audit>,
    discovery: Option<Discovery>,
}

/// Takes up what was stored; of a common store nothing yet.
fn open(config: &Config, mut store: Box<dyn VoucherStore>) -> Result<(Desk, Opened), Failure> {
    let credit = Amount::new(config.limits.unfinalized_credit);
    let settings = Settings { credit, ..Settings::default() };
    let node = store.common().map(|common| common.number());
    let (mut desk, sending) = match node {
        Some(number) => (Desk::among(store, settings, number)?, Vec::new()),
        None => Desk::open(store, settings)?,
    };
    let audit = config.audit_log.as_deref().map(|path| {
        let opened = Audit::open(path);
        opened.map_err(|error| Failure::Audit { path: path.to_owned(), error })
    });
    let audit = audit.transpose()?;
    let now = clock();
    let spent = desk.ask_store(|store| store.spent_for_others_since(now.saturating_sub(DAY_SECONDS)));
    let allowance = Allowance::new(config.limits.sponsored_lamports_per_day, spent.map_err(Failure::Chain)?, now);
    let discovery = Discovery::open(&config.discovery, &std::mem::take(&mut desk.listings));
    Ok((desk, Opened { node, sending, allowance, audit, discovery }))
}

/// How many decisions may wait for the writer.
fn queue_of(config: &Config) -> usize {
    usize::try_from(config.limits.queue).unwrap_or(usize::MAX)
}

/// What requests and background tasks share, once as much of the chain was read as has to be before anybody is answered; and
/// the bills that wait to be asked for.
async fn assemble<C: Chain>(
    config: Config,
    chain: C,
    sequencer: Sequencer,
    Opened { node, sending, allowance, audit, discovery }: Opened,
) -> Result<(Arc<App<C>>, mpsc::Receiver<Bill>), Failure> {
    let (sponsor, claiming) = config.purse()?;
    let settler = Settler::with_claim_sponsors(chain, sponsor, claiming, config.chain.settler());
    let genesis_hash = settler.genesis_hash().await.map_err(Failure::Chain)?;
    let network = config.network.clone().unwrap_or_else(|| Network::of_genesis(&genesis_hash));
    let (bills, unpaid) = Bills::new();
    let line = node.map(|number| Line::new(&config, number)).transpose()?;
    let door = if line.is_some() { Door::Away } else { Door::Open };
    let held = (Holding::new(config.held_by_name(), door), line);
    let kept = (bills, allowance, audit, discovery);
    let app = Arc::new(App::new(config, network, genesis_hash, settler, sequencer, held, kept));
    let books = read_books(&app).await?;
    if app.line.is_none() {
        look_first(&app, books, &sending).await.map_err(Failure::Chain)?;
        app.go_on_with_all(sending);
    }
    Ok((app, unpaid))
}

/// What works beside the requests, until it is stopped.
struct Beside {
    watcher: JoinHandle<()>,
    nodes: JoinHandle<()>,
    expenses: JoinHandle<()>,
    money: JoinHandle<()>,
    settlement: JoinHandle<()>,
    discovery: JoinHandle<()>,
}

/// Begins all that works beside the requests. Batches that were on their way are asked for first, and run in `tasks` as
/// all later ones do.
async fn begin<C: Chain>(
    app: &Arc<App<C>>,
    unpaid: mpsc::Receiver<Bill>,
    tasks: &TaskTracker,
) -> Result<Beside, Failure> {
    settlement::go_on(app, tasks).await.map_err(Failure::Chain)?;
    Ok(Beside {
        watcher: tokio::spawn(watcher::watch(Arc::clone(app))),
        nodes: tokio::spawn(nodes::work(Arc::clone(app))),
        expenses: tokio::spawn(expenses::keep(Arc::clone(app), unpaid)),
        money: tokio::spawn(money::keep(Arc::clone(app))),
        settlement: tokio::spawn(settlement::settle(Arc::clone(app), tasks.clone())),
        discovery: tokio::spawn(discovery::keep(Arc::clone(app))),
    })
}

/// Reads the books, and refuses those of another cluster.
async fn read_books<C: Chain>(app: &App<C>) -> Result<Vec<BookView>, Failure> {
    let addresses: Vec<Address> = app.config.books.iter().map(|book| Address::from(book.0)).collect();
    let read = app.settler.read_books(&addresses, Commitment::Confirmed).await.map_err(Failure::Chain)?;
    let of_another = read.books.iter().find(|book| book.state.genesis_hash != app.genesis_hash);
    of_another.map_or(Ok(()), |book| Err(Failure::OtherCluster(book.address.to_bytes().into())))?;
    Ok(read.books)
}

/// Of all these books, reads what has to be known before anybody is answered.
async fn look_first<C: Chain>(app: &App<C>, books: Vec<BookView>, sending: &[BatchRecord]) -> Result<(), Rejection> {
    app.see(|sight| {
        sight.books.extend(books.iter().map(|book| (book.address.to_bytes(), Arc::new(*book))));
    });
    let books: Vec<&BookView> = books.iter().collect();
    first_sight::begin(app, &books, sending).await?;
    watcher::read_blockhash(app).await
}

/// Runs everything, and ends everything when one part ends.
async fn supervise<C: Chain>(
    app: Arc<App<C>>,
    listener: TcpListener,
    found: mpsc::Receiver<Bill>,
    drain: CancellationToken,
    writer: std::thread::JoinHandle<Result<(), StoreFailure>>,
) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    let Beside { watcher, nodes, expenses, money, settlement, discovery } = begin(&app, found, &tasks).await?;
    let pulse = tokio::spawn(line::pulse(app.sequencer.clone()));
    let closed = CancellationToken::new();
    let limits = &app.config.limits;
    let head = Duration::from_secs(limits.head_seconds.into());
    let seats = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let connections = Connections::new(seats(limits.connections), seats(limits.connections_per_address));
    let router = routes::router(Arc::clone(&app));
    let server = tokio::spawn(serve::serve(listener, router, connections, head, closed.clone()));

    let ended = app.sequencer.ended().clone();
    let unrecorded = app.audit.as_ref().map_or_else(CancellationToken::new, |audit| audit.ended().clone());
    tokio::select! {
        () = ended.cancelled() => {}
        () = unrecorded.cancelled() => {}
        () = drain.cancelled() => {
            nodes::leave(&app).await;
            drain_calls(&app).await;
        }
    }
    let failed = unrecorded.is_cancelled();
    closed.cancel();
    settlement.abort();
    tasks.close();
    let patience = Duration::from_secs(app.config.limits.drain_seconds.into());
    if !ended.is_cancelled() && tokio::time::timeout(patience, tasks.wait()).await.is_err() {
        tracing::warn!(batches = tasks.len(), "ending with batches on their way: they are taken up at the next start");
    }
    watcher.abort();
    nodes.abort();
    expenses.abort();
    pulse.abort();
    money.abort();
    if tokio::time::timeout(patience, server).await.is_err() {
        tracing::warn!("ending with connections open");
    }
    discovery.abort();
    drop(tokio::time::timeout(patience, discovery::write_rest(&app)).await);
    drop(app);
    end_of(writer).await?;
    // It is kept until everything else has ended.
    if failed { Err(Failure::Stopped("the record of payments cannot be written".to_owned())) } else { Ok(()) }
}

/// Takes nothing new, and waits for the calls that have a reservation.
async fn drain_calls<C: Chain>(app: &App<C>) {
    app.draining.cancel();
    let patience = Duration::from_secs(app.config.limits.drain_seconds.into());
    let drained = async {
        loop {
            let under_way = app.sequencer.insist(|desk| {
                let now = desk.now;
                desk.ledger.channels().filter(|channel| channel.reserved(now).is_some()).count()
            });
            match under_way.await {
                Ok(0) | Err(_) => return,
                Ok(_) => tokio::time::sleep(DRAIN_TICK).await,
            }
        }
    };
    if tokio::time::timeout(patience, drained).await.is_err() {
        tracing::warn!("ending with calls under way: they are not charged");
    }
}

/// What the writer says when the last handle to it is gone. Tasks that were left may hold one still: the process ends
/// without them.
async fn end_of(writer: std::thread::JoinHandle<Result<(), StoreFailure>>) -> Result<(), Failure> {
    let joined = tokio::task::spawn_blocking(move || writer.join());
    match tokio::time::timeout(Duration::from_secs(5), joined).await {
        Ok(Ok(Ok(ended))) => Ok(ended?),
        Ok(Ok(Err(_))) => Err(Failure::Stopped("the writer has panicked".to_owned())),
        Ok(Err(error)) => Err(Failure::Stopped(error.to_string())),
        Err(_) => Ok(()),
    }
}
