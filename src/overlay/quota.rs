//! What one instance may hold, and what it holds.

use crate::limits::{
    DEFAULT_MAX_BYTES, DEFAULT_MAX_INODES, DEFAULT_MAX_OPEN, FREE_BLOCKS, QUOTA_BYTES_PER_BLOCK,
};

/// Bounds of one instance. Bytes and inodes past theirs give
/// [`Errno::NoSpace`](crate::errno::Errno::NoSpace), descriptors
/// [`Errno::TooManyOpen`](crate::errno::Errno::TooManyOpen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// [`Usage::logical_bytes`]. What sharing saves is not given back, so that
    /// what others hold decides nothing.
    pub max_bytes: u64,
    /// Objects created and not yet gone; also, counted apart, further hard
    /// links. A base object that was changed does not count.
    pub max_inodes: u64,
    /// Descriptors open at one time, files and directories.
    pub max_open: u32,
}

impl Quota {
    /// How many private blocks, the first of each file not counted, are
    /// allowed whatever their bytes: a guest that writes one byte here and
    /// there must not cost its host a block's bookkeeping for each.
    pub(super) fn max_blocks(self) -> u64 {
        (self.max_bytes / QUOTA_BYTES_PER_BLOCK).saturating_add(FREE_BLOCKS)
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_BYTES,
            max_inodes: DEFAULT_MAX_INODES,
            max_open: DEFAULT_MAX_OPEN,
        }
    }
}

/// What one instance holds at one moment. Kept up to date by each operation,
/// so reading it costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes in blocks: what was written, and the rest of a base block that a
    /// write touched. Also the bytes of made symbolic links' targets. Holes and
    /// base content cost nothing. This is what [`Quota::max_bytes`] bounds.
    pub logical_bytes: u64,
    /// Those of [`logical_bytes`](Self::logical_bytes) that are held because of
    /// this instance: not sealed yet, or first in their scope. A fork has them
    /// in common with what it was forked from, and counts them too.
    pub private_bytes: u64,
    /// Objects created and not yet gone. See [`Quota::max_inodes`].
    pub inodes: u64,
    /// Hard links made, less names removed from files that have others.
    pub links: i64,
    /// Open descriptors.
    pub open: u32,
}

impl Usage {
    /// Tells the bytes that this instance wrote and need not hold: equal
    /// blocks were there in the base or in its scope, or are zeros.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        self.logical_bytes - self.private_bytes
    }
}
