//! Where the frames of a blob lie.

use std::ops::Range;

/// Frames that lie one after the other from the beginning of a blob on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FramePlaces {
    /// Where each begins, and its bytes decompressed; at the end where the last one ends.
    starts: Vec<(u64, u32)>,
}

impl FramePlaces {
    /// Takes the bytes of each, compressed and not.
    pub(super) fn new(sizes: Vec<(u32, u32)>) -> Self {
        let mut starts = Vec::with_capacity(sizes.len() + 1);
        let mut at = 0;
        for (compressed, raw) in sizes {
            starts.push((at, raw));
            at += u64::from(compressed);
        }
        starts.push((at, 0));
        Self { starts }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Returns the bytes of each, compressed and not.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (u32, u32)> {
        self.starts.windows(2).map(|pair| match pair {
            // `new` has added up what it was given, in 32 bits each.
            [(start, raw), (end, _)] => {
                let compressed = u32::try_from(end - start);
                debug_assert!(compressed.is_ok(), "a frame from {start} to {end}");
                (compressed.unwrap_or(u32::MAX), *raw)
            }
            _ => (0, 0),
        })
    }

    /// Returns where some frames lie together, one after the other.
    pub(super) fn span(&self, frames: Range<u32>) -> Option<Range<u64>> {
        let (start, _) = self.starts.get(frames.start as usize)?;
        let (end, _) = self.starts.get(frames.end as usize)?;
        Some(*start..*end)
    }

    /// Returns the bytes of a frame, decompressed.
    pub(super) fn raw(&self, frame: u32) -> usize {
        let found = self.starts.get(frame as usize);
        found.map_or(0, |(_, raw)| *raw as usize)
    }
}
