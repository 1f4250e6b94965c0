//! Key files that the command line writes, and those that are published. Keys of value are read by [`tallybook_keys`].

use anyhow::{Context, Result};
use solana_keypair::Keypair;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use tallybook_keys::keypair_in;

/// Reads a key file that anybody may read: that of a program's address.
pub fn read_published(path: &Path) -> Result<Keypair> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_published(&text).with_context(|| format!("{} is no key file", path.display()))
}

/// Reads the text of a published key file.
pub fn parse_published(text: &str) -> Result<Keypair> {
    keypair_in(text).map_err(anyhow::Error::msg)
}

/// Writes a key file that only its owner may read, as Solana's tools do: a JSON array of 64 bytes, secret then public half.
/// Replaces one that exists.
pub fn write(path: &Path, key: &Keypair) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let text = serde_json::to_string(key.to_bytes().as_slice())?;
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write the key file {}", path.display()))
}

/// Where the Solana tools keep a person's key: `~/.config/solana/id.json`.
pub fn usual_path() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    home.join(".config/solana/id.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_keys::Source;

    #[test]
    fn given_a_key_when_it_is_written_then_it_reads_back_and_nobody_else_may_read_it() {
        let folder = std::env::temp_dir().join(format!("tallybook-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (key, path) = (Keypair::new(), folder.join("key.json"));
        write(&path, &key).unwrap();
        // Refused unless it is guarded.
        assert_eq!(Source::from(path).keypair().unwrap().to_bytes(), key.to_bytes());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
