//! Memory of the allocator, one page at a time: parts of more could not be given
//! back.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::limits::BLOCK_BYTES;
use crate::spill::SpillFile;

pub(super) struct Memory {
    start: NonNull<[u8; BLOCK_BYTES]>,
}

// SAFETY: the pointer owns its bytes, which any thread may use.
unsafe impl Send for Memory {}
// SAFETY: as above; who may touch which bytes when is for `Page` to say.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) const HAS_HUGE: bool = false;

    /// Whether parts of it lie side by side and can be given back.
    pub(super) const IS_MAPPED: bool = false;

    pub(super) fn map(_pages: usize, _is_huge: bool) -> Option<Self> {
        let bytes = Box::new([0; BLOCK_BYTES]);
        let start = NonNull::from(Box::leak(bytes));
        Some(Self { start })
    }

    /// There are no such files here.
    pub(super) fn in_file(_file: &Arc<SpillFile>, _pages: usize) -> Option<Self> {
        None
    }

    pub(super) fn is_in_file(&self) -> bool {
        false
    }

    pub(super) fn reserve(&self, _pages: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn pages(&self) -> usize {
        1
    }

    pub(super) fn page(&self, _index: usize) -> NonNull<u8> {
        self.start.cast()
    }

    pub(super) fn let_be_huge(&self, _may: bool) {}

    pub(super) fn give_back(&self, _pages: Range<usize>) {}
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was leaked when it was made, and goes here only.
        drop(unsafe { Box::from_raw(self.start.as_ptr()) });
    }
}
