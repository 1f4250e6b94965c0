use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a store cannot go on. Always final: its owner stops.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreFailure {
    /// Another process holds the file.
    #[error("{0} is in use: two facilitators must never share a file; stop the other one or name another file")]
    InUse(PathBuf),
    /// Others than the owner may read or write the file.
    #[error("{0} is open to other users: run chmod 600 on it")]
    Exposed(PathBuf),
    /// The file is a database of something else.
    #[error("{0} is not a voucher store: name another file")]
    Foreign(PathBuf),
    /// The file was written by a newer version.
    #[error("{path} has schema version {found}, this program knows up to {known}: run the newer program")]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// A row does not say what rows say.
    #[error("the store is damaged: {0}; restore it from a backup")]
    Damaged(&'static str),
    /// A number does not fit the 63 bits of a row.
    #[error("a number is too large to be stored: {0}")]
    OutOfRange(&'static str),
    /// It is not in a file.
    #[error("this store is not one file: copy it by its server's own means, such as pg_dump")]
    CopiedElsewhere,
    /// A copy does not hold what was copied.
    #[error("{0}: the copy cannot be read back: {1}")]
    BadCopy(PathBuf, &'static str),
    /// A former call has failed.
    #[error("the store has failed before: start the program again")]
    Poisoned,
    /// The file could not be made or read.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// SQLite says no.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] crate::PostgresFailure),
}

#[cfg(feature = "postgres")]
impl From<tokio_postgres::Error> for StoreFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error.into())
    }
}
