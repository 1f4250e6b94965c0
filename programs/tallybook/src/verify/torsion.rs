//! The eight points of small order: those `P` with `8 · P = identity`.

/// Their canonical encodings, in little-endian words; the identity first, since it is nearly always the one.
#[rustfmt::skip]
const SMALL_ORDER: [[u64; 4]; 8] = [
    [0x0000_0000_0000_0001, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000],
    [0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000],
    [0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 0x8000_0000_0000_0000],
    [0xb027_b2c2_8f95_e826, 0xf098_eff2_89f4_c345, 0x3933_c6d3_05ac_dfd5, 0x05fc_536d_8802_38b1],
    [0xb027_b2c2_8f95_e826, 0xf098_eff2_89f4_c345, 0x3933_c6d3_05ac_dfd5, 0x85fc_536d_8802_38b1],
    [0x4fd8_4d3d_706a_17c7, 0x0f67_100d_760b_3cba, 0xc6cc_392c_fa53_202a, 0x7a03_ac92_77fd_c74e],
    [0x4fd8_4d3d_706a_17c7, 0x0f67_100d_760b_3cba, 0xc6cc_392c_fa53_202a, 0xfa03_ac92_77fd_c74e],
    [0xffff_ffff_ffff_ffec, 0xffff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff],
];

/// Whether the canonical encoding is that of a point of small order.
pub(super) fn contains(encoding: &[u8; 32]) -> bool {
    let words: [u64; 4] = bytemuck::cast(*encoding);
    SMALL_ORDER.contains(&words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::EIGHT_TORSION;

    #[test]
    fn the_table_is_the_whole_torsion_subgroup() {
        let mut expected = EIGHT_TORSION.map(|point| bytemuck::cast::<[u8; 32], [u64; 4]>(point.compress().0));
        let mut table = SMALL_ORDER;
        expected.sort_unstable();
        table.sort_unstable();
        assert_eq!(table, expected);
    }
}
