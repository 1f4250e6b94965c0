//! What a container or a script asks of a facilitator that runs, without another program for it.

use reqwest::StatusCode;
use std::error::Error;
use std::time::Duration;
use thiserror::Error;
use url::Url;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a facilitator is not well.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unwell {
    /// It does not answer.
    #[error("{0} does not answer: {1}")]
    Silent(Url, String),
    /// It says so itself.
    #[error("{0} says {1}: {2}")]
    Says(Url, StatusCode, String),
}

/// The cause of the causes of an error: the others say only that it was a request that failed.
pub(crate) fn why(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Asks the facilitator at an address whether it is of use: `GET /livez`.
///
/// # Errors
/// See [`Unwell`].
pub async fn check_health(facilitator: &Url) -> Result<(), Unwell> {
    let mut at = facilitator.clone();
    at.set_path("/livez");
    let silent = |error| Unwell::Silent(at.clone(), why(&error));
    let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().map_err(silent)?;
    let answer = http.get(at.clone()).send().await.map_err(silent)?;
    let status = answer.status();
    let says = answer.text().await.map_err(silent)?;
    if status.is_success() { Ok(()) } else { Err(Unwell::Says(at, status, says.trim_end().to_owned())) }
}
