//! From a size to the files of the base that have it: among them sealing looks for the
//! equal of what a guest wrote. Built on first use, and shared by all instances.

use super::index::Index;
use crate::bounded::bounded_u32;
use crate::limits::MAX_FILES_OF_ONE_SIZE;
use crate::meta::Kind;

/// All files, in the order of their sizes.
pub(super) struct FilesBySize {
    /// Each size that a file has, in order.
    sizes: Box<[u64]>,
    /// Where in `files` those of each size end.
    ends: Box<[u32]>,
    files: Box<[u32]>,
}

impl FilesBySize {
    /// Looks at each object once; O(n log n). None are found in an image of
    /// more than `most` objects, nor where a damaged block has them.
    pub(super) fn of(index: &Index, most: u32) -> Self {
        let nodes = match index.nodes() {
            nodes if nodes <= most => nodes,
            _ => 0,
        };
        let mut files: Vec<(u64, u32)> = (0..nodes)
            .filter_map(|node| {
                let record = index.node(node);
                (record.kind() == Kind::File).then(|| (record.size.get(), node))
            })
            .collect();
        files.sort_unstable();
        let (mut sizes, mut ends) = (Vec::new(), Vec::new());
        for of_one_size in files.chunk_by(|one, two| one.0 == two.0) {
            let before: u32 = ends.last().copied().unwrap_or(0);
            // They are some of the nodes, whose number has 32 bits.
            let count = bounded_u32(of_one_size.len(), "the number of objects");
            ends.push(before.saturating_add(count));
            sizes.extend(of_one_size.first().map(|(size, _)| *size));
        }
        Self {
            sizes: sizes.into(),
            ends: ends.into(),
            files: files.into_iter().map(|(_, node)| node).collect(),
        }
    }

    /// Returns whether a file has `size` bytes. Looks at nothing of the image.
    pub(super) fn has(&self, size: u64) -> bool {
        self.sizes.binary_search(&size).is_ok()
    }

    /// The first [`MAX_FILES_OF_ONE_SIZE`] files of `size` bytes.
    pub(super) fn of_size(&self, size: u64) -> impl Iterator<Item = u32> + '_ {
        let range = self.sizes.binary_search(&size).ok().and_then(|at| {
            let start = at.checked_sub(1).map_or(Some(&0), |at| self.ends.get(at))?;
            Some(*start as usize..*self.ends.get(at)? as usize)
        });
        let files = range.and_then(|range| self.files.get(range));
        files
            .into_iter()
            .flatten()
            .copied()
            .take(MAX_FILES_OF_ONE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::FilesBySize;
    use crate::image::tests::image;

    #[test]
    fn past_the_bound_no_equal_file_is_found() {
        // With the root these are four objects.
        let image = image("f a xx,f b yy,f c z");
        let files_by_size = |most| FilesBySize::of(&image.0.index, most);
        let found = |most, size| files_by_size(most).of_size(size).count();
        assert_eq!([1, 2, 9].map(|size| found(4, size)), [1, 2, 0]);
        assert_eq!([1, 2, 9].map(|size| found(3, size)), [0, 0, 0]);
        assert!(files_by_size(4).has(2) && !files_by_size(4).has(9) && !files_by_size(3).has(2));
    }
}
