//! The newest voucher of each channel, in a file of the server's own.
//!
//! An append-only file of JSON lines, one per commit, which is rewritten with the newest ones alone when it has grown
//! well beyond them: `{"voucher":{…},"charged":"…"}`, as `POST /vouchers` takes them and the command line settles them. A
//! line that a crash cut short, or a broken disk made something else, is skipped: the facilitator has the durable copy.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tallybook_wire::{ForwardedVoucher, Key, Voucher};

/// How long a written line may be in memory of the operating system alone.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// The longest line that is read, in bytes; a voucher's has about 300.
const MAX_LINE_BYTES: usize = 4_096;
/// The file is not rewritten below so many lines.
const MIN_LINES: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Vouchers {
    path: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    file: File,
    newest: HashMap<Key, ForwardedVoucher>,
    lines: usize,
    synced: Instant,
}

impl Vouchers {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = options().read(true).append(true).create(true).open(path)?;
        let (mut newest, mut lines) = (HashMap::new(), 0usize);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        let mut cut = false;
        while let Some(is_whole) = next_line(&mut reader, &mut line)? {
            cut = !is_whole;
            if let Some(voucher) = read(&line) {
                keep(&mut newest, voucher);
            }
            lines = lines.saturating_add(1);
        }
        if cut {
            // What a crash left of a line must not swallow the next one.
            file.write_all(b"\n")?;
        }
        let kept = Kept { file, newest, lines, synced: Instant::now() };
        Ok(Self { path: path.to_owned(), kept: Mutex::new(kept) })
    }

    /// Keeps what is newer in it than what is kept of its channel: the voucher, or what is charged of it.
    pub(crate) fn keep(&self, voucher: ForwardedVoucher) -> Result<()> {
        let mut kept = self.lock();
        let Some(newest) = keep(&mut kept.newest, voucher) else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(&newest)?;
        line.push(b'\n');
        kept.file.write_all(&line)?;
        kept.lines = kept.lines.saturating_add(1);
        if kept.lines > MIN_LINES.max(kept.newest.len().saturating_mul(4)) {
            self.rewrite(&mut kept)
        } else if kept.synced.elapsed() >= SYNC_AFTER {
            kept.synced = Instant::now();
            kept.file.sync_data()
        } else {
            Ok(())
        }
    }

    /// The newest voucher of each channel, in no order.
    pub(crate) fn newest(&self) -> Vec<ForwardedVoucher> {
        self.lock().newest.values().copied().collect()
    }

    /// The newest voucher of this channel.
    pub(crate) fn of(&self, channel: &Key) -> Option<ForwardedVoucher> {
        self.lock().newest.get(channel).copied()
    }

    fn rewrite(&self, kept: &mut Kept) -> Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = options().write(true).truncate(true).create(true).open(&beside)?;
        let mut lines = Vec::new();
        for voucher in kept.newest.values() {
            serde_json::to_writer(&mut lines, voucher)?;
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        kept.file = options().append(true).open(&self.path)?;
        kept.lines = kept.newest.len();
        kept.synced = Instant::now();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what is newer, and says what is the newest now; none when nothing is.
fn keep(newest: &mut HashMap<Key, ForwardedVoucher>, new: ForwardedVoucher) -> Option<ForwardedVoucher> {
    let kept = newest.get(&new.voucher.channel_id).copied();
    let next = kept.map_or(new, |kept| ForwardedVoucher {
        // A call that charges less than was signed leaves a voucher that covers later calls too.
        voucher: if new.voucher.max_claimable_amount > kept.voucher.max_claimable_amount {
            new.voucher
        } else {
            kept.voucher
        },
        charged: kept.charged.max(new.charged),
    });
    if kept == Some(next) {
        return None;
    }
    newest.insert(next.voucher.channel_id, next);
    Some(next)
}

/// A line of ours, or of before calls were metered: then all that was signed is charged.
fn read(line: &[u8]) -> Option<ForwardedVoucher> {
    let before = |voucher: Voucher| ForwardedVoucher { voucher, charged: voucher.max_claimable_amount };
    serde_json::from_slice(line).ok().or_else(|| serde_json::from_slice(line).ok().map(before))
}

/// Reads the next line, and says whether it has its end; `None` after the last one. Of a line that is too long nothing is
/// kept, and what is no text is left to the reader of the line: neither hides the lines after it.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Option<bool>> {
    line.clear();
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    let (mut any, mut too_long) = (false, false);
    loop {
        if from.take(limit).read_until(b'\n', line)? == 0 {
            return Ok(any.then_some(false));
        }
        any = true;
        let is_whole = line.ends_with(b"\n");
        too_long |= !is_whole && line.len() >= MAX_LINE_BYTES;
        if too_long {
            line.clear();
        }
        if is_whole {
            return Ok(Some(true));
        }
    }
}

/// Readable by the owner alone: whoever has vouchers can claim for the payee, and sees who paid.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_rules::Amount;
    use tallybook_wire::Signature;

    fn metered(channel: u8, amount: u64, charged: u64) -> ForwardedVoucher {
        let voucher = Voucher {
            channel_id: Key([channel; 32]),
            max_claimable_amount: Amount::new(amount),
            signature: Signature([7; 64]),
        };
        ForwardedVoucher { voucher, charged: Amount::new(charged) }
    }

    fn voucher(channel: u8, amount: u64) -> ForwardedVoucher {
        metered(channel, amount, amount)
    }

    #[test]
    fn given_vouchers_when_the_server_starts_again_then_the_newest_of_each_channel_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchers.jsonl");
        let vouchers = Vouchers::open(&path).unwrap();
        for (channel, amount) in [(1, 10), (2, 5), (1, 30), (1, 20)] {
            vouchers.keep(voucher(channel, amount)).unwrap();
        }
        drop(vouchers);
        let again = Vouchers::open(&path).unwrap();
        assert_eq!(again.of(&Key([1; 32])), Some(voucher(1, 30)));
        assert_eq!(again.of(&Key([2; 32])), Some(voucher(2, 5)));
        assert_eq!(again.newest().len(), 2);
    }

    #[test]
    fn given_calls_below_their_ceiling_when_kept_then_the_largest_voucher_and_the_newest_charge_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchers.jsonl");
        let vouchers = Vouchers::open(&path).unwrap();
        for kept in [metered(1, 100, 10), metered(1, 60, 30), metered(1, 80, 30)] {
            vouchers.keep(kept).unwrap();
        }
        assert_eq!(Vouchers::open(&path).unwrap().of(&Key([1; 32])), Some(metered(1, 100, 30)));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2, "what changes nothing is not written");
        let old = serde_json::to_string(&voucher(2, 7).voucher).unwrap() + "\n";
        OpenOptions::new().append(true).open(&path).unwrap().write_all(old.as_bytes()).unwrap();
        assert_eq!(Vouchers::open(&path).unwrap().of(&Key([2; 32])), Some(voucher(2, 7)));
    }

    #[test]
    fn given_a_line_that_a_crash_cut_when_read_then_the_others_and_the_next_one_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchers.jsonl");
        Vouchers::open(&path).unwrap().keep(voucher(1, 10)).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"channelId\":\"4uQ").unwrap();
        Vouchers::open(&path).unwrap().keep(voucher(2, 20)).unwrap();
        assert_eq!(Vouchers::open(&path).unwrap().newest().len(), 2);
    }

    #[test]
    fn given_bytes_that_are_no_text_or_no_line_when_read_then_the_vouchers_around_them_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchers.jsonl");
        Vouchers::open(&path).unwrap().keep(voucher(1, 10)).unwrap();
        let endless = vec![b'x'; 3 * MAX_LINE_BYTES + 7];
        for garbage in [&b"\xff\xfe\x80\n"[..], &endless, b"\n\0\0"] {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(garbage).unwrap();
        }
        let vouchers = Vouchers::open(&path).unwrap();
        vouchers.keep(voucher(2, 20)).unwrap();
        assert_eq!(Vouchers::open(&path).unwrap().newest().len(), 2);
    }

    #[test]
    fn given_many_commits_when_the_file_grows_then_it_is_rewritten_with_the_newest_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchers.jsonl");
        let vouchers = Vouchers::open(&path).unwrap();
        for amount in 1..=3 * MIN_LINES {
            vouchers.keep(voucher(1, u64::try_from(amount).unwrap())).unwrap();
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MIN_LINES + 1, "{lines} lines for one channel");
        let newest = Vouchers::open(&path).unwrap().of(&Key([1; 32])).unwrap();
        assert_eq!(newest.voucher.max_claimable_amount, Amount::new(3 * 4_096));
    }
}
