//! A disk without power: what can be on it, given what was written and what was synced.

use crate::recorder::Step;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

/// What disks write at once. SQLite asks for no more than that bytes beside those written stay as they are.
const SECTOR: usize = 512;

/// A file: what would survive, and what was done to it since.
#[derive(Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

/// Something that may have reached the disk, or not, whatever came before and after.
#[derive(Clone)]
enum Pending {
    /// At most one sector of a write.
    Sector {
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        length: usize,
    },
}

/// The folder of a store, at some point of what was done to it.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, File>,
    /// Those that the folder would show after a loss of power.
    listed: BTreeMap<String, File>,
    /// Whether syncs are heeded.
    lies: Lies,
}

/// Which syncs a disk, or the store above it, leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Lies {
    /// None.
    #[default]
    None,
    /// Those of the log: a store that is told `synchronous = NORMAL`.
    Log,
    /// All: `synchronous = OFF`, or a disk that lies.
    All,
}

/// How much of what is pending reaches the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Luck {
    Nothing,
    Everything,
    /// Each sector by itself, some of them in part, and names in the folder too.
    Some,
}

impl Disk {
    pub(crate) fn that(lies: Lies) -> Self {
        Self { lies, ..Self::default() }
    }

    /// Takes note of a step.
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Write { file, at, bytes } => {
                let pending = &mut self.files.entry(file.clone()).or_default().pending;
                // Along the sectors of the disk, not those of the write.
                let mut from = *at;
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(rest.len().min(SECTOR - from % SECTOR));
                    pending.push(Pending::Sector { at: from, bytes: now.to_vec() });
                    from += now.len();
                    rest = later;
                }
            }
            Step::Cut { file, length } => {
                self.files.entry(file.clone()).or_default().pending.push(Pending::Cut { length: *length });
            }
            Step::Gone { file } => drop(self.files.remove(file)),
            Step::Sync { file } => {
                let is_log = file.ends_with("-wal");
                if self.lies == Lies::All || (self.lies == Lies::Log && is_log) {
                    return;
                }
                if let Some(file) = self.files.get_mut(file) {
                    file.durable = file.after(|_| Fate::Whole);
                    file.pending.clear();
                }
            }
            Step::SyncFolder if self.lies == Lies::All => {}
            Step::SyncFolder => self.listed = self.files.clone(),
            Step::Answered { .. } => {}
        }
    }

    /// What is there when the power is back.
    pub(crate) fn after_loss(&self, luck: Luck, random: &mut StdRng) -> BTreeMap<String, Vec<u8>> {
        let mut names: Vec<&String> = self.files.keys().chain(self.listed.keys()).collect();
        names.sort();
        names.dedup();
        let mut found = BTreeMap::new();
        for name in names {
            let (now, before) = (self.files.get(name), self.listed.get(name));
            let heeds_now = match luck {
                Luck::Nothing => false,
                Luck::Everything => true,
                Luck::Some => random.random_ratio(1, 2),
            };
            // A file that the folder has shown durably is the same file as now, unless it is gone or was made anew.
            let file = if before.is_some() == now.is_some() || heeds_now { now } else { before };
            if let Some(file) = file {
                let bytes = file.after(|_| match luck {
                    Luck::Nothing => Fate::Lost,
                    Luck::Everything => Fate::Whole,
                    Luck::Some => match random.random_range(0..8) {
                        0..4 => Fate::Whole,
                        4..7 => Fate::Lost,
                        _ => Fate::Torn(random.random_range(0..SECTOR)),
                    },
                });
                found.insert(name.clone(), bytes);
            }
        }
        found
    }
}

/// What becomes of one pending change.
#[derive(Clone, Copy)]
enum Fate {
    Whole,
    Lost,
    /// Only so many bytes of it.
    Torn(usize),
}

impl File {
    fn after(&self, mut fate: impl FnMut(&Pending) -> Fate) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for pending in &self.pending {
            let fate = fate(pending);
            match (pending, fate) {
                (_, Fate::Lost) => {}
                (Pending::Cut { length }, Fate::Whole | Fate::Torn(_)) => bytes.resize(*length, 0),
                (Pending::Sector { at, bytes: new }, Fate::Whole | Fate::Torn(_)) => {
                    let whole = if let Fate::Torn(bytes) = fate { bytes.min(new.len()) } else { new.len() };
                    if bytes.len() < at + whole {
                        bytes.resize(at + whole, 0);
                    }
                    bytes[*at..at + whole].copy_from_slice(&new[..whole]);
                }
            }
        }
        bytes
    }
}
