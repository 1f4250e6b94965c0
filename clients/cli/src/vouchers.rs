//! `tallybook vouchers`: a payee's vouchers, in files.
//!
//! An export is JSON lines, one for each channel: its newest voucher with its whole signature, and what of it is due. It
//! names no secret key, but whoever has it can claim for the payee and sees who paid what: files of it are 0600.

mod import;

use crate::channel::channel_id;
use crate::output::Output;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use solana_address::Address;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use tallybook_ledger::ChannelRecord;
use tallybook_store::{SqliteStore, VoucherStore};
pub use tallybook_wire::VoucherLine;
use tallybook_wire::{Key, Voucher};

/// The longest line that is read, in bytes; a voucher's has about 300.
const MAX_LINE_BYTES: usize = 4_096;
/// The most lines of a file that are read.
const MAX_LINES: usize = 10_000_000;
/// So many older vouchers of a channel are kept.
const MAX_OLDER: usize = 8;
/// What every SQLite database begins with.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What to do with vouchers.
#[derive(Subcommand, Debug)]
pub enum VouchersCommand {
    /// Write the newest voucher of each channel as JSON lines, which `tallybook settle` reads.
    Export(Export),
    /// Take everything that a facilitator keeps in its file into a PostgreSQL database.
    Import(import::Import),
}

/// Arguments of `tallybook vouchers export`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: from a paywall's own file, from a facilitator's (or an embedded paywall's) database\n  \
    tallybook vouchers export vouchers.jsonl --book $BOOK -o export.jsonl\n  \
    tallybook vouchers export facilitator.sqlite | tallybook settle - --keypair me.json\n  \
    tallybook vouchers export env:DATABASE_URL -o export.jsonl\n\n\
    A paywall's file may be read at any time. A database is one process's: stop its facilitator or server first. It is\n\
    opened as they open it, which brings one of an older version to this one."
)]
pub struct Export {
    /// A paywall's file (JSON lines), or the SQLite database of a facilitator or an embedded paywall: which one it is, is
    /// seen from its first bytes. Or a facilitator's PostgreSQL database: postgres://…, or env:NAME that gives it.
    from: PathBuf,
    /// Write into each line that it is for this book, so that nobody needs to know when it is settled.
    #[arg(long, value_name = "ADDRESS")]
    book: Option<Address>,
    /// Only this channel; may be repeated.
    #[arg(long, value_name = "ID", value_parser = channel_id)]
    channel: Vec<Key>,
    /// Write to this file, made for its owner alone, instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The newest voucher of each channel in some file, by its id.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Newest {
    /// The lines.
    pub lines: BTreeMap<Key, VoucherLine>,
    /// Older vouchers of the same channels, newest first: should a newest one not be genuine, another is worth its amount.
    older: BTreeMap<Key, Vec<Voucher>>,
    /// Numbers of lines that no voucher could be read from.
    pub unreadable: Vec<usize>,
}

impl VouchersCommand {
    /// Does it.
    pub fn run(self, output: Output) -> Result<()> {
        match self {
            Self::Export(export) => export.run(output),
            Self::Import(import) => import.run(output),
        }
    }
}

impl Export {
    fn run(self, output: Output) -> Result<()> {
        let mut newest = Newest::in_file(&self.from)?;
        for id in &self.channel {
            ensure!(
                newest.lines.contains_key(id),
                "there is no voucher of the channel {id}: leave --channel out to see all"
            );
        }
        if !self.channel.is_empty() {
            newest.lines.retain(|id, _| self.channel.contains(id));
        }
        if let Some(book) = self.book {
            newest.lines.values_mut().for_each(|line| line.book = Some(Key(book.to_bytes())));
        }
        match &self.output {
            Some(path) => {
                let mut file = private(path)?;
                newest.write(&mut file)?;
                file.sync_all()?;
            }
            None => newest.write(&mut std::io::stdout().lock())?,
        }
        output.hint(format_args!("{newest}"));
        Ok(())
    }
}

/// Reads a line. A bare voucher is of a file from before calls were metered: all that was signed was charged.
fn parse(line: &[u8]) -> Option<VoucherLine> {
    let bare =
        |voucher: Voucher| VoucherLine { voucher, charged: voucher.max_claimable_amount, page: None, book: None };
    serde_json::from_slice(line).or_else(|_| serde_json::from_slice(line).map(bare)).ok()
}

/// A row of a store.
fn line_of(record: &ChannelRecord) -> VoucherLine {
    let page = Some(record.place.page.into());
    VoucherLine { voucher: record.voucher.into(), charged: record.charged, page, book: None }
}

/// The store of a facilitator or an embedded paywall: a SQLite file that is there, or a PostgreSQL database.
pub(crate) fn store_at(path: &Path) -> Result<Box<dyn VoucherStore>> {
    if let Some(store) = import::open(path) {
        return store;
    }
    ensure!(path.is_file(), "there is no store at {}: name a facilitator's `database`", path.display());
    let store = SqliteStore::open(path).with_context(|| format!("cannot read the store in {}", path.display()))?;
    Ok(Box::new(store))
}

impl Newest {
    /// Reads a file of either kind; `-` is standard input, which holds lines.
    pub fn in_file(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Self::in_lines(std::io::stdin().lock());
        }
        if let Some(store) = import::open(path) {
            return Self::in_store(store?.as_mut());
        }
        let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut begin = Vec::new();
        (&mut file).take(16).read_to_end(&mut begin)?;
        if begin == SQLITE_MAGIC {
            drop(file);
            let read = SqliteStore::open(path).map_err(anyhow::Error::from);
            let read = read.and_then(|mut store| Self::in_store(&mut store));
            return read.with_context(|| format!("cannot read the vouchers in {}", path.display()));
        }
        let newest = Self::in_lines(BufReader::new(begin.as_slice().chain(file)))?;
        ensure!(
            newest.unreadable.is_empty() || !newest.lines.is_empty(),
            "{} is neither a file of vouchers nor a voucher store: name a paywall's file (keep_vouchers_in), a \
             facilitator's `database`, or an export",
            path.display()
        );
        Ok(newest)
    }

    /// Reads what a facilitator or an embedded paywall left. Fails while one runs.
    fn in_store(store: &mut dyn VoucherStore) -> Result<Self> {
        let stored = store.load()?;
        let lines = stored.channels.iter().map(line_of);
        let lines = lines.map(|line| (line.voucher.channel_id, line)).collect();
        Ok(Self { lines, ..Self::default() })
    }

    /// Reads JSON lines: an export, or a paywall's file. What cannot be read is counted, since one bad line is no
    /// reason to lose what the others are worth.
    pub fn in_lines(mut from: impl BufRead) -> Result<Self> {
        let mut newest = Self::default();
        for number in 1..=MAX_LINES {
            let Some(line) = next_line(&mut from)? else {
                return Ok(newest);
            };
            match line.as_deref().map(parse) {
                Some(Some(line)) => newest.add(line),
                _ if line.is_some_and(|line| line.is_empty()) => {}
                None | Some(None) => newest.unreadable.push(number),
            }
        }
        bail!("more than {MAX_LINES} lines: split the file")
    }

    /// Keeps the newest of two vouchers of a channel, and the largest charge: neither ever falls.
    pub fn add(&mut self, line: VoucherLine) {
        let id = line.voucher.channel_id;
        let Some(kept) = self.lines.get_mut(&id) else {
            self.lines.insert(id, line);
            return;
        };
        let mut other = line.voucher;
        if other.max_claimable_amount > kept.voucher.max_claimable_amount {
            std::mem::swap(&mut kept.voucher, &mut other);
        }
        if other != kept.voucher {
            let older = self.older.entry(id).or_default();
            let at = older.partition_point(|one| one.max_claimable_amount > other.max_claimable_amount);
            older.insert(at, other);
            older.truncate(MAX_OLDER);
        }
        kept.charged = kept.charged.max(line.charged);
        kept.page = line.page.or(kept.page);
        kept.book = line.book.or(kept.book);
    }

    /// The lines of a channel, one for each voucher that is kept of it, newest first.
    pub fn candidates(&self, id: &Key) -> impl Iterator<Item = VoucherLine> {
        let newest = self.lines.get(id).copied();
        let older = self.older.get(id).into_iter().flatten();
        newest.into_iter().chain(older.filter_map(move |voucher| Some(VoucherLine { voucher: *voucher, ..newest? })))
    }

    fn write(&self, to: &mut impl Write) -> Result<()> {
        for line in self.lines.values() {
            let mut json = serde_json::to_vec(line)?;
            json.push(b'\n');
            to.write_all(&json)?;
        }
        Ok(to.flush()?)
    }
}

impl fmt::Display for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lines.len() {
            1 => f.write_str("1 voucher, the newest of its channel")?,
            vouchers => write!(f, "{vouchers} vouchers, the newest of each channel")?,
        }
        match self.unreadable.as_slice() {
            [] => Ok(()),
            [one] => write!(f, "; line {one} is no voucher (a crash may have cut it)"),
            [first, ..] => {
                write!(f, "; {} lines are no vouchers, the first of them line {first}", self.unreadable.len())
            }
        }
    }
}

/// A line without its end; the inner `None` for one that is too long. `None` at the end.
fn next_line(from: &mut impl BufRead) -> Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE_BYTES)?;
    if from.take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let is_whole = line.ends_with(b"\n") || line.len() < MAX_LINE_BYTES;
    if !is_whole {
        // The rest of it is read and left.
        while from.take(limit).read_until(b'\n', &mut line)? > 0 && !line.ends_with(b"\n") {
            line.clear();
        }
        return Ok(Some(None));
    }
    Ok(Some(Some(line.trim_ascii().to_vec())))
}

/// A new file for its owner alone.
fn private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(path);
    opened.with_context(|| format!("cannot make {}: it must not exist yet", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_ledger::{Change, Place};
    use tallybook_rules::Amount;
    use tallybook_rules::signing::{SignedVoucher, SigningKey};
    use tallybook_wire::Signature;

    fn voucher(channel: u8, amount: u64) -> Voucher {
        Voucher {
            channel_id: Key([channel; 32]),
            max_claimable_amount: Amount::new(amount),
            signature: Signature([7; 64]),
        }
    }

    fn line(channel: u8, signed: u64, charged: u64) -> VoucherLine {
        VoucherLine { voucher: voucher(channel, signed), charged: Amount::new(charged), page: None, book: None }
    }

    #[test]
    fn given_a_paywalls_file_that_a_crash_cut_when_read_then_the_newest_of_each_channel_is_there() {
        let mut file = Vec::new();
        for one in [voucher(1, 10), voucher(2, 5), voucher(1, 30), voucher(1, 20)] {
            file.extend(serde_json::to_vec(&one).unwrap());
            file.push(b'\n');
        }
        file.extend(b"\n{\"channelId\":\"4uQ");
        let newest = Newest::in_lines(file.as_slice()).unwrap();
        assert_eq!(newest.unreadable, [6]);
        let due: Vec<_> = newest.lines.values().map(|line| line.due().get()).collect();
        assert_eq!(due, [30, 5], "bare vouchers are charged in full");
    }

    #[test]
    fn given_an_export_when_read_then_it_is_the_same_and_no_order_matters() {
        // A later voucher may be for less: what was charged fell behind what was signed.
        let lines = [line(1, 500, 120), line(1, 450, 400), line(2, 9, 9)];
        let mut one = Newest::default();
        lines.iter().for_each(|line| one.add(*line));
        let mut other = Newest::default();
        lines.iter().rev().for_each(|line| other.add(*line));
        assert_eq!(one, other);
        assert_eq!(one.lines[&Key([1; 32])].due(), Amount::new(400));
        assert_eq!(one.lines[&Key([1; 32])].voucher.max_claimable_amount, Amount::new(500));
        let amounts: Vec<_> = one.candidates(&Key([1; 32])).map(|line| line.due().get()).collect();
        assert_eq!(amounts, [400, 400], "and an older voucher, should the newest be forged");
        let mut file = Vec::new();
        one.write(&mut file).unwrap();
        assert_eq!(Newest::in_lines(file.as_slice()).unwrap().lines, one.lines);
    }

    #[test]
    fn given_more_charged_than_signed_when_read_then_no_more_than_signed_is_due() {
        assert_eq!(line(1, 500, 900).due(), Amount::new(500));
    }

    #[test]
    fn given_a_line_without_end_when_read_then_memory_is_bounded_and_the_next_one_counts() {
        let mut file = vec![b'x'; 3 * MAX_LINE_BYTES + 5];
        file.push(b'\n');
        file.extend(serde_json::to_vec(&voucher(1, 10)).unwrap());
        let newest = Newest::in_lines(file.as_slice()).unwrap();
        assert_eq!((newest.unreadable, newest.lines.len()), (vec![1], 1));
    }

    #[test]
    fn given_a_database_when_exported_then_its_rows_are_there_unless_somebody_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facilitator.sqlite");
        let key = SigningKey::from_bytes(&[3; 32]);
        let record = ChannelRecord {
            place: Place { page: [9; 32], slot: 4, generation: 2 },
            payer: [1; 32],
            signer: key.verifying_key().to_bytes(),
            voucher: SignedVoucher::sign(&key, [5; 32], Amount::new(700)),
            charged: Amount::new(600),
            last: None,
            unsettled_since: 1,
            leaving_since: 0,
        };
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[Change::Channel(record)]).unwrap();
        let refused = format!("{:#}", Newest::in_file(&path).unwrap_err());
        assert!(refused.contains("in use"), "{refused}");
        drop(store);
        let newest = Newest::in_file(&path).unwrap();
        let line = newest.lines[&Key([5; 32])];
        assert_eq!((line.due(), line.page), (Amount::new(600), Some(Key([9; 32]))));
    }

    #[test]
    fn given_another_file_when_exported_then_it_is_said_what_to_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "hello\n").unwrap();
        let refused = format!("{:#}", Newest::in_file(&path).unwrap_err());
        assert!(refused.contains("keep_vouchers_in"), "{refused}");
        assert!(Newest::in_file(&folder.path().join("none")).is_err());
        assert!(!folder.path().join("none").exists(), "a missing database is not made");
    }
}
