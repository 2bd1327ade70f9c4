//! Which blocks of files were written and not sealed since.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::ops::Range;

use super::blocks::FileBody;
use super::maps::IdHasher;
use crate::meta::FileId;

/// Ranges that a list may have beyond twice the blocks of its file.
const SPARE: usize = 4;

/// Numbers of blocks by file.
#[derive(Default)]
pub(super) struct Dirty(HashMap<FileId, DirtyBlocks, BuildHasherDefault<IdHasher>>);

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

    /// Goes by the files as they are now, after a change of many: `file_of`
    /// gives each, if it is there.
    pub(super) fn follow<'a>(&mut self, file_of: impl Fn(FileId) -> Option<&'a FileBody>) {
        self.0.retain(|id, blocks| match file_of(*id) {
            Some(file) => {
                blocks.keep_bounded(file);
                true
            }
            None => false,
        });
    }

    /// Gives any file.
    pub(super) fn any(&self) -> Option<FileId> {
        self.0.keys().next().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
/// more ranges than twice the blocks that the file has, and some.
#[derive(Default)]
pub(super) struct DirtyBlocks(Vec<Range<u64>>);

impl DirtyBlocks {
    /// Adds block `number`; [`keep_bounded`](Self::keep_bounded) is to follow.
    /// Tells whether there is a range more.
    pub(super) fn add(&mut self, number: u64) -> bool {
        match self.0.last_mut() {
            Some(last) if last.end == number => {
                last.end += 1;
                false
            }
            Some(last) if last.contains(&number) => false,
            Some(_) | None => {
                self.0.push(number..number + 1);
                true
            }
        }
    }

    /// Forgets what is not there any more if there are too many ranges. Costs
    /// a constant for each block that was added or cut off since.
    pub(super) fn keep_bounded(&mut self, file: &FileBody) {
        if !self.is_bounded(file) {
            self.0 = self.numbers(file);
        }
    }

    /// Tells whether there are no more ranges than there may be.
    pub(super) fn is_bounded(&self, file: &FileBody) -> bool {
        self.0.len() <= 2 * file.block_count() + SPARE
    }

    /// Gives the blocks that `file` still has to itself, in order.
    pub(super) fn numbers(&self, file: &FileBody) -> Vec<Range<u64>> {
        let mut sorted = self.0.clone();
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
