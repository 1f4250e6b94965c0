//! `tallybook vouchers import`: from a facilitator's file to a PostgreSQL database, with nothing lost on the way.

use crate::output::Output;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tallybook_keys::Source;
use tallybook_store::{PostgresStore, PostgresUrl, SqliteStore, Tally, VoucherStore};

/// How long a server may need to start, and a process that held the database to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What begins a text that stands elsewhere, because a password is in it.
const ELSEWHERE: [&str; 3] = ["env:", "command:", "file:"];

/// Arguments of `tallybook vouchers import`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: stop the facilitator, import, put the URL into its `database`, start it\n  \
    tallybook vouchers import --from vouchers.db --to postgres://tallybook@db.example.com/vouchers\n  \
    DATABASE_URL=postgres://… tallybook vouchers import --from vouchers.db --to env:DATABASE_URL\n  \
    tallybook vouchers import --from vouchers.db --to env:DATABASE_URL --check\n\n\
    Everything is taken in in one transaction, into a database that holds nothing yet, and read again before it is\n\
    committed: it is all there, or nothing is. The file is left as it is; keep it until you are sure.")]
pub struct Import {
    /// The SQLite file of a facilitator, which must not be running.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The PostgreSQL database: postgres://USER@HOST/DATABASE, or env:NAME, command:PROGRAM or file:PATH that gives it, so
    /// that a password stands in no list of processes.
    #[arg(long, value_name = "DATABASE")]
    to: Target,
    /// Take nothing in: say whether both hold the same.
    #[arg(long)]
    check: bool,
}

/// A database, or where its URL stands.
#[derive(Clone, Debug)]
enum Target {
    Url(Box<PostgresUrl>),
    Elsewhere(Source),
}

/// What both hold.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Imported {
    database: String,
    /// What was done: `imported` or `same`.
    outcome: &'static str,
    channels: u64,
    batches: u64,
    sendings: u64,
    expenses: u64,
    payments: u64,
    listings: u64,
    tables: u64,
    checksum: String,
}

impl Import {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let url = self.to.url()?;
        ensure!(self.from.is_file(), "there is no file {}", self.from.display());
        let mut file = SqliteStore::open(&self.from).with_context(|| format!("cannot read {}", self.from.display()))?;
        let mut database = PostgresStore::open(&url, PATIENCE)?;
        let (outcome, tally) = if self.check {
            let (of_file, of_database) = (Tally::of(&mut file)?, Tally::of(&mut database)?);
            ensure!(
                of_file == of_database,
                "they do not hold the same\n{}: {of_file}\n{url}: {of_database}",
                self.from.display()
            );
            ("same", of_database)
        } else {
            ("imported", database.import(&mut file)?)
        };
        output.report(&Imported::of(&url, outcome, &tally))?;
        if !self.check {
            output.hint(format_args!("put {url} into the facilitator's `database`; keep {}", self.from.display()));
        }
        Ok(())
    }
}

impl Target {
    fn url(self) -> Result<PostgresUrl> {
        match self {
            Self::Url(url) => Ok(*url),
            Self::Elsewhere(source) => {
                let text = source.text()?;
                text.parse::<PostgresUrl>().with_context(|| format!("what {source} gives"))
            }
        }
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ELSEWHERE.iter().any(|beginning| text.starts_with(beginning)) {
            return Ok(Self::Elsewhere(text.parse().map_err(|problem: tallybook_keys::Problem| problem.to_string())?));
        }
        let url = text.parse::<PostgresUrl>().map_err(|problem| problem.to_string())?;
        Ok(Self::Url(Box::new(url)))
    }
}

impl Imported {
    fn of(url: &PostgresUrl, outcome: &'static str, tally: &Tally) -> Self {
        Self {
            database: url.to_string(),
            outcome,
            channels: tally.channels,
            batches: tally.batches,
            sendings: tally.attempts,
            expenses: tally.spent,
            payments: tally.payments,
            listings: tally.listings,
            tables: tally.tables,
            checksum: tally.checksum(),
        }
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::output::line;
        line(f, self.outcome, &self.database)?;
        line(f, "channels", self.channels)?;
        line(f, "batches", self.batches)?;
        line(f, "sendings", self.sendings)?;
        line(f, "expenses", self.expenses)?;
        line(f, "payments", self.payments)?;
        line(f, "listings", self.listings)?;
        line(f, "tables", self.tables)?;
        line(f, "checksum", &self.checksum)
    }
}

/// The vouchers of a database, for whoever exports them.
pub(super) fn open(text: &Path) -> Option<Result<Box<dyn VoucherStore>>> {
    let text = text.to_str()?;
    let is_meant = PostgresUrl::is_meant(text) || ELSEWHERE.iter().any(|beginning| text.starts_with(beginning));
    let opened = || {
        let url = text.parse::<Target>().map_err(anyhow::Error::msg)?.url()?;
        let store: Box<dyn VoucherStore> = Box::new(PostgresStore::open(&url, PATIENCE)?);
        Ok(store)
    };
    is_meant.then(opened)
}
