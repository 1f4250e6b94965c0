//! Bytes that look random and are the same for the same seed.

use super::question::Hex;
use sha2::{Digest, Sha256};

/// SHA-256 over a seed and a counter.
pub(super) struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed, thrown: 0 }
    }

    /// 32 bytes.
    pub(super) fn key(&mut self) -> Hex<32> {
        self.thrown = self.thrown.wrapping_add(1);
        let mut hash = Sha256::new();
        hash.update(b"tallybook conform");
        hash.update(self.seed.to_le_bytes());
        hash.update(self.thrown.to_le_bytes());
        Hex(hash.finalize().into())
    }

    /// 64 bits.
    pub(super) fn number(&mut self) -> u64 {
        self.key().0.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
    }

    /// Bits of a number, at most `bits`, of every length equally often: small numbers are where the edges are.
    pub(super) fn up_to_bits(&mut self, bits: u32) -> u64 {
        let length =
            self.number().checked_rem(bits.into()).and_then(|length| u32::try_from(length).ok()).unwrap_or_default();
        let shift = 63u32.saturating_sub(length).min(63);
        self.number().checked_shr(shift).unwrap_or_default()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.key().0.first().copied().unwrap_or_default()
    }
}
