//! Signing, verifying and aggregating vouchers on a host.
//!
//! A voucher is accepted off chain exactly when the program would settle it, by the same equation with the same cofactor:
//! nothing is served that cannot be collected, and it makes no difference whether a signature is checked alone
//! ([`SignedVoucher::verify`]) or in a group ([`verify_all`]). (The equation without cofactor, "strict", cannot be checked
//! in groups: points of small order cancel or not with the coefficients.) What it takes beyond a strict check, by such
//! points beside key or nonce, only the signer itself can make.

use crate::half_aggregation::{coefficient, transcript};
use crate::voucher::{VOUCHER_BYTES, voucher_bytes};
use crate::{Amount, Hasher, Rejection};
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::Signer;
pub use ed25519_dalek::SigningKey;
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

/// A voucher whose signature holds. Made in this file alone, by [`SignedVoucher::verify`] and its like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedVoucher {
    voucher: SignedVoucher,
    signer: [u8; 32],
}

/// A key that vouchers are checked with, decoded once: a point that is not of small order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignerKey {
    bytes: [u8; 32],
    point: EdwardsPoint,
}

impl SignerKey {
    /// [`Rejection::BadSignature`] for what is no point, or one of small order, which anybody can sign for.
    pub fn decode(signer: &[u8; 32]) -> Result<Self, Rejection> {
        let point = decode(signer).filter(|point| !point.is_small_order()).ok_or(Rejection::BadSignature)?;
        Ok(Self { bytes: *signer, point })
    }

    /// The key as it is written.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
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

    /// Checks the signature: a key that can open a channel, a canonical scalar, and
    /// `8 · (R + k·A − s·B) = identity`, as the program does for a batch of one; or [`Rejection::BadSignature`].
    pub fn verify(self, signer: &[u8; 32]) -> Result<VerifiedVoucher, Rejection> {
        self.verify_by(&SignerKey::decode(signer)?)
    }

    /// As [`Self::verify`], with a key that was decoded before.
    pub fn verify_by(self, signer: &SignerKey) -> Result<VerifiedVoucher, Rejection> {
        let holds = Equation::of(&self, signer).is_some_and(|equation| equation.holds());
        self.proven(holds, signer)
    }

    fn proven(self, holds: bool, signer: &SignerKey) -> Result<VerifiedVoucher, Rejection> {
        if holds { Ok(VerifiedVoucher { voucher: self, signer: signer.bytes }) } else { Err(Rejection::BadSignature) }
    }
}

/// What became of signatures that were checked together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Each as [`SignedVoucher::verify`] says it, in their order.
    pub vouchers: Vec<Result<VerifiedVoucher, Rejection>>,
    /// False when one was forged, so that each had to be checked alone after all.
    pub together: bool,
}

/// Checks signatures by one equation over all of them, which takes less than half of the work for each. When it does not
/// hold each is checked alone, so that a forged one harms no other: at the worst all cost 1.4 times what they cost alone.
///
/// The answers are those of [`SignedVoucher::verify`]. The sum has a coefficient of 128 bits for each row, so that wrong
/// rows cancel with a chance of 2^-128. They come from a hash of everything that the equation depends on, so they are fixed
/// only by it, the same input has the same answer, and nothing depends on a source of randomness. At most 65,535 at a time
/// are checked together.
pub fn verify_all(signed: &[(SignedVoucher, SignerKey)]) -> Checked {
    let equations: Vec<_> = signed.iter().map(|(voucher, signer)| Equation::of(voucher, signer)).collect();
    let readable: Vec<_> = equations.iter().flatten().collect();
    let together = all_hold(&readable);
    let proven = signed.iter().zip(&equations).map(|((voucher, signer), equation)| {
        let holds = equation.as_ref().is_some_and(|equation| together || equation.holds());
        voucher.proven(holds, signer)
    });
    Checked { vouchers: proven.collect(), together }
}

/// What a signature says: `8 · (R + k·A − s·B) = identity`.
struct Equation {
    hash: [u8; 64],
    nonce: EdwardsPoint,
    key: EdwardsPoint,
    scalar: Scalar,
}

impl Equation {
    /// None for a nonce that is no point, or a scalar that is not canonical.
    fn of(voucher: &SignedVoucher, signer: &SignerKey) -> Option<Self> {
        let (nonce, scalar) = halves(&voucher.signature);
        let scalar = Option::from(Scalar::from_canonical_bytes(*scalar))?;
        Some(Self { hash: challenge(voucher, &signer.bytes), nonce: decode(nonce)?, key: signer.point, scalar })
    }

    fn challenge(&self) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&self.hash)
    }

    fn holds(&self) -> bool {
        #[expect(clippy::arithmetic_side_effects, reason = "group operations do not overflow")]
        let difference = {
            let (k, key) = (self.challenge(), -self.key);
            EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &key, &self.scalar) - self.nonce
        };
        difference.mul_by_cofactor().is_identity()
    }
}

/// Whether all of these hold, by one equation: `8 · (Σ z_i·R_i + Σ z_i·k_i·A_i − (Σ z_i·s_i)·B) = identity`.
fn all_hold(equations: &[&Equation]) -> bool {
    let [first, others @ ..] = equations else { return true };
    if others.is_empty() {
        return first.holds();
    }
    let Some(weights) = weights(equations) else { return false };
    let mut sum = Scalar::ZERO;
    let (mut scalars, mut points) = (Vec::new(), Vec::new());
    for (equation, z) in equations.iter().zip(weights) {
        #[expect(clippy::arithmetic_side_effects, reason = "scalars modulo L do not overflow")]
        {
            sum -= z * equation.scalar;
            scalars.extend([z, z * equation.challenge()]);
        }
        points.extend([equation.nonce, equation.key]);
    }
    scalars.push(sum);
    points.push(ED25519_BASEPOINT_POINT);
    EdwardsPoint::vartime_multiscalar_mul(&scalars, &points).mul_by_cofactor().is_identity()
}

/// The coefficients of a group, from a hash of every challenge (and so of every nonce, key and voucher) and of every
/// scalar: unlike in a batch on chain, where only their sum is shown, the scalars are each the sender's choice. None for more
/// equations than a number of 16 bits counts.
fn weights(equations: &[&Equation]) -> Option<Vec<Scalar>> {
    let count = u16::try_from(equations.len()).ok()?;
    let mut hash = Sha256::new();
    hash.update(b"tallybook:group:v1");
    hash.update(count.to_le_bytes());
    for equation in equations {
        hash.update(equation.hash);
        hash.update(equation.scalar.as_bytes());
    }
    Some(draw(&hash.finalize().into(), count))
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
    SignerKey::decode(signer).is_ok()
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
    let decode = |bytes| decode(bytes).ok_or(Rejection::SignatureMismatch);
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
    Ok(draw(&transcript::<Sha2>(rows, hashes), rows))
}

/// One, and then a coefficient of 128 bits for each further row, from the hash of all of them.
fn draw(transcript: &[u8; 32], rows: u16) -> Vec<Scalar> {
    let mut seed = [0; 34];
    seed[..32].copy_from_slice(transcript);
    let draw = |row: u16| {
        if row == 0 {
            return Scalar::ONE;
        }
        seed[32..].copy_from_slice(&row.to_le_bytes());
        let wide = coefficient::<Sha2>(&seed);
        let (half, _) = wide.as_chunks::<16>();
        Scalar::from(half.first().map_or(0, |bytes| u128::from_le_bytes(*bytes)))
    };
    (0..rows).map(draw).collect()
}

/// A point as the program's runtime decodes it.
fn decode(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress()
}
