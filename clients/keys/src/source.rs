//! The sources, and reading them.

use crate::problem::Problem;
use serde::{Deserialize, Deserializer, de};
use solana_keypair::Keypair;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use zeroize::Zeroizing;

/// The longest secret, in bytes. A keypair as JSON has at most 257, a token some 64.
pub const MAX_SECRET_BYTES: usize = 4_096;

/// The two halves of a keypair, in bytes.
const KEYPAIR_BYTES: usize = 64;

/// Where a secret comes from. Written as `PATH` or `file:PATH`, `env:NAME`, or `command:PROGRAM ARGUMENT…` (quoted as in a
/// shell, but no shell runs it). Shown without a command's arguments, which may be secret themselves.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that only its owner may read and write.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
    /// A program and its arguments: what it prints is the secret. It may ask at the terminal, and has no time limit.
    Command(Vec<String>),
}

impl Source {
    /// Reads the secret, without blanks around it.
    ///
    /// # Errors
    /// [`Problem::File`], [`Problem::Unguarded`], [`Problem::Unset`], [`Problem::Command`], [`Problem::TooLong`].
    pub fn text(&self) -> Result<Zeroizing<String>, Problem> {
        let text = match self {
            Self::File(path) => self.file(path)?,
            Self::Env(name) => Zeroizing::new(std::env::var(name).map_err(|_| Problem::Unset { name: name.clone() })?),
            Self::Command(words) => self.command(words)?,
        };
        if text.len() > MAX_SECRET_BYTES {
            return Err(Problem::TooLong { source_name: self.to_string() });
        }
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    /// Reads a keypair: a JSON array of 64 bytes as Solana's tools write it, or their base58 as wallets export it.
    ///
    /// # Errors
    /// As [`Source::text`], and [`Problem::NoKeypair`].
    pub fn keypair(&self) -> Result<Keypair, Problem> {
        keypair_in(&self.text()?).map_err(|cause| Problem::NoKeypair { source_name: self.to_string(), cause })
    }

    fn file(&self, path: &Path) -> Result<Zeroizing<String>, Problem> {
        let shown = path.display().to_string();
        let problem = |cause: &dyn fmt::Display| Problem::File { path: shown.clone(), cause: cause.to_string() };
        let file = File::open(path).map_err(|error| problem(&error))?;
        let metadata = file.metadata().map_err(|error| problem(&error))?;
        if !metadata.is_file() {
            return Err(problem(&"is no file"));
        }
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0 {
            return Err(Problem::Unguarded { path: shown });
        }
        self.read(file).map_err(|error| problem(&error))?
    }

    fn command(&self, words: &[String]) -> Result<Zeroizing<String>, Problem> {
        let (program, arguments) = words.split_first().ok_or(Problem::Syntax(NO_PROGRAM))?;
        let problem = |cause: String| Problem::Command { program: program.clone(), cause };
        let child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| problem(format!("cannot be run: {error}")))?;
        // Dropped when it gives too much, so that a command without end ends by itself.
        let text = child.stdout.take().map_or_else(|| Ok(Ok(Zeroizing::default())), |output| self.read(output));
        let ended = child.wait().map_err(|error| problem(format!("was lost: {error}")))?;
        let text = text.map_err(|error| problem(format!("prints no text: {error}")))??;
        if ended.success() { Ok(text) } else { Err(problem(format!("has failed, {ended}"))) }
    }

    /// At most [`MAX_SECRET_BYTES`] of text.
    fn read(&self, from: impl Read) -> std::io::Result<Result<Zeroizing<String>, Problem>> {
        let most = u64::try_from(MAX_SECRET_BYTES).unwrap_or(u64::MAX);
        // With room for all from the start: what grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET_BYTES.saturating_add(64)));
        from.take(most.saturating_add(1)).read_to_string(&mut text)?;
        let too_long = text.len() > MAX_SECRET_BYTES;
        Ok(if too_long { Err(Problem::TooLong { source_name: self.to_string() }) } else { Ok(text) })
    }
}

/// The keypair in a text, as [`Source::keypair`] reads it: for keys that are published, and so need no guard.
///
/// # Errors
/// What is wrong with the text, with nothing of it.
pub fn keypair_in(text: &str) -> Result<Keypair, &'static str> {
    let text = text.trim();
    let bytes = if text.starts_with('[') {
        // The parser's own error would quote the text.
        Zeroizing::new(serde_json::from_str::<Vec<u8>>(text).map_err(|_| "its text is not a JSON array of bytes")?)
    } else {
        Zeroizing::new(bs58::decode(text).into_vec().map_err(|_| "its text is neither a JSON array nor base58")?)
    };
    if bytes.len() != KEYPAIR_BYTES {
        return Err("it does not hold 64 bytes");
    }
    Keypair::try_from(bytes.as_slice()).map_err(|_| "its two halves do not belong together")
}

const NO_PROGRAM: &str = "write a program after command:";

impl FromStr for Source {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some(name) = text.strip_prefix("env:") {
            let sound = !name.is_empty() && !name.contains(['=', '\0']);
            return if sound {
                Ok(Self::Env(name.to_owned()))
            } else {
                Err(Problem::Syntax("write a name after env:"))
            };
        }
        if let Some(line) = text.strip_prefix("command:") {
            let words = shlex::split(line).ok_or(Problem::Syntax("close the quotes of the command"))?;
            return if words.is_empty() { Err(Problem::Syntax(NO_PROGRAM)) } else { Ok(Self::Command(words)) };
        }
        let path = text.strip_prefix("file:").unwrap_or(text);
        if path.is_empty() { Err(Problem::Syntax("write a file's path")) } else { Ok(Self::File(path.into())) }
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Command(words) => write!(f, "command:{}", words.first().map_or("", String::as_str)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
