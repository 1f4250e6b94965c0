use crate::keys;
use anyhow::{Context, Result};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::borrow::Cow;
use std::path::Path;

/// The released program of this repository.
const RELEASED: &[u8] = include_bytes!("../../../../programs/tallybook/artifact/tallybook.so");
/// The key of its address on local chains: public and worthless.
const LOCALNET_KEY: &str = include_str!("../../../../programs/tallybook/localnet-keypair.json");

/// A built program and the key of the address that it is deployed at.
pub struct Artifact {
    /// The ELF file.
    pub elf: Cow<'static, [u8]>,
    /// The program's key: needed once, to create its account.
    pub program: Keypair,
}

impl Artifact {
    /// The released program, at its local address.
    pub fn released() -> Result<Self> {
        Ok(Self { elf: Cow::Borrowed(RELEASED), program: keys::parse_published(LOCALNET_KEY)? })
    }

    /// Another build of the program, for the same address.
    pub fn built(elf: &Path) -> Result<Self> {
        let elf = std::fs::read(elf).with_context(|| {
            format!("cannot read the program {}: build it with `anchor build`, or name another file", elf.display())
        })?;
        Ok(Self { elf: Cow::Owned(elf), program: keys::parse_published(LOCALNET_KEY)? })
    }

    /// Whether its address is the local one, whose key everybody knows.
    pub fn is_for_local_chains(&self) -> Result<bool> {
        Ok(self.program.pubkey() == keys::parse_published(LOCALNET_KEY)?.pubkey())
    }
}
