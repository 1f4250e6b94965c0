//! Copies of a store in a file, made by the process that holds it, beside the calls: nobody else may open it.

use crate::app::App;
use crate::audit::{Act, milliseconds};
use crate::config::Config;
use crate::health::why;
use crate::problem::Problem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tallybook_settler::Chain;
use tallybook_store::{StoreFailure, VoucherStore};
use tallybook_wire::{Asked, BackupView, Refusal, read_body};
use thiserror::Error;

/// How long a copy is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why there is no copy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NoBackup {
    /// Where it would be is not said.
    #[error(
        "config key `backup_folder`: name a folder for copies of a `database` that is a file; use pg_dump for PostgreSQL"
    )]
    NoFolder,
    /// Nobody may ask the facilitator that holds the store.
    #[error(
        "config key `admin_token`: set it, so that the facilitator at {0} can be asked for a copy of what it holds"
    )]
    NoToken(String),
    /// The facilitator that holds the store refuses.
    #[error("{at} refuses: {message}")]
    Refused {
        /// Where it is.
        at: String,
        /// What it says.
        message: String,
    },
    /// Whether it was made is not known.
    #[error("{0}: look into the folder whether the copy is there: {1}")]
    Unanswered(String, String),
    /// The store, where nobody holds it.
    #[error("the store: {0}")]
    Store(#[from] StoreFailure),
}

/// Copies the store of a configuration, whether its facilitator runs or not: then it is asked to.
///
/// # Errors
/// See [`NoBackup`].
pub async fn backup(config: &Config) -> Result<BackupView, NoBackup> {
    let (Some(folder), Some(database)) = (&config.backup_folder, config.database.path()) else {
        return Err(NoBackup::NoFolder);
    };
    let at = config.own_url() + "/admin/backup";
    let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
    let http = http.map_err(|error| NoBackup::Unanswered(at.clone(), why(&error)))?;
    let token = config.admin_token.as_ref();
    match http.post(&at).bearer_auth(token.map_or("", |token| token.first())).send().await {
        Ok(_) if token.is_none() => Err(NoBackup::NoToken(at)),
        Ok(answer) => read(at, answer).await,
        Err(error) if error.is_connect() => {
            let (database, file) = (config.database.clone(), next_file(database, folder));
            let copied = tokio::task::spawn_blocking(move || copy(database.open()?.as_mut(), file)).await;
            Ok(copied.unwrap_or(Err(StoreFailure::Poisoned))?)
        }
        Err(error) => Err(NoBackup::Unanswered(at, why(&error))),
    }
}

async fn read(at: String, answer: reqwest::Response) -> Result<BackupView, NoBackup> {
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| NoBackup::Unanswered(at.clone(), why(&error)))?;
    if status.is_success()
        && let Ok(view) = read_body(&body)
    {
        return Ok(view);
    }
    let message = read_body::<Refusal>(&body).map_or_else(|_| status.to_string(), |refusal| refusal.message);
    Err(NoBackup::Refused { at, message })
}

/// `POST /admin/backup`.
pub(crate) async fn take<C: Chain>(app: &App<C>) -> Result<BackupView, Problem> {
    let (Some(folder), Some(database)) = (&app.config.backup_folder, app.config.database.path()) else {
        return Err(Problem::NoBackups);
    };
    let file = next_file(database, folder);
    let store = app.sequencer.insist(|desk| desk.store()).await?;
    let copied = tokio::task::spawn_blocking(move || {
        let mut store = store.lock()?;
        copy(store.as_mut(), file)
    });
    let copied = copied.await.unwrap_or(Err(StoreFailure::Poisoned));
    let view = copied.map_err(|failure| {
        tracing::error!(%failure, "the store was not copied");
        Problem::NotCopied
    })?;
    tracing::info!(file = view.file, bytes = view.bytes, milliseconds = view.milliseconds, "the store was copied");
    app.record(|| Act::administered(Asked::Backup, None)).await?;
    Ok(view)
}

/// The name of a copy that is made now: that of the store, and when, in milliseconds of Unix time.
fn next_file(database: &Path, folder: &Path) -> PathBuf {
    let name = database.file_stem().unwrap_or(database.as_os_str()).to_string_lossy();
    folder.join(format!("{name}-{}.db", milliseconds()))
}

fn copy(store: &mut dyn VoucherStore, file: PathBuf) -> Result<BackupView, StoreFailure> {
    let begun = Instant::now();
    store.copy_to(&file)?;
    let bytes = std::fs::metadata(&file).map_err(|error| StoreFailure::File { path: file.clone(), error })?.len();
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(BackupView { file: file.display().to_string(), bytes, milliseconds: took })
}
