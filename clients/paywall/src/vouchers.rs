//! The newest voucher of each channel, in a file of the server's own.
//!
//! An append-only file of JSON lines, one per commit, which is rewritten with the newest ones alone when it has grown
//! well beyond them. A line that a crash cut short is skipped: the facilitator has the durable copy.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tallybook_wire::{Key, Voucher};

/// How long a written line may be in memory of the operating system alone.
const SYNC_AFTER: Duration = Duration::from_secs(1);
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
    newest: HashMap<Key, Voucher>,
    lines: usize,
    synced: Instant,
}

impl Vouchers {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = options().read(true).append(true).create(true).open(path)?;
        let (mut newest, mut lines) = (HashMap::new(), 0usize);
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        let mut cut = false;
        while reader.read_line(&mut line)? > 0 {
            cut = !line.ends_with('\n');
            if let Ok(voucher) = serde_json::from_str(&line) {
                keep(&mut newest, voucher);
            }
            lines = lines.saturating_add(1);
            line.clear();
        }
        if cut {
            // What a crash left of a line must not swallow the next one.
            file.write_all(b"\n")?;
        }
        let kept = Kept { file, newest, lines, synced: Instant::now() };
        Ok(Self { path: path.to_owned(), kept: Mutex::new(kept) })
    }

    /// Keeps a voucher unless a newer one of its channel is kept.
    pub(crate) fn keep(&self, voucher: Voucher) -> Result<()> {
        let mut kept = self.lock();
        if !keep(&mut kept.newest, voucher) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&voucher)?;
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
    pub(crate) fn newest(&self) -> Vec<Voucher> {
        self.lock().newest.values().copied().collect()
    }

    /// The newest voucher of this channel.
    pub(crate) fn of(&self, channel: &Key) -> Option<Voucher> {
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

/// True when this voucher is newer than what was kept.
fn keep(newest: &mut HashMap<Key, Voucher>, voucher: Voucher) -> bool {
    let older = |kept: &Voucher| kept.max_claimable_amount < voucher.max_claimable_amount;
    let is_newer = newest.get(&voucher.channel_id).is_none_or(older);
    if is_newer {
        newest.insert(voucher.channel_id, voucher);
    }
    is_newer
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

    fn voucher(channel: u8, amount: u64) -> Voucher {
        Voucher {
            channel_id: Key([channel; 32]),
            max_claimable_amount: Amount::new(amount),
            signature: Signature([7; 64]),
        }
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
    fn given_a_line_that_a_crash_cut_when_read_then_the_others_and_the_next_one_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchers.jsonl");
        Vouchers::open(&path).unwrap().keep(voucher(1, 10)).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"channelId\":\"4uQ").unwrap();
        Vouchers::open(&path).unwrap().keep(voucher(2, 20)).unwrap();
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
        assert_eq!(newest.max_claimable_amount, Amount::new(3 * 4_096));
    }
}
