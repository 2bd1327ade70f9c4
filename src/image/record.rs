//! The fixed-width records of an index: little-endian, without padding and
//! readable at any address, so that a file of them can be mapped and used as
//! it stands.

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::meta::{FileId, Kind, Stat, Time};

/// Stands for "no attributes" in [`NodeRecord::xattrs`].
pub(super) const NONE: u32 = u32::MAX;

pub(super) const DIR: u8 = 0;
pub(super) const FILE: u8 = 1;
pub(super) const SYMLINK: u8 = 2;

/// A name in a directory. The children of one directory are contiguous and
/// sorted by name.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SlotRecord {
    /// The directory's node.
    pub(super) parent: U32,
    /// The node the name stands for.
    pub(super) node: U32,
    /// First byte of the name in the arena of names.
    pub(super) name: U32,
    /// The layer the entry comes from.
    pub(super) layer: U16,
    /// Bytes in the name.
    pub(super) name_len: u8,
    /// Kind of the node, so that a lookup need not load that.
    pub(super) kind: u8,
}

/// An object: a file with several names is one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct NodeRecord {
    /// Bytes of content or of the target; 0 for a directory.
    pub(super) size: U64,
    pub(super) mtime_secs: I64,
    pub(super) mtime_nanos: U32,
    pub(super) uid: U32,
    pub(super) gid: U32,
    /// As `stat` shows it.
    pub(super) nlink: U32,
    /// Directory: its first slot. File: number of its content. Symbolic link:
    /// first byte of its target in the arena of targets.
    pub(super) first: U32,
    /// Directory: number of slots. Otherwise 0.
    pub(super) count: U32,
    /// Directory: the one it is in; the root's is the root. Otherwise 0.
    pub(super) parent: U32,
    /// Number of its attributes, or [`NONE`].
    pub(super) xattrs: U32,
    pub(super) mode: U16,
    pub(super) kind: u8,
    /// Always 0.
    pub(super) reserved: u8,
}

/// The content of a file at rest; its size is the node's.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ContentRecord {
    /// Digest of the bytes.
    pub(crate) digest: [u8; 32],
    /// The first of its runs.
    pub(crate) first: U32,
    /// How many runs it has.
    pub(crate) count: U32,
}

/// Bytes of a file that lie in one piece in a pack.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RunRecord {
    /// Where they belong in the file.
    pub(crate) at: U64,
    /// Number of the pack in the list beside the records.
    pub(crate) pack: U32,
    /// Where they lie in the pack.
    pub(crate) offset: U32,
    /// How many they are.
    pub(crate) len: U32,
}

impl SlotRecord {
    pub(super) fn kind(&self) -> Kind {
        decode(self.kind)
    }
}

impl NodeRecord {
    /// Stands in for a node that there is not: an empty directory.
    pub(super) const NOWHERE: Self = Self {
        size: U64::ZERO,
        mtime_secs: I64::ZERO,
        mtime_nanos: U32::ZERO,
        uid: U32::ZERO,
        gid: U32::ZERO,
        nlink: U32::new(2),
        first: U32::ZERO,
        count: U32::ZERO,
        parent: U32::ZERO,
        xattrs: U32::new(NONE),
        mode: U16::ZERO,
        kind: DIR,
        reserved: 0,
    };

    pub(super) fn kind(&self) -> Kind {
        decode(self.kind)
    }

    pub(super) fn stat(&self, node: u32) -> Stat {
        let mtime = Time::new(self.mtime_secs.get(), self.mtime_nanos.get());
        Stat {
            id: FileId::of_node(node),
            kind: self.kind(),
            is_device: false,
            size: self.size.get(),
            nlink: self.nlink.get(),
            mode: self.mode.get().into(),
            uid: self.uid.get(),
            gid: self.gid.get(),
            atime: mtime,
            mtime,
            ctime: mtime,
        }
    }
}

/// A number that no file can make invalid: what is not one of the three
/// reads as an (empty) file, so that a mapped table needs no check.
fn decode(kind: u8) -> Kind {
    match kind {
        DIR => Kind::Dir,
        SYMLINK => Kind::Symlink,
        _ => Kind::File,
    }
}

pub(super) fn encode(kind: Kind) -> u8 {
    match kind {
        Kind::Dir => DIR,
        Kind::File => FILE,
        Kind::Symlink => SYMLINK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_width() {
        assert_eq!(size_of::<SlotRecord>(), 16);
        assert_eq!(size_of::<NodeRecord>(), 52);
        assert_eq!(size_of::<ContentRecord>(), 40);
        assert_eq!(size_of::<RunRecord>(), 20);
        assert_eq!(align_of::<NodeRecord>(), 1);
    }

    #[test]
    fn kinds_round_trip() {
        for kind in [Kind::Dir, Kind::File, Kind::Symlink] {
            assert_eq!(decode(encode(kind)), kind);
        }
        assert_eq!(decode(200), Kind::File);
    }
}
