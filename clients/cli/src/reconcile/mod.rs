//! `tallybook reconcile`: a facilitator's store held against the chain, channel by channel and batch by batch, with the reason
//! for each difference. What is explained is how things are between a call and its claim; what is not needs somebody to look.
//!
//! Reading path: [`Reconcile`] (reads both) → `token` (parts both by token) → `findings` (what differs, and why) → `report`.

mod findings;
mod report;
mod token;

pub use findings::{Finding, Kind};
pub use report::{Count, ReconcileReport, Sum, TokenReport};

use crate::connection::Rpc;
use crate::history::{BookHistory, book_of};
use crate::output::Output;
use crate::vouchers::store_at;
use anyhow::{Context, Result, bail};
use clap::Args;
use findings::Findings;
use solana_address::Address;
use solana_signature::Signature;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tallybook_ledger::BatchRecord;
use tallybook_store::{Stored, VoucherStore};
use token::Token;

/// Batches that are read from the store at once.
const BATCHES_AT_ONCE: u32 = 1_000;

/// Arguments of `tallybook reconcile`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: a database, or a backup of it; with each channel that only waits to be claimed, too\n  \
    tallybook reconcile facilitator.sqlite\n  \
    tallybook reconcile backup.sqlite --all --json\n\n\
    A SQLite database is one process's: stop its facilitator first, or take a copy. Ends with status 1 when a difference has no\n\
    explanation, in whatever token. Each token is added up by itself: with --json, `tokens` has the sums of each, and `charged`,\n\
    `settled` and those of `kinds` are there only while all books are of one. The node must keep the whole history of the pages."
)]
pub struct Reconcile {
    #[command(flatten)]
    rpc: Rpc,
    /// The SQLite database of a facilitator or an embedded paywall; or a facilitator's PostgreSQL database: postgres://…, or
    /// env:NAME that gives it.
    store: PathBuf,
    /// A book that the store should know of, beside those that its rows name; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    book: Vec<Address>,
    /// List what is explained, too.
    #[arg(long)]
    all: bool,
}

impl Reconcile {
    /// Compares, and says what differs.
    pub async fn run(self, output: Output) -> Result<()> {
        let mut store = store_at(&self.store)?;
        let (stored, batches) = read(store.as_mut())?;
        let rpc = Arc::new(self.rpc.client());
        let mut books: BTreeSet<Address> = self.book.iter().copied().collect();
        let mut of_pages = BTreeMap::new();
        for page in pages_in(&stored, &batches) {
            let book = book_of(&rpc, &page).await.context("the store names a page that is not on this chain")?;
            of_pages.insert(page, book);
            books.insert(book);
        }
        let mut histories = Vec::new();
        for book in &books {
            histories.push(BookHistory::read(&rpc, book, None, output.progress()).await?);
        }
        let ours = transactions_of(&batches);
        let tokens = Token::each(stored.channels, batches, &of_pages, histories)?;
        let findings: Vec<Findings<'_>> =
            tokens.iter().map(|token| Findings::of(store.as_mut(), token, &ours)).collect::<Result<_>>()?;
        let report = ReconcileReport::of(&findings, self.all)?;
        output.report(&report)?;
        match report.unexplained {
            0 => Ok(()),
            1 => bail!("a difference between store and chain has no explanation: see above"),
            several => bail!("{several} differences between store and chain have no explanation: see above"),
        }
    }
}

/// All that the store says.
fn read(store: &mut dyn VoucherStore) -> Result<(Stored, Vec<BatchRecord>)> {
    let stored = store.load()?;
    let mut batches: Vec<BatchRecord> = Vec::new();
    loop {
        let before = batches.last().map(|batch| batch.id);
        let some = store.batches(before, BATCHES_AT_ONCE)?;
        if some.is_empty() {
            return Ok((stored, batches));
        }
        batches.extend(some);
    }
}

fn pages_in(stored: &Stored, batches: &[BatchRecord]) -> BTreeSet<Address> {
    let of_channels = stored.channels.iter().map(|channel| channel.place.page);
    of_channels.chain(batches.iter().map(|batch| batch.page)).map(Address::from).collect()
}

/// Every transaction that the store ever sent a batch in. One of them may have claimed in pages of several tokens.
fn transactions_of(batches: &[BatchRecord]) -> BTreeSet<Signature> {
    let sent = batches.iter().flat_map(|batch| &batch.attempts).map(|attempt| attempt.signature);
    let landed = batches.iter().flat_map(|batch| &batch.landed).map(|landed| landed.signature);
    sent.chain(landed).map(Signature::from).collect()
}
