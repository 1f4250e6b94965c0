//! Half-aggregation of Ed25519 signatures: many signatures of different signers over different messages become one
//! nonce point each and a single scalar for all.
//!
//! Chalkias, Garillot, Kondi, Nikolaenko, "Non-interactive half-aggregation of EdDSA and variants of Schnorr
//! signatures", CT-RSA 2021 (ePrint 2021/350). For rows `i = 0 … n−1` with nonce points `R_i`, keys `A_i`, messages
//! `M_i` and scalars `s_i` of the plain signatures:
//!
//! ```text
//! h_i = SHA-512(R_i ‖ A_i ‖ M_i)            k_i = h_i mod L
//! T   = SHA-256("tallybook:half-agg:v1" ‖ n u16 LE ‖ h_0 ‖ … ‖ h_{n−1})
//! z_0 = 1;  z_i = the first 16 bytes, LE, of SHA-256(T ‖ i u16 LE)
//! s_agg = Σ z_i · s_i mod L
//! check 8 · ( Σ z_i·R_i + Σ z_i·k_i·A_i − s_agg·B ) = identity
//! ```
//!
//! Every coefficient depends on every row and on their number, so rows cannot be dropped, swapped or balanced against
//! each other. This module holds the bytes that program and host share; the host's arithmetic is in
//! `signing`, the virtual machine's in the program.

use crate::{Amount, Hasher, Rejection};

/// First bytes of the transcript.
pub const TRANSCRIPT_TAG: &[u8; 21] = b"tallybook:half-agg:v1";
/// Bytes of the aggregate scalar at the head of a claim.
pub const SCALAR_BYTES: usize = 32;
/// Bytes of a claim row: slot u8, cumulative u48 LE, nonce point.
pub const ROW_BYTES: usize = 39;
/// Bytes of a row of `claim_below`: slot u8, signed u48 LE, amount u48 LE, nonce point.
pub const BELOW_ROW_BYTES: usize = 45;
/// The most rows of a claim: as many as a page has slots.
pub const MAX_ROWS: usize = 96;

/// `T`: binds the coefficients to all rows. `hashes` is `h_0 ‖ … ‖ h_{n−1}`, 64 bytes each.
#[inline]
pub fn transcript<H: Hasher>(rows: u16, hashes: &[u8]) -> [u8; 32] {
    H::sha256(&[TRANSCRIPT_TAG, &rows.to_le_bytes(), hashes])
}

/// `z_i` for `i ≥ 1`, as the 16 little-endian bytes at the front of the hash of `T ‖ i` (34 bytes).
#[inline]
pub fn coefficient<H: Hasher>(transcript_and_row: &[u8; 34]) -> [u8; 32] {
    H::sha256(&[transcript_and_row])
}

/// One row of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The channel's slot.
    pub slot: u8,
    /// The voucher's cumulative amount, below 2^48.
    pub cumulative: Amount,
    /// The signature's first half.
    pub nonce: [u8; 32],
}

impl Row {
    /// `slot u8 ‖ cumulative u48 LE ‖ R`; [`Rejection::DepositTooLarge`] for 2^48 and above.
    pub fn to_bytes(&self) -> Result<[u8; ROW_BYTES], Rejection> {
        if self.cumulative >= Amount::DEPOSIT_LIMIT {
            return Err(Rejection::DepositTooLarge);
        }
        let [a, b, c, d, e, f, _, _] = self.cumulative.get().to_le_bytes();
        let mut bytes = [0; ROW_BYTES];
        let (head, nonce) = bytes.split_at_mut(7);
        head.copy_from_slice(&[self.slot, a, b, c, d, e, f]);
        nonce.copy_from_slice(&self.nonce);
        Ok(bytes)
    }

    /// Reads a row; every 39 bytes are one.
    #[inline]
    pub fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let [slot, _, _, _, _, _, _, nonce @ ..] = *bytes;
        Self { slot, cumulative: amount(bytes, 1), nonce }
    }
}

/// One row of a claim below the ceiling that was signed: settles exactly what was charged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BelowRow {
    /// The voucher, as in a plain claim.
    pub signed: Row,
    /// What is settled of it, at most `signed.cumulative`.
    pub amount: Amount,
}

impl BelowRow {
    /// `slot u8 ‖ signed u48 LE ‖ amount u48 LE ‖ R`; [`Rejection::DepositTooLarge`] for 2^48 and above.
    pub fn to_bytes(&self) -> Result<[u8; BELOW_ROW_BYTES], Rejection> {
        let [slot, a, b, c, d, e, f, nonce @ ..] = self.signed.to_bytes()?;
        let settled = Row { slot, cumulative: self.amount, nonce };
        let [_, g, h, i, j, k, l, ..] = settled.to_bytes()?;
        let mut bytes = [0; BELOW_ROW_BYTES];
        let (head, tail) = bytes.split_at_mut(13);
        head.copy_from_slice(&[slot, a, b, c, d, e, f, g, h, i, j, k, l]);
        tail.copy_from_slice(&nonce);
        Ok(bytes)
    }

    /// Reads a row; every 45 bytes are one. What it says is to be held to [`BelowRow::check`].
    #[inline]
    pub fn from_bytes(bytes: &[u8; BELOW_ROW_BYTES]) -> Self {
        let [slot, _, _, _, _, _, _, _, _, _, _, _, _, nonce @ ..] = *bytes;
        Self { signed: Row { slot, cumulative: amount(bytes, 1), nonce }, amount: amount(bytes, 7) }
    }

    /// [`Rejection::AmountAboveSigned`] when it settles more than was signed.
    pub fn check(&self) -> Result<(), Rejection> {
        if self.amount > self.signed.cumulative { Err(Rejection::AmountAboveSigned) } else { Ok(()) }
    }
}

/// The u48 LE that begins at `from`, of which at least eight bytes are there: one load, where six bytes taken one by one
/// would be as many.
#[inline]
fn amount<const N: usize>(row: &[u8; N], from: usize) -> Amount {
    let word = row.get(from..).and_then(<[u8]>::first_chunk).map_or(0, |eight| u64::from_le_bytes(*eight));
    Amount::new(word & Amount::MAX_DEPOSIT.get())
}

/// Splits a claim's bytes into scalar and rows of `ROW` bytes ([`ROW_BYTES`] or [`BELOW_ROW_BYTES`]);
/// [`Rejection::MalformedRows`] unless they are a scalar and 1 to 96 whole rows.
pub fn split_claim<const ROW: usize>(bytes: &[u8]) -> Result<(&[u8; SCALAR_BYTES], &[[u8; ROW]]), Rejection> {
    let (scalar, rows) = bytes.split_first_chunk().ok_or(Rejection::MalformedRows)?;
    let (rows, rest) = rows.as_chunks();
    if rows.is_empty() || rows.len() > MAX_ROWS || !rest.is_empty() {
        return Err(Rejection::MalformedRows);
    }
    Ok((scalar, rows))
}
