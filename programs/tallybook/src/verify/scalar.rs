//! Scalars modulo `L = 2^252 + c`, the order of the Ed25519 base point, written for the virtual machine.
//!
//! Limbs of 28 bits, since 252 bits are nine of them exactly: limb `i ≥ 9` folds into limbs `i − 9 … i − 5` as a
//! multiple of `−c`, whose five limbs are constants. All is computed column by column with one signed carry that runs
//! along: a term then costs one load, one multiplication by an immediate and one addition, and nothing is stored twice.
//! `h` is only folded, not reduced, before it is multiplied; one pass at the end makes the result canonical.
//! A product takes about 720 compute units, with `curve25519-dalek` (whose 128-bit numbers are software here) 10,000.
//!
//! Bounds: folded limbs are below 2^28, the top one below 2^33 in size; limbs of `z` are below 2^28; so a column of at
//! most five products and five folds stays below 2^63. Wrapping operations are used because they are known not to wrap.
//!
//! Checked against `curve25519-dalek` in the tests below.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "every index is a constant below its array's length, and limbs leave room for every shift"
)]

use super::kept::Kept;

/// Bits of a limb that are set.
const MASK: i64 = (1 << 28) - 1;
/// The limbs of `c = L − 2^252`.
const C: [i64; 5] = [0xcf5_d3ed, 0x126_31a5, 0x79c_d658, 0xf9d_ea2f, 0x14de];

/// Limb `at` of the little-endian number `bytes`, in one unaligned load: of four bytes taken one by one LLVM makes four.
#[inline(always)]
fn limb<const N: usize>(bytes: &[u8; N], at: usize) -> i64 {
    let word = bytes.get(28 * at / 8..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_le_bytes(*four));
    if at % 2 == 1 { i64::from(word >> 4) } else { i64::from(word) & MASK }
}

/// A column: a sum of terms, and the carry into the next.
#[derive(Clone, Copy)]
struct Column(i64);

impl Column {
    #[inline(always)]
    fn add(&mut self, term: i64) {
        self.0 = self.0.wrapping_add(term);
    }

    /// Folds `limb · 2^252 = limb · −c`, of which this column gets the limb `at` of `c`.
    #[inline(always)]
    fn fold(&mut self, limb: i64, at: usize) {
        self.0 = self.0.wrapping_sub(limb.wrapping_mul(C[at]));
    }

    /// The 28 bits of this column; the rest carries into the next.
    #[inline(always)]
    fn next(&mut self) -> i64 {
        let limb = self.0 & MASK;
        self.0 >>= 28;
        limb
    }
}

/// One limb of a result: the terms of its column, less the folded limbs, each `limb.at`.
macro_rules! column {
    ($column:ident, [$($term:expr),*], [$($limb:ident . $at:literal),*]) => {{
        $($column.add($term);)*
        $($column.fold($limb, $at);)*
        $column.next()
    }};
}

/// `h mod L`, canonical, in little-endian words.
#[inline(always)]
pub(super) fn reduce(h: &[u8; 64]) -> [u64; 4] {
    let [limbs @ .., top] = fold(h);
    canonical(limbs, top)
}

/// `z · h mod L` for a 128-bit `z` in little-endian words, canonical.
#[inline(always)]
pub(super) fn multiply(z: [u64; 2], h: &[u8; 64]) -> [u64; 4] {
    let h = Kept(fold(h));
    let [low, high] = z;
    let z = [low, low >> 28, low >> 56 | high << 8, high >> 20, high >> 48].map(|limb| limb.cast_signed() & MASK);
    macro_rules! product {
        ($column:ident, [$($i:literal * $j:literal),*], [$($limb:ident . $at:literal),*]) => {
            column!($column, [$(h.get($i).wrapping_mul(z[$j])),*], [$($limb . $at),*])
        };
    }
    // Limbs 9 … 13 of the product, and what they carry into 14.
    let mut high = Column(0);
    let s9 = product!(high, [9 * 0, 8 * 1, 7 * 2, 6 * 3, 5 * 4], []);
    let s10 = product!(high, [9 * 1, 8 * 2, 7 * 3, 6 * 4], []);
    let s11 = product!(high, [9 * 2, 8 * 3, 7 * 4], []);
    let s12 = product!(high, [9 * 3, 8 * 4], []);
    let s13 = product!(high, [9 * 4], []);
    let Column(s14) = high;
    // Limbs 0 … 8 of it, with 9 … 14 folded in.
    let mut low = Column(0);
    let r0 = product!(low, [0 * 0], [s9.0]);
    let r1 = product!(low, [1 * 0, 0 * 1], [s9.1, s10.0]);
    let r2 = product!(low, [2 * 0, 1 * 1, 0 * 2], [s9.2, s10.1, s11.0]);
    let r3 = product!(low, [3 * 0, 2 * 1, 1 * 2, 0 * 3], [s9.3, s10.2, s11.1, s12.0]);
    let r4 = product!(low, [4 * 0, 3 * 1, 2 * 2, 1 * 3, 0 * 4], [s9.4, s10.3, s11.2, s12.1, s13.0]);
    let r5 = product!(low, [5 * 0, 4 * 1, 3 * 2, 2 * 3, 1 * 4], [s10.4, s11.3, s12.2, s13.1, s14.0]);
    let r6 = product!(low, [6 * 0, 5 * 1, 4 * 2, 3 * 3, 2 * 4], [s11.4, s12.3, s13.2, s14.1]);
    let r7 = product!(low, [7 * 0, 6 * 1, 5 * 2, 4 * 3, 3 * 4], [s12.4, s13.3, s14.2]);
    let r8 = product!(low, [8 * 0, 7 * 1, 6 * 2, 5 * 3, 4 * 4], [s13.4, s14.3]);
    low.fold(s14, 4);
    canonical([r0, r1, r2, r3, r4, r5, r6, r7, r8], low.0)
}

/// Ten limbs congruent to the 512-bit number `h`: nine below 2^28, and a signed one below 2^33 in size.
#[inline(always)]
fn fold(h: &[u8; 64]) -> [i64; 10] {
    let [h14, h15, h16, h17] = [limb(h, 14), limb(h, 15), limb(h, 16), limb(h, 17)];
    let h18 = i64::from(h[63]);
    // Limbs 9 … 13 with 14 … 18 folded in, and what that carries into 14.
    let mut high = Column(0);
    let s9 = column!(high, [limb(h, 9)], [h14.4, h15.3, h16.2, h17.1, h18.0]);
    let s10 = column!(high, [limb(h, 10)], [h15.4, h16.3, h17.2, h18.1]);
    let s11 = column!(high, [limb(h, 11)], [h16.4, h17.3, h18.2]);
    let s12 = column!(high, [limb(h, 12)], [h17.4, h18.3]);
    let s13 = column!(high, [limb(h, 13)], [h18.4]);
    let Column(carry) = high;
    let s14 = h14.wrapping_add(carry);
    // Limbs 0 … 8 with 9 … 18 folded in.
    let mut low = Column(0);
    let k0 = column!(low, [limb(h, 0)], [s9.0]);
    let k1 = column!(low, [limb(h, 1)], [s9.1, s10.0]);
    let k2 = column!(low, [limb(h, 2)], [s9.2, s10.1, s11.0]);
    let k3 = column!(low, [limb(h, 3)], [s9.3, s10.2, s11.1, s12.0]);
    let k4 = column!(low, [limb(h, 4)], [s9.4, s10.3, s11.2, s12.1, s13.0]);
    let k5 = column!(low, [limb(h, 5)], [s10.4, s11.3, s12.2, s13.1, s14.0]);
    let k6 = column!(low, [limb(h, 6)], [s11.4, s12.3, s13.2, s14.1, h15.0]);
    let k7 = column!(low, [limb(h, 7)], [s12.4, s13.3, s14.2, h15.1, h16.0]);
    let k8 = column!(low, [limb(h, 8)], [s13.4, s14.3, h15.2, h16.1, h17.0]);
    // What 14 … 18 fold into limbs 9 … 13 is in s9 … s13 already, but for the carry's.
    low.fold(carry, 4);
    [k0, k1, k2, k3, k4, k5, k6, k7, k8, low.0]
}

/// Nine limbs in [0, 2^28) and a signed one below 2^35 in size, to the canonical scalar.
#[inline(always)]
fn canonical(limbs: [i64; 9], top: i64) -> [u64; 4] {
    let [l0, l1, l2, l3, l4, l5, l6, l7, l8] = limbs;
    let mut column = Column(0);
    let r0 = column!(column, [l0], [top.0]);
    let r1 = column!(column, [l1], [top.1]);
    let r2 = column!(column, [l2], [top.2]);
    let r3 = column!(column, [l3], [top.3]);
    let r4 = column!(column, [l4], [top.4]);
    let r5 = column!(column, [l5], []);
    let limbs = [r0, r1, r2, r3, r4, r5, l6, l7, l8];
    if column.0 == 0 { packed(limbs) } else { carry_out(limbs, column.0) }
}

/// Nine limbs of a canonical scalar as little-endian words.
#[inline(always)]
fn packed(limbs: [i64; 9]) -> [u64; 4] {
    let [l0, l1, l2, l3, l4, l5, l6, l7, l8] = limbs.map(i64::cast_unsigned);
    [
        l0 | l1 << 28 | l2 << 56,
        l2 >> 8 | l3 << 20 | l4 << 48,
        l4 >> 16 | l5 << 12 | l6 << 40,
        l6 >> 24 | l7 << 4 | l8 << 32,
    ]
}

/// Carries beyond limb 5 (by chance once in 2^28 times), and brings what is then outside [0, L) into it.
#[cold]
#[inline(never)]
fn carry_out(mut limbs: [i64; 9], carry: i64) -> [u64; 4] {
    let mut column = Column(carry);
    for limb in &mut limbs[6..] {
        *limb = column!(column, [*limb], []);
    }
    // The value is limbs + carry · 2^252 with a carry of −1, 0 or 1, within 2^161 of [0, 2^252).
    let Column(carry) = column;
    if carry == 0 {
        return packed(limbs);
    }
    let mut less = limbs;
    let mut column = Column(0);
    for (at, limb) in less.iter_mut().enumerate() {
        if at < C.len() {
            column.fold(carry, at);
        }
        *limb = column!(column, [*limb], []);
    }
    // less + borrow · 2^252 is the value − carry · L.
    let Column(borrow) = column;
    if carry == 1 && borrow < 0 {
        limbs[8] += 1 << 28; // it was in [2^252, L) already
    } else {
        limbs = less;
        limbs[8] += borrow << 28;
    }
    packed(limbs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::Scalar;
    use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

    /// L, little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];

    /// `number + addend` modulo 2^512.
    fn plus(number: [u8; 64], addend: i64) -> [u8; 64] {
        let mut carry = i128::from(addend);
        number.map(|byte| {
            carry += i128::from(byte);
            let low = carry.rem_euclid(256);
            carry = (carry - low) / 256;
            u8::try_from(low).unwrap()
        })
    }

    /// `factor · L · 256^shift` modulo 2^512.
    fn multiple_of_order(factor: u64, shift: usize) -> [u8; 64] {
        let mut bytes = [0; 64];
        let mut carry = 0u128;
        for (at, byte) in bytes.iter_mut().enumerate() {
            let order = at.checked_sub(shift).and_then(|at| ORDER.get(at)).copied().unwrap_or(0);
            carry += u128::from(order) * u128::from(factor);
            *byte = u8::try_from(carry % 256).unwrap();
            carry /= 256;
        }
        bytes
    }

    fn assert_same(z: u128, h: &[u8; 64]) {
        let k = Scalar::from_bytes_mod_order_wide(h);
        let words = |scalar: Scalar| bytemuck::cast::<[u8; 32], [u64; 4]>(scalar.to_bytes());
        assert_eq!(reduce(h), words(k), "h = {h:02x?}");
        assert_eq!(multiply(bytemuck::cast(z.to_le_bytes()), h), words(Scalar::from(z) * k), "z = {z:x}, h = {h:02x?}");
    }

    /// Coefficients that stress the columns: all ones, one bit, runs, and random.
    fn coefficients(random: &mut StdRng) -> [u128; 6] {
        let random_z = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        [0, 1, u128::MAX, 1 << random.random_range(0..128), u128::MAX >> random.random_range(0..128), random_z]
    }

    #[test]
    fn every_edge_reduces_as_curve25519_dalek_says() {
        let mut random = StdRng::seed_from_u64(0x5ca1_ab1e);
        let mut edges = Vec::new();
        for bit in 0..512 {
            let mut power = [0; 64];
            power[bit / 8] = 1 << (bit % 8);
            edges.extend((-2..=2).map(|near| plus(power, near)));
        }
        for shift in 0..64 {
            for factor in [1, 2, 3, 8, 15, 16, 255, u64::MAX, random.next_u64()] {
                edges.extend((-2..=2).map(|near| plus(multiple_of_order(factor, shift), near)));
            }
        }
        for from in 0..64 {
            for to in from..=64 {
                let mut run = [0; 64];
                run[from..to].fill(0xff);
                edges.push(run);
                edges.push(run.map(|byte| !byte));
            }
        }
        for h in &edges {
            for z in coefficients(&mut random) {
                assert_same(z, h);
            }
        }
    }

    #[test]
    fn numbers_from_two_to_the_252_up_to_the_order_reduce_to_themselves() {
        let mut random = StdRng::seed_from_u64(0x0dd_ba11);
        for _ in 0..100_000 {
            let mut h = [0; 64];
            random.fill(&mut h[..15]); // 2^252 + anything below 2^120 is below L
            h[31] = 0x10;
            assert_eq!(bytemuck::cast::<_, [u8; 32]>(reduce(&h)), h[..32]);
            assert_same(1, &h);
        }
    }

    #[test]
    fn a_million_random_numbers_reduce_as_curve25519_dalek_says() {
        let mut random = StdRng::seed_from_u64(0xfeed_5ca1);
        let mut h = [0; 64];
        for _ in 0..1_000_000 {
            random.fill(&mut h[..]);
            let z = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            assert_same(z, &h);
        }
    }

    #[test]
    fn random_numbers_with_runs_of_zeros_and_ones_reduce_as_curve25519_dalek_says() {
        let mut random = StdRng::seed_from_u64(0xbead_ed00);
        for _ in 0..300_000 {
            let mut h = [0; 64];
            random.fill(&mut h[..]);
            for _ in 0..3 {
                let (from, byte) = (random.random_range(0..64), if random.random() { 0xff } else { 0 });
                let to = random.random_range(from..=64);
                h[from..to].fill(byte);
            }
            let z = coefficients(&mut random)[random.random_range(0..6)];
            assert_same(z, &h);
        }
    }
}
