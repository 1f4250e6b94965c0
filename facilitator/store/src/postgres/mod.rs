//! Vouchers in a PostgreSQL database.

mod decode;
mod encode;
mod failure;
mod migrate;
mod session;
mod thread;
mod url;

pub use failure::PostgresFailure;
pub use url::PostgresUrl;

use crate::{CommonStore, KeptChannel, Node, Row, Spending, StoreFailure, Stored, Tally, VoucherStore, lock_of};
use session::{Line, Session, Turn};
use std::time::Duration;
use tallybook_ledger::{Attempt, BatchRecord, Change, ChannelRecord, ListingRecord, PaymentRecord, Purpose};
use thread::{Opened, Thread};
use tokio::sync::watch;

/// How long an answer may take, in seconds: longer than the server lets a statement take, so that it is the server that
/// gives up, and says so, unless it is out of reach.
const ANSWER_SECONDS: u64 = 30;
/// For what takes as long as there are rows.
const UNHURRIED_SECONDS: u64 = 24 * 3_600;
/// So many rows are written at a time when a whole store is taken in.
const IMPORTED: usize = 4_096;

/// Vouchers in a PostgreSQL database, held by one process alone, or by several that each hold some books of it.
///
/// * **One owner.** The database, or a book in it, is held by a lock of the session over which everything is written. Whoever
///   has lost the session can write nothing any more, and the server gives its locks back when the session ends, however it
///   ends: there is no clock and no lease in this. It has to be a session of the server itself; a pooler between that hands sessions around
///   for single transactions (such as PgBouncer in its transaction mode) takes it away.
/// * **One round trip for a commit**, whatever it holds: a statement for each kind of change, with all its rows. Mostly it is
///   one statement, for channels. What was accepted once is not replaced by less: the tables themselves refuse it.
/// * **Durable** is what the server has synced: `synchronous_commit` is `on` for our session, whatever the server is set to,
///   and a server with `fsync` or `full_page_writes` off is refused. If servers follow this one, `synchronous_standby_names`
///   decides whether a commit waits for them; without it, what was accepted in the last moment is lost with this server.
/// * **Poisoned** by any failure, as every store is: a connection that breaks is not mended, since nobody knows whether what
///   was sent last was done. The next process reads what is there.
///
/// It may be used from any thread, within an async runtime too: a thread of its own speaks with the server.
#[derive(Debug)]
pub struct PostgresStore {
    thread: Thread,
    poisoned: bool,
    database: String,
    version: String,
    number: Option<u16>,
}

impl PostgresStore {
    /// Connects, takes the database for this process, and brings it to this version's schema. Waits for at most `patience`
    /// for a server that is starting and for a process that is ending.
    ///
    /// # Errors
    /// [`StoreFailure::Postgres`], with what is wrong: see [`PostgresFailure`].
    pub fn open(url: &PostgresUrl, patience: Duration) -> Result<Self, StoreFailure> {
        Self::start(url, Turn::Within(patience))
    }

    /// Opens the database as one of several processes that work on it, once none has it alone, however long that takes and
    /// whatever becomes of the server meanwhile: see [`CommonStore`]. `owner` is told where one that has the database answers,
    /// whenever that changes; `address` is what the others are told of this one. It is an error when nobody hears `owner` any
    /// more.
    ///
    /// # Errors
    /// As [`Self::open`]. What the server says against the very first attempt is final.
    pub fn among(url: &PostgresUrl, address: &str, owner: watch::Sender<Option<String>>) -> Result<Self, StoreFailure> {
        if address.len() > Self::MAX_ADDRESS_BYTES {
            return Err(PostgresFailure::Address(Self::MAX_ADDRESS_BYTES).into());
        }
        Self::start(url, Turn::Among(Line { address: address.to_owned(), owner }))
    }

    /// The longest address that others can be told: the server cuts a session's name off at 63 bytes.
    pub const MAX_ADDRESS_BYTES: usize = 48;

    fn start(url: &PostgresUrl, turn: Turn) -> Result<Self, StoreFailure> {
        let (thread, opened) = Thread::start(url.clone(), turn)?;
        let Opened { database, version, number } = opened;
        Ok(Self { thread, poisoned: false, database, version, number })
    }

    /// The database, without its password.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The version of the server, as it says it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Takes in everything that another store keeps, in one transaction. What was written is read again before it is
    /// committed: what both hold is the same, or nothing was taken in. Says what that is.
    ///
    /// # Errors
    /// [`PostgresFailure::NotEmpty`], unless nothing is kept here; [`PostgresFailure::Unequal`]; whatever either store fails
    /// with.
    pub fn import(&mut self, from: &mut dyn VoucherStore) -> Result<Tally, StoreFailure> {
        self.guarded(|store| store.import_all(from))
    }

    fn import_all(&self, from: &mut dyn VoucherStore) -> Result<Tally, StoreFailure> {
        let database = self.database.clone();
        self.ask(move |session| {
            Box::pin(async move {
                session
                    .run("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
                    .await?;
                let is_empty = decode::is_empty(session).await?;
                if is_empty { Ok(()) } else { Err(PostgresFailure::NotEmpty(database).into()) }
            })
        })?;
        let (mut given, mut changes) = (Tally::default(), Vec::new());
        from.each_row(&mut |row| {
            given.add(&row);
            changes.extend(row.changes());
            if changes.len() >= IMPORTED { self.write(std::mem::take(&mut changes)) } else { Ok(()) }
        })?;
        self.write(changes)?;
        let mut taken = Tally::default();
        self.read_each(|session, visit| Box::pin(decode::each_row(session, visit)), &mut |row: Row| {
            taken.add(&row);
            Ok(())
        })?;
        if taken != given {
            return Err(PostgresFailure::Unequal(self.database.clone()).into());
        }
        self.ask(|session| Box::pin(session.run("COMMIT")))?;
        Ok(taken)
    }

    /// Writes within the transaction that is open.
    fn write(&self, changes: Vec<Change>) -> Result<(), StoreFailure> {
        let writes = encode::writes(&changes)?;
        self.thread.ask(UNHURRIED_SECONDS, move |session| Box::pin(session.write(writes)))
    }

    /// Runs one piece of work, and lets nothing run after one that failed.
    fn guarded<T>(&mut self, work: impl FnOnce(&Self) -> Result<T, StoreFailure>) -> Result<T, StoreFailure> {
        if self.poisoned {
            return Err(StoreFailure::Poisoned);
        }
        let result = work(self);
        self.poisoned = result.is_err();
        result
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Session) -> thread::Work<'a, T> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        self.thread.ask(ANSWER_SECONDS, work)
    }

    /// Reads what is handed over piece by piece.
    fn read_each<T: Send + 'static, U: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Session, decode::Visit<'a, T>) -> thread::Work<'a, U> + Send + 'static,
        visit: &mut dyn FnMut(T) -> Result<(), StoreFailure>,
    ) -> Result<U, StoreFailure> {
        self.thread.ask_each(UNHURRIED_SECONDS, work, visit)
    }
}

impl VoucherStore for PostgresStore {
    fn load_each(&mut self, channel: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
        self.guarded(|store| {
            store.read_each(|session, visit| Box::pin(decode::load(session, visit)), &mut |record| {
                channel(record);
                Ok(())
            })
        })
    }

    fn load_pages(
        &mut self,
        pages: &[[u8; 32]],
        channel: &mut dyn FnMut(ChannelRecord),
    ) -> Result<Stored, StoreFailure> {
        let pages = pages.to_vec();
        self.guarded(|store| {
            let read = &mut |record| {
                channel(record);
                Ok(())
            };
            store.read_each(move |session, visit| Box::pin(decode::load_pages(session, pages, visit)), read)
        })
    }

    fn payments(&mut self) -> Result<Vec<PaymentRecord>, StoreFailure> {
        self.guarded(|store| store.ask(|session| Box::pin(decode::payments(session))))
    }

    fn listings(&mut self) -> Result<Vec<ListingRecord>, StoreFailure> {
        self.guarded(|store| store.ask(|session| Box::pin(decode::listings(session))))
    }

    fn common(&mut self) -> Option<&mut dyn CommonStore> {
        self.number.is_some().then_some(self)
    }

    fn each_row(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure> {
        self.guarded(|store| store.read_each(|session, visit| Box::pin(decode::everything(session, visit)), row))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure> {
        self.guarded(|store| {
            let writes = encode::writes(changes)?;
            store.ask(move |session| Box::pin(session.commit(writes)))
        })
    }

    fn channel(&mut self, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
        let id = *channel_id;
        self.guarded(|store| store.ask(move |session| Box::pin(decode::channel(session, id))))
    }

    fn batches(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<BatchRecord>, StoreFailure> {
        self.guarded(|store| store.ask(move |session| Box::pin(decode::batches(session, before, limit))))
    }

    fn last_attempt(&mut self, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure> {
        self.guarded(|store| store.ask(move |session| Box::pin(decode::last_attempt(session, purpose))))
    }

    fn spent(&mut self, book: &[u8; 32]) -> Result<Spending, StoreFailure> {
        let book = *book;
        self.guarded(|store| store.ask(move |session| Box::pin(decode::spent(session, book))))
    }

    fn spent_for_others_since(&mut self, at: i64) -> Result<u64, StoreFailure> {
        self.guarded(|store| store.ask(move |session| Box::pin(decode::spent_for_others_since(session, at))))
    }
}

impl CommonStore for PostgresStore {
    fn number(&self) -> u16 {
        self.number.unwrap_or_default()
    }

    fn hold(&mut self, name: &[u8; 32]) -> Result<bool, StoreFailure> {
        let lock = lock_of(name);
        self.guarded(|store| store.ask(move |session| Box::pin(session.hold(lock))))
    }

    fn let_go(&mut self, name: &[u8; 32]) -> Result<(), StoreFailure> {
        let lock = lock_of(name);
        self.guarded(|store| store.ask(move |session| Box::pin(session.let_go(lock))))
    }

    fn at_work(&mut self) -> Result<Vec<Node>, StoreFailure> {
        self.guarded(|store| store.ask(|session| Box::pin(session.at_work())))
    }

    fn leave(&mut self) -> Result<(), StoreFailure> {
        self.guarded(|store| store.ask(|session| Box::pin(session.leave())))
    }
}
