//! What the host says of an object.

use cap_std::fs::Metadata;

use crate::meta::{Meta, Time};
use crate::source::SourceErrorKind;

/// Kinds of objects a host may have.
#[cfg_attr(
    not(unix),
    expect(
        dead_code,
        reason = "other systems tell files, directories and links only"
    )
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostKind {
    File,
    Dir,
    Symlink,
    Char,
    /// A character device 0/0: overlayfs's whiteout.
    WhiteoutDevice,
    Block,
    Fifo,
    Socket,
    Unknown,
}

impl HostKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Dir => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Char => "a character device",
            Self::WhiteoutDevice => "a whiteout",
            Self::Block => "a block device",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Unknown => "something unknown",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) kind: HostKind,
    pub(super) size: u64,
    pub(super) links: u64,
    /// Fewer bytes are allocated than the size says: there are holes, or the
    /// host compresses.
    pub(super) sparse: bool,
    dev: u64,
    ino: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    ctime: Time,
}

impl Facts {
    /// Device and inode.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// What a layer keeps, without extended attributes.
    pub(super) fn meta(&self) -> Meta {
        Meta {
            mode: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: None,
        }
    }

    /// Fails if a file was changed between two looks at it.
    pub(super) fn check_unchanged(&self, after: &Self) -> Result<(), SourceErrorKind> {
        if self.size != after.size {
            return Err(SourceErrorKind::Changed("its size has changed"));
        }
        if (self.mtime, self.ctime) != (after.mtime, after.ctime) {
            return Err(SourceErrorKind::Changed("its times have changed"));
        }
        Ok(())
    }

    #[cfg(unix)]
    pub(super) fn of(meta: &Metadata) -> Self {
        use cap_std::fs::MetadataExt;
        let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or(0);
        Self {
            kind: kind_of(meta.mode(), meta.rdev()),
            size: meta.len(),
            links: meta.nlink(),
            sparse: meta.blocks().saturating_mul(512) < meta.len(),
            dev: meta.dev(),
            ino: meta.ino(),
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: Time::new(meta.mtime(), nanos(meta.mtime_nsec())),
            ctime: Time::new(meta.ctime(), nanos(meta.ctime_nsec())),
        }
    }

    /// Hosts without modes and owners: what is read-only stays so.
    #[cfg(not(unix))]
    pub(super) fn of(meta: &Metadata) -> Self {
        use cap_fs_ext::MetadataExt;
        let kind = match meta.file_type() {
            kind if kind.is_dir() => HostKind::Dir,
            kind if kind.is_file() => HostKind::File,
            kind if kind.is_symlink() => HostKind::Symlink,
            _ => HostKind::Unknown,
        };
        let mode = if kind == HostKind::Dir { 0o755 } else { 0o644 };
        let mode = if meta.permissions().readonly() {
            mode & 0o555
        } else {
            mode
        };
        let mtime = meta
            .modified()
            .map_or(Time::EPOCH, |time| time.into_std().into());
        // Only what was opened tells which object it is.
        let opened = kind != HostKind::Symlink;
        Self {
            kind,
            size: meta.len(),
            links: if opened { meta.nlink() } else { 1 },
            sparse: false,
            dev: if opened { meta.dev() } else { 0 },
            ino: if opened { meta.ino() } else { 0 },
            mode,
            uid: 0,
            gid: 0,
            mtime,
            ctime: mtime,
        }
    }
}

#[cfg(unix)]
fn kind_of(mode: u32, rdev: u64) -> HostKind {
    // The numbers of `S_IFMT`, the same on every Unix.
    match mode & 0o170_000 {
        0o100_000 => HostKind::File,
        0o040_000 => HostKind::Dir,
        0o120_000 => HostKind::Symlink,
        0o020_000 if rdev == 0 => HostKind::WhiteoutDevice,
        0o020_000 => HostKind::Char,
        0o060_000 => HostKind::Block,
        0o010_000 => HostKind::Fifo,
        0o140_000 => HostKind::Socket,
        _ => HostKind::Unknown,
    }
}
