//! What `tallybook reconcile` prints.

use super::findings::{Finding, Findings, Kind};
use crate::history::BookHistory;
use crate::output::line;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use tallybook_rules::Amount;

/// How store and chain differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileReport {
    /// The chain's slot up to which everything was compared.
    pub chain_slot: u64,
    /// Books and pages that were compared.
    pub books: Vec<String>,
    /// Channels that were compared, those that are over too.
    pub channels: usize,
    /// What calls cost according to the store, in base units of all books' tokens together.
    pub charged: String,
    /// What was settled according to the chain, in the same.
    pub settled: String,
    /// How many differences there are of each kind, and of how much.
    pub kinds: BTreeMap<Kind, Count>,
    /// How many differences have no explanation.
    pub unexplained: usize,
    /// The differences without an explanation, or all.
    pub differences: Vec<Finding>,
}

/// Differences of one kind.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// How many.
    pub differences: usize,
    /// In the store, in base units, all of them together.
    pub in_store: String,
    /// On chain.
    pub on_chain: String,
}

impl ReconcileReport {
    pub(super) fn of(findings: &Findings, histories: &[BookHistory], all: bool) -> Result<Self> {
        ensure!(
            findings.add_up()?,
            "the differences that were found do not add up to the difference of the sums: report this"
        );
        let mut sums: BTreeMap<Kind, (usize, Amount, Amount)> = BTreeMap::new();
        let every = || findings.channels.iter().chain(&findings.batches);
        for finding in every() {
            let (count, in_store, on_chain) = sums.entry(finding.kind).or_default();
            *count = count.saturating_add(1);
            *in_store = in_store.plus(finding.in_store)?;
            *on_chain = on_chain.plus(finding.on_chain)?;
        }
        let kinds = sums.into_iter().map(|(kind, (differences, in_store, on_chain))| {
            (kind, Count { differences, in_store: in_store.to_string(), on_chain: on_chain.to_string() })
        });
        Ok(Self {
            chain_slot: histories.iter().map(|history| history.chain_slot).min().unwrap_or_default(),
            books: histories.iter().map(|history| history.book.address.to_string()).collect(),
            channels: findings.compared,
            charged: findings.charged.to_string(),
            settled: findings.settled.to_string(),
            kinds: kinds.collect(),
            unexplained: every().filter(|finding| !finding.kind.is_explained()).count(),
            differences: every().filter(|finding| all || !finding.kind.is_explained()).cloned().collect(),
        })
    }
}

impl fmt::Display for ReconcileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for book in &self.books {
            line(f, "book", book)?;
        }
        line(f, "compared", format_args!("{} channels, up to slot {} of the chain", self.channels, self.chain_slot))?;
        line(f, "charged", format_args!("{} base units, says the store", self.charged))?;
        line(f, "settled", format_args!("{} base units, says the chain", self.settled))?;
        for (kind, count) in &self.kinds {
            let Count { differences, in_store, on_chain } = count;
            line(f, "difference", format_args!("{differences} × {}: {in_store} ↔ {on_chain}", kind.words()))?;
        }
        for finding in &self.differences {
            let what = finding.channel.as_deref().or(finding.transaction.as_deref()).unwrap_or(&finding.page);
            let batch = finding.batch.map(|batch| format!(" of batch {batch}")).unwrap_or_default();
            writeln!(f, "  {what}{batch}: {} ↔ {}, {}", finding.in_store, finding.on_chain, finding.kind.words())?;
        }
        match self.unexplained {
            0 => line(f, "result", "every difference is explained"),
            unexplained => line(f, "result", format_args!("{unexplained} differences have no explanation")),
        }
    }
}
