//! What one instance may hold, and what it holds.

use crate::limits::{
    BLOCK_COST_BYTES, DEFAULT_MAX_BYTES, DEFAULT_MAX_CHANGED, DEFAULT_MAX_INODES, DEFAULT_MAX_OPEN,
    DESCRIPTOR_BYTES, FREE_BLOCKS, LINK_BYTES, OBJECT_BYTES, QUOTA_BYTES_PER_BLOCK, REMOVED_BYTES,
};

/// Bounds of one instance. Bytes and inodes past theirs give
/// [`Errno::NoSpace`](crate::errno::Errno::NoSpace), descriptors
/// [`Errno::TooManyOpen`](crate::errno::Errno::TooManyOpen).
///
/// ```
/// use std::io::ErrorKind;
///
/// use stratafs::image::Image;
/// use stratafs::vfs::{Fs, Quota};
///
/// let quota = Quota {
///     max_bytes: 64 << 10,
///     ..Quota::default()
/// };
/// let fs = Fs::builder(&Image::empty()).quota(quota).build();
/// fs.write("/fits", [7; 64 << 10])?;
/// let full = fs.write("/does-not", "x").unwrap_err();
/// assert_eq!(full.kind(), ErrorKind::StorageFull);
/// # Ok::<(), stratafs::Error>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// [`Usage::logical_bytes`]. What sharing saves is not given back, so that
    /// what others hold decides nothing.
    pub max_bytes: u64,
    /// Objects created and not yet gone; also, counted apart, further hard
    /// links. A base object that was changed counts for
    /// [`max_changed`](Self::max_changed) instead.
    pub max_inodes: u64,
    /// Objects of the base that are changed: written, renamed, touched, or
    /// directories with other entries. What makes room (removing a name, cutting
    /// a file) is never refused, and may exceed it.
    pub max_changed: u64,
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
            max_changed: DEFAULT_MAX_CHANGED,
            max_open: DEFAULT_MAX_OPEN,
        }
    }
}

/// What one instance holds at one moment. Kept up to date by each operation,
/// so reading it costs nothing.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
    /// The most that the host holds in memory because of this instance. It
    /// counts room that blocks have beyond their bytes, sealed bytes that no
    /// longer show, bytes of open virtual files, and the bookkeeping of blocks,
    /// objects, names and descriptors, and memory that is kept for the next
    /// writes: at most as much as the blocks have and 1 MiB, or the rest of a
    /// huge page. What other instances hold as well is counted in full.
    ///
    /// Quotas bound it. It is never more than the sum of:
    ///
    /// - five times [`Quota::max_bytes`];
    /// - [`OBJECT_BYTES`] for each object that was made or changed, and the
    ///   target of a symbolic link of the base that was changed;
    /// - [`LINK_BYTES`] for each name that an object was given beyond the first;
    /// - [`REMOVED_BYTES`] for each name of the base that was removed;
    /// - [`DESCRIPTOR_BYTES`] for each open descriptor;
    /// - [`MAX_OPEN_VIRTUAL_BYTES`](crate::limits::MAX_OPEN_VIRTUAL_BYTES) and
    ///   2 MiB.
    pub held_bytes: u64,
    /// Objects created and not yet gone. See [`Quota::max_inodes`].
    pub inodes: u64,
    /// Objects of the base that are changed and not gone. See
    /// [`Quota::max_changed`].
    pub changed: u64,
    /// Hard links made, less names removed from files that have others.
    pub links: i64,
    /// Open descriptors.
    pub open: u32,
}

impl Usage {
    /// Returns the bytes written here that are stored elsewhere: equal blocks
    /// were there in the base or in its scope, or are zeros.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        self.logical_bytes - self.private_bytes
    }
}

/// What is counted beside [`Usage`]: what costs the host something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostCosts {
    /// Blocks that were written, the first of each file not counted.
    pub(super) blocks: u64,
    /// Bytes that are held for blocks.
    pub(super) in_blocks: u64,
    /// Bytes of targets of symbolic links that were made or changed.
    pub(super) targets: u64,
    /// Names of the base that were removed.
    pub(super) removed: u64,
    /// Names that objects were given, the first of each not counted.
    pub(super) names: u64,
}

impl HostCosts {
    /// What [`Usage::held_bytes`] tells, but for descriptors of virtual files and
    /// memory that is kept for the next writes.
    pub(super) fn held_bytes(&self, usage: &Usage) -> u64 {
        self.in_blocks
            + self.targets
            + self.blocks * BLOCK_COST_BYTES
            + (usage.inodes + usage.changed) * u64::from(OBJECT_BYTES)
            + self.names * u64::from(LINK_BYTES)
            + self.removed * u64::from(REMOVED_BYTES)
            + u64::from(usage.open) * DESCRIPTOR_BYTES
    }
}
