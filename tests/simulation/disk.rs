//! The disk under the facilitator's store: the real SQLite store on a file, which fails, fills up, and stops in the middle
//! of a write.

use crate::trace::Trace;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use tallybook_ledger::{Attempt, BatchRecord, Change, ChannelRecord, Purpose};
use tallybook_store::{KeptChannel, Row, Spending, SqliteStore, StoreFailure, Stored, VoucherStore};
use tempfile::TempDir;

/// Written at once or not at all, as disks promise it.
const SECTOR: usize = 512;

/// A machine's disk: what is on it outlives every process.
pub(crate) struct Disk {
    folder: TempDir,
    /// How many processes have run on it.
    lives: u32,
    pub(crate) switch: Switch,
    random: StdRng,
    trace: Trace,
}

/// What the driver and the store of the running process tell one another.
#[derive(Clone, Default)]
pub(crate) struct Switch {
    /// The process is to die: its store has failed, or it was killed within a write.
    pub(crate) dying: Arc<AtomicBool>,
    /// How often a write fails, in thousandths.
    pub(crate) fails: Arc<AtomicU32>,
}

/// An empty store, as a file.
pub(crate) fn empty() -> &'static [u8] {
    static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let folder = folder();
        let path = folder.path().join("empty.db");
        drop(SqliteStore::open(&path).expect("a new store"));
        fs::read(path).expect("its file")
    });
    &EMPTY
}

/// In memory if the machine has such a place: a sync costs nothing there, and what a sync is good for is tested elsewhere.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

impl Disk {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let disk =
            Self { folder: folder(), lives: 0, switch: Switch::default(), random: StdRng::seed_from_u64(seed), trace };
        write_private(&disk.path(), empty());
        disk
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.db", self.lives))
    }

    /// Opens the store for a process.
    pub(crate) fn open(&mut self) -> Result<Box<dyn VoucherStore>, StoreFailure> {
        self.switch.dying.store(false, Ordering::Relaxed);
        let inner = SqliteStore::open(&self.path())?;
        let (path, switch, trace) = (self.path(), self.switch.clone(), self.trace.clone());
        let random = StdRng::seed_from_u64(self.random.random());
        Ok(Box::new(SimStore { inner, path, switch, random, trace, poisoned: false }))
    }

    /// The process is about to be killed: what it has written is kept as it is at this moment, or as it was when its disk
    /// failed. (SQLite would tidy up when its connection ends, as no killed process does: that happens to files that nobody
    /// reads again.)
    pub(crate) fn crash(&mut self) {
        let old = self.path();
        let [tables, log] = left_by(&old);
        let left = if tables.exists() { [tables, log] } else { [old.clone(), beside(&old, "-wal")] };
        self.lives += 1;
        let new = self.path();
        for (from, to) in left.iter().zip([new.clone(), beside(&new, "-wal")]) {
            if let Ok(bytes) = fs::read(from) {
                write_private(&to, &bytes);
            }
        }
    }
}

/// Where is kept what a failed disk has left of a store's tables and log.
fn left_by(path: &Path) -> [PathBuf; 2] {
    [beside(path, "-left"), beside(path, "-left-wal")]
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a disk with room");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("our own file");
}

/// The real store on this disk.
struct SimStore {
    inner: SqliteStore,
    path: PathBuf,
    switch: Switch,
    random: StdRng,
    trace: Trace,
    poisoned: bool,
}

/// What goes wrong with a write.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// There is no room: nothing was written.
    Full,
    /// The disk says that it failed, and it has not.
    FailsLate,
    /// The machine stops before the write.
    DiesBefore,
    /// The machine stops after the write, before anybody is told.
    DiesAfter,
    /// The machine stops within the write: some sectors of it are on the disk, others not.
    Torn,
}

impl SimStore {
    fn fault(&mut self) -> Option<Fault> {
        let thousandths = self.switch.fails.load(Ordering::Relaxed);
        if thousandths == 0 || !self.random.random_ratio(thousandths, 1_000) {
            return None;
        }
        let faults = [Fault::Full, Fault::FailsLate, Fault::DiesBefore, Fault::DiesAfter, Fault::Torn, Fault::Torn];
        Some(faults[self.random.random_range(0..faults.len())])
    }

    fn fail(&mut self, fault: Fault) -> StoreFailure {
        self.trace.note(format_args!("disk: {fault:?}"));
        self.poisoned = true;
        self.switch.dying.store(true, Ordering::Relaxed);
        StoreFailure::File { path: "the broken disk".into(), error: io::Error::from(io::ErrorKind::StorageFull) }
    }

    /// Keeps what is on the disk now.
    fn leave(&self, log: &[u8]) {
        let [tables_left, log_left] = left_by(&self.path);
        write_private(&tables_left, &fs::read(&self.path).unwrap_or_default());
        write_private(&log_left, log);
    }

    fn log(&self) -> Vec<u8> {
        fs::read(beside(&self.path, "-wal")).unwrap_or_default()
    }

    /// Leaves the log as a machine leaves it that stops while `changes` are written: what was there before is sound, of
    /// what was added some sectors are missing, and the end perhaps.
    fn tear(&mut self, changes: &[Change]) -> Result<(), StoreFailure> {
        let before = self.log().len();
        let tables = fs::read(&self.path).unwrap_or_default();
        self.inner.commit(changes)?;
        let mut bytes = self.log();
        if bytes.len() <= before || fs::read(&self.path).unwrap_or_default() != tables {
            // The log went into the tables, which happens only once all of it is synced: too late to tear it.
            self.leave(&bytes);
            return Ok(());
        }
        for sector in (before..bytes.len()).step_by(SECTOR) {
            if self.random.random_ratio(1, 4) {
                let end = bytes.len().min(sector + SECTOR);
                bytes[sector..end].fill(0);
            }
        }
        // The last write is not whole, or it would have been durable.
        bytes.truncate(self.random.random_range(before..bytes.len()));
        self.leave(&bytes);
        Ok(())
    }

    fn sound(&mut self) -> Result<&mut SqliteStore, StoreFailure> {
        if self.poisoned { Err(StoreFailure::Poisoned) } else { Ok(&mut self.inner) }
    }
}

impl VoucherStore for SimStore {
    fn load_each(&mut self, channel: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
        self.sound()?.load_each(channel)
    }

    fn each_row(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure> {
        self.sound()?.each_row(row)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure> {
        self.sound()?;
        match self.fault() {
            None => self.inner.commit(changes).inspect_err(|failure| {
                // The process ends of it, and starts again.
                self.trace.note(format_args!("disk: the store itself fails: {failure}"));
                self.switch.dying.store(true, Ordering::Relaxed);
            }),
            Some(fault) => {
                match fault {
                    Fault::Full | Fault::DiesBefore => self.leave(&self.log()),
                    Fault::FailsLate | Fault::DiesAfter => {
                        self.inner.commit(changes)?;
                        self.leave(&self.log());
                    }
                    Fault::Torn => self.tear(changes)?,
                }
                Err(self.fail(fault))
            }
        }
    }

    fn channel(&mut self, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
        self.sound()?.channel(channel_id)
    }

    fn batches(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<BatchRecord>, StoreFailure> {
        self.sound()?.batches(before, limit)
    }

    fn last_attempt(&mut self, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure> {
        self.sound()?.last_attempt(purpose)
    }

    fn spent(&mut self, book: &[u8; 32]) -> Result<Spending, StoreFailure> {
        self.sound()?.spent(book)
    }

    fn spent_for_others_since(&mut self, at: i64) -> Result<u64, StoreFailure> {
        self.sound()?.spent_for_others_since(at)
    }
}
