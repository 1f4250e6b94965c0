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
use tallybook_rules::voucher::ChannelIds;
#[cfg(not(all(feature = "sha512-syscall", target_os = "solana")))]
use tallybook_rules::voucher::VOUCHER_MAGIC;
use tallybook_rules::{Amount, Hasher, Rejection, Slot};

#[cfg(target_endian = "big")]
compile_error!("words are written as they lie in memory: little-endian");

/// The hash functions of the runtime.
pub(crate) struct Runtime;

impl Hasher for Runtime {
    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        solana_sha256_hasher::hashv(parts).to_bytes()
    }
}

/// Words of a point or a scalar, and of two of them.
const POINT_WORDS: usize = 4;
const PAIR_WORDS: usize = 2 * POINT_WORDS;

/// `−B`, compressed: the base point's encoding with its sign bit set.
const MINUS_BASE: [u64; POINT_WORDS] =
    [0x6666_6666_6666_6658, 0x6666_6666_6666_6666, 0x6666_6666_6666_6666, 0xe666_6666_6666_6666];

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
    let words = rows.len().saturating_mul(PAIR_WORDS).saturating_add(POINT_WORDS);
    let (mut scalars, mut points) = (vec![0; words], vec![0; words]);
    let ((pairs, last_scalar), (keys, last_point)) = (scalars.as_chunks_mut(), points.as_chunks_mut());
    let mut channels = ChannelIds::of(page_domain);
    for ((row, hash), keys) in rows.iter().zip(pairs.iter_mut()).zip(keys) {
        let row = Row::from_bytes(row);
        let slot = slots.get(usize::from(row.slot)).ok_or(Rejection::NoSuchSlot)?;
        let channel = channels.id::<Runtime>(row.slot, slot);
        let ([r0, r1, r2, r3], [a0, a1, a2, a3]) = (cast(row.nonce), cast(slot.signer));
        *keys = [r0, r1, r2, r3, a0, a1, a2, a3];
        challenge(keys, &channel, row.cumulative, hash);
    }
    last_scalar.copy_from_slice(&scalar);
    last_point.copy_from_slice(&MINUS_BASE);

    weigh(pairs)?;
    let sum = multiscalar_multiply_edwards(cast_slice::<u64, PodScalar>(&scalars), cast_slice(&points))
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
fn weigh(pairs: &mut [[u64; PAIR_WORDS]]) -> Result<(), Rejection> {
    let rows = u16::try_from(pairs.len()).map_err(|_| Rejection::MalformedRows)?;
    let transcript = transcript::<Runtime>(rows, cast_slice(pairs));
    let mut seed = [0; 34];
    let (seed_transcript, _) = seed.split_at_mut(transcript.len());
    seed_transcript.copy_from_slice(&transcript);
    let (first, others) = pairs.split_first_mut().ok_or(Rejection::MalformedRows)?;
    let [k0, k1, k2, k3] = scalar::reduce(cast_ref(first));
    *first = [1, 0, 0, 0, k0, k1, k2, k3];
    let mut row = 0u16;
    for pair in others {
        row = row.wrapping_add(1);
        let [.., low, high] = &mut seed;
        [*low, *high] = row.to_le_bytes();
        let [z0, z1, _, _]: [u64; 4] = cast(coefficient::<Runtime>(&seed));
        let [k0, k1, k2, k3] = scalar::multiply([z0, z1], cast_ref(pair));
        *pair = [z0, z1, 0, 0, k0, k1, k2, k3];
    }
    Ok(())
}

/// The scalar in words, or [`Rejection::ScalarNotCanonical`] from `L` on: or else one batch would have many encodings.
fn canonical(scalar: &[u8; SCALAR_BYTES]) -> Result<[u64; 4], Rejection> {
    let words: [u64; 4] = cast(*scalar);
    if words.iter().rev().lt(ORDER.iter().rev()) { Ok(words) } else { Err(Rejection::ScalarNotCanonical) }
}

/// Writes `h = SHA-512(R ‖ A ‖ voucher)`, of the channel's voucher over `cumulative`; `keys` is `R ‖ A`.
///
/// The voucher is written as the words that a block is made of, not as the bytes of [`tallybook_rules::voucher`], which would
/// have to be taken apart again.
#[cfg(not(all(feature = "sha512-syscall", target_os = "solana")))]
#[inline(always)]
fn challenge(keys: &[u64; PAIR_WORDS], channel: &[u8; 32], cumulative: Amount, hash: &mut [u64; 8]) {
    let id =
        |from: usize| channel.get(from..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_be_bytes(*word));
    let [r0, r1, r2, r3, a0, a1, a2, a3] = keys.map(u64::swap_bytes);
    let amount = cumulative.get().swap_bytes();
    // Three bytes of magic and 32 of channel id, so that both ends of the id and the amount lie across words.
    let [t, b, version] = VOUCHER_MAGIC;
    let head = u64::from_be_bytes([t, b, version, 0, 0, 0, 0, 0]) | id(0) >> 24;
    let (across, last) = (id(24) << 40 | amount >> 24, amount << 40 | 0x80 << 32);
    *hash = sha512::one_block([r0, r1, r2, r3, a0, a1, a2, a3, head, id(5), id(13), id(21), across, last, 0, 0]);
}

/// Writes `h = SHA-512(R ‖ A ‖ voucher)`, of the channel's voucher over `cumulative`; `keys` is `R ‖ A`.
#[cfg(all(feature = "sha512-syscall", target_os = "solana"))]
fn challenge(keys: &[u64; PAIR_WORDS], channel: &[u8; 32], cumulative: Amount, hash: &mut [u64; 8]) {
    let voucher = tallybook_rules::voucher::voucher_bytes(channel, cumulative);
    let parts: [&[u8]; 2] = [cast_slice(keys), &voucher];
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
}

#[cfg(test)]
mod tests;
