use crate::{Desk, Signers, clock};
use std::io;
use std::thread::JoinHandle;
use tallybook_rules::Rejection;
use tallybook_store::StoreFailure;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The most decisions of one commit.
const GROUP: usize = 1_024;

/// Tells one caller what came of its job. Called after the commit.
type Answer = Box<dyn FnOnce() + Send>;
/// Decides, and hands the answer over for later.
type Job = Box<dyn FnOnce(&mut Desk) -> Answer + Send>;

/// The way to the writer.
#[derive(Clone, Debug)]
pub struct Sequencer {
    jobs: mpsc::Sender<Job>,
    signers: Signers,
    ended: CancellationToken,
}

impl Sequencer {
    /// Starts the writer's thread, before which at most `queue` jobs wait. It ends when the last handle is gone, or with
    /// the failure of the store. `Err` when the system gives no thread.
    pub fn start(desk: Desk, queue: usize) -> io::Result<(Self, JoinHandle<Result<(), StoreFailure>>)> {
        let (sequencer, waiting) = Self::before(&desk, queue);
        let ended = sequencer.ended.clone();
        let thread = std::thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
            let _ended = ended.drop_guard();
            work(desk, waiting)
        })?;
        Ok((sequencer, thread))
    }

    /// As [`Self::start`], but without a thread: the writer is a future, for a program that runs on one thread and decides
    /// itself who goes on when. It blocks that thread while the store writes.
    pub fn on_one_thread(desk: Desk, queue: usize) -> (Self, impl Future<Output = Result<(), StoreFailure>> + Send) {
        let (sequencer, mut waiting) = Self::before(&desk, queue);
        let ended = sequencer.ended.clone();
        let writer = async move {
            let _ended = ended.drop_guard();
            let (mut desk, mut answers) = (desk, Vec::new());
            while let Some(first) = waiting.recv().await {
                group(&mut desk, first, &mut waiting, &mut answers)?;
            }
            Ok(())
        };
        (sequencer, writer)
    }

    /// The way to a writer that is to work on `desk`, and the jobs that wait for it.
    fn before(desk: &Desk, queue: usize) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel(queue);
        (Self { jobs, signers: desk.signers().clone(), ended: CancellationToken::new() }, waiting)
    }

    /// Runs a job, and returns its answer once everything it wrote is durable.
    ///
    /// [`Rejection::Overloaded`] when too many wait, [`Rejection::StoreUnavailable`] when the writer has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let (job, answer) = with_answer(job);
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Rejection::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Rejection::StoreUnavailable,
        })?;
        answer.await.map_err(|_| Rejection::StoreUnavailable)
    }

    /// As [`Self::ask`], for what its owner itself must get done: waits for its turn however many wait.
    /// [`Rejection::StoreUnavailable`] when the writer has ended.
    pub async fn insist<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let (job, answer) = with_answer(job);
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| Rejection::StoreUnavailable)?;
        answer.await.map_err(|_| Rejection::StoreUnavailable)
    }

    /// Whose vouchers bind a channel, without asking the writer; [`Rejection::UnknownChannel`] for one that no observed
    /// page shows.
    pub fn signer(&self, channel_id: &[u8; 32]) -> Result<[u8; 32], Rejection> {
        self.signers.of(channel_id).ok_or(Rejection::UnknownChannel)
    }

    /// Who funds a channel, without asking the writer; none of one that no observed page shows.
    pub fn payer(&self, channel_id: &[u8; 32]) -> Option<[u8; 32]> {
        self.signers.payer_of(channel_id)
    }

    /// Cancelled once the writer has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

fn with_answer<T: Send + 'static>(job: impl FnOnce(&mut Desk) -> T + Send + 'static) -> (Job, oneshot::Receiver<T>) {
    let (tell, told) = oneshot::channel();
    let job = move |desk: &mut Desk| -> Answer {
        let answer = job(desk);
        // The caller may have gone away meanwhile; what it asked for is done all the same.
        Box::new(move || drop(tell.send(answer)))
    };
    (Box::new(job), told)
}

fn work(mut desk: Desk, mut waiting: mpsc::Receiver<Job>) -> Result<(), StoreFailure> {
    let mut answers = Vec::with_capacity(GROUP);
    while let Some(first) = waiting.blocking_recv() {
        group(&mut desk, first, &mut waiting, &mut answers)?;
    }
    Ok(())
}

/// One group: all that waits is decided, made durable at once, and answered.
fn group(
    desk: &mut Desk,
    first: Job,
    waiting: &mut mpsc::Receiver<Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), StoreFailure> {
    desk.now = desk.now.max(clock());
    answers.push(first(desk));
    while answers.len() < GROUP
        && let Ok(job) = waiting.try_recv()
    {
        answers.push(job(desk));
    }
    if let Err(failure) = desk.commit() {
        tracing::error!(%failure, "the store failed: nothing more is answered, the writer ends");
        return Err(failure);
    }
    answers.drain(..).for_each(|tell| tell());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_ledger::{Attempt, Change, Ledger, Purpose, Settings};
    use tallybook_store::{FaultyStore, MemoryStore};

    fn change(number: u8) -> Change {
        Change::Sending {
            purpose: Purpose::Deposit([number; 32]),
            attempt: Attempt { signature: [number; 64], last_valid_block_height: 0 },
        }
    }

    #[tokio::test]
    async fn given_a_broken_disk_when_something_is_written_then_nobody_is_answered_and_the_writer_ends() {
        let (store, broken) = FaultyStore::new(MemoryStore::default());
        let desk = Desk::new(Ledger::new(Settings::default()), Box::new(store));
        let (sequencer, thread) = Sequencer::start(desk, 8).unwrap();
        assert_eq!(sequencer.ask(|desk| desk.write(change(1))).await, Ok(()));
        broken.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(sequencer.ask(|_| 5).await, Ok(5), "nothing to write");
        let (first, second) = tokio::join!(sequencer.ask(|desk| desk.write(change(2))), sequencer.ask(|_| ()));
        assert_eq!(first, Err(Rejection::StoreUnavailable));
        // The second may have waited in the same group or come too late; it may not have come before.
        assert_eq!(second, Err(Rejection::StoreUnavailable));
        sequencer.ended().cancelled().await;
        assert!(matches!(thread.join().unwrap(), Err(StoreFailure::File { .. })));
        assert_eq!(sequencer.ask(|_| ()).await, Err(Rejection::StoreUnavailable));
    }

    #[tokio::test]
    async fn given_a_writer_at_work_when_too_many_wait_then_the_next_is_refused_and_the_rest_is_answered_in_order() {
        let desk = Desk::new(Ledger::new(Settings::default()), Box::new(MemoryStore::default()));
        let (sequencer, _) = Sequencer::start(desk, 2).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let busy = sequencer.ask(move |desk| {
            begun.send(()).unwrap();
            gate.recv().unwrap();
            desk.newest_batch += 1;
            desk.newest_batch
        });
        let next = |desk: &mut Desk| {
            desk.newest_batch += 1;
            desk.newest_batch
        };
        let rest = async {
            has_begun.await.unwrap();
            let (second, third, refused) = tokio::join!(sequencer.ask(next), sequencer.ask(next), async {
                let refused = sequencer.ask(next).await;
                open.send(()).unwrap();
                refused
            });
            (second, third, refused)
        };
        let (first, rest) = tokio::join!(busy, rest);
        assert_eq!((first, rest), (Ok(1), (Ok(2), Ok(3), Err(Rejection::Overloaded))));
    }
}
