//! `tallybook audit`: whether a facilitator's record of payments is whole, and what it says.

use crate::output::{Moment, Output, line};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tallybook_rules::Amount;
use tallybook_wire::{Asked, AuditChain, AuditLine, Key, MAX_AUDIT_LINE_BYTES};

/// Arguments of `tallybook audit`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: a record that was moved away once, oldest file first; and that it goes on from where it stood\n  \
    tallybook audit audit.jsonl.1 audit.jsonl\n  \
    tallybook audit audit.jsonl --includes 4711:8qbHbw2BbbTHBW1sbeqakYXVKRQM8Ne7pLK7m6CVfeR"
)]
pub struct Audit {
    /// The record's files, the oldest first: `audit_log` of the facilitator's configuration.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A number and hash that an earlier look printed: fails unless the record includes that line as it was. Without it,
    /// lines cut off the end of a record do not show.
    #[arg(long, value_name = "NUMBER:HASH")]
    includes: Option<Mark>,
    /// Only what concerns this book.
    #[arg(long, value_name = "ADDRESS")]
    book: Option<Key>,
}

/// A line of a record, by number and hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark(AuditChain);

impl FromStr for Mark {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write a number and a hash, NUMBER:HASH, as `tallybook audit` prints them";
        let (number, hash) = text.split_once(':').ok_or(FORM)?;
        let (number, hash) = (number.parse().map_err(|_| FORM)?, hash.parse().map_err(|_| FORM)?);
        Ok(Self(AuditChain { number, hash }))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.number, self.0.hash)
    }
}

/// What a record says.
#[derive(Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditReport {
    /// Lines of the whole record.
    lines: u64,
    /// The last line's number and hash, to be kept elsewhere for `--includes`.
    last: String,
    /// When the first and the last of those that are counted were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Moment>,
    /// What was asked and done: how often.
    done: BTreeMap<Asked, u64>,
    /// What was refused: how often, by reason.
    refused: BTreeMap<String, u64>,
    /// What calls have cost, in base units, by book.
    #[serde(serialize_with = "in_digits")]
    charged: BTreeMap<Key, Amount>,
}

fn in_digits<S: Serializer>(amounts: &BTreeMap<Key, Amount>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(amounts.iter().map(|(book, amount)| (book, amount.to_string())))
}

impl Audit {
    /// Reads the files as one record, and says what is in it.
    pub fn run(self, output: Output) -> Result<()> {
        let mut report = AuditReport::default();
        let (mut chain, mut includes) = (AuditChain::default(), self.includes);
        for file in &self.files {
            let shown = file.display();
            for text in lines(file)? {
                let line = chain.check(&text.with_context(|| format!("cannot read {shown}"))?);
                let line = line.with_context(|| format!("{shown} is not whole"))?;
                if includes.is_some_and(|mark| mark.0.number == chain.number) {
                    ensure!(
                        includes == Some(Mark(chain)),
                        "{shown} is not whole: line {} was another one",
                        chain.number
                    );
                    includes = None;
                }
                if self.book.is_none() || self.book == line.book {
                    report.count(&line).with_context(|| format!("{shown}, line {}", line.number))?;
                }
            }
        }
        if let Some(mark) = includes {
            bail!("the record is not whole: it ends with line {}, before line {}", chain.number, mark.0.number);
        }
        (report.lines, report.last) = (chain.number, Mark(chain).to_string());
        output.report(&report)
    }
}

/// The lines of a file, none longer than a record's may be.
fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut file = BufReader::new(file);
    let most = u64::try_from(MAX_AUDIT_LINE_BYTES)?.saturating_add(2);
    Ok(std::iter::from_fn(move || {
        let mut text = String::new();
        match file.by_ref().take(most).read_line(&mut text) {
            Ok(0) => None,
            Ok(_) => Some(Ok(text.trim_end_matches('\n').to_owned())),
            Err(error) => Some(Err(error)),
        }
    }))
}

impl AuditReport {
    fn count(&mut self, line: &AuditLine) -> Result<()> {
        let at = Moment(i64::try_from(line.at / 1_000)?);
        self.from.get_or_insert(at);
        self.to = Some(at);
        if let Some(reason) = &line.refused {
            let count = self.refused.entry(reason.name().to_owned()).or_default();
            *count = count.saturating_add(1);
            return Ok(());
        }
        let count = self.done.entry(line.asked).or_default();
        *count = count.saturating_add(1);
        if let (Asked::Commit, Some(book), Some(amount)) = (line.asked, line.book, line.amount) {
            let charged = self.charged.entry(book).or_insert(Amount::ZERO);
            *charged = charged.plus(amount)?;
        }
        Ok(())
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "record", format_args!("whole, {} lines", self.lines))?;
        line(f, "last", &self.last)?;
        if let (Some(from), Some(to)) = (self.from, self.to) {
            line(f, "from", from)?;
            line(f, "to", to)?;
        }
        for (asked, count) in &self.done {
            let name = serde_json::to_value(asked).unwrap_or_default();
            line(f, "done", format_args!("{count} × {}", name.as_str().unwrap_or_default()))?;
        }
        for (reason, count) in &self.refused {
            line(f, "refused", format_args!("{count} × {reason}"))?;
        }
        for (book, charged) in &self.charged {
            line(f, "charged", format_args!("{charged} base units in {book}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn audit(files: Vec<PathBuf>, includes: Option<Mark>) -> Result<()> {
        Audit { files, includes, book: None }.run(Output::Json)
    }

    #[test]
    fn given_a_record_when_its_end_is_cut_off_then_an_earlier_mark_shows_it() {
        let folder = std::env::temp_dir().join(format!("tallybook-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (whole, cut) = (folder.join("whole.jsonl"), folder.join("cut.jsonl"));
        let mut chain = AuditChain::default();
        let mut texts = Vec::new();
        for amount in 1..=3 {
            let mut line = AuditLine {
                number: 0,
                at: 1_800_000_000_000,
                asked: Asked::Commit,
                refused: None,
                book: Some(Key([1; 32])),
                page: None,
                by: None,
                payer: None,
                payee: None,
                channel_id: None,
                cumulative: None,
                amount: Some(Amount::new(amount)),
                voucher_hash: None,
                transaction: None,
                previous: Key::default(),
            };
            texts.push(chain.append(&mut line).unwrap());
        }
        writeln!(File::create(&whole).unwrap(), "{}", texts.join("\n")).unwrap();
        writeln!(File::create(&cut).unwrap(), "{}", texts[..2].join("\n")).unwrap();
        let mark: Mark = Mark(chain).to_string().parse().unwrap();
        assert!(audit(vec![whole.clone()], Some(mark)).is_ok());
        assert!(audit(vec![cut.clone()], None).is_ok());
        let error = audit(vec![cut.clone()], Some(mark)).unwrap_err().to_string();
        assert!(error.contains("ends with line 2, before line 3"), "{error}");
        let other = Mark(AuditChain { number: 2, hash: Key([9; 32]) });
        assert!(audit(vec![whole.clone()], Some(other)).is_err());
        assert!(audit(vec![whole, cut], None).is_err(), "the first line again");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
