//! Memory of the system, in pages.

use std::ops::Range;
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};

use crate::limits::BLOCK_BYTES;

pub(super) struct Memory {
    map: MmapMut,
    start: NonNull<u8>,
    offset: usize,
    pages: usize,
    is_huge: bool,
}

// SAFETY: the pointer is into the mapping, which any thread may use.
unsafe impl Send for Memory {}
// SAFETY: as above; who may touch which bytes when is for `Page` to say.
unsafe impl Sync for Memory {}

#[cfg(target_os = "linux")]
const UNUSED: UncheckedAdvice = UncheckedAdvice::DontNeed;
#[cfg(not(target_os = "linux"))]
const UNUSED: UncheckedAdvice = UncheckedAdvice::Free;

impl Memory {
    /// Whether the system is asked for huge pages.
    pub(super) const HAS_HUGE: bool = cfg!(target_os = "linux");

    /// Maps `pages`, as a huge page if the system has one.
    pub(super) fn map(pages: usize, is_huge: bool) -> Option<Self> {
        let len = pages * BLOCK_BYTES;
        // Twice as long, so that a part of it begins where a huge page can.
        let mapped = if is_huge { 2 * len } else { len };
        let mut map = MmapOptions::new().len(mapped).map_anon().ok()?;
        let first = map.as_mut_ptr();
        let offset = if is_huge { first.align_offset(len) } else { 0 };
        #[cfg(target_os = "linux")]
        if is_huge {
            // Where the system has none, pages of the usual size do.
            map.advise_range(memmap2::Advice::HugePage, offset, len)
                .ok();
        }
        let start = NonNull::new(map.get_mut(offset..)?.as_mut_ptr())?;
        Some(Self {
            map,
            start,
            offset,
            pages,
            is_huge,
        })
    }

    /// Says whether the system may make a huge page of this: one of which a
    /// part was given back would come back as a whole.
    pub(super) fn let_be_huge(&self, may: bool) {
        #[cfg(target_os = "linux")]
        if self.is_huge {
            let advice = match may {
                true => memmap2::Advice::HugePage,
                false => memmap2::Advice::NoHugePage,
            };
            let len = self.pages * BLOCK_BYTES;
            self.map.advise_range(advice, self.offset, len).ok();
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (may, self.is_huge);
    }

    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    pub(super) fn page(&self, index: usize) -> NonNull<u8> {
        let at = index.min(self.pages - 1) * BLOCK_BYTES;
        // SAFETY: it lies in the mapping.
        unsafe { self.start.add(at) }
    }

    /// Gives back the memory of pages that nobody holds: they read as
    /// anything afterwards.
    pub(super) fn give_back(&self, pages: Range<usize>) {
        let (at, len) = (pages.start * BLOCK_BYTES, pages.len() * BLOCK_BYTES);
        // SAFETY: no page of the range is held, so there is no reference to
        // its bytes.
        let done = unsafe {
            self.map
                .unchecked_advise_range(UNUSED, self.offset + at, len)
        };
        // It fails where the system's pages are larger; the memory stays.
        done.ok();
    }
}
