//! Bytes that never change, side by side in larger mappings.
//!
//! Chunks of a base each in memory of the allocator lie on pages of the usual
//! size, so that a read at random misses the processor's table of pages nearly
//! each time, and each page is first touched alone. Here they follow each other in
//! the order in which they were taken in, in huge pages where the system has them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{MAX_SLAB_PAGES, MIN_SLAB_PAGES, Memory};
use crate::limits::BLOCK_BYTES;

/// Bytes from which a chunk lies in a mapping. What is shorter would leave too
/// large a part of its last page unused.
const MIN_BYTES: usize = 32 << 10;

/// Takes copies of bytes. Holds nothing before the first; then at most as much as
/// is held of it, a page for each copy, and a huge page.
#[derive(Default)]
pub(in crate::chunk) struct Arena(Mutex<OpenMapping>);

/// The mapping that copies go to.
#[derive(Default)]
struct OpenMapping {
    memory: Option<Arc<Memory>>,
    /// Pages of it that were given out, from its start on.
    taken: usize,
}

/// A copy: some pages of a mapping that nobody else has.
struct ArenaCopy {
    memory: Arc<Memory>,
    pages: Range<usize>,
    len: usize,
}

impl Arena {
    /// Copies `bytes`, which may be none of a mapping. O(bytes).
    pub(in crate::chunk) fn copy(&self, bytes: &[u8]) -> Bytes {
        if bytes.len() < MIN_BYTES {
            return Bytes::copy_from_slice(bytes);
        }
        match self.room(bytes.len()) {
            Some(room) => room.filled(bytes),
            None => Bytes::copy_from_slice(bytes),
        }
    }

    /// Takes pages for `len` bytes. Returns none if the system has no memory, or
    /// maps none in parts.
    fn room(&self, len: usize) -> Option<ArenaCopy> {
        let count = len.div_ceil(BLOCK_BYTES);
        if !Memory::IS_MAPPED || count > MAX_SLAB_PAGES {
            return None;
        }
        let mut open = self.0.lock();
        let size = open.memory.as_ref().map_or(0, |memory| memory.pages());
        if open.taken + count > size {
            // Twice as much as the last one, so that a small base takes little.
            let pages = (2 * size).max(count).max(MIN_SLAB_PAGES);
            let pages = pages.next_power_of_two().min(MAX_SLAB_PAGES);
            let memory = Memory::map(pages, pages == MAX_SLAB_PAGES)?;
            *open = OpenMapping {
                memory: Some(Arc::new(memory)),
                taken: 0,
            };
        }
        let start = open.taken;
        open.taken += count;
        Some(ArenaCopy {
            memory: Arc::clone(open.memory.as_ref()?),
            pages: start..start + count,
            len,
        })
    }
}

impl ArenaCopy {
    /// Fills it with `bytes`, which are as long.
    fn filled(self, bytes: &[u8]) -> Bytes {
        let to = self.memory.page(self.pages.start);
        let len = bytes.len().min(self.len);
        // SAFETY: the pages are this lot's alone and as long, nobody has a
        // reference to them yet, and `bytes` lie elsewhere.
        unsafe { to.copy_from_nonoverlapping(std::ptr::NonNull::from(bytes).cast(), len) };
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for ArenaCopy {
    fn as_ref(&self) -> &[u8] {
        let start = self.memory.page(self.pages.start);
        // SAFETY: the pages lie in the mapping, which is there as long as `self`,
        // were filled before anybody could ask, and never change.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len) }
    }
}

impl Drop for ArenaCopy {
    fn drop(&mut self) {
        // What holds another lot of the mapping does not hold these pages.
        if Arc::strong_count(&self.memory) > 1 {
            self.memory.let_be_huge(false);
            self.memory.give_back(self.pages.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(seed: u8, len: usize) -> Vec<u8> {
        let bytes = (0..253_u8).cycle().take(len);
        bytes.map(|byte| byte ^ seed).collect()
    }

    #[test]
    fn copies_are_what_was_copied_whoever_else_goes() {
        let arena = Arena::default();
        let lens = [1, 32 << 10, 40_001, 64 << 10, (64 << 10) - 1, 4_096];
        let copies = (0..200_u8).map(|n| {
            let bytes = pattern(n, lens[usize::from(n) % lens.len()]);
            (arena.copy(&bytes), bytes)
        });
        let mut copies: Vec<_> = copies.collect();
        let part = copies[7].0.slice(10..20);
        while let Some((copy, bytes)) = copies.pop() {
            assert_eq!(copy, bytes);
            if copies.len() > 2 {
                copies.swap_remove(copies.len() * 5 / 11);
            }
        }
        drop(arena);
        let n = 7_u8;
        assert_eq!(part, pattern(n, 64 << 10)[10..20]);
    }

    #[test]
    fn chunks_that_follow_each_other_lie_together() {
        let arena = Arena::default();
        let copies: Vec<Bytes> = (0..64).map(|n| arena.copy(&pattern(n, 64 << 10))).collect();
        let apart = copies
            .windows(2)
            .filter(|two| two[0].as_ptr_range().end != two[1].as_ptr() && Memory::IS_MAPPED);
        // One for each mapping that was begun.
        assert!(apart.count() <= 8);
    }

    #[test]
    fn threads_take_pages_of_their_own() {
        let arena = Arena::default();
        std::thread::scope(|threads| {
            for seed in 0..4 {
                let arena = &arena;
                threads.spawn(move || {
                    for round in 0..40 {
                        let bytes = pattern(seed ^ round, 48 << 10);
                        assert_eq!(arena.copy(&bytes), bytes);
                    }
                });
            }
        });
    }
}
