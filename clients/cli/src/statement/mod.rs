//! `tallybook statement`: what went in and out of channels, for a payee or a payer, in a period.
//!
//! Nothing is asked of a facilitator and nothing of a paywall: everything is read from the chain, played back, and held against
//! the pages as they stand. So a statement adds up to the chain to the base unit, or there is none.

mod report;

pub use report::{Line, Section, StatementReport};

use crate::connection::Rpc;
use crate::history::{BookHistory, pages_of_payer};
use crate::output::{Output, Period, moment};
use anyhow::{Context, Result, ensure};
use clap::Args;
use solana_address::Address;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `tallybook statement`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: a payee's November; all that a payer ever paid, as a table for a spreadsheet\n  \
    tallybook statement --book $BOOK --from 2026-11-01 --to 2026-12-01\n  \
    tallybook statement --payer $WALLET --csv paid.csv\n\n\
    Days begin at midnight UTC; --to is the first moment that does not count. The node must keep the whole history of the\n\
    pages; one that does not is found out, and named.")]
pub struct Statement {
    #[command(flatten)]
    rpc: Rpc,
    /// A payee's book; may be repeated.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "payer")]
    book: Vec<Address>,
    /// Only this payer's channels; without --book, in all books that it ever had channels in.
    #[arg(long, value_name = "ADDRESS")]
    payer: Option<Address>,
    /// From this moment on: a day, a time with its offset, or Unix seconds. From the beginning, if left out.
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    from: Option<i64>,
    /// Until before this moment. To the end, if left out.
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    to: Option<i64>,
    /// Write each movement as a line of CSV to this file, which must not exist; - for standard output.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl Statement {
    /// Reads the chain, and says what moved.
    pub async fn run(self, output: Output) -> Result<()> {
        let report = self.read(output).await?;
        let Some(path) = &self.csv else { return output.report(&report) };
        if path == Path::new("-") {
            report.write_csv(std::io::stdout().lock())?;
            return output.report_aside(&report.without_lines());
        }
        let mut file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
        report.write_csv(&mut file)?;
        file.flush()?;
        file.sync_all()?;
        output.report(&report.without_lines())
    }

    /// The statement.
    async fn read(&self, output: Output) -> Result<StatementReport> {
        let period = Period::new(self.from, self.to)?;
        let rpc = Arc::new(self.rpc.client());
        let books: BTreeMap<Address, Option<BTreeSet<Address>>> = match self.payer {
            Some(payer) if self.book.is_empty() => {
                let found = pages_of_payer(&rpc, &payer, output.progress()).await?;
                ensure!(!found.is_empty(), "{payer} never had a channel on this chain: is --rpc the right cluster?");
                found.into_iter().map(|(book, pages)| (book, Some(pages))).collect()
            }
            _ => self.book.iter().map(|book| (*book, None)).collect(),
        };
        let mut sections = Vec::new();
        for (book, only) in books {
            let history = BookHistory::read(&rpc, &book, only.as_ref(), output.progress()).await?;
            sections.push(Section::of(&history, self.payer, period)?);
        }
        Ok(StatementReport { books: sections })
    }
}
