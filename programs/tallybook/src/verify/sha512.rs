//! SHA-512 of the one block that a challenge is, written for the virtual machine.
//!
//! `R ‖ A ‖ voucher` is 107 bytes: with its padding exactly one block. The hash is what a claim mostly costs, so this
//! is laid out for a machine of ten registers (about 6,200 compute units; the `sha2` crate takes 1,400 more):
//!
//! * LLVM would keep all 24 words of schedule and state as values, and spill them badly. Here seven are values: `a, b`,
//!   `b ^ c`, `e, f, g, h`; what is needed later lies in [`Kept`] memory, in rings of four and sixteen, and nothing moves.
//! * The round constants are added where the words are made: a round has no register left for a pointer to them.
//! * The sums of three rotations are nested: `S1(e) = rotr14(e ^ rotr4(e ^ rotr23(e)))`.
//! * `maj(a, b, c) = b ^ ((a ^ b) & (b ^ c))`, where `b ^ c` is the `a ^ b` of the round before.
//! * Rounds and schedule of sixteen words stand in separate basic blocks, which keeps LLVM from interleaving them.
//! * The first four rounds take the initial state as constants, and the last two words of the block are constants.
//!
//! Checked against the `sha2` crate in the tests below.
#![expect(clippy::indexing_slicing, reason = "every index is a constant or taken modulo the size of its ring")]

use super::kept::Kept;

/// Bits of `R ‖ A ‖ voucher`.
const MESSAGE_BITS: u64 = 107 * 8;

#[rustfmt::skip]
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1, 0x9b05_688c_2b3e_6c1f, 0x1f83_d9ab_fb41_bd6b, 0x5be0_cd19_137e_2179,
];

/// The round constants of FIPS 180-4. A static, so that the loop reads them from memory.
#[rustfmt::skip]
static K: [u64; 80] = [
    0x428a_2f98_d728_ae22, 0x7137_4491_23ef_65cd, 0xb5c0_fbcf_ec4d_3b2f, 0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538, 0x59f1_11f1_b605_d019, 0x923f_82a4_af19_4f9b, 0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242, 0x1283_5b01_4570_6fbe, 0x2431_85be_4ee4_b28c, 0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f, 0x80de_b1fe_3b16_96b1, 0x9bdc_06a7_25c7_1235, 0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2, 0xefbe_4786_384f_25e3, 0x0fc1_9dc6_8b8c_d5b5, 0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275, 0x4a74_84aa_6ea6_e483, 0x5cb0_a9dc_bd41_fbd4, 0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab, 0xa831_c66d_2db4_3210, 0xb003_27c8_98fb_213f, 0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2, 0xd5a7_9147_930a_a725, 0x06ca_6351_e003_826f, 0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc, 0x2e1b_2138_5c26_c926, 0x4d2c_6dfc_5ac4_2aed, 0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de, 0x766a_0abb_3c77_b2a8, 0x81c2_c92e_47ed_aee6, 0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364, 0xa81a_664b_bc42_3001, 0xc24b_8b70_d0f8_9791, 0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218, 0xd699_0624_5565_a910, 0xf40e_3585_5771_202a, 0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8, 0x1e37_6c08_5141_ab53, 0x2748_774c_df8e_eb99, 0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63, 0x4ed8_aa4a_e341_8acb, 0x5b9c_ca4f_7763_e373, 0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc, 0x78a5_636f_4317_2f60, 0x84c8_7814_a1f0_ab72, 0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28, 0xa450_6ceb_de82_bde9, 0xbef9_a3f7_b2c6_7915, 0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c, 0xd186_b8c7_21c0_c207, 0xeada_7dd6_cde0_eb1e, 0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba, 0x0a63_7dc5_a2c8_98a6, 0x113f_9804_bef9_0dae, 0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84, 0x32ca_ab7b_40c7_2493, 0x3c9e_be0a_15c9_bebc, 0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6, 0x597f_299c_fc65_7e2a, 0x5fcb_6fab_3ad6_faec, 0x6c44_198c_4a47_5817,
];

/// `Σ0` of FIPS 180-4.
#[inline(always)]
const fn sum_of_a(a: u64) -> u64 {
    (a ^ (a ^ a.rotate_right(5)).rotate_right(6)).rotate_right(28)
}

/// `Σ1`
#[inline(always)]
const fn sum_of_e(e: u64) -> u64 {
    (e ^ (e ^ e.rotate_right(23)).rotate_right(4)).rotate_right(14)
}

/// `σ0`
#[inline(always)]
const fn early(word: u64) -> u64 {
    (word ^ word.rotate_right(7)).rotate_right(1) ^ (word >> 7)
}

/// `σ1`
#[inline(always)]
const fn late(word: u64) -> u64 {
    (word ^ word.rotate_right(42)).rotate_right(19) ^ (word >> 6)
}

/// The word sixteen after `w`.
#[inline(always)]
const fn next_word(w: u64, w1: u64, w9: u64, w14: u64) -> u64 {
    w.wrapping_add(early(w1)).wrapping_add(w9).wrapping_add(late(w14))
}

/// What is held in registers: the state but for `c` and `d`.
struct Working {
    a: u64,
    b: u64,
    /// `a ^ b` of the round before, which is `b ^ c`.
    b_xor_c: u64,
    e: u64,
    f: u64,
    g: u64,
    h: u64,
}

impl Working {
    /// One round. `sum` is that of the word and the round's constant, `d` the `a` of four rounds ago.
    #[inline(always)]
    fn round(&mut self, sum: u64, d: u64) {
        let Self { a, b, b_xor_c, e, f, g, h } = *self;
        let t = h.wrapping_add(sum).wrapping_add(sum_of_e(e)).wrapping_add(((f ^ g) & e) ^ g);
        let next_e = d.wrapping_add(t);
        let a_xor_b = a ^ b;
        let next_a = t.wrapping_add((b_xor_c & a_xor_b) ^ b).wrapping_add(sum_of_a(a));
        *self = Self { a: next_a, b: a, b_xor_c: a_xor_b, e: next_e, f: e, g: f, h: g };
    }

    /// Round `at`, with `d` out of the ring of the last four `a`, and the new one into it.
    #[inline(always)]
    fn kept_round(&mut self, at: usize, sum: u64, last_a: &mut Kept<u64, 4>) {
        self.round(sum, last_a.get(at % 4));
        last_a.set(at % 4, self.a);
    }
}

/// The same expression for each of a row of constants: what a loop is not sure to become.
macro_rules! unrolled {
    ($at:ident in [$($constant:literal)+] $body:expr) => {
        $({
            const $at: usize = $constant;
            $body
        })+
    };
}

/// The next sixteen words into `$schedule`, and their sums with the constants `$k` into `$sums`. `$old` says a word of the
/// sixteen before, or of those that have replaced them, by how many come before it.
macro_rules! next_words {
    ($schedule:ident, $sums:ident, $k:expr, $old:expr) => {{
        let (k, old) = ($k, $old);
        let mut word = old(&$schedule, 0);
        unrolled!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
            let following = old(&$schedule, I + 1);
            let next = next_word(word, following, old(&$schedule, I + 9), old(&$schedule, I + 14));
            $schedule.set(I, next);
            $sums.set(I, next.wrapping_add(k[I]));
            word = following;
        });
        let _: u64 = word;
    }};
}

/// SHA-512 of the 107 bytes whose 14 big-endian words, padded with `0x80` and zeros, are the first of `words`; the other
/// two are written here. The digest as it lies in memory: little-endian words of the big-endian hash.
#[inline(always)]
pub(super) fn one_block(words: [u64; 16]) -> [u64; 8] {
    let mut schedule = Kept(words);
    schedule.set(14, 0);
    schedule.set(15, MESSAGE_BITS);

    let [a, b, c, d, e, f, g, h] = IV;
    let mut v = Working { a, b, b_xor_c: b ^ c, e, f, g, h };
    let mut first = |at: usize, d| {
        v.round(schedule.get(at).wrapping_add(K[at]), d);
        v.a
    };
    let mut last_a = Kept([first(0, d), first(1, c), first(2, b), first(3, a)]);
    unrolled!(I in [4 5 6 7 8 9 10 11 12 13] v.kept_round(I, schedule.get(I).wrapping_add(K[I]), &mut last_a));
    v.kept_round(14, K[14], &mut last_a);
    v.kept_round(15, MESSAGE_BITS.wrapping_add(K[15]), &mut last_a);

    let (_, later) = K.split_at(16);
    let (chunks, _) = later.as_chunks::<16>();
    let mut chunks = chunks.iter();
    let first = chunks.next().unwrap_or(&[0; 16]);
    let mut sums = Kept([0; 16]);
    // The words numbered 14 and 15 are constants until they are replaced in their turn.
    next_words!(schedule, sums, first, |schedule: &Kept<u64, 16>, at: usize| match at {
        14 => 0,
        15 => MESSAGE_BITS,
        _ => schedule.get(at % 16),
    });
    loop {
        unrolled!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] v.kept_round(I, sums.get(I), &mut last_a));
        let Some(chunk) = chunks.next() else { break };
        next_words!(schedule, sums, chunk, |schedule: &Kept<u64, 16>, at: usize| schedule.get(at % 16));
    }
    let state = [v.a, v.b, last_a.get(1), last_a.get(0), v.e, v.f, v.g, v.h];
    core::array::from_fn(|at| state[at].wrapping_add(IV[at]).swap_bytes())
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an offset in a block of 128 bytes")]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use sha2::{Digest, Sha512};

    fn padded(message: &[u8; 107]) -> [u64; 16] {
        let mut block = [0; 128];
        block[..107].copy_from_slice(message);
        block[107] = 0x80;
        core::array::from_fn(|at| u64::from_be_bytes(block[8 * at..][..8].try_into().unwrap()))
    }

    fn assert_same(message: &[u8; 107]) {
        let digest: [u8; 64] = Sha512::digest(message).into();
        assert_eq!(bytemuck::cast::<_, [u8; 64]>(one_block(padded(message))), digest, "{message:02x?}");
    }

    #[test]
    fn the_block_hash_is_sha_512() {
        let mut random = StdRng::seed_from_u64(0x7a11_b00c);
        let mut message = [0; 107];
        for fill in [0x00, 0xff, 0x80, 0x01, 0x7f] {
            message.fill(fill);
            assert_same(&message);
        }
        for bit in 0..107 * 8 {
            message.fill(0);
            message[bit / 8] = 1 << (bit % 8);
            assert_same(&message);
        }
        for _ in 0..500_000 {
            random.fill(&mut message[..]);
            assert_same(&message);
        }
    }
}
