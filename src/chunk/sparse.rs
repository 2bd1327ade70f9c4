//! Bytes of which most blocks are zeros, held without those.
//!
//! A byte here and there costs a guest a block each. As chunks of a layer they
//! would cost their host 64 KiB each.

use bytes::Bytes;

use crate::limits::{BLOCK_BYTES, CHUNK_BYTES};

/// At most [`CHUNK_BYTES`] bytes, of which the blocks that are all zeros are left
/// out.
pub(super) struct Sparse {
    len: usize,
    /// The bit of each block that is kept.
    kept: u16,
    /// Those blocks in order.
    bytes: Box<[u8]>,
}

// A bit for each block of a chunk.
const _: () = assert!(CHUNK_BYTES / BLOCK_BYTES == 16);

impl Sparse {
    /// Returns `bytes` without blocks of zeros, if these are at least half of it.
    /// O(bytes); for bytes with few zeros, a look at the start of each block.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut kept = 0_u16;
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                kept |= 1 << number;
            }
        }
        let blocks = bytes.len().div_ceil(BLOCK_BYTES);
        if bytes.len() > CHUNK_BYTES || 2 * kept.count_ones() as usize > blocks {
            return None;
        }
        let blocks = bytes.chunks(BLOCK_BYTES).enumerate();
        let data = blocks.filter(|(number, _)| kept & (1 << number) != 0);
        Some(Self {
            len: bytes.len(),
            kept,
            bytes: data.flat_map(|(_, block)| block).copied().collect(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Copies the bytes from `from` on into `out`, zeros past their end.
    pub(super) fn read(&self, from: usize, out: &mut [u8]) {
        let mut at = from;
        let mut rest = out;
        while !rest.is_empty() {
            let (number, within) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let len = (BLOCK_BYTES - within).min(rest.len());
            let (part, more) = rest.split_at_mut(len);
            super::copy_or_zero(self.block(number).get(within..).unwrap_or_default(), part);
            at += len;
            rest = more;
        }
    }

    /// Returns what is kept of a block.
    fn block(&self, number: usize) -> &[u8] {
        if number >= 16 || self.kept & (1 << number) == 0 {
            return &[];
        }
        let before = (self.kept & ((1 << number) - 1)).count_ones() as usize;
        let rest = self.bytes.get(before * BLOCK_BYTES..).unwrap_or_default();
        rest.get(..BLOCK_BYTES).unwrap_or(rest)
    }

    /// Returns all the bytes. O(bytes).
    pub(super) fn whole(&self) -> Bytes {
        let mut all = vec![0; self.len];
        self.read(0, &mut all);
        all.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_went_in_and_zeros_are_not_held() {
        let all: usize = 16 * BLOCK_BYTES;
        for (len, places) in [
            (all, &[0, all - 1][..]),
            (all, &[5_000, 30_000, 31_000, 65_000]),
            (all - 100, &[all - 101]),
            (3 * BLOCK_BYTES, &[BLOCK_BYTES]),
            (2 * BLOCK_BYTES + 7, &[]),
            (0, &[]),
        ] {
            let mut bytes = vec![0; len];
            places.iter().for_each(|at| bytes[*at] = 9);
            let sparse = Sparse::of(&bytes).unwrap();
            assert_eq!((sparse.len(), &sparse.whole()[..]), (len, &bytes[..]));
            assert!(sparse.held_bytes() <= places.len() * BLOCK_BYTES);
            bytes.resize(all + 10, 0);
            for from in [0, 1, 4_095, 4_096, 29_999, 65_000, all - 1] {
                for want in [1, 2, 5_000, 70_000] {
                    let mut out = vec![7; want.min(bytes.len() - from)];
                    sparse.read(from, &mut out);
                    assert_eq!(out, bytes[from..from + out.len()]);
                }
            }
        }
    }

    #[test]
    fn bytes_with_fewer_zeros_are_left_as_they_are() {
        let mut bytes = vec![0; 16 * BLOCK_BYTES];
        for block in bytes.chunks_mut(BLOCK_BYTES).step_by(2) {
            block[17] = 1;
        }
        assert!(Sparse::of(&bytes).is_some());
        bytes[BLOCK_BYTES] = 1;
        assert!(Sparse::of(&bytes).is_none());
        assert!(Sparse::of(&[1]).is_none());
    }
}
