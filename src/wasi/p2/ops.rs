//! Each operation of a 0.2 descriptor of ours, once for the sync and the
//! async traits. The answers that depend on what the descriptor is are those
//! of wasmtime 48.

use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};

use super::convert;
use crate::errno::Errno;
use crate::limits::MAX_HOST_READ_BYTES;
use crate::meta::Kind;
use crate::vfs::{Descriptor, Follow, Rights};

/// Wants a file: a directory is `bad-descriptor`.
pub(super) fn file(d: &Descriptor) -> Result<&Descriptor, Errno> {
    match d.kind() {
        Kind::File => Ok(d),
        Kind::Dir | Kind::Symlink => Err(Errno::BadDescriptor),
    }
}

/// Wants a directory: a file is `not-directory`.
pub(super) fn dir(d: &Descriptor) -> Result<&Descriptor, Errno> {
    match d.kind() {
        Kind::Dir => Ok(d),
        Kind::File | Kind::Symlink => Err(Errno::NotDirectory),
    }
}

/// All is in memory: there is nothing to fetch early or to let go.
pub(super) fn advise(d: &Descriptor) -> Result<(), Errno> {
    file(d).map(|_| ())
}

pub(super) fn flags(d: &Descriptor) -> DescriptorFlags {
    convert::descriptor_flags(d.kind(), d.access())
}

pub(super) fn kind(d: &Descriptor) -> DescriptorType {
    convert::kind(d.kind())
}

pub(super) fn stat(d: &Descriptor) -> Result<DescriptorStat, Errno> {
    Ok(convert::stat(&d.stat()?))
}

pub(super) fn stat_at(
    d: &Descriptor,
    flags: PathFlags,
    path: &str,
) -> Result<DescriptorStat, Errno> {
    let stat = dir(d)?.stat_at(convert::follow(flags), path.as_bytes())?;
    Ok(convert::stat(&stat))
}

pub(super) fn set_size(d: &Descriptor, size: u64) -> Result<(), Errno> {
    file(d)?.set_size(size)
}

pub(super) fn set_times(
    d: &Descriptor,
    atime: NewTimestamp,
    mtime: NewTimestamp,
) -> Result<(), Errno> {
    d.set_times(convert::set_time(atime)?, convert::set_time(mtime)?)
}

pub(super) fn set_times_at(
    d: &Descriptor,
    flags: PathFlags,
    path: &str,
    atime: NewTimestamp,
    mtime: NewTimestamp,
) -> Result<(), Errno> {
    let (atime, mtime) = (convert::set_time(atime)?, convert::set_time(mtime)?);
    dir(d)?.set_times_at(convert::follow(flags), path.as_bytes(), atime, mtime)
}

/// Reads what lies together, at most [`MAX_HOST_READ_BYTES`]; nothing read
/// means the end of the file.
pub(super) fn read(d: &Descriptor, len: u64, offset: u64) -> Result<(Vec<u8>, bool), Errno> {
    let max = usize::try_from(len)
        .unwrap_or(usize::MAX)
        .min(MAX_HOST_READ_BYTES);
    let bytes = file(d)?.read_bytes(offset, max)?;
    let end = bytes.is_empty();
    Ok((bytes.into(), end))
}

/// Wants a file whose preopen allows changes: otherwise `not-permitted`,
/// whatever the file was opened for.
pub(super) fn writable(d: &Descriptor) -> Result<&Descriptor, Errno> {
    match file(d)?.rights() {
        Rights::ReadWrite => Ok(d),
        Rights::ReadOnly => Err(Errno::NotPermitted),
    }
}

pub(super) fn write(d: &Descriptor, bytes: &[u8], offset: u64) -> Result<u64, Errno> {
    let written = writable(d)?.write_at(offset, bytes)?;
    u64::try_from(written).map_err(|_| Errno::Overflow)
}

pub(super) fn open_at(
    d: &Descriptor,
    follow: PathFlags,
    path: &str,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Descriptor, Errno> {
    let access = convert::access(flags);
    dir(d)?.open_at(
        convert::follow(follow),
        path.as_bytes(),
        convert::open_flags(open),
        access?,
    )
}

pub(super) fn readlink_at(d: &Descriptor, path: &str) -> Result<String, Errno> {
    let target = dir(d)?.readlink_at(path.as_bytes())?;
    String::from_utf8(target.to_vec()).map_err(|_| Errno::IllegalByteSequence)
}

pub(super) fn create_dir_at(d: &Descriptor, path: &str) -> Result<(), Errno> {
    dir(d)?.create_dir_at(path.as_bytes())
}

pub(super) fn remove_dir_at(d: &Descriptor, path: &str) -> Result<(), Errno> {
    dir(d)?.remove_dir_at(path.as_bytes())
}

pub(super) fn unlink_at(d: &Descriptor, path: &str) -> Result<(), Errno> {
    dir(d)?.unlink_at(path.as_bytes())
}

/// WASI lets no guest make an absolute link.
pub(super) fn symlink_at(d: &Descriptor, target: &str, path: &str) -> Result<(), Errno> {
    let d = dir(d)?;
    if target.starts_with('/') {
        return Err(Errno::NotPermitted);
    }
    d.symlink_at(target.as_bytes(), path.as_bytes())
}

/// A hard link to what a symbolic link points at is not offered.
pub(super) fn link_at(
    from: (&Descriptor, PathFlags, &str),
    to: (&Descriptor, &str),
) -> Result<(), Errno> {
    let ((old_dir, flags, old_path), (new_dir, new_path)) = (from, to);
    let (old_dir, new_dir) = (dir(old_dir)?, dir(new_dir)?);
    for side in [old_dir, new_dir] {
        if side.rights() == Rights::ReadOnly {
            return Err(Errno::NotPermitted);
        }
    }
    match convert::follow(flags) {
        Follow::Yes => Err(Errno::Invalid),
        Follow::No => old_dir.link_at(old_path.as_bytes(), new_dir, new_path.as_bytes()),
    }
}

pub(super) fn rename_at(from: (&Descriptor, &str), to: (&Descriptor, &str)) -> Result<(), Errno> {
    dir(from.0)?.rename_at(from.1.as_bytes(), dir(to.0)?, to.1.as_bytes())
}

pub(super) fn metadata_hash(d: &Descriptor) -> MetadataHashValue {
    convert::metadata_hash(d.id())
}

pub(super) fn metadata_hash_at(
    d: &Descriptor,
    flags: PathFlags,
    path: &str,
) -> Result<MetadataHashValue, Errno> {
    let stat = dir(d)?.stat_at(convert::follow(flags), path.as_bytes())?;
    Ok(convert::metadata_hash(stat.id))
}
