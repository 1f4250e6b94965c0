//! What a run of checks has found: a table for people, a document for programs.

use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Characters of a value that a table shows.
const SHOWN_CHARS: usize = 160;

/// How one check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is as the specification says.
    Held,
    /// It is not.
    Broken,
    /// It was not looked at: not implemented there, or it needs something that is missing here.
    NotDone,
}

/// One check.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// The section of `protocol/SPEC.md` that says how it must be.
    pub section: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What the specification asks for.
    pub expected: String,
    /// What came instead, or why it was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub came: Option<String>,
    /// The question that was answered wrongly, to ask it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<Value>,
}

/// All checks of a run.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many were as specified.
    pub held: u32,
    /// How many were not.
    pub broken: u32,
    /// How many were not looked at.
    pub not_done: u32,
    /// Each of them, in the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// Adds a check.
    pub fn push(&mut self, check: Check) {
        let count = match check.outcome {
            Outcome::Held => &mut self.held,
            Outcome::Broken => &mut self.broken,
            Outcome::NotDone => &mut self.not_done,
        };
        *count = count.saturating_add(1);
        self.checks.push(check);
    }

    /// The names of the checks that did not hold.
    pub fn broken_names(&self) -> Vec<&str> {
        let broken = self.checks.iter().filter(|check| check.outcome == Outcome::Broken);
        broken.map(|check| check.name.as_str()).collect()
    }

    /// True when something was looked at, and all of it is as specified.
    pub const fn conforms(&self) -> bool {
        self.broken == 0 && self.held > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
        for check in &self.checks {
            let Check { name, section, outcome, expected, came, .. } = check;
            let mark = match outcome {
                Outcome::Held => '✓',
                Outcome::Broken => '✗',
                Outcome::NotDone => '–',
            };
            writeln!(f, "{mark} {section:<3} {name:<width$}  {}", shortened(expected))?;
            if let Some(came) = came {
                let what = if *outcome == Outcome::NotDone { "not done" } else { "came" };
                writeln!(f, "      {what}: {}", shortened(came))?;
            }
        }
        let Self { held, broken, not_done, .. } = self;
        writeln!(
            f,
            "\n{held} as specified, {broken} not, {not_done} not looked at. Sections are those of protocol/SPEC.md."
        )
    }
}

/// As much of a text as a person reads in a table, on one line.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_checks_of_each_outcome_when_shown_then_they_are_counted_and_what_came_is_said() {
        let mut report = Report::default();
        for outcome in [Outcome::Held, Outcome::Broken, Outcome::NotDone] {
            let came = (outcome != Outcome::Held).then(|| format!("200\n{}", "x".repeat(400)));
            let (name, expected) = (format!("{outcome:?}"), "404".to_owned());
            report.push(Check { name, section: "§7", outcome, expected, came, question: None });
        }
        assert_eq!((report.held, report.broken, report.not_done), (1, 1, 1));
        assert_eq!((report.broken_names(), report.conforms()), (vec!["Broken"], false));
        let shown = report.to_string();
        assert!(
            shown.contains("✓ §7  Held") && shown.contains("came: 200 xx") && shown.contains("not done: 200"),
            "{shown}"
        );
        assert!(shown.lines().all(|line| line.chars().count() < 200));
        assert!(!Report::default().conforms(), "nothing was looked at");
    }
}
