//! From a size to the files that have it: where the equal of what a guest
//! wrote may be. Made at the first question, shared by all instances.

use super::index::Index;
use crate::limits::MAX_TWINS;
use crate::meta::Kind;

/// All files, in the order of their sizes.
pub(super) struct Twins(Box<[u32]>);

impl Twins {
    /// Looks at each object once; O(n log n).
    pub(super) fn of(index: &Index) -> Self {
        let is_file = |node: &u32| index.node(*node).kind() == Kind::File;
        let mut files: Vec<u32> = (0..index.nodes()).filter(is_file).collect();
        files.sort_by_key(|node| index.node(*node).size.get());
        Self(files.into())
    }

    /// The first [`MAX_TWINS`] files of `size` bytes.
    pub(super) fn of_size<'a>(
        &'a self,
        index: &'a Index,
        size: u64,
    ) -> impl Iterator<Item = u32> + 'a {
        let size_of = move |node: u32| index.node(node).size.get();
        let from = self.0.partition_point(|node| size_of(*node) < size);
        let files = self.0.get(from..).unwrap_or_default().iter().copied();
        files
            .take(MAX_TWINS)
            .take_while(move |node| size_of(*node) == size)
    }
}
