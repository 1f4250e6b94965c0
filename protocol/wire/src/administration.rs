//! What administrators of a facilitator see.

use crate::{Key, Signature, decimal};
use serde::{Deserialize, Serialize};
use tallybook_rules::Amount;

/// `GET /admin`, and the answer to `POST /admin/pause`, `/admin/resume` and `/admin/settle`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdministrationView {
    /// Nothing new is taken on: no calls, deposits or pages. What was begun goes on: commits, refunds, claims.
    pub paused: bool,
    /// What others made the sponsor pay, or may yet by what was sent for them, within the last day, in lamports.
    pub sponsored_lamports: u64,
    /// The most of it that is paid within a day, in lamports.
    pub sponsored_lamports_per_day: u64,
}

/// The answer to `POST /admin/backup`: a copy of the store is there, whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackupView {
    /// Its path on the facilitator's machine.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// How long it took, and commits waited, in milliseconds.
    pub milliseconds: u64,
}

/// The answer to `POST /admin/pages/{page}/pay-out`: what became of what the page owed its recipients. Amounts in base units.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaidOut {
    /// The page.
    pub page: Key,
    /// What it owed before, as the chain showed it.
    #[serde(with = "decimal")]
    pub owed: Amount,
    /// What it owes still: to recipients that have no account to be paid in.
    #[serde(with = "decimal")]
    pub left: Amount,
    /// What was sent and has landed; nothing where nothing was owed.
    pub transactions: Vec<Signature>,
}
