//! What is made of a record at the first look at it, and kept.

use std::sync::OnceLock;

/// Cells in one block: what the first look at any of them makes room for.
const BLOCK: usize = 256;

/// As many cells as records, without making room for any before it is used.
pub(super) struct Lazy<T> {
    blocks: Box<[OnceLock<Block<T>>]>,
    len: usize,
}

type Block<T> = Box<[OnceLock<T>]>;

impl<T> Lazy<T> {
    pub(super) fn new(len: usize) -> Self {
        Self {
            blocks: (0..len.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect(),
            len,
        }
    }

    /// Gives cell `at`, made now if it was not; `None` past the end.
    pub(super) fn get(&self, at: usize, make: impl FnOnce() -> T) -> Option<&T> {
        if at >= self.len {
            return None;
        }
        let block = self.blocks.get(at / BLOCK)?;
        let block = block.get_or_init(|| (0..BLOCK).map(|_| OnceLock::new()).collect());
        Some(block.get(at % BLOCK)?.get_or_init(make))
    }
}
