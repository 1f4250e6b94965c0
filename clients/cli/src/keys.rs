//! Key files, as every Solana tool writes them: a JSON array of 64 bytes, secret then public half.

use anyhow::{Context, Result, ensure};
use solana_keypair::Keypair;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Reads a key file. Errors name the file, never its content.
pub fn read(path: &Path) -> Result<Keypair> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read the key file {}: make one with `solana-keygen new`, or name another with --keypair",
            path.display()
        )
    })?;
    parse(&text).with_context(|| format!("{} is no key file", path.display()))
}

/// Reads the text of a key file.
pub fn parse(text: &str) -> Result<Keypair> {
    // Neither error may quote the text: it is a secret.
    let bytes: Vec<u8> = serde_json::from_str(text).map_err(|_| anyhow::anyhow!("it is not a JSON array of bytes"))?;
    ensure!(bytes.len() == 64, "a key file holds 64 bytes");
    Keypair::try_from(bytes.as_slice()).map_err(|_| anyhow::anyhow!("its two halves do not belong together"))
}

/// Writes a key file that only its owner may read. Replaces one that exists.
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

    #[test]
    fn what_is_written_reads_back_and_errors_keep_the_secret() {
        let folder = std::env::temp_dir().join(format!("tallybook-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let key = Keypair::new();
        write(&folder.join("key.json"), &key).unwrap();
        assert_eq!(read(&folder.join("key.json")).unwrap().to_bytes(), key.to_bytes());
        std::fs::remove_dir_all(&folder).unwrap();

        for text in ["[1,2,3]", "\"hunter2\"", "[300]", ""] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(!error.contains("hunter2") && !error.contains("300"), "{error}");
        }
    }
}
