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
pub(super) struct Dirty {
    /// The file that was written last: as a rule the next one too, and sealed before
    /// another is written.
    last: Option<(FileId, DirtyBlocks)>,
    /// The others.
    files: Files,
}

type Files = GenericHashMap<FileId, DirtyBlocks, BuildHasherDefault<IdHasher>, DefaultSharedPtr>;

impl Dirty {
    #[inline]
    pub(super) fn of(&mut self, id: FileId) -> &mut DirtyBlocks {
        if self.last.as_ref().is_none_or(|last| last.0 != id) {
            self.turn_to(id);
        }
        &mut self
            .last
            .get_or_insert_with(|| (id, DirtyBlocks::default()))
            .1
    }

    fn turn_to(&mut self, id: FileId) {
        let blocks = self.files.remove(&id).unwrap_or_default();
        if let Some((id, blocks)) = self.last.replace((id, blocks)) {
            self.files.insert(id, blocks);
        }
    }

    pub(super) fn take(&mut self, id: FileId) -> Option<DirtyBlocks> {
        match self.last.take_if(|last| last.0 == id) {
            Some((_, blocks)) => Some(blocks),
            None if self.files.is_empty() => None,
            None => self.files.remove(&id),
        }
    }

    pub(super) fn forget(&mut self, id: FileId) {
        self.take(id);
    }

    /// Takes note that `file` was cut.
    pub(super) fn cut(&mut self, id: FileId, file: &FileBody) {
        if file.block_count() == 0 {
            self.forget(id);
        } else if let Some(blocks) = self.get_mut(id) {
            blocks.keep_bounded(file);
        }
    }

    /// Notes the blocks that are noted for a file of another state, whose bytes
    /// file `id` now has.
    pub(super) fn set(&mut self, id: FileId, blocks: Option<&DirtyBlocks>) {
        match blocks {
            Some(blocks) => *self.of(id) = blocks.clone(),
            None => self.forget(id),
        }
    }

    pub(super) fn get(&self, id: FileId) -> Option<&DirtyBlocks> {
        match &self.last {
            Some((last, blocks)) if *last == id => Some(blocks),
            _ => self.files.get(&id),
        }
    }

    fn get_mut(&mut self, id: FileId) -> Option<&mut DirtyBlocks> {
        match &mut self.last {
            Some((last, blocks)) if *last == id => Some(blocks),
            _ => self.files.get_mut(&id),
        }
    }

    /// Returns any one of the files.
    pub(super) fn any(&self) -> Option<FileId> {
        self.iter().next().map(|(id, _)| id)
    }

    /// Counts the files.
    pub(super) fn len(&self) -> usize {
        self.files.len() + usize::from(self.last.is_some())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FileId, &DirtyBlocks)> {
        let last = self.last.iter().map(|(id, blocks)| (*id, blocks));
        last.chain(self.files.iter().map(|(id, blocks)| (*id, blocks)))
    }
}

/// Numbers of the blocks of one file, as ranges in the order in which they
/// were written: some may come twice, and some may be gone. There are never
/// more ranges than twice the blocks that the file has, and some. Clones share
/// the list of the earlier ranges until one of them adds to it.
#[derive(Clone, Default)]
pub(super) struct DirtyBlocks {
    /// The range that was added to last; empty if there is none.
    last: Range<u64>,
    /// Those before it: none for a file that is written from start to end.
    earlier: Option<Arc<Vec<Range<u64>>>>,
}

impl DirtyBlocks {
    /// Adds block `number`; [`keep_bounded`](Self::keep_bounded) is to follow.
    pub(super) fn add(&mut self, number: u64) {
        if self.last.contains(&number) {
            return;
        }
        if self.last.is_empty() {
            self.last = number..number;
        } else if self.last.end != number {
            let last = std::mem::replace(&mut self.last, number..number);
            Arc::make_mut(self.earlier.get_or_insert_default()).push(last);
        }
        self.last.end = number + 1;
    }

    fn earlier(&self) -> &[Range<u64>] {
        self.earlier
            .as_ref()
            .map_or(&[], |ranges| ranges.as_slice())
    }

    fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        let last = (!self.last.is_empty()).then_some(&self.last);
        self.earlier().iter().chain(last)
    }

    /// Forgets what is not there any more if there are too many ranges. Costs
    /// a constant for each block that was added or cut off since.
    #[inline]
    pub(super) fn keep_bounded(&mut self, file: &FileBody) {
        // One range is always few enough.
        if self.earlier.is_some() && !self.is_bounded(file) {
            let mut ranges = self.numbers(file);
            self.last = ranges.pop().unwrap_or_default();
            self.earlier = (!ranges.is_empty()).then(|| Arc::new(ranges));
        }
    }

    /// Returns whether there are no more ranges than there may be.
    pub(super) fn is_bounded(&self, file: &FileBody) -> bool {
        self.earlier().len() < 2 * file.block_count() + SPARE
    }

    /// Counts the blocks, those twice that were noted twice. O(ranges).
    pub(super) fn len(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }

    /// Returns the blocks that `file` still has to itself, in order.
    pub(super) fn numbers(&self, file: &FileBody) -> Vec<Range<u64>> {
        let mut sorted: Vec<Range<u64>> = self.ranges().cloned().collect();
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
