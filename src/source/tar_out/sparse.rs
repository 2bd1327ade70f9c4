//! Which bytes of a file with holes an archive holds.
//!
//! Of the forms there are, the one of PAX (GNU's version 1.0): it goes with
//! long names and attributes, and GNU tar, bsdtar, Python and Go (so Docker and
//! containerd) read it. Those that do not, such as BusyBox, find a file
//! `GNUSparseFile.0/NAME` that begins with the map.

use crate::chunk::{Content, ContentError};
use crate::limits::{
    BLOCK_BYTES, MAX_SPARSE_RATIO, MAX_SPARSE_RUNS, MAX_ZEROS_BYTES, MIN_SPARSE_BYTES,
};

/// How a file is written.
pub(super) enum FileForm {
    /// All its bytes.
    Dense,
    /// These runs of it.
    Sparse(DataRuns),
}

/// The runs of a file that hold data: offset and end of each, in order.
pub(super) struct DataRuns {
    runs: Vec<(u64, u64)>,
    /// Holes of fewer bytes are part of the run around them.
    least: u64,
    /// Bytes of blocks that are not all zeros.
    data: u64,
    size: u64,
}

impl FileForm {
    /// Chooses. `zeros` counts the bytes of holes that the archive has already:
    /// each may be small, and a guest can make many. Reads a file that is to be
    /// sparse once: O(bytes outside holes).
    pub(super) fn of(content: &Content, zeros: &mut u64) -> Result<Self, ContentError> {
        let holes = content.size().saturating_sub(content.stored_bytes());
        let all = zeros.saturating_add(holes);
        if holes == 0 || (holes < MIN_SPARSE_BYTES && all <= MAX_ZEROS_BYTES) {
            *zeros = all;
            return Ok(Self::Dense);
        }
        let mut runs = DataRuns {
            runs: Vec::new(),
            least: BLOCK_BYTES as u64,
            data: 0,
            size: content.size(),
        };
        for piece in content.pieces() {
            let (offset, bytes) = piece?;
            let mut at = offset;
            for block in bytes.chunks(BLOCK_BYTES) {
                let end = at + block.len() as u64;
                if block.iter().any(|byte| *byte != 0) {
                    runs.add(at, end);
                }
                at = end;
            }
        }
        Ok(Self::Sparse(runs))
    }
}

impl DataRuns {
    fn add(&mut self, start: u64, end: u64) {
        self.data += end - start;
        match self.runs.last_mut() {
            Some((_, last)) if start - *last < self.least => *last = end,
            _ => self.runs.push((start, end)),
        }
        // Smaller holes are given up until the map is short enough.
        while self.runs.len() > MAX_SPARSE_RUNS {
            self.least *= 2;
            let least = self.least;
            self.runs.dedup_by(|next, run| {
                let near = next.0 - run.1 < least;
                if near {
                    run.1 = next.1;
                }
                near
            });
        }
    }

    /// Returns the bytes of all runs.
    pub(super) fn stored(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    /// Returns whether data lies scattered over more runs than a map has, so that
    /// the archive would be far larger than what the file holds.
    pub(super) fn is_scattered(&self) -> bool {
        self.stored() - self.data > self.data.saturating_mul(MAX_SPARSE_RATIO)
    }

    pub(super) fn data(&self) -> u64 {
        self.data
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().copied()
    }

    /// Writes the map: decimal lines, filled up to a block. A hole at the end
    /// is told by a run of no bytes, from which GNU tar takes the size.
    pub(super) fn map(&self) -> Vec<u8> {
        let ends_in_hole = self.runs.last().is_none_or(|(_, end)| *end < self.size);
        let last = ends_in_hole.then_some((self.size, self.size));
        let count = self.runs.len() + usize::from(ends_in_hole);
        let mut out = format!("{count}\n").into_bytes();
        for (start, end) in self.iter().chain(last) {
            out.extend_from_slice(format!("{start}\n{}\n", end - start).as_bytes());
        }
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::limits::MAX_TAR_EXTENSION_BYTES;

    fn runs(size: u64) -> DataRuns {
        DataRuns {
            runs: Vec::new(),
            least: BLOCK_BYTES as u64,
            data: 0,
            size,
        }
    }

    #[test]
    fn a_map_is_never_longer_than_readers_take() {
        let size = crate::limits::MAX_FILE_BYTES;
        let mut all = runs(size);
        let step = size / 200_000 / 4096 * 4096;
        for number in 0..200_000 {
            all.add(number * step, number * step + 4096);
        }
        assert!(all.map().len() as u64 <= MAX_TAR_EXTENSION_BYTES);
        assert_eq!(all.data(), 200_000 * 4096);
        assert!(all.is_scattered());
        let last = all.iter().last().map(|(_, end)| end);
        assert_eq!(last, Some(199_999 * step + 4096));
    }

    #[test]
    fn holes_are_given_up_from_the_smallest_on() {
        let mut near = runs(1 << 30);
        for number in 0..60_000 {
            near.add(number * 3 * 4096, number * 3 * 4096 + 8192);
        }
        assert!(near.map().len() as u64 <= MAX_TAR_EXTENSION_BYTES);
        assert!(!near.is_scattered());
    }

    #[test]
    fn many_small_holes_are_left_out_once_they_add_up() {
        let pool = ChunkPool::new();
        let small = {
            let mut builder = ContentBuilder::new(&pool);
            builder.hole(MIN_SPARSE_BYTES - 1);
            builder.finish()
        };
        let mut zeros = 0;
        let mut dense = 0;
        while let FileForm::Dense = FileForm::of(&small, &mut zeros).unwrap() {
            dense += 1;
        }
        assert_eq!(dense, MAX_ZEROS_BYTES / (MIN_SPARSE_BYTES - 1));
        assert!(zeros <= MAX_ZEROS_BYTES);
    }
}
