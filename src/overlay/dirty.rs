//! Which blocks of files were written and not sealed since.

use std::hash::BuildHasherDefault;
use std::ops::Range;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use triomphe::Arc;

use super::blocks::FileBody;
use super::maps::IdHasher;
use crate::meta::FileId;

/// Ranges that a list may have beyond twice the blocks of its file.
const SPARE: usize = 4;

/// Numbers of blocks by file. Clones share structure: what was not sealed when
/// a state was copied is not sealed in the copy either.
#[derive(Clone, Default)]
pub(super) struct Dirty(Files);

type Files = GenericHashMap<FileId, DirtyBlocks, BuildHasherDefault<IdHasher>, DefaultSharedPtr>;

impl Dirty {
    pub(super) fn of(&mut self, id: FileId) -> &mut DirtyBlocks {
        self.0.entry(id).or_default()
    }

    pub(super) fn take(&mut self, id: FileId) -> Option<DirtyBlocks> {
        self.0.remove(&id)
    }

    pub(super) fn forget(&mut self, id: FileId) {
        self.0.remove(&id);
    }

    /// Takes note that `file` was cut.
    pub(super) fn cut(&mut self, id: FileId, file: &FileBody) {
        if file.block_count() == 0 {
            self.0.remove(&id);
        } else if let Some(blocks) = self.0.get_mut(&id) {
            blocks.keep_bounded(file);
        }
    }

    /// Notes the blocks that are noted for a file of another state, whose bytes
    /// file `id` now has.
    pub(super) fn set(&mut self, id: FileId, blocks: Option<&DirtyBlocks>) {
        match blocks {
            Some(blocks) => drop(self.0.insert(id, blocks.clone())),
            None => drop(self.0.remove(&id)),
        }
    }

    pub(super) fn get(&self, id: FileId) -> Option<&DirtyBlocks> {
        self.0.get(&id)
    }

    /// Gives any file.
    pub(super) fn any(&self) -> Option<FileId> {
        self.0.keys().next().copied()
    }

    /// Counts the files.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FileId, &DirtyBlocks)> {
        self.0.iter().map(|(id, blocks)| (*id, blocks))
    }
}

/// Numbers of the blocks of one file, as ranges in the order in which they
/// were written: some may come twice, and some may be gone. There are never
/// more ranges than twice the blocks that the file has, and some. Clones share
/// the list until one of them adds to it.
#[derive(Clone, Default)]
pub(super) struct DirtyBlocks(Arc<Vec<Range<u64>>>);

impl DirtyBlocks {
    /// Adds block `number`; [`keep_bounded`](Self::keep_bounded) is to follow.
    /// Tells whether there is a range more.
    pub(super) fn add(&mut self, number: u64) -> bool {
        if self.0.last().is_some_and(|last| last.contains(&number)) {
            return false;
        }
        let ranges = Arc::make_mut(&mut self.0);
        match ranges.last_mut() {
            Some(last) if last.end == number => {
                last.end += 1;
                false
            }
            Some(_) | None => {
                ranges.push(number..number + 1);
                true
            }
        }
    }

    /// Forgets what is not there any more if there are too many ranges. Costs
    /// a constant for each block that was added or cut off since.
    pub(super) fn keep_bounded(&mut self, file: &FileBody) {
        if !self.is_bounded(file) {
            self.0 = Arc::new(self.numbers(file));
        }
    }

    /// Returns whether there are no more ranges than there may be.
    pub(super) fn is_bounded(&self, file: &FileBody) -> bool {
        self.0.len() <= 2 * file.block_count() + SPARE
    }

    /// Counts the blocks, those twice that were noted twice. O(ranges).
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Returns the blocks that `file` still has to itself, in order.
    pub(super) fn numbers(&self, file: &FileBody) -> Vec<Range<u64>> {
        let mut sorted = Vec::clone(&self.0);
        sorted.sort_unstable_by_key(|range| range.start);
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut from = 0;
        for range in sorted {
            let start = range.start.max(from);
            if start >= range.end {
                continue;
            }
            for number in file.own_numbers(start..range.end) {
                match found.last_mut() {
                    Some(last) if last.end == number => last.end += 1,
                    Some(_) | None => found.push(number..number + 1),
                }
            }
            from = range.end;
        }
        found
    }
}
