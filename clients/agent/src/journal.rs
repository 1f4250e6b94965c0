//! What an agent must not forget, on disk: one small JSON file for each channel.
//!
//! A file is replaced as a whole (written beside, synced, renamed, directory synced), so it is always either the old
//! or the new one. It is written before a deposit leaves, and before a voucher leaves that is above the ceiling
//! recorded in it. The ceiling is raised many calls at a time, so that calls hardly ever wait for the disk. A crash
//! then loses only how much of the ceiling was used, which the server's corrective answer tells, with our signature
//! as the proof: never money. Files of ended channels stay, since the budget counts what they cost.

use crate::channel::{OwnChannel, Phase};
use crate::disk;
use crate::error::AgentError;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use tallybook_wire::Key;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 65_536;

/// An agent's state directory, held by this process alone.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    name: String,
    _lock: File,
}

impl Journal {
    /// Takes `directory`, made if need be (mode 0700), and reads its channels.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Vec<OwnChannel>), AgentError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| AgentError::Journal { path, source }
        };
        disk::create_private_directory(directory).map_err(failed(directory))?;
        let lock_path = directory.join("lock");
        let lock =
            disk::private(OpenOptions::new().create(true).write(true)).open(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AgentError::Locked(directory.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
        }
        let mut channels = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                channels.push(read(&path).map_err(failed(&path))?);
            }
        }
        let name_path = directory.join("name");
        let name = name(&name_path).map_err(failed(&name_path))?;
        let journal = Self { directory: directory.into(), name, _lock: lock };
        Ok((journal, channels))
    }

    /// The directory's name in a budget that it shares with others: drawn once, so that a copy or a directory that was
    /// moved counts as the same.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a channel's state durable. Nothing that depends on it may leave before this returns.
    pub(crate) async fn save(&self, channel: &OwnChannel) -> Result<(), AgentError> {
        let path = self.path(&channel.id);
        let written = match serde_json::to_vec(channel) {
            Ok(json) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || disk::replace(&path, &json)).await
            }
            Err(error) => Ok(Err(error.into())),
        };
        let outcome = written.unwrap_or_else(|join| Err(io::Error::other(join)));
        outcome.map_err(|source| AgentError::Journal { path, source })
    }

    fn path(&self, id: &Key) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

fn name(path: &Path) -> io::Result<String> {
    match disk::read(path, MAX_FILE_BYTES) {
        Ok(name) => String::from_utf8(name).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a name")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // An address that nobody has the key of is as good a random name as any.
            let name = Keypair::new().pubkey().to_string();
            disk::replace(path, name.as_bytes())?;
            Ok(name)
        }
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<OwnChannel> {
    let mut channel: OwnChannel = serde_json::from_slice(&disk::read(path, MAX_FILE_BYTES)?)?;
    // What was signed of the reserve before the last stop is not known any more.
    let ended = channel.phase == Phase::Ended;
    channel.ceiling = if ended { channel.charged } else { channel.reserved };
    channel.unsure = channel.ceiling > channel.charged;
    Ok(channel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::tests::channel;
    use tallybook_rules::Amount;

    #[tokio::test]
    async fn what_was_saved_is_read_back_with_everything_reserved_as_possible() {
        let directory = tempfile::tempdir().unwrap();
        let mut saved = channel();
        saved.reserve(Amount::new(500), Amount::new(500)).unwrap();
        let (journal, channels) = Journal::open(directory.path()).unwrap();
        assert!(channels.is_empty());
        journal.save(&saved).await.unwrap();
        drop(journal);
        // When the process stops half way through the next write
        std::fs::write(directory.path().join("x.tmp"), b"{ half").unwrap();
        let (_journal, channels) = Journal::open(directory.path()).unwrap();
        (saved.ceiling, saved.unsure) = (saved.reserved, true);
        assert_eq!(channels, [saved]);
    }

    #[tokio::test]
    async fn the_directory_is_of_one_process_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let (journal, _) = Journal::open(&state).unwrap();
        journal.save(&channel()).await.unwrap();
        assert!(matches!(Journal::open(&state), Err(AgentError::Locked(_))));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&state), 0o700);
            assert_eq!(mode(&journal.path(&channel().id)), 0o600);
        }
    }

    #[tokio::test]
    async fn a_spoiled_file_stops_the_agent_instead_of_being_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("spoiled.json"), b"{}").unwrap();
        assert!(matches!(Journal::open(directory.path()), Err(AgentError::Journal { .. })));
    }
}
