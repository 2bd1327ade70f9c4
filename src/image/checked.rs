//! Which entries of a mapped index have been checked.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words in one block: what the first look at an entry makes room for.
const WORDS: usize = 64;

/// A bit for each entry, without making room for any before it is used.
/// Atomic; a race checks an entry twice.
pub(super) struct CheckedEntries {
    blocks: Box<[OnceLock<Words>]>,
}

type Words = Box<[AtomicU64]>;

impl CheckedEntries {
    /// Makes the bits of this many entries.
    pub(super) fn new(entries: usize) -> Self {
        let blocks = entries.div_ceil(64 * WORDS);
        Self {
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Returns whether an entry has been checked.
    #[inline]
    pub(super) fn has(&self, entry: u32) -> bool {
        let (block, word) = position_of(entry);
        let block = self.blocks.get(block).and_then(OnceLock::get);
        let word = block.and_then(|block| block.get(word));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (entry % 64) & 1 == 1)
    }

    /// Notes that an entry has been checked.
    pub(super) fn set(&self, entry: u32) {
        let (block, word) = position_of(entry);
        let Some(block) = self.blocks.get(block) else {
            return;
        };
        let block = block.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
        if let Some(word) = block.get(word) {
            word.fetch_or(1 << (entry % 64), Ordering::Relaxed);
        }
    }
}

fn position_of(entry: u32) -> (usize, usize) {
    let word = entry as usize / 64;
    (word / WORDS, word % WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_a_bit_of_its_own() {
        let checked = CheckedEntries::new(10_000);
        for entry in (0..10_000).step_by(7) {
            checked.set(entry);
        }
        assert!((0..10_000).all(|entry| checked.has(entry) == (entry % 7 == 0)));
        // Past the end there is nothing.
        checked.set(u32::MAX);
        assert!(!checked.has(u32::MAX) && !CheckedEntries::new(0).has(0));
    }
}
