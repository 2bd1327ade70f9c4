//! Pages that are held, and their way back.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::{Slab, WORDS, set};
use crate::limits::BLOCK_BYTES;

/// A page that is held. Cloning it counts one holder more; the bytes can be
/// changed by a single holder only. As many of them count as the holder says.
pub(crate) struct Page {
    /// Of an `Arc`. The pages of a slab that are held have one count of it together,
    /// as long as there are any.
    slab: NonNull<Slab>,
    index: u16,
    len: u16,
    /// Always the same. An enum around this has its tag in the other values.
    _niche: bool,
}

impl Page {
    /// Makes the first holder of a page, which counts as held in its slab.
    pub(super) fn new(slab: &Arc<Slab>, index: usize) -> Option<Self> {
        Some(Self {
            slab: NonNull::new(Arc::as_ptr(slab).cast_mut())?,
            index: u16::try_from(index).ok()?,
            len: 0,
            _niche: false,
        })
    }

    fn slab(&self) -> &Slab {
        // SAFETY: this page counts as an owner of its slab, so it is there.
        unsafe { self.slab.as_ref() }
    }

    fn holders(&self) -> Option<&AtomicU32> {
        self.slab().holders.get(usize::from(self.index))
    }

    fn start(&self) -> NonNull<u8> {
        self.slab().memory.page(usize::from(self.index))
    }

    /// Returns how many of the bytes count.
    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    /// Lets the first `len` bytes count, whatever they are: at most all.
    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = u16::try_from(len.min(BLOCK_BYTES)).unwrap_or(0);
    }

    /// Returns the bytes that count.
    pub(crate) fn bytes(&self) -> &[u8] {
        let len = self.len().min(BLOCK_BYTES);
        // SAFETY: the page is as long, lies in a mapping that is there as long
        // as `self`, and has been filled with zeros by the system. It is changed
        // through a unique reference to its only holder alone: not while this
        // one is borrowed.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), len) }
    }

    /// Returns all bytes of the page to change them, those that do not count
    /// too, if nothing else holds it.
    pub(crate) fn alone(&mut self) -> Option<&mut [u8]> {
        // Pairs with the release of those that held it before.
        if self.holders()?.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: as for `bytes`; this is the only holder, and borrowed
        // uniquely, so nobody reads, writes or clones it meanwhile.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), BLOCK_BYTES) })
    }

    /// Returns whether both are one page.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.slab == other.slab && self.index == other.index
    }

    /// Stands for the page as long as it is held.
    pub(crate) fn address(&self) -> usize {
        self.start().as_ptr().addr()
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        if let Some(holders) = self.holders() {
            let had = holders.fetch_add(1, Ordering::Relaxed);
            // As for `Arc`: so many clones that are leaked are no program.
            if had > u32::MAX / 2 {
                std::process::abort();
            }
        }
        Self { ..*self }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.is_last() {
            let mut gone = GonePages::default();
            gone.add(self.slab, self.index);
        }
    }
}

impl Page {
    /// Counts one holder less. Returns whether it was the last.
    fn is_last(&self) -> bool {
        let Some(holders) = self.holders() else {
            return false;
        };
        // The only holder is this one, and cannot be cloned meanwhile.
        if holders.load(Ordering::Acquire) != 1 && holders.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        true
    }
}

/// Pages of one slab that nobody holds any more, on their way back to it: many at
/// once take its lock once.
#[derive(Default)]
pub(crate) struct GonePages {
    slab: Option<NonNull<Slab>>,
    gone: [u64; WORDS],
    count: u32,
}

impl GonePages {
    /// Drops a page.
    pub(crate) fn take(&mut self, page: Page) {
        let page = ManuallyDrop::new(page);
        if page.is_last() {
            self.add(page.slab, page.index);
        }
    }

    /// Adds a page that is not held any more, but counts as held in its slab.
    fn add(&mut self, slab: NonNull<Slab>, index: u16) {
        if self.slab != Some(slab) {
            self.give_back();
            self.slab = Some(slab);
        }
        set(&mut self.gone, index.into(), true);
        self.count += 1;
    }

    fn give_back(&mut self) {
        let Some(slab) = self.slab.take() else {
            return;
        };
        let at = slab.as_ptr().cast_const();
        // SAFETY: these pages count as held until they are released, so the slab is
        // there, and has a count that it goes with after the last of them.
        let slab = unsafe {
            Arc::increment_strong_count(at);
            Arc::from_raw(at)
        };
        if slab.release(&self.gone, self.count) {
            // SAFETY: the count is that which `Slab::take` left when there were no held
            // pages; it is taken once, by who released the last of them.
            drop(unsafe { Arc::from_raw(at) });
        }
        (self.gone, self.count) = ([0; WORDS], 0);
    }
}

impl Drop for GonePages {
    fn drop(&mut self) {
        self.give_back();
    }
}

// SAFETY: the bytes of a page are read by all holders or changed by its only
// one, and counts are atomic.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}
