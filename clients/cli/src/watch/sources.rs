//! The vouchers that a watchtower holds, in files that others put there and replace.

use crate::output::say;
use crate::vouchers::Newest;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most files of one folder.
const MAX_FILES: usize = 10_000;

/// Files of vouchers, and folders of them. A file is read again when it has changed; what was once read of it is kept, so that
/// a file that is taken away, cut or emptied takes nothing from those it protects.
#[derive(Debug)]
pub(super) struct Sources {
    named: Vec<PathBuf>,
    /// When each file was changed and how long it was, when it was read.
    read: BTreeMap<PathBuf, (SystemTime, u64)>,
    /// The newest voucher of each channel in all of them.
    pub(super) newest: Newest,
}

impl Sources {
    /// Those at these paths.
    pub(super) fn new(named: Vec<PathBuf>) -> Self {
        Self { named, read: BTreeMap::new(), newest: Newest::default() }
    }

    /// Reads what is new. A file that cannot be read is named and left for the next time: it must not stop the others.
    pub(super) fn look(&mut self) {
        for named in &self.named.clone() {
            match files_at(named) {
                Ok(files) => files.iter().for_each(|file| self.take(file)),
                Err(error) => say(format_args!("{}: {error:#}", named.display())),
            }
        }
    }

    fn take(&mut self, file: &Path) {
        let read = self.read_if_changed(file);
        if let Err(error) = read {
            say(format_args!("{}: {error:#}", file.display()));
        }
    }

    fn read_if_changed(&mut self, file: &Path) -> Result<()> {
        let metadata = fs::metadata(file).context("cannot be read")?;
        let state = (metadata.modified()?, metadata.len());
        if self.read.get(file) == Some(&state) || metadata.len() == 0 {
            return Ok(());
        }
        let read = Newest::in_file(file)?;
        read.lines.keys().flat_map(|id| read.candidates(id)).for_each(|line| self.newest.add(line));
        // Noted only now: a file that fails is tried again.
        self.read.insert(file.to_owned(), state);
        Ok(())
    }
}

/// The file itself, or the `.jsonl` files of a folder.
fn files_at(named: &Path) -> Result<Vec<PathBuf>> {
    if !fs::metadata(named).context("cannot be read")?.is_dir() {
        return Ok(vec![named.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(named)?.take(MAX_FILES) {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("jsonl")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vouchers::VoucherLine;
    use tallybook_rules::Amount;
    use tallybook_wire::{Key, Signature, Voucher};

    fn line(channel: u8, amount: u64) -> String {
        let voucher = Voucher {
            channel_id: Key([channel; 32]),
            max_claimable_amount: Amount::new(amount),
            signature: Signature([7; 64]),
        };
        let line = VoucherLine { voucher, charged: Amount::new(amount), page: None, book: None };
        format!("{}\n", serde_json::to_string(&line).unwrap())
    }

    #[test]
    fn given_a_folder_when_its_files_come_change_and_go_then_the_newest_vouchers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut sources = Sources::new(vec![folder.path().to_owned()]);
        let due = |sources: &mut Sources| {
            sources.look();
            sources.newest.lines.values().map(|line| line.due().get()).collect::<Vec<_>>()
        };
        assert_eq!(due(&mut sources), [0; 0]);
        fs::write(path("one.jsonl"), line(1, 10)).unwrap();
        fs::write(path("other.jsonl"), line(2, 5)).unwrap();
        fs::write(path("notes.txt"), "nothing").unwrap();
        assert_eq!(due(&mut sources), [10, 5]);
        fs::write(path("one.jsonl"), [line(1, 10), line(1, 300)].concat()).unwrap();
        assert_eq!(due(&mut sources), [300, 5]);
        // An older export in its place, a file that is gone, one that is emptied: what was held is held still.
        fs::write(path("one.jsonl"), line(1, 7)).unwrap();
        fs::remove_file(path("other.jsonl")).unwrap();
        assert_eq!(due(&mut sources), [300, 5]);
        fs::write(path("one.jsonl"), "").unwrap();
        assert_eq!(due(&mut sources), [300, 5]);
    }
}
