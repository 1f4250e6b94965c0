//! What an agent paid for: one line of JSON for each call, appended to a file in its state directory.
//!
//! It is for people and their accounts; no money depends on it. A line is one write, not synced: a power cut may lose the
//! last ones, a crash of the process none. Files are kept up to a size and then put aside, the oldest removed.
//!
//! The sum of all that is charged here is what the channels say that they were charged, so a call whose outcome was found
//! out later has a line of its own. (It is more where a server has forgotten what it had charged: that stays listed.)

use crate::disk;
use crate::pool::lock;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tallybook_rules::Amount;
use tallybook_wire::{Key, decimal};

/// A file is put aside beyond this, in bytes.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// So many files are kept besides the one that is written.
const MAX_OLD_FILES: u32 = 15;
/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 16_384;
/// The longest path that is kept, in characters.
const MAX_PATH_CHARS: usize = 1_024;

/// One thing that was paid for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paid {
    /// When its outcome was seen, in Unix seconds.
    pub at: i64,
    /// What it was.
    pub what: Bought,
    /// The host, with its port if that is not the usual one.
    pub host: String,
    /// The method.
    pub method: String,
    /// The path without its query, which may hold secrets.
    pub path: String,
    /// The status of the answer; 0 where none was seen.
    pub status: u16,
    /// What it could have cost, in base units.
    #[serde(with = "decimal")]
    pub price: Amount,
    /// What it cost, in base units; nothing where that is not known (yet).
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub charged: Option<Amount>,
    /// Who was paid.
    pub payee: Key,
    /// The token.
    pub mint: Key,
    /// The channel.
    pub channel: Key,
    /// What the channel was charged in all after it, as far as is known, in base units.
    #[serde(with = "decimal")]
    pub channel_charged: Amount,
    /// The highest cumulative that was signed for it, in base units: the server's receipt is for at most that.
    #[serde(with = "decimal")]
    pub signed: Amount,
    /// The transaction that opened or topped up the channel for it, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The server's signed receipt (a JWS), if it gave one and its signature holds: see [`tallybook_wire::Statement`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// Kinds of [`Paid`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bought {
    /// A call.
    Call,
    /// A stream, in all.
    Stream,
    /// An earlier call whose outcome had not been seen, and was found out now.
    Found,
}

impl Bought {
    const fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Stream => "stream",
            Self::Found => "found",
        }
    }
}

/// The file that is written.
#[derive(Debug)]
pub(crate) struct Payments {
    directory: PathBuf,
    file: Mutex<File>,
    max_bytes: u64,
}

impl Payments {
    /// Opens the ledger of a state directory, which this process holds alone.
    pub(crate) fn open(state_directory: &Path) -> io::Result<Self> {
        Self::with_size(state_directory, MAX_FILE_BYTES)
    }

    fn with_size(state_directory: &Path, max_bytes: u64) -> io::Result<Self> {
        let directory = state_directory.join("paid");
        disk::create_private_directory(&directory)?;
        let file = Mutex::new(open_newest(&directory)?);
        Ok(Self { directory, file, max_bytes })
    }

    /// Appends a line. The call was paid already, so a failure is only told to the owner.
    pub(crate) fn record(&self, mut paid: Paid) {
        if paid.path.chars().count() > MAX_PATH_CHARS {
            paid.path = paid.path.chars().take(MAX_PATH_CHARS).collect();
        }
        let written = serde_json::to_vec(&paid).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.append(&line)
        });
        if let Err(error) = written {
            tracing::error!(%error, directory = %self.directory.display(), "a payment is missing from the list of payments");
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = lock(&self.file);
        file.write_all(line)?;
        if file.metadata()?.len() >= self.max_bytes {
            file.sync_all()?;
            self.put_aside()?;
            *file = open_newest(&self.directory)?;
        }
        Ok(())
    }

    fn put_aside(&self) -> io::Result<()> {
        for number in (1..=MAX_OLD_FILES).rev() {
            let old = named(&self.directory, number);
            if old.exists() {
                let next = number.saturating_add(1);
                if next > MAX_OLD_FILES {
                    std::fs::remove_file(&old)?;
                } else {
                    std::fs::rename(&old, named(&self.directory, next))?;
                }
            }
        }
        std::fs::rename(named(&self.directory, 0), named(&self.directory, 1))
    }
}

/// The file that is written is number 0, the higher the older.
fn named(directory: &Path, number: u32) -> PathBuf {
    directory.join(if number == 0 { "paid.jsonl".to_owned() } else { format!("paid-{number}.jsonl") })
}

/// Opens the newest file for appending. A line that a crash cut off is ended, so that the next one stands alone.
fn open_newest(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = disk::private(options.create(true).append(true).read(true)).open(named(directory, 0))?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// What was paid for by the agent of a state directory, the oldest first; also while no agent runs there. A line that a
/// crash cut off is left out.
///
/// An error where a file cannot be read; the lines before it are given first.
pub fn paid(state_directory: &Path) -> impl Iterator<Item = io::Result<Paid>> {
    let directory = state_directory.join("paid");
    let files = (0..=MAX_OLD_FILES).rev().map(move |number| named(&directory, number));
    files.flat_map(|path| match File::open(&path) {
        Ok(file) => Lines { file: Some(BufReader::new(file)), failed: None },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Lines { file: None, failed: None },
        Err(error) => Lines { file: None, failed: Some(error) },
    })
}

struct Lines {
    file: Option<BufReader<File>>,
    failed: Option<io::Error>,
}

impl Iterator for Lines {
    type Item = io::Result<Paid>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        loop {
            let mut line = Vec::new();
            let read = self.file.as_mut()?.take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.file = None;
                    return Some(Err(error));
                }
            }
            if let Ok(paid) = serde_json::from_slice(&line) {
                return Some(Ok(paid));
            }
        }
    }
}

/// What each channel was charged as far as the newest two files say: what needs no further line.
pub(crate) fn charged_as_listed(state_directory: &Path) -> HashMap<Key, Amount> {
    let mut charged = HashMap::new();
    for number in [1, 0] {
        let Ok(file) = File::open(named(&state_directory.join("paid"), number)) else { continue };
        let lines = Lines { file: Some(BufReader::new(file)), failed: None };
        for paid in lines.map_while(Result::ok) {
            let of_channel: &mut Amount = charged.entry(paid.channel).or_default();
            *of_channel = paid.channel_charged.max(*of_channel);
        }
    }
    charged
}

/// Writes payments as lines of JSON.
pub fn write_json_lines(payments: impl Iterator<Item = io::Result<Paid>>, out: &mut impl Write) -> io::Result<()> {
    for paid in payments {
        serde_json::to_writer(&mut *out, &paid?)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes payments as comma-separated values (RFC 4180), with a line of names first. Amounts are whole tokens of a mint
/// with `decimals` places.
pub fn write_csv(
    payments: impl Iterator<Item = io::Result<Paid>>,
    decimals: u8,
    out: &mut impl Write,
) -> io::Result<()> {
    const NAMES: &str =
        "at,what,host,method,path,status,price,charged,payee,mint,channel,channel_charged,signed,transaction";
    write!(out, "{NAMES}\r\n")?;
    let show = |amount: Amount| amount.decimal(decimals).to_string();
    for paid in payments {
        let paid = paid?;
        let fields = [
            paid.at.to_string(),
            paid.what.name().to_owned(),
            quoted(&paid.host),
            quoted(&paid.method),
            quoted(&paid.path),
            paid.status.to_string(),
            show(paid.price),
            paid.charged.map(show).unwrap_or_default(),
            paid.payee.to_string(),
            paid.mint.to_string(),
            paid.channel.to_string(),
            show(paid.channel_charged),
            show(paid.signed),
            paid.transaction.as_deref().map(quoted).unwrap_or_default(),
        ];
        write!(out, "{}\r\n", fields.join(","))?;
    }
    out.flush()
}

/// Text that a spreadsheet takes for text.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if is_formula { "'" } else { "" };
    if is_formula || text.contains([',', '"', '\r', '\n']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(at: i64, path: &str) -> Paid {
        Paid {
            at,
            what: Bought::Call,
            host: "a.example".into(),
            method: "GET".into(),
            path: path.into(),
            status: 200,
            price: Amount::new(500),
            charged: Some(Amount::new(120)),
            payee: Key([1; 32]),
            mint: Key([2; 32]),
            channel: Key([3; 32]),
            channel_charged: Amount::new(120),
            signed: Amount::new(500),
            transaction: None,
            receipt: None,
        }
    }

    fn all(directory: &Path) -> Vec<Paid> {
        paid(directory).map(Result::unwrap).collect()
    }

    #[test]
    fn given_a_line_that_a_crash_cut_off_when_more_is_paid_then_only_that_line_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        assert!(all(directory.path()).is_empty());
        Payments::open(directory.path()).unwrap().record(one(1, "/x"));
        let path = directory.path().join("paid/paid.jsonl");
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"at\":2,\"what").unwrap();
        Payments::open(directory.path()).unwrap().record(one(3, "/y"));
        assert_eq!(all(directory.path()), [one(1, "/x"), one(3, "/y")]);
    }

    #[test]
    fn given_many_payments_when_files_are_full_then_the_oldest_go_and_the_order_stays() {
        let directory = tempfile::tempdir().unwrap();
        let payments = Payments::with_size(directory.path(), 2_000).unwrap();
        (0..200).for_each(|at| payments.record(one(at, "/x")));
        let kept = all(directory.path());
        assert!(kept.len() < 160 && kept.len() > 80, "{}", kept.len());
        assert!(kept.windows(2).all(|pair| pair[0].at + 1 == pair[1].at));
        assert_eq!(kept.last().unwrap().at, 199);
        assert_eq!(std::fs::read_dir(directory.path().join("paid")).unwrap().count(), 16);
    }

    #[test]
    fn given_payments_when_exported_then_tables_and_lines_say_the_same() {
        let mut csv = Vec::new();
        let found = Paid { charged: None, what: Bought::Found, transaction: Some("=1".into()), ..one(2, "/a,\"b\"") };
        let list = || [one(1, "/x"), found.clone()].into_iter().map(Ok);
        write_csv(list(), 6, &mut csv).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        let rows: Vec<&str> = csv.split("\r\n").collect();
        assert_eq!(rows.len(), 4);
        assert!(rows[1].starts_with("1,call,a.example,GET,/x,200,0.000500,0.000120,"), "{}", rows[1]);
        assert!(rows[2].starts_with("2,found,a.example,GET,\"/a,\"\"b\"\"\",200,0.000500,,"), "{}", rows[2]);
        assert!(rows[2].ends_with(",\"'=1\""), "{}", rows[2]);
        let mut json = Vec::new();
        write_json_lines(list(), &mut json).unwrap();
        let json = String::from_utf8(json).unwrap();
        let read: Vec<Paid> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, [one(1, "/x"), found]);
    }
}
