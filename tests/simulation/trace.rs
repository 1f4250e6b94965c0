//! What happened in a world, in order: its hash is the same whenever the seed is, and its end is shown when a law breaks.

use crate::virtual_time::now;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// How many of the last lines are kept.
const KEPT: usize = 400;

/// Everybody in a world writes into the same one.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    hash: Sha256,
    count: u64,
    last: VecDeque<String>,
}

impl Trace {
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let now = now();
        let line = format!("{:>5}.{:03} {what}", now / 1_000, now % 1_000);
        let mut lines = self.lock();
        lines.hash.update(&line);
        lines.count += 1;
        if lines.last.len() == KEPT {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
    }

    /// The hash of all lines, and how many there were.
    pub(crate) fn sum(&self) -> ([u8; 32], u64) {
        let lines = self.lock();
        (lines.hash.clone().finalize().into(), lines.count)
    }

    pub(crate) fn last(&self) -> Vec<String> {
        self.lock().last.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().expect("nobody panics while writing")
    }
}
