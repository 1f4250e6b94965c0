/// A fuzzer's bytes, taken apart from the front. When they run out, zeros come: every input means something.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        let mut array = [0; N];
        array[..head.len()].copy_from_slice(head);
        self.0 = rest;
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// An amount that is often small, sometimes at a limit, sometimes anything.
    pub(crate) fn amount(&mut self) -> u64 {
        let small = u64::from(self.u16());
        match small % 16 {
            0..=12 => small / 16,
            13 => (1 << 48) - small / 16,
            14 => u64::MAX - small / 16,
            _ => self.u64(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Bytes with some of them replaced, as pairs of place and byte at the front of the input say; the first byte says how many.
pub(crate) fn edited(bytes: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut edited = bytes.to_vec();
    for _ in 0..input.below(8) {
        let (at, byte) = (usize::from(input.u16()), input.byte());
        if let Some(place) = edited.get_mut(at % bytes.len().max(1)) {
            *place = byte;
        }
    }
    edited
}
