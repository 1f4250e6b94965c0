//! A machine that loses its power at any moment: what the store has answered for is there when it comes back.
//!
//! The real store works, and everything that it does to its files is recorded. Then the power is lost at each moment of it,
//! and the disk holds what was synced, with any part of what was not: sectors of 512 bytes that arrived or did not, each by
//! itself and whatever their order, some of them half; files and removals of files that the folder has forgotten. The real
//! store opens each such disk, and must hold exactly the commits that were answered, or those and the one under way.
//!
//! Modelled is a disk that keeps what it was told to sync, and changes no byte that was not written. Not modelled are disks
//! that lie about a sync (the test says what is lost on those), and bytes that rot.
//!
//! `TALLYBOOK_MOMENTS=N` takes every N-th moment only; 1 takes all of them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test says what it expects, and counts far from every limit"
)]

mod disk;
mod recorder;

use disk::{Disk, Lies, Luck};
use rand::SeedableRng;
use rand::rngs::StdRng;
use recorder::Step;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;
use tallybook_ledger::{Attempt, Change, ChannelRecord, LastCall, Place, Purpose};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_store::{MemoryStore, SqliteStore, Stored, VoucherStore};
use tempfile::TempDir;

/// Enough for several checkpoints: the log is written back after 1,000 pages.
const COMMITS: u64 = 90;
/// Channels that a commit writes at once.
const CHANNELS: u64 = 40;
/// The process ends in order and starts again after so many commits.
const RESTART_AFTER: u64 = 60;
const FILE: &str = "vouchers.db";

/// What is written by the commit of this number.
fn changes(commit: u64) -> Vec<Change> {
    let amount = Amount::new(commit * 100);
    // The first ones are small, as most are; later ones fill the log.
    let channels = if commit <= 12 { 1 + commit % 3 } else { CHANNELS };
    let mut changes: Vec<Change> = (0..channels)
        .map(|channel| {
            let byte = u8::try_from((channel + commit) % 64).unwrap();
            Change::Channel(ChannelRecord {
                place: Place { page: [9; 32], slot: byte, generation: 1 },
                payer: [byte; 32],
                signer: [byte; 32],
                voucher: SignedVoucher { channel_id: [byte; 32], cumulative: amount, signature: [byte; 64] },
                charged: amount,
                last: Some(LastCall { cumulative: amount, signature: [byte; 64], charge: Some(amount) }),
                unsettled_since: 7,
                leaving_since: 0,
            })
        })
        .collect();
    let number = u8::try_from(commit).unwrap();
    let attempt = Attempt { signature: [number; 64], last_valid_block_height: commit };
    changes.push(Change::Sending { purpose: Purpose::Deposit([number; 32]), attempt });
    changes.push(Change::Table { page: [number; 32], table: [number; 32] });
    changes
}

/// What a life of a store did to its disk, and what it held after each commit.
struct Life {
    steps: Vec<Step>,
    held: Vec<Stored>,
}

impl Life {
    fn live() -> Self {
        let folder = folder();
        let path = folder.path().join(FILE);
        recorder::begin(folder.path());
        let mut store = SqliteStore::open(&path).unwrap();
        let mut model = MemoryStore::default();
        let mut held = vec![model.load().unwrap()];
        recorder::answered(0);
        for commit in 1..=COMMITS {
            if commit == RESTART_AFTER {
                drop(store);
                store = SqliteStore::open(&path).unwrap();
            }
            let changes = changes(commit);
            store.commit(&changes).unwrap();
            recorder::answered(usize::try_from(commit).unwrap());
            model.commit(&changes).unwrap();
            held.push(model.load().unwrap());
        }
        drop(store);
        Self { steps: recorder::end(), held }
    }

    /// Loses the power at every `every`-th moment. What was found wrong, by moment; and how many disks were looked at.
    fn lose_power(&self, every: usize, lies: Lies, random: &mut StdRng) -> (Vec<String>, usize) {
        let (mut disk, mut answered, mut wrong, mut looked) = (Disk::that(lies), None, Vec::new(), 0);
        for (moment, step) in self.steps.iter().enumerate() {
            disk.take(step);
            if let Step::Answered { commits } = step {
                answered = Some(*commits);
            }
            if moment % every != 0 {
                continue;
            }
            for luck in [Luck::Nothing, Luck::Everything, Luck::Some, Luck::Some, Luck::Some] {
                looked += 1;
                let found = disk.after_loss(luck, random);
                if let Err(what) = self.look(&found, answered) {
                    wrong.push(format!("at {moment} of {}, with {luck:?}: {what}", self.steps.len()));
                }
            }
        }
        (wrong, looked)
    }

    /// Opens what was found, and compares it with what was answered; nothing was before the store had first opened.
    fn look(&self, found: &BTreeMap<String, Vec<u8>>, answered: Option<usize>) -> Result<(), String> {
        let folder = folder();
        for (name, bytes) in found {
            write_private(&folder.path().join(name), bytes);
        }
        let mut store =
            SqliteStore::open(&folder.path().join(FILE)).map_err(|failure| format!("does not open: {failure}"))?;
        let stored = store.load().map_err(|failure| format!("does not load: {failure}"))?;
        let least = answered.unwrap_or(0);
        let may = self.held.iter().skip(least).take(2);
        if may.into_iter().any(|held| *held == stored) {
            return Ok(());
        }
        let holds = self.held.iter().position(|held| *held == stored);
        Err(format!("{least} commits were answered, and it holds {holds:?}"))
    }
}

/// In memory, where the machine has such a place: what would be on a disk is worked out here.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn every() -> usize {
    std::env::var("TALLYBOOK_MOMENTS").map_or(7, |text| text.parse().expect("a number"))
}

#[test]
fn given_a_loss_of_power_at_any_moment_when_the_store_opens_then_all_that_was_answered_is_there() {
    let (life, began) = (Life::live(), Instant::now());
    let syncs = life.steps.iter().filter(|step| matches!(step, Step::Sync { .. })).count();
    let written_back =
        life.steps.iter().any(|step| matches!(step, Step::Write { file, at, .. } if file == FILE && *at > 0));
    assert!(u64::try_from(syncs).unwrap() >= COMMITS && written_back, "{syncs} syncs; checkpoints: {written_back}");
    let (wrong, looked) = life.lose_power(every(), Lies::None, &mut StdRng::seed_from_u64(1));
    assert!(wrong.is_empty(), "{} of {looked}:\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("{looked} disks after {} steps, {syncs} of them syncs, in {:?}", life.steps.len(), began.elapsed());
}

#[test]
fn given_a_store_or_disk_that_leaves_syncs_out_when_power_is_lost_then_this_test_sees_what_is_gone() {
    let life = Life::live();
    for lies in [Lies::Log, Lies::All] {
        let (wrong, looked) = life.lose_power(29, lies, &mut StdRng::seed_from_u64(2));
        assert!(wrong.iter().any(|what| what.contains("were answered")), "{lies:?}: nothing in {looked}");
    }
}
