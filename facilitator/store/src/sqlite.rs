use crate::{KeptChannel, Row, Spending, StoreFailure, Stored, VoucherStore, copy, decode, encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use tallybook_ledger::{Attempt, BatchRecord, Change, ChannelRecord, Purpose};

/// Each brings a file of its number to the next one; `user_version` is how many were applied. Only ever appended to.
const MIGRATIONS: [&str; 6] = [
    include_str!("migrations/0001_vouchers.sql"),
    include_str!("migrations/0002_metering.sql"),
    include_str!("migrations/0003_spent_at.sql"),
    include_str!("migrations/0004_shared_costs.sql"),
    include_str!("migrations/0005_payments.sql"),
    include_str!("migrations/0006_listings.sql"),
];
/// `"TBvs"`: tells our files from other SQLite databases.
const APPLICATION_ID: i32 = 0x5442_7673;
/// Statements that are kept prepared: all of them.
const STATEMENTS: usize = 32;

/// Vouchers in one SQLite file: write-ahead log, a sync for every commit, held by one process alone.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    poisoned: bool,
}

impl SqliteStore {
    /// Opens the file, or makes it (readable by its owner alone), and brings it to this version's schema.
    pub fn open(path: &Path) -> Result<Self, StoreFailure> {
        make_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        take(&mut connection).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreFailure::InUse(path.to_owned()),
            Some(ErrorCode::NotADatabase) => StoreFailure::Foreign(path.to_owned()),
            _ => error.into(),
        })?;
        migrate(&mut connection, path)?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(StoreFailure::Damaged("SQLite's quick_check finds broken pages"));
        }
        Ok(Self { connection, poisoned: false })
    }

    /// Runs one piece of work, and lets nothing run after one that failed.
    fn run<T>(&mut self, work: impl FnOnce(&mut Connection) -> Result<T, StoreFailure>) -> Result<T, StoreFailure> {
        if self.poisoned {
            return Err(StoreFailure::Poisoned);
        }
        let result = work(&mut self.connection);
        self.poisoned = result.is_err();
        result
    }
}

impl VoucherStore for SqliteStore {
    fn load_each(&mut self, channel: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
        self.run(|connection| decode::load(connection, channel))
    }

    fn each_row(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure> {
        self.run(|connection| decode::each_row(connection, row))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure> {
        self.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for change in changes {
                encode::write(&transaction, change)?;
            }
            Ok(transaction.commit()?)
        })
    }

    fn channel(&mut self, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
        self.run(|connection| decode::channel(connection, channel_id))
    }

    fn batches(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<BatchRecord>, StoreFailure> {
        self.run(|connection| decode::batches(connection, before, limit))
    }

    fn last_attempt(&mut self, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure> {
        self.run(|connection| decode::last_attempt(connection, purpose))
    }

    fn spent(&mut self, book: &[u8; 32]) -> Result<Spending, StoreFailure> {
        self.run(|connection| decode::spent(connection, book))
    }

    fn spent_for_others_since(&mut self, at: i64) -> Result<u64, StoreFailure> {
        self.run(|connection| decode::spent_for_others_since(connection, at))
    }

    fn copy_to(&mut self, file: &Path) -> Result<(), StoreFailure> {
        if self.poisoned { Err(StoreFailure::Poisoned) } else { copy::copy(&self.connection, file) }
    }
}

/// Makes the file for its owner alone, or finds it so: SQLite gives its log the same permissions.
fn make_private(path: &Path) -> Result<(), StoreFailure> {
    let file = |error: io::Error| StoreFailure::File { path: path.to_owned(), error };
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(file)?;
    let mode = opened.metadata().map_err(file)?.mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreFailure::Exposed(path.to_owned())) }
}

/// Takes the file for this process alone, until it ends, however it ends.
fn take(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         BEGIN EXCLUSIVE;
         COMMIT;",
    )
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreFailure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if number("application_id")? != APPLICATION_ID && tables != 0 {
        return Err(StoreFailure::Foreign(path.to_owned()));
    }
    let found = usize::try_from(number("user_version")?).map_err(|_| StoreFailure::Damaged("user_version"))?;
    let todo = MIGRATIONS.get(found..).ok_or_else(|| StoreFailure::TooNew {
        path: path.to_owned(),
        found,
        known: MIGRATIONS.len(),
    })?;
    if todo.is_empty() {
        return Ok(());
    }
    todo.iter().try_for_each(|migration| transaction.execute_batch(migration))?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
    Ok(transaction.commit()?)
}
