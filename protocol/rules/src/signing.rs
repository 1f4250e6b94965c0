//! Signing, verifying and aggregating vouchers on a host.
//!
//! A voucher is accepted off chain by `verify_strict` only. Everything that passes it also passes the cofactored check
//! on chain, so nothing is served that cannot be collected.

use crate::half_aggregation::{coefficient, transcript};
use crate::voucher::{VOUCHER_BYTES, voucher_bytes};
use crate::{Amount, Hasher, Rejection};
use curve25519_dalek::{EdwardsPoint, Scalar, edwards::CompressedEdwardsY, traits::IsIdentity};
pub use ed25519_dalek::SigningKey;
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use sha2::{Digest, Sha256, Sha512};
use std::vec::Vec;

/// The hash functions of the `sha2` crate.
#[derive(Clone, Copy, Debug)]
pub struct Sha2;

impl Hasher for Sha2 {
    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    }
}

/// [`crate::voucher::page_domain`] with [`Sha2`].
pub fn page_domain(program_id: &[u8; 32], genesis_hash: &[u8; 32], page: &[u8; 32]) -> [u8; 32] {
    crate::voucher::page_domain::<Sha2>(program_id, genesis_hash, page)
}

/// [`crate::voucher::channel_id`] with [`Sha2`].
pub fn channel_id(page_domain: &[u8; 32], slot: u8, generation: u32, payer: &[u8; 32], signer: &[u8; 32]) -> [u8; 32] {
    crate::voucher::channel_id::<Sha2>(page_domain, slot, generation, payer, signer)
}

/// A voucher as it arrives: claimed to be signed, not yet checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedVoucher {
    /// Which channel pays.
    pub channel_id: [u8; 32],
    /// The total since the channel was opened.
    pub cumulative: Amount,
    /// Ed25519 (RFC 8032) over the voucher's 43 bytes.
    pub signature: [u8; 64],
}

/// A voucher whose signature holds. Made by [`SignedVoucher::verify`] alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedVoucher {
    voucher: SignedVoucher,
    signer: [u8; 32],
}

impl SignedVoucher {
    /// Signs for `cumulative` in all.
    pub fn sign(key: &SigningKey, channel_id: [u8; 32], cumulative: Amount) -> Self {
        let signature = key.sign(&voucher_bytes(&channel_id, cumulative)).to_bytes();
        Self { channel_id, cumulative, signature }
    }

    /// The 43 bytes that are signed.
    pub fn message(&self) -> [u8; VOUCHER_BYTES] {
        voucher_bytes(&self.channel_id, self.cumulative)
    }

    /// Checks the signature with `verify_strict` (canonical scalar, no point of small order), or
    /// [`Rejection::BadSignature`].
    pub fn verify(self, signer: &[u8; 32]) -> Result<VerifiedVoucher, Rejection> {
        VerifyingKey::from_bytes(signer)
            .and_then(|key| key.verify_strict(&self.message(), &Signature::from_bytes(&self.signature)))
            .map_err(|_| Rejection::BadSignature)?;
        Ok(VerifiedVoucher { voucher: self, signer: *signer })
    }
}

impl VerifiedVoucher {
    /// The voucher.
    pub const fn voucher(&self) -> &SignedVoucher {
        &self.voucher
    }

    /// The key that it was verified with.
    pub const fn signer(&self) -> &[u8; 32] {
        &self.signer
    }
}

/// True for a key that vouchers may be signed with: it decodes and is not of small order.
pub fn is_strong_signer(signer: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(signer).is_ok_and(|key| !key.is_weak())
}

/// Aggregates verified vouchers, in the order of their rows, into the one scalar of a claim. For one voucher it is the
/// second half of its signature.
pub fn aggregate(vouchers: &[VerifiedVoucher]) -> Result<[u8; 32], Rejection> {
    let hashes: Vec<u8> = vouchers.iter().flat_map(|v| challenge(&v.voucher, &v.signer)).collect();
    let mut sum = Scalar::ZERO;
    for (z, v) in coefficients(&hashes)?.iter().zip(vouchers) {
        let (_, s) = halves(&v.voucher.signature);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(*s)).ok_or(Rejection::BadSignature)?;
        #[expect(clippy::arithmetic_side_effects, reason = "scalars modulo L do not overflow")]
        {
            sum += z * s;
        }
    }
    Ok(sum.to_bytes())
}

/// The check that the program makes, written plainly: the reference for tests, and a settler's last look before it
/// pays a fee. Rows are (voucher of which only the nonce half is used, signer).
pub fn verify_aggregate(rows: &[(SignedVoucher, [u8; 32])], scalar: &[u8; 32]) -> Result<(), Rejection> {
    if rows.is_empty() {
        return Err(Rejection::MalformedRows);
    }
    let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(*scalar)).ok_or(Rejection::ScalarNotCanonical)?;
    let hashes: Vec<u8> = rows.iter().flat_map(|(voucher, signer)| challenge(voucher, signer)).collect();
    let (chunks, _) = hashes.as_chunks::<64>();
    let decode = |bytes: &[u8; 32]| CompressedEdwardsY(*bytes).decompress().ok_or(Rejection::SignatureMismatch);
    #[expect(clippy::arithmetic_side_effects, reason = "group and field operations do not overflow")]
    let difference = {
        let mut sum = -EdwardsPoint::mul_base(&s);
        for ((z, hash), (voucher, signer)) in coefficients(&hashes)?.iter().zip(chunks).zip(rows) {
            let k = Scalar::from_bytes_mod_order_wide(hash);
            sum += z * decode(halves(&voucher.signature).0)? + (z * k) * decode(signer)?;
        }
        sum.mul_by_cofactor()
    };
    if difference.is_identity() { Ok(()) } else { Err(Rejection::SignatureMismatch) }
}

/// `R` and `s` of a signature.
pub fn halves(signature: &[u8; 64]) -> (&[u8; 32], &[u8; 32]) {
    let (nonce, scalar) = signature.split_at(32);
    // Both halves of 64 bytes are 32 bytes; the fallback is never taken.
    (nonce.try_into().unwrap_or(&[0; 32]), scalar.try_into().unwrap_or(&[0; 32]))
}

/// `h_i`
fn challenge(voucher: &SignedVoucher, signer: &[u8; 32]) -> [u8; 64] {
    let mut hash = Sha512::new();
    hash.update(halves(&voucher.signature).0);
    hash.update(signer);
    hash.update(voucher.message());
    hash.finalize().into()
}

/// `z_0 … z_{n−1}`
fn coefficients(hashes: &[u8]) -> Result<Vec<Scalar>, Rejection> {
    let rows = u16::try_from(hashes.len() / 64).map_err(|_| Rejection::MalformedRows)?;
    let transcript = transcript::<Sha2>(rows, hashes);
    let mut seed = [0; 34];
    seed[..32].copy_from_slice(&transcript);
    Ok((0..rows)
        .map(|row| {
            if row == 0 {
                return Scalar::ONE;
            }
            seed[32..].copy_from_slice(&row.to_le_bytes());
            let wide = coefficient::<Sha2>(&seed);
            let (half, _) = wide.as_chunks::<16>();
            Scalar::from(half.first().map_or(0, |bytes| u128::from_le_bytes(*bytes)))
        })
        .collect())
}
