//! Why there is no secret.

use thiserror::Error;

/// Why a secret could not be had. Names where it was looked for, never what was found there.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("{path}: {cause}; name another file, env:NAME, or command:PROGRAM")]
    File {
        /// Which.
        path: String,
        /// What the system says.
        cause: String,
    },
    /// Somebody else than the file's owner may read or write it.
    #[error("others may read or write {path}: run chmod 600 on it")]
    Unguarded {
        /// Which file.
        path: String,
    },
    /// The variable is not set, or is no text.
    #[error("the environment variable {name} is not set")]
    Unset {
        /// Which.
        name: String,
    },
    /// The command did not run, or did not end well.
    #[error("the command {program} {cause}")]
    Command {
        /// Its program, without arguments: those may be secret.
        program: String,
        /// What became of it.
        cause: String,
    },
    /// The source holds more than a secret could be.
    #[error("{source_name} gives more than {most} bytes: that is no secret", most = super::MAX_SECRET_BYTES)]
    TooLong {
        /// Which.
        source_name: String,
    },
    /// What the source holds is no keypair.
    #[error("{source_name} is no keypair: {cause}; `solana-keygen new` makes one")]
    NoKeypair {
        /// Which.
        source_name: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// A source cannot be read from this text.
    #[error("{0}")]
    Syntax(&'static str),
}
