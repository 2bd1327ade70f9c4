//! Operations as data, so that one list runs on a file system, on the
//! reference model and on a real directory, and can be cut down when it fails.

use std::fmt;

use stratafs::errno::Errno;
use stratafs::meta::{Kind, Time};
use stratafs::vfs::{Access, Follow, OpenFlags, SetTime};

/// Where an open descriptor is kept. [`ROOT`] is never closed.
pub type Slot = usize;

/// Descriptors that operations use.
pub const SLOTS: usize = 10;

/// The whole tree, for reading and writing.
pub const ROOT: Slot = 0;

/// The whole tree, as a preopen that may not be changed.
pub const READ_ONLY: Slot = 1;

/// The first slot that operations may fill.
pub const FIRST_FREE: Slot = 2;

/// One operation. Paths are relative to the descriptor in `dir`.
#[derive(Clone, Debug)]
pub enum Op {
    Open {
        dir: Slot,
        path: Text,
        follow: Follow,
        flags: OpenFlags,
        access: Access,
        into: Slot,
    },
    Close {
        slot: Slot,
    },
    Read {
        slot: Slot,
        offset: u64,
        len: usize,
    },
    Write {
        slot: Slot,
        offset: u64,
        len: usize,
        salt: u8,
    },
    Append {
        slot: Slot,
        len: usize,
        salt: u8,
    },
    SetSize {
        slot: Slot,
        size: u64,
    },
    Stat {
        slot: Slot,
    },
    StatAt {
        dir: Slot,
        path: Text,
        follow: Follow,
    },
    SetTimes {
        slot: Slot,
        atime: SetTime,
        mtime: SetTime,
    },
    SetTimesAt {
        dir: Slot,
        path: Text,
        follow: Follow,
        atime: SetTime,
        mtime: SetTime,
    },
    Mkdir {
        dir: Slot,
        path: Text,
    },
    Rmdir {
        dir: Slot,
        path: Text,
    },
    Unlink {
        dir: Slot,
        path: Text,
    },
    Symlink {
        dir: Slot,
        path: Text,
        target: Text,
    },
    Readlink {
        dir: Slot,
        path: Text,
    },
    Link {
        dir: Slot,
        path: Text,
        to: Slot,
        new: Text,
    },
    Rename {
        dir: Slot,
        path: Text,
        to: Slot,
        new: Text,
    },
    List {
        slot: Slot,
        from: From,
        max: usize,
        mark: bool,
    },
}

impl Op {
    /// The slots that have to hold a descriptor.
    pub fn needs(&self) -> [Slot; 2] {
        match self {
            Self::Open { dir, .. }
            | Self::StatAt { dir, .. }
            | Self::SetTimesAt { dir, .. }
            | Self::Mkdir { dir, .. }
            | Self::Rmdir { dir, .. }
            | Self::Unlink { dir, .. }
            | Self::Symlink { dir, .. }
            | Self::Readlink { dir, .. } => [*dir; 2],
            Self::Link { dir, to, .. } | Self::Rename { dir, to, .. } => [*dir, *to],
            Self::Close { slot }
            | Self::Read { slot, .. }
            | Self::Write { slot, .. }
            | Self::Append { slot, .. }
            | Self::SetSize { slot, .. }
            | Self::Stat { slot }
            | Self::SetTimes { slot, .. }
            | Self::List { slot, .. } => [*slot; 2],
        }
    }
}

/// A path or target, shown as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

impl std::ops::Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text(b\"{}\")", self.0.escape_ascii())
    }
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the start, anew.
    Start,
    /// Where the last one of this descriptor ended.
    Next,
    /// Where the last one with `mark` ended.
    Mark,
}

/// What an operation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Done,
    Count(usize),
    Bytes(Vec<u8>),
    Target(Vec<u8>),
    Stat(StatSeen),
    Listed {
        entries: Vec<(Vec<u8>, Kind, u64)>,
        end: bool,
    },
}

pub type Outcome = Result<Seen, Errno>;

/// `stat` with the object's number set apart: each side counts its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatSeen {
    pub id: u64,
    pub kind: Kind,
    pub size: u64,
    pub nlink: u32,
    pub mode: u32,
    pub times: [Time; 3],
}

/// The bytes that [`Op::Write`] and [`Op::Append`] write.
pub fn salted(len: usize, salt: u8) -> Vec<u8> {
    (0..len)
        .map(|at| super::tree::pattern_byte(at as u64).wrapping_add(salt))
        .collect()
}
