//! Memory of the system or of a file, in pages.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};

use crate::limits::BLOCK_BYTES;
use crate::spill::{SLOT_BYTES, SpillFile};

pub(super) struct Memory {
    map: MmapMut,
    start: NonNull<u8>,
    offset: usize,
    pages: usize,
    is_huge: bool,
    /// Goes after the mapping.
    slot: Option<FileSlot>,
}

/// The part of a file that a mapping shows.
struct FileSlot {
    file: Arc<SpillFile>,
    start: u64,
}

impl Drop for FileSlot {
    fn drop(&mut self) {
        self.file.give_slot(self.start);
    }
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

    /// Whether parts of it lie side by side and can be given back.
    pub(super) const IS_MAPPED: bool = true;

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
            slot: None,
        })
    }

    /// Maps `pages` of a file: as many as a slot has at most. None of them may be
    /// touched before it is reserved.
    pub(super) fn in_file(file: &Arc<SpillFile>, pages: usize) -> Option<Self> {
        let len = pages * BLOCK_BYTES;
        if len as u64 > SLOT_BYTES {
            return None;
        }
        let slot = FileSlot {
            start: file.take_slot(),
            file: Arc::clone(file),
        };
        let mut options = MmapOptions::new();
        options.len(len).offset(slot.start);
        // SAFETY: nobody else can open the file, which has no name, and its slots
        // are given out once: all changes go through pages of this mapping.
        let mut map = unsafe { options.map_mut(slot.file.file()) }.ok()?;
        let start = NonNull::new(map.as_mut_ptr())?;
        Some(Self {
            map,
            start,
            offset: 0,
            pages,
            is_huge: false,
            slot: Some(slot),
        })
    }

    pub(super) fn is_in_file(&self) -> bool {
        self.slot.is_some()
    }

    /// Reserves room for pages of a file, so that they may be touched.
    ///
    /// # Errors
    ///
    /// That of the system if there is no room.
    pub(super) fn reserve(&self, pages: Range<usize>) -> io::Result<()> {
        self.slot.as_ref().map_or(Ok(()), |slot| {
            let (at, len) = in_bytes(&pages);
            slot.file.reserve(slot.start + at as u64, len as u64)
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

    /// Releases the memory of pages that nobody holds: they read as
    /// anything afterwards.
    pub(super) fn give_back(&self, pages: Range<usize>) {
        let (at, len) = in_bytes(&pages);
        if let Some(slot) = &self.slot {
            // If it fails the room stays reserved for the next use.
            slot.file.release(slot.start + at as u64, len as u64).ok();
            return;
        }
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

/// Where pages begin and how long they are together, in bytes.
fn in_bytes(pages: &Range<usize>) -> (usize, usize) {
    (pages.start * BLOCK_BYTES, pages.len() * BLOCK_BYTES)
}
