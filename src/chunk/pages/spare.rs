//! Pages that instances of one process may keep beyond their own bounds.
//!
//! A program that writes a file, removes it and writes the next one should not
//! fetch its memory from the system each time, which costs more than all else
//! in a write; but many instances that wrote once and are idle since must not
//! hold what each of them had. So what they keep for this is bounded for all of
//! them together. Who comes first gets it, and has it until it gives its idle
//! memory back or ends.

use std::sync::atomic::{AtomicI64, Ordering};

/// Pages that all instances of a process may keep in this way: 32 MiB.
pub(super) const PROCESS_PAGES: i64 = 8192;

/// Pages by which the bound of an instance grows at a time, so that the count of
/// the process is written seldom.
const STEP_PAGES: i64 = 256;

/// What is left of [`PROCESS_PAGES`].
static LEFT: AtomicI64 = AtomicI64::new(PROCESS_PAGES);

/// What one instance has got of them.
#[derive(Default)]
pub(super) struct Spare(AtomicI64);

impl Spare {
    /// Returns how many pages more than its own bound an instance may keep.
    pub(super) fn pages(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Gets some more. Returns whether there were any left.
    pub(super) fn grow(&self) -> bool {
        let left = LEFT.fetch_sub(STEP_PAGES, Ordering::Relaxed);
        if left < STEP_PAGES {
            LEFT.fetch_add(STEP_PAGES, Ordering::Relaxed);
            return false;
        }
        self.0.fetch_add(STEP_PAGES, Ordering::Relaxed);
        true
    }

    /// Releases what it has got.
    pub(super) fn give_back(&self) {
        let had = self.0.swap(0, Ordering::Relaxed);
        LEFT.fetch_add(had, Ordering::Relaxed);
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.give_back();
    }
}
