//! Where vouchers are kept.

use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tallybook_keys::Source;
use tallybook_store::{PostgresFailure, PostgresStore, PostgresUrl, SqliteStore, StoreFailure, VoucherStore};

/// What begins a text that stands elsewhere, because a password is in it.
const ELSEWHERE: [&str; 2] = ["env:", "command:"];
/// How long a server may need to start, and a process that held the database to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where vouchers are kept: a file, which is the default and needs nothing else, or a PostgreSQL database.
///
/// Written as a path, as `postgres://USER@HOST/DATABASE`, or as `env:NAME` or `command:PROGRAM ARGUMENTS` whose text is one
/// of these: so a password stands in no file. A password is shown nowhere.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Database {
    /// A SQLite file; made if missing.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PostgresUrl>),
    /// What says which of the two: fetched by [`Database::read`].
    Elsewhere(Source),
}

impl Database {
    /// Fetches what stands elsewhere.
    ///
    /// # Errors
    /// Why it cannot be had, or is no database. Nothing of its text is in it.
    pub fn read(self) -> Result<Self, String> {
        let Self::Elsewhere(source) = self else { return Ok(self) };
        let text = source.text().map_err(|problem| problem.to_string())?;
        match text.parse() {
            Ok(Self::Elsewhere(_)) => Err(format!("{source} names another source: it must give the database itself")),
            found => found.map_err(|problem| format!("{source}: {problem}")),
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) | Self::Elsewhere(_) => None,
        }
    }

    /// Opens it for this process alone, and brings it to this version's schema. A server that is starting is waited for, for
    /// some seconds. Blocks meanwhile.
    ///
    /// # Errors
    /// Why it cannot be had: see [`StoreFailure`].
    pub fn open(self) -> Result<Box<dyn VoucherStore>, StoreFailure> {
        match self.read().map_err(PostgresFailure::Url)? {
            Self::File(path) => Ok(Box::new(SqliteStore::open(&path)?)),
            Self::Postgres(url) => Ok(Box::new(PostgresStore::open(&url, PATIENCE)?)),
            Self::Elsewhere(source) => Err(PostgresFailure::Url(source.to_string()).into()),
        }
    }

    /// What is wrong with it, as far as it can be told without opening it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let Self::File(path) = self else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) || path.is_dir() {
            return Err("name a file in a folder that exists, or write postgres://USER@HOST/DATABASE");
        }
        Ok(())
    }
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ELSEWHERE.iter().any(|beginning| text.starts_with(beginning)) {
            return Ok(Self::Elsewhere(text.parse().map_err(|problem: tallybook_keys::Problem| problem.to_string())?));
        }
        if PostgresUrl::is_meant(text) {
            let url = text.parse::<PostgresUrl>().map_err(|problem| problem.to_string())?;
            return Ok(Self::Postgres(Box::new(url)));
        }
        // Another kind of database than these: no file is meant, and a password may stand in it.
        if text.contains("://") {
            return Err("write the path of a file, or postgres://USER@HOST/DATABASE".to_owned());
        }
        Ok(Self::File(text.into()))
    }
}

impl TryFrom<String> for Database {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PathBuf> for Database {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
            Self::Elsewhere(source) => source.fmt(f),
        }
    }
}
