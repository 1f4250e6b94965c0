//! The record of payments and of administration: see [`AuditLine`]. Lines wait for the disk's turn but never get lost while
//! the process lives: when they cannot be written, it ends. A loss of power takes the last second's; vouchers are safe, they
//! are in the store.

use crate::app::App;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tallybook_ledger::Refused;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    Asked, AuditChain, AuditLine, ChannelPayload, FacilitatorRequest, ForwardedVoucher, Key, MAX_AUDIT_LINE_BYTES,
    Reason, Signature, Voucher, voucher_hash,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Lines that may wait to be written.
const WAITING: usize = 4_096;
/// How long a line may be unsynced, and how soon a file that was moved away is opened anew.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What is written of one act; number and link come when it is.
pub(crate) struct Act(AuditLine);

impl Act {
    fn new(asked: Asked) -> Self {
        Self(AuditLine {
            number: 0,
            at: milliseconds(),
            asked,
            refused: None,
            book: None,
            page: None,
            by: None,
            payer: None,
            payee: None,
            channel_id: None,
            cumulative: None,
            amount: None,
            voucher_hash: None,
            transaction: None,
            previous: Key::default(),
        })
    }

    /// By an administrator, whose name is told where it is known.
    pub(crate) fn administered(asked: Asked, by: Option<&str>) -> Self {
        Self(AuditLine { by: by.map(str::to_owned), ..Self::new(asked).0 })
    }

    /// A page was to pay out what it owed, at the wish of an administrator.
    pub(crate) fn paid_out(
        (book, page): (Key, Key),
        owed: Amount,
        by: Option<&str>,
        outcome: Result<Option<Signature>, Rejection>,
    ) -> Self {
        let line = AuditLine {
            book: Some(book),
            page: Some(page),
            amount: Some(owed),
            ..Self::administered(Asked::PayOut, by).0
        };
        Self(match outcome {
            Ok(transaction) => AuditLine { transaction, ..line },
            Err(rejection) => AuditLine { refused: Some(rejection.into()), ..line },
        })
    }

    /// A page was asked for, and perhaps sent.
    pub(crate) fn page(book: &Key, outcome: Result<Option<Signature>, Rejection>) -> Self {
        let line = AuditLine { book: Some(*book), ..Self::new(Asked::Page).0 };
        Self(match outcome {
            Ok(transaction) => AuditLine { transaction, ..line },
            Err(rejection) => AuditLine { refused: Some(rejection.into()), ..line },
        })
    }

    /// `/verify` of a payment.
    pub(crate) fn verified(request: &FacilitatorRequest, outcome: Result<Done, &Refused>) -> Self {
        let (asked, amount) = match &request.payment_payload.payload {
            ChannelPayload::Voucher { .. } => (Asked::Reserve, Some(request.payment_requirements.amount)),
            ChannelPayload::Deposit { deposit, .. } => (Asked::CheckDeposit, Some(deposit.amount)),
            ChannelPayload::Refund { .. } => (Asked::PrepareRefund, None),
        };
        Self::paid(asked, request, amount, outcome)
    }

    /// `/settle` of a payment.
    pub(crate) fn settled(request: &FacilitatorRequest, outcome: Result<Done, &Refused>) -> Self {
        let (asked, amount) = match &request.payment_payload.payload {
            ChannelPayload::Voucher { .. } => (Asked::Commit, Some(request.payment_requirements.amount)),
            ChannelPayload::Deposit { deposit, .. } => (Asked::Deposit, Some(deposit.amount)),
            ChannelPayload::Refund { .. } => (Asked::Refund, None),
        };
        Self::paid(asked, request, amount, outcome)
    }

    /// `/release` of a payment.
    pub(crate) fn released(request: &FacilitatorRequest, outcome: Result<bool, Rejection>) -> Self {
        let refused = match outcome {
            Ok(true) => None,
            Ok(false) => Some(Rejection::NoReservation),
            Err(rejection) => Some(rejection),
        };
        let act = Self::of(
            Asked::Release,
            &request.payment_requirements.extra.book,
            request.payment_payload.payload.voucher(),
        );
        Self(AuditLine { refused: refused.map(Reason::from), ..act.0 })
    }

    /// A voucher that was forwarded.
    pub(crate) fn forwarded(book: &Key, forwarded: &ForwardedVoucher, refused: Option<Rejection>) -> Self {
        let act = Self::of(Asked::Forward, book, &forwarded.voucher);
        Self(AuditLine { amount: Some(forwarded.charged), refused: refused.map(Reason::from), ..act.0 })
    }

    /// `/verify` or `/settle` of a payment without a channel.
    pub(crate) fn direct(asked: Asked, direct: Direct) -> Self {
        let Direct { payer, payee, amount, transaction, refused } = direct;
        let refused = refused.map(|name| Reason::from(name.to_owned()));
        Self(AuditLine { payer, payee, amount, transaction, refused, ..Self::new(asked).0 })
    }

    fn of(asked: Asked, book: &Key, voucher: &Voucher) -> Self {
        Self(AuditLine {
            book: Some(*book),
            channel_id: Some(voucher.channel_id),
            cumulative: Some(voucher.max_claimable_amount),
            voucher_hash: Some(voucher_hash(&voucher.signature)),
            ..Self::new(asked).0
        })
    }

    fn paid(
        asked: Asked,
        request: &FacilitatorRequest,
        amount: Option<Amount>,
        outcome: Result<Done, &Refused>,
    ) -> Self {
        let voucher = request.payment_payload.payload.voucher();
        let line = AuditLine { amount, ..Self::of(asked, &request.payment_requirements.extra.book, voucher).0 };
        Self(match outcome {
            Ok(done) => AuditLine {
                payer: Some(done.payer),
                transaction: done.transaction,
                amount: done.amount.or(amount),
                ..line
            },
            Err(refused) => AuditLine {
                payer: refused.channel.as_ref().map(|channel| Key(channel.on_chain().payer)),
                refused: Some(refused.rejection.into()),
                ..line
            },
        })
    }
}

/// How a payment went through.
pub(crate) struct Done {
    pub(crate) payer: Key,
    pub(crate) transaction: Option<Signature>,
    /// What was moved, where that is not what was asked for.
    pub(crate) amount: Option<Amount>,
}

/// A payment without a channel, as far as it is known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Direct {
    pub(crate) payer: Option<Key>,
    pub(crate) payee: Option<Key>,
    pub(crate) amount: Option<Amount>,
    pub(crate) transaction: Option<Signature>,
    /// Why not, by name.
    pub(crate) refused: Option<&'static str>,
}

/// Where acts are written down.
#[derive(Debug)]
pub(crate) struct Audit {
    lines: mpsc::Sender<AuditLine>,
    ended: CancellationToken,
}

impl Audit {
    /// Opens the record, or begins it (readable by its owner alone), and starts its writer. What a crash has left of a last
    /// line is cut off.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let record = Record::open(path.to_owned())?;
        let (lines, waiting) = mpsc::channel(WAITING);
        let ended = CancellationToken::new();
        let (end, runtime) = (ended.clone().drop_guard(), tokio::runtime::Handle::current());
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let _end = end;
            if let Err(error) = runtime.block_on(record.write(waiting)) {
                tracing::error!(%error, "the record of payments cannot be written: ending");
            }
        })?;
        Ok(Self { lines, ended })
    }

    /// Cancelled when the record is written no more.
    pub(crate) const fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

impl<C> App<C> {
    /// Writes an act down, if there is a record: [`Rejection::StoreUnavailable`] when it cannot be written.
    pub(crate) async fn record(&self, act: impl FnOnce() -> Act) -> Result<(), Rejection> {
        match &self.audit {
            None => Ok(()),
            Some(audit) => audit.lines.send(act().0).await.map_err(|_| Rejection::StoreUnavailable),
        }
    }
}

/// The file, and where its chain of lines stands.
struct Record {
    path: PathBuf,
    file: BufWriter<File>,
    chain: AuditChain,
}

impl Record {
    fn open(path: PathBuf) -> io::Result<Self> {
        let mut file = open(&path)?;
        let chain = last_line(&mut file)?;
        Ok(Self { path, file: BufWriter::new(file), chain })
    }

    /// Writes what comes until nobody can send any more.
    async fn write(mut self, mut waiting: mpsc::Receiver<AuditLine>) -> io::Result<()> {
        let mut ticks = tokio::time::interval(SYNC_EVERY);
        let mut unsynced = false;
        loop {
            tokio::select! {
                line = waiting.recv() => {
                    let Some(line) = line else { return self.sync() };
                    self.append(line)?;
                    unsynced = true;
                    if waiting.is_empty() {
                        self.file.flush()?;
                    }
                }
                _ = ticks.tick() => {
                    if std::mem::take(&mut unsynced) {
                        self.sync()?;
                    }
                    self.follow_path()?;
                }
            }
        }
    }

    fn append(&mut self, mut line: AuditLine) -> io::Result<()> {
        let text = self.chain.append(&mut line).map_err(io::Error::other)?;
        self.file.write_all(text.as_bytes())?;
        self.file.write_all(b"\n")
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }

    /// Begins a new file where this one was moved away, as by logrotate; its first line is linked to the last of the old.
    fn follow_path(&mut self) -> io::Result<()> {
        let here = self.file.get_ref().metadata()?;
        let moved = match std::fs::metadata(&self.path) {
            Ok(there) => there.ino() != here.ino(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if moved {
            self.sync()?;
            self.file = BufWriter::new(open(&self.path)?);
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Where the chain of an existing record stands. Cuts off what follows the last line break: a crash has left it.
fn last_line(file: &mut File) -> io::Result<AuditChain> {
    let length = file.metadata()?.len();
    let most = u64::try_from(MAX_AUDIT_LINE_BYTES).unwrap_or(u64::MAX).saturating_mul(2);
    let start = length.saturating_sub(most);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(most).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let torn = tail.len().saturating_sub(whole);
    if torn > 0 {
        tracing::warn!(bytes = torn, "the record of payments ended in the middle of a line: it is cut off");
        file.set_len(length.saturating_sub(u64::try_from(torn).unwrap_or(length)))?;
    }
    let lines = tail.get(..whole.saturating_sub(1)).unwrap_or_default();
    let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last.is_empty() && start == 0 {
        return Ok(AuditChain::default());
    }
    let chain = std::str::from_utf8(last).ok().and_then(AuditChain::after);
    chain.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no record of payments: name another file"))
}

/// Now, in milliseconds of Unix time.
pub(crate) fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &Path) -> Record {
        Record::open(path.to_owned()).unwrap()
    }

    fn write(path: &Path, acts: usize) {
        let mut record = record(path);
        (0..acts).for_each(|_| record.append(Act::administered(Asked::Pause, None).0).unwrap());
        record.sync().unwrap();
    }

    /// The numbers of the lines of files that follow each other.
    fn read(paths: &[&Path]) -> Vec<u64> {
        let text: String = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let mut chain = AuditChain::default();
        text.lines().map(|line| chain.check(line).unwrap().number).collect()
    }

    #[test]
    fn given_a_record_when_it_is_opened_again_even_after_a_torn_write_then_it_goes_on_unbroken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        write(&path, 2);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        write(&path, 1);
        let mut file = open(&path).unwrap();
        file.write_all(br#"{"number":4,"at":18"#).unwrap();
        write(&path, 40);
        assert_eq!(read(&[&path]), (1..=43).collect::<Vec<u64>>());
    }

    #[test]
    fn given_a_record_that_is_moved_away_when_lines_follow_then_a_new_file_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
        let mut record = record(&path);
        record.append(Act::administered(Asked::Pause, None).0).unwrap();
        record.follow_path().unwrap();
        std::fs::rename(&path, &moved).unwrap();
        record.append(Act::administered(Asked::Resume, None).0).unwrap();
        record.follow_path().unwrap();
        record.append(Act::administered(Asked::SettleNow, None).0).unwrap();
        record.sync().unwrap();
        assert_eq!(read(&[&moved, &path]), [1, 2, 3]);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn given_a_file_of_something_else_when_it_is_opened_then_it_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("songs.txt");
        std::fs::write(&path, "a song\n").unwrap();
        assert!(Record::open(path.clone()).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a song\n");
    }
}
