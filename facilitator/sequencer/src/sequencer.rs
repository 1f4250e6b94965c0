mod beside;
mod stored;

use crate::desk::SharedStore;
use crate::signatures::Signatures;
use crate::told::Told;
use crate::{Desk, Signers, clock};
use metrics::{counter, histogram};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tallybook_ledger::Change;
use tallybook_rules::Rejection;
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_store::StoreFailure;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What became of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It would survive a loss of power.
    Durable,
    /// Whether it is on disk is not known.
    Lost,
}

/// All that is written in one commit, and all who wait for it.
type Group = Told<Outcome>;

/// The way to the desk, and to durability.
#[derive(Clone, Debug)]
pub struct Sequencer {
    shared: Arc<Shared>,
    signers: Signers,
    signatures: Arc<Signatures>,
    ended: CancellationToken,
    /// The writer ends with the last of these.
    _handle: Arc<Handle>,
}

#[derive(Debug)]
struct Shared {
    room: Mutex<Room>,
    /// There is something to write, or nobody will bring anything more: for a writer that is a thread,
    work: Condvar,
    /// and for one that is a future.
    work_again: Notify,
    /// The same for whoever verifies stored vouchers: there are some, or nobody will ask for anything more.
    stored: Condvar,
    stored_again: Notify,
    /// The most answers that may wait for one commit.
    queue: usize,
}

/// What the desk's lock guards.
#[derive(Debug)]
struct Room {
    desk: Desk,
    /// What is written next, and who waits for it.
    open: Arc<Group>,
    waiting: usize,
    /// What is being written.
    writing: Option<Arc<Group>>,
    /// No handle is left.
    closed: bool,
    /// The store has failed, or a job has panicked.
    ended: bool,
}

#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        if let Ok(mut room) = self.0.room.lock() {
            room.closed = true;
        }
        self.0.wake();
        self.0.wake_for_stored();
    }
}

/// What an answer says of the desk, and so what it waits for.
#[derive(Clone, Copy)]
enum Says<'a> {
    /// Something that all writing before it has to be durable for.
    Anything,
    /// Something of one channel alone, and nothing that the job itself has changed durably.
    Of(&'a [u8; 32]),
    /// Nothing of what is durable.
    Nothing,
}

impl Sequencer {
    /// Starts the thread that writes, and one beside it that verifies what was stored. At most `queue` answers wait for one
    /// commit. The threads end when the last handle is gone and all is written, or with the failure of the store, which a
    /// stored voucher that does not verify is too. `Err` when the system gives no thread.
    pub fn start(desk: Desk, queue: usize) -> io::Result<(Self, JoinHandle<Result<(), StoreFailure>>)> {
        let sequencer = Self::before(desk, queue);
        let (shared, guard) = (Arc::clone(&sequencer.shared), sequencer.ended.clone().drop_guard());
        let thread = std::thread::Builder::new().name("sequencer".to_owned());
        let verifying = Arc::clone(&shared);
        let proving = std::thread::Builder::new().name("stored".to_owned()).spawn(move || verifying.prove_all())?;
        let thread = thread.spawn(move || {
            let ending = Ending(&shared, guard);
            let written = write_all(&shared);
            drop(ending);
            // Whoever waits for this thread finds the store free; a panic of the other one was seen by whoever asks the desk.
            drop(proving.join());
            written?;
            // The last handle says that it goes, and goes a moment later.
            while Arc::strong_count(&shared) > 1 {
                std::thread::yield_now();
            }
            Ok(())
        })?;
        Ok((sequencer, thread))
    }

    /// As [`Self::start`], but without a thread: the writer is a future, for a program that runs on one thread and decides
    /// itself who goes on when. It blocks that thread while the store writes.
    pub fn on_one_thread(desk: Desk, queue: usize) -> (Self, impl Future<Output = Result<(), StoreFailure>> + Send) {
        let sequencer = Self::before(desk, queue);
        let (shared, guard) = (Arc::clone(&sequencer.shared), sequencer.ended.clone().drop_guard());
        let writer = async move {
            let _ending = Ending(&shared, guard);
            tokio::select! {
                biased;
                written = write_all_again(&shared) => written,
                proven = shared.prove_all_again() => match proven {},
            }
        };
        (sequencer, writer)
    }

    /// The way to a writer that is to begin.
    fn before(desk: Desk, queue: usize) -> Self {
        let signers = desk.signers().clone();
        let open = Arc::new(Group::default());
        let room = Room { desk, open, waiting: 0, writing: None, closed: false, ended: false };
        let (work, work_again, stored, stored_again) = Default::default();
        let shared = Arc::new(Shared { room: Mutex::new(room), work, work_again, stored, stored_again, queue });
        let _handle = Arc::new(Handle(Arc::clone(&shared)));
        let signatures = Arc::default();
        Self { shared, signers, signatures, ended: CancellationToken::new(), _handle }
    }

    /// Runs a job, and returns its answer once everything that was written by then is durable.
    ///
    /// [`Rejection::Overloaded`] when too many wait, [`Rejection::StoreUnavailable`] when the writer has ended.
    pub async fn ask<T>(&self, job: impl FnOnce(&mut Desk) -> T) -> Result<T, Rejection> {
        self.run(job, Says::Anything, self.shared.queue).await
    }

    /// As [`Self::ask`], for what its owner itself must get done: it is run however many wait.
    /// [`Rejection::StoreUnavailable`] when the writer has ended.
    pub async fn insist<T>(&self, job: impl FnOnce(&mut Desk) -> T) -> Result<T, Rejection> {
        self.run(job, Says::Anything, usize::MAX).await
    }

    /// As [`Self::ask`], for a job that writes nothing and whose answer says something of one channel only: waits for no
    /// commit unless that channel is in it.
    pub(crate) async fn ask_of<T>(
        &self,
        channel_id: &[u8; 32],
        job: impl FnOnce(&mut Desk) -> T,
    ) -> Result<T, Rejection> {
        self.run(job, Says::Of(channel_id), self.shared.queue).await
    }

    /// As [`Self::ask`], for a job whose answer says nothing of what is durable: waits for no commit.
    pub(crate) async fn ask_now<T>(&self, job: impl FnOnce(&mut Desk) -> T) -> Result<T, Rejection> {
        self.run(job, Says::Nothing, self.shared.queue).await
    }

    /// As [`Self::ask_now`], however many wait.
    pub(crate) async fn insist_now<T>(&self, job: impl FnOnce(&mut Desk) -> T) -> Result<T, Rejection> {
        self.run(job, Says::Nothing, usize::MAX).await
    }

    async fn run<T>(&self, job: impl FnOnce(&mut Desk) -> T, says: Says<'_>, queue: usize) -> Result<T, Rejection> {
        let (answer, group) = self.shared.decide(job, says, queue)?;
        match group {
            None => Ok(answer),
            Some(group) => match group.heard().await {
                Outcome::Durable => Ok(answer),
                Outcome::Lost => Err(Rejection::StoreUnavailable),
            },
        }
    }

    /// Whose vouchers bind a channel, without asking the desk; [`Rejection::UnknownChannel`] for one that no observed
    /// page shows.
    pub fn signer(&self, channel_id: &[u8; 32]) -> Result<[u8; 32], Rejection> {
        self.signers.of(channel_id).ok_or(Rejection::UnknownChannel)
    }

    /// Checks a voucher's signature, with nothing locked, and together with those that others bring at the same moment.
    /// [`Rejection::UnknownChannel`] for one that no observed page shows, [`Rejection::BadSignature`].
    pub async fn verify(&self, voucher: SignedVoucher) -> Result<VerifiedVoucher, Rejection> {
        self.signatures.check(voucher, &self.signer(&voucher.channel_id)?).await
    }

    /// As [`Self::verify`], for many that come at once. It takes as long as they need.
    pub fn verify_all(&self, vouchers: &[SignedVoucher]) -> Vec<Result<VerifiedVoucher, Rejection>> {
        self.signatures.check_all(vouchers.iter().map(|voucher| (*voucher, self.signer(&voucher.channel_id))))
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

impl Shared {
    /// Runs a job at the desk: its answer, and the group that has to be durable before it is told.
    fn decide<T>(
        &self,
        job: impl FnOnce(&mut Desk) -> T,
        says: Says<'_>,
        queue: usize,
    ) -> Result<(T, Option<Arc<Group>>), Rejection> {
        let mut room = self.room.lock().map_err(|_| Rejection::StoreUnavailable)?;
        if room.ended {
            return Err(Rejection::StoreUnavailable);
        }
        if room.waiting >= queue {
            return Err(Rejection::Overloaded);
        }
        room.desk.now = room.desk.now.max(clock());
        let (had_work, had_stored) = (room.desk.has_work(), room.desk.ledger.has_unproven());
        let alarm = Alarm(self);
        let answer = job(&mut room.desk);
        drop(alarm);
        let group = room.waits_for(says);
        if !had_work && room.desk.has_work() {
            self.wake();
        }
        if !had_stored && room.desk.ledger.has_unproven() {
            self.wake_for_stored();
        }
        Ok((answer, group))
    }

    /// Wakes the writer.
    fn wake(&self) {
        self.work.notify_all();
        self.work_again.notify_one();
    }
}

/// Wakes the writer when a job panics, so that it ends too: nobody knows what state the desk was left in.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wake();
        }
    }
}

impl Room {
    fn waits_for(&mut self, says: Says<'_>) -> Option<Arc<Group>> {
        let open = match says {
            Says::Anything => self.desk.has_work(),
            Says::Of(channel_id) => self.desk.is_unwritten(channel_id),
            Says::Nothing => false,
        };
        // A job that has failed is told nothing, whatever it would say.
        if open || self.desk.has_failed() {
            self.waiting = self.waiting.saturating_add(1);
            return Some(Arc::clone(&self.open));
        }
        let is_concerned = match says {
            Says::Anything => true,
            Says::Of(channel_id) => self.desk.is_being_written(channel_id),
            Says::Nothing => false,
        };
        self.writing.clone().filter(|_| is_concerned)
    }
}

/// Tells everybody who waits, and who comes later, that the writer has ended; also when it panics. Only then it counts as
/// ended.
struct Ending<'a>(&'a Shared, #[expect(dead_code, reason = "dropped last")] DropGuard);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.ended = true;
        room.open.tell(Outcome::Lost);
        self.0.wake_for_stored();
    }
}

/// Writes what is there, all of it in one commit, again and again.
fn write_all(shared: &Shared) -> Result<(), StoreFailure> {
    let mut changes = Vec::new();
    loop {
        match shared.next(&mut changes)? {
            Next::Group(store, group) => write(&store, &changes, group)?,
            Next::Nothing => shared.wait()?,
            Next::End => return Ok(()),
        }
    }
}

/// The same, as a future.
async fn write_all_again(shared: &Shared) -> Result<(), StoreFailure> {
    let mut changes = Vec::new();
    loop {
        match shared.next(&mut changes)? {
            Next::Group(store, group) => write(&store, &changes, group)?,
            Next::Nothing => shared.work_again.notified().await,
            Next::End => return Ok(()),
        }
    }
}

/// What the writer does next.
enum Next {
    /// Writes for this group.
    Group(Arc<SharedStore>, Arc<Group>),
    /// Waits.
    Nothing,
    /// Ends: all is written, and nobody will bring anything more.
    End,
}

impl Shared {
    /// What was written last is durable: takes what is there by now.
    fn next(&self, changes: &mut Vec<Change>) -> Result<Next, StoreFailure> {
        let mut room = self.lock()?;
        room.writing = None;
        room.desk.wrote();
        if !room.desk.has_work() {
            return Ok(if room.closed { Next::End } else { Next::Nothing });
        }
        let store = room.desk.take(changes).inspect_err(|failure| {
            tracing::error!(%failure, "the store failed a question: nothing more is answered, the writer ends");
        })?;
        let group = std::mem::take(&mut room.open);
        room.waiting = 0;
        room.writing = Some(Arc::clone(&group));
        Ok(Next::Group(store, group))
    }

    /// Returns when there may be something to write, or nobody will bring anything more.
    fn wait(&self) -> Result<(), StoreFailure> {
        let mut room = self.lock()?;
        while !room.desk.has_work() && !room.closed {
            room = self.work.wait(room).map_err(|_| StoreFailure::Poisoned)?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<MutexGuard<'_, Room>, StoreFailure> {
        self.room.lock().map_err(|_| StoreFailure::Poisoned)
    }
}

/// Makes changes durable, and then tells the group.
fn write(store: &SharedStore, changes: &[Change], group: Arc<Group>) -> Result<(), StoreFailure> {
    // Told as lost when the commit fails, or panics.
    let mut telling = Telling(group, Outcome::Lost);
    let begun = Instant::now();
    let committed = store.lock().and_then(|mut store| store.commit(changes));
    if let Err(failure) = &committed {
        tracing::error!(%failure, "the store failed: nothing more is answered, the writer ends");
    }
    committed?;
    counter!("tallybook_changes_total").increment(u64::try_from(changes.len()).unwrap_or(u64::MAX));
    histogram!("tallybook_commit_seconds").record(begun.elapsed());
    telling.1 = Outcome::Durable;
    Ok(())
}

/// Tells a group how it went, when dropped.
struct Telling(Arc<Group>, Outcome);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.tell(self.1);
    }
}

#[cfg(test)]
mod tests;
