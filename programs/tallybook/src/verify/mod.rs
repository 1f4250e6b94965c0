//! The claim check: one equation over all vouchers of a batch.
//!
//! `8 · (Σ z_i·R_i + Σ z_i·k_i·A_i − s·B) = identity`, as [`tallybook_rules::half_aggregation`] says. The points go to
//! one multi-scalar multiplication of the runtime; what is left to do here is a hash of one block for each voucher and a
//! product of two scalars, in [`sha512`] and [`scalar`].

mod kept;
mod scalar;
#[cfg(not(all(feature = "sha512-syscall", target_os = "solana")))]
mod sha512;
mod torsion;

use bytemuck::{cast, cast_ref, cast_slice};
use solana_curve25519::edwards::{PodEdwardsPoint, add_edwards, multiscalar_multiply_edwards};
use solana_curve25519::scalar::PodScalar;
use tallybook_rules::half_aggregation::{ROW_BYTES, Row, SCALAR_BYTES, coefficient, transcript};
use tallybook_rules::voucher::{VOUCHER_BYTES, channel_id, voucher_bytes};
use tallybook_rules::{Hasher, Rejection, Slot};

#[cfg(target_endian = "big")]
compile_error!("words are written as they lie in memory: little-endian");

/// The hash functions of the runtime.
pub(crate) struct Runtime;

impl Hasher for Runtime {
    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        solana_sha256_hasher::hashv(parts).to_bytes()
    }
}

/// `−B`, compressed: the base point's encoding with its sign bit set.
const MINUS_BASE: PodEdwardsPoint = {
    let mut bytes = [0x66; 32];
    bytes[0] = 0x58;
    bytes[31] = 0xe6;
    PodEdwardsPoint(bytes)
};

/// The identity, compressed.
const IDENTITY: PodEdwardsPoint = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    PodEdwardsPoint(bytes)
};

/// `L`, the order of the base point, in little-endian words.
const ORDER: [u64; 4] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 0x1000_0000_0000_0000];

/// Refuses a batch of which not every voucher was signed by the signer of its slot's channel.
///
/// `rows` are 1 to 96. [`Rejection::ScalarNotCanonical`], [`Rejection::NoSuchSlot`], [`Rejection::SignatureMismatch`]. Of
/// a slot only what names its channel is read; that the slot is not free is the transition's to say.
pub(crate) fn check_batch(
    page_domain: &[u8; 32],
    slots: &[Slot],
    scalar: &[u8; SCALAR_BYTES],
    rows: &[[u8; ROW_BYTES]],
) -> Result<(), Rejection> {
    let scalar = canonical(scalar)?;
    // Scalars z_0, z_0·k_0, z_1, z_1·k_1, … , s over points R_0, A_0, R_1, A_1, … , −B. The 64 bytes of h_i lie where
    // z_i and z_i·k_i go later: so the hashes are one slice, as the transcript wants them, and are reduced in place.
    let points_count = rows.len().saturating_mul(2).saturating_add(1);
    let mut scalars = vec![0; points_count.saturating_mul(4)];
    let mut points = Vec::with_capacity(points_count);
    let (pairs, last) = scalars.as_chunks_mut::<8>();
    for (row, hash) in rows.iter().zip(pairs.iter_mut()) {
        let [_, _, _, _, _, _, _, nonce @ ..] = row;
        let row = Row::from_bytes(row);
        let slot = slots.get(usize::from(row.slot)).ok_or(Rejection::NoSuchSlot)?;
        let channel = channel_id::<Runtime>(page_domain, row.slot, slot.generation, &slot.payer, &slot.signer);
        *hash = challenge(nonce, &slot.signer, &voucher_bytes(&channel, row.cumulative));
        points.push(PodEdwardsPoint(*nonce));
        points.push(PodEdwardsPoint(slot.signer));
    }
    points.push(MINUS_BASE);
    last.copy_from_slice(&scalar);

    weigh(pairs)?;
    let sum = multiscalar_multiply_edwards(cast_slice::<u64, PodScalar>(&scalars), &points)
        .ok_or(Rejection::SignatureMismatch)?;
    // 8·P is the identity exactly when P is one of the eight points of small order, and the runtime encodes points
    // canonically: a look at eight encodings instead of three doublings.
    if torsion::contains(&sum.0) { Ok(()) } else { Err(Rejection::SignatureMismatch) }
}

/// Refuses a key that is not a point, or one of small order that anybody can sign for ([`Rejection::WeakSigner`]).
pub(crate) fn check_signer(signer: &[u8; 32]) -> Result<(), Rejection> {
    // A point may have several encodings; the sum with the identity comes back in the canonical one.
    let point = add_edwards(&PodEdwardsPoint(*signer), &IDENTITY).ok_or(Rejection::WeakSigner)?;
    if torsion::contains(&point.0) { Err(Rejection::WeakSigner) } else { Ok(()) }
}

/// Turns each hash `h_i` into the scalars `z_i` and `z_i · k_i`.
fn weigh(pairs: &mut [[u64; 8]]) -> Result<(), Rejection> {
    let rows = u16::try_from(pairs.len()).map_err(|_| Rejection::MalformedRows)?;
    let transcript = transcript::<Runtime>(rows, cast_slice(pairs));
    let mut seed = [0; 34];
    let (seed_transcript, _) = seed.split_at_mut(transcript.len());
    seed_transcript.copy_from_slice(&transcript);
    for (row, pair) in (0..rows).zip(pairs.iter_mut()) {
        let hash: &[u8; 64] = cast_ref(pair);
        let ([z0, z1], [k0, k1, k2, k3]) = if row == 0 {
            ([1, 0], scalar::reduce(hash))
        } else {
            let [.., low, high] = &mut seed;
            [*low, *high] = row.to_le_bytes();
            let [z, _]: [[u8; 16]; 2] = cast(coefficient::<Runtime>(&seed));
            (cast(z), scalar::multiply(&z, hash))
        };
        *pair = [z0, z1, 0, 0, k0, k1, k2, k3];
    }
    Ok(())
}

/// The scalar in words, or [`Rejection::ScalarNotCanonical`] from `L` on: or else one batch would have many encodings.
fn canonical(scalar: &[u8; SCALAR_BYTES]) -> Result<[u64; 4], Rejection> {
    let words: [u64; 4] = cast(*scalar);
    if words.iter().rev().lt(ORDER.iter().rev()) { Ok(words) } else { Err(Rejection::ScalarNotCanonical) }
}

/// `h = SHA-512(R ‖ A ‖ voucher)`
#[cfg(not(all(feature = "sha512-syscall", target_os = "solana")))]
#[inline(always)]
fn challenge(nonce: &[u8; 32], signer: &[u8; 32], voucher: &[u8; VOUCHER_BYTES]) -> [u64; 8] {
    let word = u64::from_be_bytes;
    let [r0, r1, r2, r3] = cast::<_, [[u8; 8]; 4]>(*nonce).map(word);
    let [a0, a1, a2, a3] = cast::<_, [[u8; 8]; 4]>(*signer).map(word);
    let [head @ .., x, y, z] = *voucher;
    let [m0, m1, m2, m3, m4] = cast::<[u8; 40], [[u8; 8]; 5]>(head).map(word);
    let m5 = word([x, y, z, 0x80, 0, 0, 0, 0]);
    sha512::one_block([r0, r1, r2, r3, a0, a1, a2, a3, m0, m1, m2, m3, m4, m5, 0, 0])
}

/// `h = SHA-512(R ‖ A ‖ voucher)`
#[cfg(all(feature = "sha512-syscall", target_os = "solana"))]
fn challenge(nonce: &[u8; 32], signer: &[u8; 32], voucher: &[u8; VOUCHER_BYTES]) -> [u64; 8] {
    let parts: [&[u8]; 3] = [nonce, signer, voucher];
    let mut hash = [0; 8];
    // SAFETY: the syscall reads `parts.len()` slices (a pointer and a length each, as Rust lays slices out in the virtual
    // machine) and writes the 64 bytes of `hash`, which live until it returns.
    #[expect(unsafe_code, reason = "the runtime's SHA-512 has no safe wrapper in a library yet")]
    unsafe {
        solana_define_syscall::definitions::sol_sha512(
            parts.as_ptr().cast(),
            parts.len() as u64,
            hash.as_mut_ptr().cast(),
        );
    }
    hash
}

#[cfg(test)]
mod tests;
