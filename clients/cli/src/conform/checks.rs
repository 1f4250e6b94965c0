//! Collects checks while they are made, and shows how far they are.

use super::report::{Check, Outcome, Report};
use crate::progress::Progress;
use indicatif::ProgressBar;
use std::fmt::Display;

/// The checks of a run, as far as they are made.
pub(super) struct Checks {
    report: Report,
    bar: ProgressBar,
}

impl Checks {
    pub(super) fn new(progress: Progress, what: &'static str) -> Self {
        Self { report: Report::default(), bar: progress.spinner(what) }
    }

    /// One check: what the specification asks for in this section, and what came where that is something else.
    pub(super) fn add(&mut self, name: &str, section: &'static str, expected: impl Display, found: Result<(), String>) {
        let outcome = if found.is_ok() { Outcome::Held } else { Outcome::Broken };
        self.push(name, section, expected, outcome, found.err());
    }

    /// A check that cannot be made, and why.
    pub(super) fn leave_out(&mut self, name: &str, section: &'static str, expected: impl Display, why: &str) {
        self.push(name, section, expected, Outcome::NotDone, Some(why.to_owned()));
    }

    fn push(
        &mut self,
        name: &str,
        section: &'static str,
        expected: impl Display,
        outcome: Outcome,
        came: Option<String>,
    ) {
        self.bar.tick();
        let (name, expected) = (name.to_owned(), expected.to_string());
        self.report.push(Check { name, section, outcome, expected, came, question: None });
    }

    pub(super) fn end(self) -> Report {
        self.bar.finish_and_clear();
        self.report
    }
}

/// What came, where it is not what `holds` asks for.
pub(super) fn found(holds: bool, came: impl Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(came.to_string()) }
}
