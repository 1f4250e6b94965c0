//! A connection that holds the database, and what is asked over it.

use super::encode::{Parameter, Write};
use super::failure::said;
use super::url::Tls;
use super::{PostgresFailure, PostgresUrl, migrate};
use crate::StoreFailure;
use futures_util::future::{join_all, join3};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Connection, NoTls, RowStream, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// `"TBvs"`: tells our databases from others, and our lock from others' in the same database.
pub(super) const APPLICATION_ID: i32 = 0x5442_7673;
/// The lock of who keeps vouchers here: of a process alone, or shared by nodes. It lasts as long as its connection.
const OWNER: i32 = 1;
/// The oldest server: older ones have no `idle_session_timeout`, and are not maintained any more.
const LEAST_VERSION: i32 = 14;
/// How often it is tried again to get what another has.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a server may take to let somebody in, beside the time it takes to reach it.
const GREETING: Duration = Duration::from_secs(20);
/// How long the server is given to see that we go.
const PARTING: Duration = Duration::from_secs(2);

/// What the name of a session begins with whose process says where it answers.
const AT: &str = "tallybook at ";

mod among;

pub(in crate::postgres) use among::Line;

/// How a session comes by the database.
pub(super) enum Turn {
    /// Within so long, or not at all.
    Within(Duration),
    /// Together with others that do the same, as soon as no process has it alone, whenever that is.
    Among(Line),
}

type Ended = Result<(), tokio_postgres::Error>;

/// A session of the server that holds the database for this process, or this process's part of it.
pub(super) struct Session {
    client: Client,
    /// Carries what is said, and ends with the connection.
    line: JoinHandle<Ended>,
    statements: HashMap<String, Statement>,
    /// The number of this node; none for a process that has the database alone.
    pub(super) number: Option<u16>,
    /// The database, without its password.
    pub(super) database: String,
    /// The server's version, as it says it.
    pub(super) version: String,
}

impl Session {
    /// Connects, looks whether the server keeps what it promises, takes the database for this process alone or takes its place
    /// among others, and brings it to this version's schema.
    pub(super) async fn open(url: &PostgresUrl, turn: &Turn) -> Result<Self, StoreFailure> {
        match turn {
            Turn::Within(patience) => {
                let mut session = Self::within(url, *patience).await?;
                session.migrate().await?;
                Ok(session)
            }
            Turn::Among(line) => Self::among(url, line).await,
        }
    }

    async fn migrate(&mut self) -> Result<(), StoreFailure> {
        let database = self.database.clone();
        migrate::migrate(&mut self.client, &database).await
    }

    /// Waits for at most `patience` for a server that is starting, and for a process that is ending.
    async fn within(url: &PostgresUrl, patience: Duration) -> Result<Self, StoreFailure> {
        let until = Instant::now().checked_add(patience).unwrap_or_else(Instant::now);
        let mut session = loop {
            match Self::connect(url, None).await {
                Ok(session) => break session,
                Err(error) if is_starting(&error) && Instant::now() < until => sleep(AGAIN).await,
                Err(error) => return Err(not_reached(url, said(&error)).into()),
            }
        };
        session.look().await?;
        while !session.take().await? {
            if Instant::now() >= until {
                return Err(PostgresFailure::InUse(session.database.clone()).into());
            }
            sleep(AGAIN).await;
        }
        Ok(session)
    }

    async fn connect(url: &PostgresUrl, address: Option<&str>) -> Result<Self, Refused> {
        let mut config = url.config.clone();
        if let Some(address) = address {
            config.application_name(format!("{AT}{address}"));
        }
        let (client, line) = match &url.tls {
            Tls::Off => greeted(config.connect(NoTls)).await?,
            tls @ (Tls::Public | Tls::File(_)) => greeted(config.connect(connector(tls)?)).await?,
        };
        let (database, version) = (url.to_string(), String::new());
        Ok(Self { client, line, statements: HashMap::new(), number: None, database, version })
    }

    /// Refuses a server that would lose what it says is durable.
    async fn look(&mut self) -> Result<(), StoreFailure> {
        let asked = "SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
                            pg_is_in_recovery(), current_setting('fsync'), current_setting('full_page_writes'),
                            current_setting('synchronous_commit')";
        let row = self.client.query_one(asked, &[]).await?;
        let (database, version): (_, String) = (self.database.clone(), row.try_get(0)?);
        if row.try_get::<_, i32>(1)?.checked_div(10_000).is_none_or(|major| major < LEAST_VERSION) {
            return Err(PostgresFailure::TooOld { database, version, least: LEAST_VERSION }.into());
        }
        self.version = version;
        if row.try_get(2)? {
            return Err(PostgresFailure::ReadOnly(database).into());
        }
        let settings = [("fsync", row.try_get::<_, String>(3)?), ("full_page_writes", row.try_get(4)?)];
        for (setting, value) in settings {
            if value != "on" {
                return Err(PostgresFailure::Setting { database, setting, value }.into());
            }
        }
        // Each session decides this for itself. Who waits for the servers that follow to have applied a commit, too, is left
        // to do so.
        if row.try_get::<_, &str>(5)? != "remote_apply" {
            self.client.batch_execute("SET synchronous_commit = on").await?;
        }
        let row = self.client.query_one("SELECT current_setting('synchronous_commit')", &[]).await?;
        let value: String = row.try_get(0)?;
        if !["on", "remote_apply"].contains(&value.as_str()) {
            return Err(PostgresFailure::Setting { database, setting: "synchronous_commit", value }.into());
        }
        Ok(())
    }

    /// Takes the database for this session, if no other has it. Every write goes over the session that has it, so that nobody
    /// can write who has lost it; the server itself gives it back when the session ends, however it ends.
    async fn take(&self) -> Result<bool, StoreFailure> {
        let row = self.client.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&APPLICATION_ID, &OWNER]).await?;
        Ok(row.try_get(0)?)
    }

    /// Writes all or nothing, in one round trip: what is sent does not wait for answers to what was sent before it.
    pub(super) async fn commit(&mut self, writes: Vec<Write>) -> Result<(), StoreFailure> {
        match writes.as_slice() {
            [] => Ok(()),
            // A statement by itself is a transaction.
            [_] => self.write(writes).await,
            _ => {
                let statements = self.prepared(&writes).await?;
                let all =
                    join_all(statements.iter().zip(&writes).map(|(statement, write)| self.execute(statement, write)));
                // Sent in this order, each when it is first polled. A statement that fails fails all that follow, and makes
                // of the commit a rollback, which is no error of its own.
                let (begun, written, committed) =
                    join3(self.client.batch_execute("BEGIN"), all, self.client.batch_execute("COMMIT")).await;
                written.into_iter().collect::<Result<Vec<_>, _>>()?;
                begun?;
                Ok(committed?)
            }
        }
    }

    /// Writes within the transaction that is open, or each by itself if none is.
    pub(super) async fn write(&mut self, writes: Vec<Write>) -> Result<(), StoreFailure> {
        let statements = self.prepared(&writes).await?;
        let all = statements.iter().zip(&writes).map(|(statement, write)| self.execute(statement, write));
        join_all(all).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    async fn execute(&self, statement: &Statement, write: &Write) -> Result<u64, tokio_postgres::Error> {
        let parameters: Vec<&(dyn ToSql + Sync)> = write.parameters.iter().map(as_parameter).collect();
        self.client.execute(statement, &parameters).await
    }

    async fn prepared(&mut self, writes: &[Write]) -> Result<Vec<Statement>, StoreFailure> {
        let mut statements = Vec::with_capacity(writes.len());
        for write in writes {
            statements.push(self.statement(write.sql).await?);
        }
        Ok(statements)
    }

    /// A statement, prepared when it is first asked for.
    async fn statement(&mut self, sql: &str) -> Result<Statement, StoreFailure> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The rows of a query, all in memory.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, StoreFailure> {
        let statement = self.statement(sql).await?;
        Ok(self.client.query(&statement, parameters).await?)
    }

    /// The rows of a query as they come, for those that are many.
    pub(super) async fn stream(&mut self, sql: &str) -> Result<RowStream, StoreFailure> {
        let statement = self.statement(sql).await?;
        Ok(self.client.query_raw(&statement, std::iter::empty::<&(dyn ToSql + Sync)>()).await?)
    }

    /// Runs statements without parameters.
    pub(super) async fn run(&self, sql: &str) -> Result<(), StoreFailure> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Takes leave: gives the database to the next one, after all that was sent before.
    pub(super) async fn end(self) {
        // A server that does not answer finds out by itself.
        let left = self.client.batch_execute("ROLLBACK; SELECT pg_advisory_unlock_all()");
        drop(timeout(PARTING, left).await);
        drop(self.client);
        drop(timeout(PARTING, self.line).await);
    }
}

fn as_parameter(parameter: &Parameter) -> &(dyn ToSql + Sync) {
    parameter.as_ref()
}

/// Why a server does not let us in.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it did not answer within {} seconds", GREETING.as_secs())]
    Silent,
    #[error(transparent)]
    Server(#[from] tokio_postgres::Error),
    #[error("{0}")]
    Certificates(String),
}

/// Whether the server, or its machine, is only starting.
fn is_starting(refused: &Refused) -> bool {
    match refused {
        Refused::Server(error) => match error.code() {
            Some(code) => *code == SqlState::CANNOT_CONNECT_NOW,
            // Nobody listens yet: a wrong name or a wrong certificate is another kind of error.
            None => std::iter::successors(std::error::Error::source(error), |error| error.source()).any(|error| {
                let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                matches!(kind, Some(std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound))
            }),
        },
        Refused::Silent | Refused::Certificates(_) => false,
    }
}

fn not_reached(url: &PostgresUrl, cause: String) -> PostgresFailure {
    PostgresFailure::Connect { database: url.to_string(), cause }
}

/// The client of a connection that was let in, with what carries it.
async fn greeted<S, T>(
    connecting: impl Future<Output = Result<(Client, Connection<S, T>), tokio_postgres::Error>>,
) -> Result<(Client, JoinHandle<Ended>), Refused>
where
    Connection<S, T>: Future<Output = Ended> + Send + 'static,
{
    let (client, connection) = timeout(GREETING, connecting).await.map_err(|_| Refused::Silent)??;
    Ok((client, tokio::spawn(connection)))
}

/// How a server's certificate is checked: see [`PostgresUrl`].
fn connector(tls: &Tls) -> Result<MakeRustlsConnect, Refused> {
    let problem = |problem: &dyn std::fmt::Display| Refused::Certificates(problem.to_string());
    let roots = match tls {
        Tls::Off | Tls::Public => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        Tls::File(path) => authorities(path).map_err(|error| problem(&format_args!("{}: {error}", path.display())))?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| problem(&error))?.with_root_certificates(roots).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The authorities in a file of PEM certificates.
fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(roots) }
}
