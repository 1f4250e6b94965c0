//! How a command tells what it did: lines for people, or with `--json` one JSON document for programs.
//!
//! Standard output carries the result and nothing else; everything said on the way goes to standard error. Field names
//! of the JSON are camelCase and stable: fields may be added, none is renamed or taken away.

mod failure;
mod moment;
mod money;
mod period;
mod told;

pub(crate) use failure::reader_is_gone;
pub use failure::{Exit, Failure, HttpFailure, UnknownOutcome, in_full};
pub use moment::Moment;
pub use money::Money;
pub use period::{Period, moment, rfc3339};
pub use told::Told;

use crate::progress::Progress;
use anyhow::Result;
use serde::Serialize;
use std::fmt;
use std::io::Write;

/// The form of what a command prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Lines for people.
    Text,
    /// One JSON document, on one line.
    Json,
}

impl Output {
    /// The form that `--json` asks for.
    pub const fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Prints a command's result to standard output.
    pub fn report(self, report: &(impl Serialize + fmt::Display)) -> Result<()> {
        print(format_args!("{}", self.render(report)?))
    }

    /// Prints a result to standard error: where standard output carries something else.
    pub fn report_aside(self, report: &(impl Serialize + fmt::Display)) -> Result<()> {
        say(format_args!("{}", self.render(report)?));
        Ok(())
    }

    /// A hint for people, on standard error: programs are not told.
    pub fn hint(self, line: fmt::Arguments<'_>) {
        if self == Self::Text {
            say(line);
        }
    }

    /// Bars and finished steps are for people.
    pub const fn progress(self) -> Progress {
        match self {
            Self::Text => Progress::Shown,
            Self::Json => Progress::Silent,
        }
    }

    fn render(self, report: &(impl Serialize + fmt::Display)) -> Result<String> {
        Ok(match self {
            Self::Text => report.to_string().trim_end().to_owned(),
            Self::Json => serde_json::to_string(report)?,
        })
    }
}

/// Writes a named value, aligned with the others of a report.
pub(crate) fn line(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<12} {value}")
}

/// Prints a line to standard error: what a person reads, next to what a program reads from standard output.
pub fn say(line: fmt::Arguments<'_>) {
    // Standard error may be closed; there is nobody left to tell then.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Prints a line to standard output.
pub fn print(line: fmt::Arguments<'_>) -> Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
