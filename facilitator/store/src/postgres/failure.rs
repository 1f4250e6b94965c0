use std::error::Error;
use thiserror::Error;

/// Why vouchers cannot be kept in a PostgreSQL database. A database is named without its password.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PostgresFailure {
    /// The URL cannot be read. Its text is not shown: a password may stand in it.
    #[error("the URL of the database: {0}")]
    Url(String),
    /// The certificates that the server's is checked against.
    #[error("the certificates of `sslrootcert` or of the system: {0}")]
    Certificates(String),
    /// Nobody answers, or not to us.
    #[error("{database} cannot be reached: {cause}")]
    Connect {
        /// The database.
        database: String,
        /// What the network or the server says.
        cause: String,
    },
    /// The server is older than what this program was made for.
    #[error("{database} is run by PostgreSQL {version}: version {least} or newer is needed")]
    TooOld {
        /// The database.
        database: String,
        /// The server's version.
        version: String,
        /// The oldest that will do.
        least: i32,
    },
    /// The server takes no writes: it follows another one.
    #[error("{0} takes no writes: name the primary server, not one that follows it")]
    ReadOnly(String),
    /// The server is set up so that what it says is durable is not.
    #[error("{database} would lose what it says is durable: its `{setting}` is {value}; set it to on")]
    Setting {
        /// The database.
        database: String,
        /// The setting.
        setting: &'static str,
        /// What it is.
        value: String,
    },
    /// Another process holds the database.
    #[error(
        "{0} is in use: stop who uses it or name another database; facilitators that share one each need an `address`"
    )]
    InUse(String),
    /// Where this process answers is too long to be told to others.
    #[error("the address of this process is longer than {0} bytes")]
    Address(usize),
    /// As many processes work on the database as can.
    #[error("{database} has {most} facilitators at work: no more can share it")]
    Crowded {
        /// The database.
        database: String,
        /// So many.
        most: u16,
    },
    /// The database is of something else.
    #[error("{0} holds tables of something else: make a database for the vouchers alone")]
    Foreign(String),
    /// The tables were made by a newer version.
    #[error("{database} has schema version {found}, this program knows up to {known}: run the newer program")]
    TooNew {
        /// The database.
        database: String,
        /// Its version.
        found: i32,
        /// Ours.
        known: usize,
    },
    /// Something is to be taken into a database that holds something already.
    #[error("{0} is not empty: import into a new database only")]
    NotEmpty(String),
    /// What was taken in is not what was given.
    #[error("{0} does not hold what was read: nothing was imported")]
    Unequal(String),
    /// The server did not answer in time; what was asked of it may have been done.
    #[error("the database did not answer in {0} seconds")]
    TimedOut(u64),
    /// The connection is lost, and with it the hold on the database.
    #[error("the connection to the database is lost: {0}")]
    Lost(String),
    /// The server says no.
    #[error("PostgreSQL: {0}")]
    Server(String),
    /// The system gives no thread.
    #[error("no thread for the database: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<tokio_postgres::Error> for PostgresFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.is_closed() { Self::Lost(said(&error)) } else { Self::Server(said(&error)) }
    }
}

/// An error with all that stands behind it.
pub(super) fn said(error: &dyn Error) -> String {
    let behind = std::iter::successors(error.source(), |cause: &&dyn Error| (*cause).source());
    behind.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}
