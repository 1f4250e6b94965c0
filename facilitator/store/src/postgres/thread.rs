//! The thread that speaks with the server: stores are asked from anywhere, within a runtime too, and wait for the answer.

use super::decode::Visit;
use super::session::{Session, Turn};
use super::{PostgresFailure, PostgresUrl};
use crate::StoreFailure;
use std::fmt;
use std::pin::Pin;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// So many rows are handed over at a time,
const CHUNK: usize = 512;
/// and at most so many times ahead of who takes them.
const AHEAD: usize = 4;

/// What is done with a session.
pub(super) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreFailure>> + 'a>>;

type Job = Box<dyn for<'a> FnOnce(&'a mut Session) -> Pin<Box<dyn Future<Output = ()> + 'a>> + Send>;

/// The thread, which ends when this is dropped: then the session has ended, too.
pub(super) struct Thread {
    jobs: Option<UnboundedSender<Job>>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts it, and opens the session; says which database that is of, and what more there is to say of it.
    pub(super) fn start(url: PostgresUrl, turn: Turn) -> Result<(Self, Opened), StoreFailure> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(PostgresFailure::Thread)?;
        let (jobs, todo) = unbounded_channel();
        let (tell, opened) = mpsc::channel();
        let thread = std::thread::Builder::new().name("postgres".to_owned());
        let handle = thread.spawn(move || run(&runtime, &url, &turn, todo, &tell)).map_err(PostgresFailure::Thread)?;
        let thread = Self { jobs: Some(jobs), handle: Some(handle) };
        let opened = opened.recv().map_err(|_| gone())??;
        Ok((thread, opened))
    }

    /// Has a piece of work done, and waits for its answer for at most so many seconds.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        seconds: u64,
        work: impl for<'a> FnOnce(&'a mut Session) -> Work<'a, T> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        let (tell, answer) = mpsc::channel();
        self.give(Box::new(move |session| {
            Box::pin(async move {
                let done = timeout(Duration::from_secs(seconds), work(session)).await;
                let done = done.unwrap_or_else(|_| Err(PostgresFailure::TimedOut(seconds).into()));
                // Nobody waits any more only if the asker has panicked.
                drop(tell.send(done));
            })
        }))?;
        answer.recv().map_err(|_| gone())?
    }

    /// As [`Self::ask`], for work that hands over many things one by one.
    pub(super) fn ask_each<T: Send + 'static, U: Send + 'static>(
        &self,
        seconds: u64,
        work: impl for<'a> FnOnce(&'a mut Session, Visit<'a, T>) -> Work<'a, U> + Send + 'static,
        visit: &mut dyn FnMut(T) -> Result<(), StoreFailure>,
    ) -> Result<U, StoreFailure> {
        let (hand, handed) = mpsc::sync_channel::<Vec<T>>(AHEAD);
        let (tell, answer) = mpsc::channel();
        self.give(Box::new(move |session| {
            Box::pin(async move {
                let mut chunk = Vec::with_capacity(CHUNK);
                let mut collect = |one| {
                    chunk.push(one);
                    let is_full = chunk.len() >= CHUNK;
                    // Waits for who takes them; the thread has nothing else to do.
                    if is_full { hand.send(std::mem::take(&mut chunk)).map_err(|_| gone()) } else { Ok(()) }
                };
                let done = timeout(Duration::from_secs(seconds), work(session, &mut collect)).await;
                let done = done.unwrap_or_else(|_| Err(PostgresFailure::TimedOut(seconds).into()));
                drop(hand.send(chunk));
                drop(hand);
                drop(tell.send(done));
            })
        }))?;
        // Dropped when a visit fails, so that nothing more is read.
        for chunk in handed {
            chunk.into_iter().try_for_each(&mut *visit)?;
        }
        answer.recv().map_err(|_| gone())?
    }

    fn give(&self, job: Job) -> Result<(), StoreFailure> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            // A panic of it was seen by whoever it did not answer.
            drop(handle.join());
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thread")
    }
}

/// What a session was opened on.
pub(super) struct Opened {
    /// The database, without its password.
    pub(super) database: String,
    /// The server's version.
    pub(super) version: String,
    /// The number of this node, if it is one of several.
    pub(super) number: Option<u16>,
}

/// Everything that the thread does.
fn run(
    runtime: &Runtime,
    url: &PostgresUrl,
    turn: &Turn,
    mut todo: UnboundedReceiver<Job>,
    tell: &mpsc::Sender<Result<Opened, StoreFailure>>,
) {
    runtime.block_on(async {
        match Session::open(url, turn).await {
            Ok(mut session) => {
                let (database, version) = (session.database.clone(), session.version.clone());
                drop(tell.send(Ok(Opened { database, version, number: session.number })));
                while let Some(job) = todo.recv().await {
                    job(&mut session).await;
                }
                session.end().await;
            }
            Err(failure) => drop(tell.send(Err(failure))),
        }
    });
}

fn gone() -> StoreFailure {
    PostgresFailure::Lost("its thread has ended".to_owned()).into()
}
