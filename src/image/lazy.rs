//! What is made of a record at the first look at it, and kept.

use std::sync::OnceLock;

/// Cells in one block: what the first look at any of them makes room for.
const BLOCK: usize = 256;

/// As many cells as records, without making room for any before it is used.
pub(super) struct Lazy<T> {
    blocks: Box<[OnceLock<Cells<T>>]>,
    len: usize,
}

type Cells<T> = Box<[OnceLock<T>]>;

impl<T> Lazy<T> {
    pub(super) fn new(len: usize) -> Self {
        Self {
            blocks: (0..len.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect(),
            len,
        }
    }

    /// Returns cell `at`, made now if it was not; `None` past the end, and where
    /// nothing could be made, which is tried again at the next look.
    pub(super) fn get(&self, at: usize, make: impl FnOnce() -> Option<T>) -> Option<&T> {
        if at >= self.len {
            return None;
        }
        let block = self.blocks.get(at / BLOCK)?;
        let block = block.get_or_init(|| (0..BLOCK).map(|_| OnceLock::new()).collect());
        let cell = block.get(at % BLOCK)?;
        match cell.get() {
            Some(made) => Some(made),
            None => {
                let made = make()?;
                Some(cell.get_or_init(|| made))
            }
        }
    }
}
