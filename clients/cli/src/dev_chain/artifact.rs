use anyhow::{Context, Result};
use solana_keypair::Keypair;
use std::path::{Path, PathBuf};

/// A built program and the key of the address that it is deployed at.
pub struct Artifact {
    /// The ELF file.
    pub elf: Vec<u8>,
    /// The program's key: needed once, to create its account.
    pub program: Keypair,
}

impl Artifact {
    /// The released program of this repository, at its local address, whose key is public and worthless.
    pub fn released() -> Result<Self> {
        Self::built(&program_folder().join("artifact/tallybook.so"))
    }

    /// Another build of the program, for the same address.
    pub fn built(elf: &Path) -> Result<Self> {
        let elf = std::fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let program = crate::keys::read(&program_folder().join("localnet-keypair.json"))?;
        Ok(Self { elf, program })
    }
}

fn program_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/tallybook")
}
