//! A session of one of several nodes: how it comes to be among them, and how they divide what is in the database.

use super::{AGAIN, APPLICATION_ID, AT, OWNER, PostgresFailure, PostgresUrl, Session, is_starting, not_reached, said};
use crate::postgres::migrate;
use crate::{MAX_NODES, Node, StoreFailure};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::types::ToSql;

/// The first of the locks of the numbers of nodes.
const NUMBERS: i32 = 1_024;
/// The name of a session of a node that is about to end.
const LEAVING: &str = "tallybook, leaving";

/// One who works on a database together with others, and waits while another has it alone.
pub(in crate::postgres) struct Line {
    /// Where it answers, for the others.
    pub(in crate::postgres) address: String,
    /// Is told meanwhile where somebody answers who has the database. It waits no longer when nobody hears that any more.
    pub(in crate::postgres) owner: watch::Sender<Option<String>>,
}

impl Line {
    fn tell(&self, owner: Option<String>) {
        self.owner.send_if_modified(|told| {
            let is_news = *told != owner;
            *told = owner;
            is_news
        });
    }
}

impl Session {
    /// Waits for as long as another has the database alone, or the server is away. Says who has it, whenever that changes.
    pub(super) async fn among(url: &PostgresUrl, line: &Line) -> Result<Self, StoreFailure> {
        let mut was_let_in = false;
        loop {
            let session = match Self::connect(url, Some(&line.address)).await {
                Ok(session) => Some(session),
                // What is wrong at first is wrong for good, such as a password. Later, the server is away.
                Err(error) if !was_let_in && !is_starting(&error) => return Err(not_reached(url, said(&error)).into()),
                Err(_) => None,
            };
            if let Some(mut session) = session {
                let is_sound = session.look().await;
                // A session that is lost, or leads to a server that follows another now, is followed by another session.
                match is_sound {
                    Ok(()) => {
                        was_let_in = true;
                        match session.wait(line).await {
                            Ok(true) => return Ok(session),
                            Err(failure) if is_final(&failure) => return Err(failure),
                            Ok(false) | Err(_) => {}
                        }
                    }
                    Err(failure) if !was_let_in => return Err(failure),
                    Err(_) => {}
                }
            }
            if line.owner.is_closed() {
                return Err(PostgresFailure::InUse(url.to_string()).into());
            }
            line.tell(None);
            sleep(AGAIN).await;
        }
    }

    /// Whether this session is among those at work in the end; not if nobody wants to know any more.
    async fn wait(&mut self, line: &Line) -> Result<bool, StoreFailure> {
        while !self.join().await? {
            if line.owner.is_closed() {
                return Ok(false);
            }
            line.tell(self.owner().await?);
            sleep(AGAIN).await;
        }
        Ok(true)
    }

    /// Takes its place among those at work, unless somebody has the database alone. Whoever comes to a database whose schema is
    /// older than its own has to have it alone for a moment, and so waits until those that know the older one have ended.
    async fn join(&mut self) -> Result<bool, StoreFailure> {
        if self.take().await? {
            self.migrate().await?;
            self.asked("SELECT pg_try_advisory_lock_shared($1, $2)", &[&APPLICATION_ID, &OWNER]).await?;
            self.asked("SELECT pg_advisory_unlock($1, $2)", &[&APPLICATION_ID, &OWNER]).await?;
        } else {
            let database = self.database.clone();
            let shares = "SELECT pg_try_advisory_lock_shared($1, $2)";
            if !migrate::is_current(&mut self.client, &database).await?
                || !self.asked(shares, &[&APPLICATION_ID, &OWNER]).await?
            {
                return Ok(false);
            }
        }
        for number in 0..MAX_NODES {
            let lock = NUMBERS.saturating_add(number.into());
            if self.asked("SELECT pg_try_advisory_lock($1, $2)", &[&APPLICATION_ID, &lock]).await? {
                self.number = Some(number);
                return Ok(true);
            }
        }
        Err(PostgresFailure::Crowded { database: self.database.clone(), most: MAX_NODES }.into())
    }

    /// What the server says to a question that is answered by yes or no.
    async fn asked(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<bool, StoreFailure> {
        Ok(self.client.query_one(sql, parameters).await?.try_get(0)?)
    }

    /// Takes a lock of its own, unless another session has it.
    pub(in crate::postgres) async fn hold(&mut self, lock: i64) -> Result<bool, StoreFailure> {
        self.asked("SELECT pg_try_advisory_lock($1)", &[&lock]).await
    }

    /// Gives it back.
    pub(in crate::postgres) async fn let_go(&mut self, lock: i64) -> Result<(), StoreFailure> {
        if self.asked("SELECT pg_advisory_unlock($1)", &[&lock]).await? {
            Ok(())
        } else {
            Err(StoreFailure::Damaged("a book that was not held"))
        }
    }

    /// Takes another name, by which it is not one of those at work.
    pub(in crate::postgres) async fn leave(&mut self) -> Result<(), StoreFailure> {
        self.run(&format!("SET application_name = '{LEAVING}'")).await
    }

    /// Who is at work, and with which locks, by their numbers.
    pub(in crate::postgres) async fn at_work(&mut self) -> Result<Vec<Node>, StoreFailure> {
        let sql = "SELECT pid, pid = pg_backend_pid(), application_name, objsubid,
                          (classid::bigint << 32) | objid::bigint
                   FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE locktype = 'advisory' AND granted AND starts_with(application_name, $1)
                     AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let ours = i64::from(APPLICATION_ID) << 32;
        let numbers = ours | i64::from(NUMBERS);
        let mut sessions: BTreeMap<i32, Found> = BTreeMap::new();
        for row in self.query(sql, &[&AT]).await? {
            let found = sessions.entry(row.try_get(0)?).or_default();
            found.is_this_one = row.try_get(1)?;
            found.address = row.try_get::<_, &str>(2)?.strip_prefix(AT).unwrap_or_default().to_owned();
            let (kind, lock): (i16, i64) = (row.try_get(3)?, row.try_get(4)?);
            if kind == ONE_KEY {
                found.locks.push(lock);
            } else if let Ok(number) = u16::try_from(lock.saturating_sub(numbers))
                && number < MAX_NODES
            {
                found.number = Some(number);
            }
        }
        let nodes = sessions.into_values().filter_map(|Found { address, is_this_one, number, locks }| {
            Some(Node::new(address, number?, is_this_one, locks))
        });
        let mut nodes: Vec<Node> = nodes.collect();
        nodes.sort_by_key(|node| node.number);
        Ok(nodes)
    }

    /// Where a process answers that has the database, alone or with others, if it says so.
    async fn owner(&mut self) -> Result<Option<String>, StoreFailure> {
        let sql = "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 AND objid::bigint = $2 AND objsubid = 2
                     AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let (class, lock) = (i64::from(APPLICATION_ID), i64::from(OWNER));
        let rows = self.query(sql, &[&class, &lock]).await?;
        let name = rows.first().map(|row| row.try_get::<_, Option<String>>(0)).transpose()?.flatten();
        Ok(name.and_then(|name| name.strip_prefix(AT).map(str::to_owned)))
    }
}

/// A session that has locks.
#[derive(Default)]
struct Found {
    address: String,
    is_this_one: bool,
    number: Option<u16>,
    locks: Vec<i64>,
}

/// What `pg_locks.objsubid` says of an advisory lock whose name is one number of 64 bits.
const ONE_KEY: i16 = 1;

/// Whether it is of no use to try again.
fn is_final(failure: &StoreFailure) -> bool {
    use PostgresFailure::{Crowded, Foreign, TooNew};
    matches!(failure, StoreFailure::Postgres(Crowded { .. } | Foreign(_) | TooNew { .. }))
}
