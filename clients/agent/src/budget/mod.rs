//! What an owner's agents may tie up and spend together: one small file, which any number of processes share.
//!
//! The file is read, checked and replaced under a lock of the system, so that two processes never both take the last of a
//! budget. It is written before what it allows leaves: a deposit, or a voucher. A crash in between counts something that
//! never left; it never forgets something that did. What calls may cost is drawn some calls ahead, so that a call hardly
//! ever waits for the disk; what was drawn counts as spent until it is given back.

mod figures;

use crate::breach::Breach;
use crate::disk;
use crate::error::AgentError;
use crate::policy::Limits;
use crate::pool::lock;
pub(crate) use figures::Counted;
use figures::Figures;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tallybook_rules::Amount;
use tallybook_wire::Key;

/// Unix seconds, as the agent's clock tells them.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// How many calls are drawn ahead at a time.
const CALLS_AHEAD: u64 = 16;
/// How long another process may hold the lock: it does so for a write at a time.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The budget of an owner, as one agent uses it.
pub(crate) struct Budget {
    file: PathBuf,
    lock: PathBuf,
    owner: String,
    limits: Limits,
    /// What calls may cost is counted: there is a limit by time, or another agent may have one.
    counts_calls: bool,
    /// What was drawn in which minute and is not spent (any more).
    held: Mutex<BTreeMap<i64, Amount>>,
    pub(crate) clock: Clock,
}

/// What counts against the budgets just now, for all agents that share them. In base units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BudgetReport {
    /// Tied up in channels or spent, in all.
    pub committed: Amount,
    /// The same by host.
    pub by_host: BTreeMap<String, Amount>,
    /// What calls may have cost in the last hour (and up to a minute before). Counted where there is a limit by time or a
    /// budget directory of its own.
    pub last_hour: Amount,
    /// The same for the last day (and up to an hour before).
    pub last_day: Amount,
}

impl Budget {
    /// The budget in `directory`, made if need be, for the agent whose state is that of `owner`.
    pub(crate) fn open(
        directory: &Path,
        owner: String,
        limits: Limits,
        is_shared: bool,
        clock: Clock,
    ) -> Result<Self, AgentError> {
        disk::create_private_directory(directory)
            .map_err(|source| AgentError::Journal { path: directory.to_owned(), source })?;
        let counts_calls = is_shared || limits.per_hour.is_some() || limits.per_day.is_some();
        Ok(Self {
            file: directory.join("budget.json"),
            lock: directory.join("budget.lock"),
            owner,
            limits,
            counts_calls,
            held: Mutex::default(),
            clock,
        })
    }

    /// Takes over what the journal knows, when the agent starts.
    pub(crate) fn take_over(&self, channels: Vec<(Key, Counted)>) -> Result<(), AgentError> {
        let owner = self.owner.clone();
        self.change_now(move |figures| {
            figures.take_over(&owner, channels);
            Ok(())
        })
    }

    /// Commits a deposit or a top-up of a channel, if the budgets leave room for it.
    pub(crate) async fn commit(self: &Arc<Self>, id: Key, host: String, more: Amount) -> Result<(), AgentError> {
        let (owner, limits) = (self.owner.clone(), self.limits);
        self.change(move |figures| figures.commit(&limits, &owner, (id, &host), more)).await
    }

    /// What a channel counts with from now on.
    pub(crate) async fn set(self: &Arc<Self>, id: Key, counted: Counted) -> Result<(), AgentError> {
        let owner = self.owner.clone();
        self.change(move |figures| {
            figures.set(&owner, id, counted);
            Ok(())
        })
        .await
    }

    /// Counts that a call may cost `price` before its voucher leaves.
    pub(crate) async fn spend(self: &Arc<Self>, price: Amount) -> Result<Spend, AgentError> {
        let mut spend = Spend { budget: Arc::clone(self), minute: 0, amount: price };
        if !self.counts_calls {
            return Ok(spend);
        }
        let now = (self.clock)();
        let rest = {
            let mut held = lock(&self.held);
            // What was drawn in another minute is not spent in this one: it would be counted in the wrong hour.
            if let Some(left) = held.get_mut(&now.div_euclid(60)).filter(|left| **left >= price) {
                *left = left.less(price);
                spend.minute = now.div_euclid(60);
                return Ok(spend);
            }
            std::mem::take(&mut *held)
        };
        let (limits, given_back) = (self.limits, rest.clone());
        let most = price.times(CALLS_AHEAD).unwrap_or(price);
        // What was held goes back in any case: refused, this agent keeps nothing that others could spend.
        let drawn = self.change(move |figures| {
            figures.give_back(&given_back);
            Ok(figures.draw(&limits, (price, most), now))
        });
        let drawn = drawn.await.inspect_err(|_| rest.iter().for_each(|(minute, left)| self.hold(*minute, *left)))?;
        let (minute, taken) = drawn?;
        self.hold(minute, taken.less(price));
        spend.minute = minute;
        Ok(spend)
    }

    fn hold(&self, minute: i64, left: Amount) {
        let mut held = lock(&self.held);
        let all = held.entry(minute).or_default();
        *all = all.plus(left).unwrap_or(*all);
    }

    /// Gives back what was drawn and not spent.
    pub(crate) async fn give_back(self: &Arc<Self>) -> Result<(), AgentError> {
        let rest = std::mem::take(&mut *lock(&self.held));
        self.change(move |figures| {
            figures.give_back(&rest);
            Ok(())
        })
        .await
    }

    /// What counts against the budgets.
    pub(crate) async fn report(self: &Arc<Self>) -> Result<BudgetReport, AgentError> {
        let now = (self.clock)();
        let rest = std::mem::take(&mut *lock(&self.held));
        self.change(move |figures| {
            figures.give_back(&rest);
            figures.forget_before(now);
            Ok(BudgetReport {
                committed: figures.committed(),
                by_host: figures.hosts(),
                last_hour: figures.last_hour(),
                last_day: figures.last_day(),
            })
        })
        .await
    }

    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Figures) -> Result<T, Breach> + Send + 'static,
    ) -> Result<T, AgentError> {
        let budget = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || budget.change_now(change)).await;
        changed.unwrap_or_else(|join| Err(self.failed(io::Error::other(join))))
    }

    fn change_now<T>(&self, change: impl FnOnce(&mut Figures) -> Result<T, Breach>) -> Result<T, AgentError> {
        let held = self.take_lock().map_err(|source| self.failed(source))?;
        let before = self.read().map_err(|source| self.failed(source))?;
        let mut figures = before.clone();
        let changed = change(&mut figures)?;
        if figures != before {
            let json = serde_json::to_vec(&figures).map_err(|error| self.failed(error.into()))?;
            disk::replace(&self.file, &json).map_err(|source| self.failed(source))?;
        }
        drop(held);
        Ok(changed)
    }

    /// Waits for the others. A handle of its own each time: a lock is between handles, of threads and processes alike.
    fn take_lock(&self) -> io::Result<File> {
        let file = disk::private(OpenOptions::new().create(true).write(true).truncate(false)).open(&self.lock)?;
        let until = Instant::now().checked_add(LOCK_PATIENCE);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if until.is_none_or(|until| Instant::now() >= until) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds its lock"));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            }
        }
    }

    fn read(&self) -> io::Result<Figures> {
        match disk::read(&self.file, MAX_FILE_BYTES) {
            Ok(json) => Ok(serde_json::from_slice(&json)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Figures::default()),
            Err(error) => Err(error),
        }
    }

    fn failed(&self, source: io::Error) -> AgentError {
        AgentError::Budget { path: self.file.clone(), source }
    }
}

/// What a call may cost, counted. Dropped without a word it stays so.
pub(crate) struct Spend {
    budget: Arc<Budget>,
    minute: i64,
    amount: Amount,
}

impl Spend {
    /// What is counted.
    pub(crate) const fn amount(&self) -> Amount {
        self.amount
    }

    /// The outcome was seen: the call cost `cost`, and the rest may be spent by others.
    pub(crate) fn settle(self, cost: Amount) {
        if self.budget.counts_calls {
            self.budget.hold(self.minute, self.amount.less(cost));
        }
    }
}
