//! Each operation whose words are 0.2's, once for the sync and the async
//! traits; the others are `component::ops` itself.

use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};

use super::convert;
use crate::errno::Errno;
use crate::limits::MAX_HOST_READ_BYTES;
use crate::vfs::{Descriptor, NotDone};
use crate::wasi::component::listing::ComponentEntry;
use crate::wasi::component::ops;
pub(super) use crate::wasi::component::ops::{
    advise, create_dir_at, file, readlink_at, remove_dir_at, rename_at, set_size, symlink_at,
    unlink_at, writable,
};

pub(super) fn flags(d: &Descriptor) -> DescriptorFlags {
    convert::descriptor_flags(d.kind(), d.access())
}

pub(super) fn kind(d: &Descriptor) -> DescriptorType {
    convert::kind(d.kind(), d.is_device())
}

pub(super) fn stat(d: &Descriptor) -> Result<DescriptorStat, Errno> {
    Ok(convert::stat(&d.stat()?))
}

pub(super) fn stat_at(
    d: &Descriptor,
    flags: PathFlags,
    path: &str,
) -> Result<DescriptorStat, Errno> {
    let stat = ops::stat_at(d, convert::follow(flags), path)?;
    Ok(convert::stat(&stat))
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
    let (atime, mtime) = (convert::set_time(atime), convert::set_time(mtime));
    ops::set_times_at(d, convert::follow(flags), path, atime, mtime)
}

pub(super) fn open_at(
    d: &Descriptor,
    follow: PathFlags,
    path: &str,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Descriptor, Errno> {
    let (follow, open) = (convert::follow(follow), convert::open_flags(open));
    ops::open_at(d, follow, path, open, convert::access(flags))
}

pub(super) fn link_at(
    (old_dir, flags, old_path): (&Descriptor, PathFlags, &str),
    to: (&Descriptor, &str),
) -> Result<(), Errno> {
    ops::link_at((old_dir, convert::follow(flags), old_path), to)
}

pub(super) fn metadata_hash(d: &Descriptor) -> MetadataHashValue {
    convert::metadata_hash(d.fs().device(), d.id())
}

pub(super) fn metadata_hash_at(
    d: &Descriptor,
    flags: PathFlags,
    path: &str,
) -> Result<MetadataHashValue, Errno> {
    let (device, id) = ops::identity_at(d, convert::follow(flags), path)?;
    Ok(convert::metadata_hash(device, id))
}

pub(super) fn entry(entry: ComponentEntry) -> DirectoryEntry {
    DirectoryEntry {
        type_: convert::kind(entry.kind, entry.is_device),
        name: entry.name,
    }
}

/// Reads at most [`MAX_HOST_READ_BYTES`]; nothing read means the end of the
/// file. Never waits.
pub(super) fn read(d: &Descriptor, len: u64, offset: u64) -> Result<(Vec<u8>, bool), NotDone> {
    let max = usize::try_from(len)
        .unwrap_or(usize::MAX)
        .min(MAX_HOST_READ_BYTES);
    let file = file(d)?;
    check_offset(offset)?;
    let bytes = file.try_read_full(offset, max)?;
    let end = bytes.is_empty();
    Ok((bytes.into(), end))
}

/// Refuses an offset that is negative as Linux counts: `invalid`, before it is
/// asked what the file was opened for.
fn check_offset(offset: u64) -> Result<(), Errno> {
    i64::try_from(offset).map(drop).map_err(|_| Errno::Invalid)
}

pub(super) fn write(d: &Descriptor, bytes: &[u8], offset: u64) -> Result<u64, NotDone> {
    writable(d)?;
    check_offset(offset)?;
    let written = d.try_write_at(bytes, offset)?;
    Ok(u64::try_from(written).map_err(|_| Errno::Overflow)?)
}
