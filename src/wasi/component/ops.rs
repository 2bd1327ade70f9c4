//! Each operation of a component's descriptor of ours, in the words of `vfs`.
//! The answers that depend on what the descriptor is are those of wasmtime 48.

use crate::errno::Errno;
use crate::meta::{FileId, Kind, Stat};
use crate::vfs::{Access, Descriptor, Follow, OpenFlags, Rights, SetTime};

/// Wants a file: a directory is `bad-descriptor`.
pub(in crate::wasi) fn file(d: &Descriptor) -> Result<&Descriptor, Errno> {
    match d.kind() {
        Kind::File => Ok(d),
        Kind::Dir | Kind::Symlink => Err(Errno::BadDescriptor),
    }
}

/// Wants a directory: a file is `not-directory`.
pub(in crate::wasi) fn dir(d: &Descriptor) -> Result<&Descriptor, Errno> {
    match d.kind() {
        Kind::Dir => Ok(d),
        Kind::File | Kind::Symlink => Err(Errno::NotDirectory),
    }
}

/// All is in memory: there is nothing to fetch early or to let go.
pub(in crate::wasi) fn advise(d: &Descriptor) -> Result<(), Errno> {
    file(d).map(|_| ())
}

pub(in crate::wasi) fn set_size(d: &Descriptor, size: u64) -> Result<(), Errno> {
    file(d)?.set_size(size)
}

/// Wants a file whose preopen allows changes: otherwise `not-permitted`,
/// whatever the file was opened for.
pub(in crate::wasi) fn writable(d: &Descriptor) -> Result<&Descriptor, Errno> {
    match file(d)?.rights() {
        Rights::ReadWrite => Ok(d),
        Rights::ReadOnly => Err(Errno::NotPermitted),
    }
}

pub(in crate::wasi) fn readlink_at(d: &Descriptor, path: &str) -> Result<String, Errno> {
    let target = dir(d)?.readlink_at(path.as_bytes())?;
    String::from_utf8(target.to_vec()).map_err(|_| Errno::IllegalByteSequence)
}

pub(in crate::wasi) fn create_dir_at(d: &Descriptor, path: &str) -> Result<(), Errno> {
    dir(d)?.create_dir_at(path.as_bytes())
}

pub(in crate::wasi) fn remove_dir_at(d: &Descriptor, path: &str) -> Result<(), Errno> {
    dir(d)?.remove_dir_at(path.as_bytes())
}

pub(in crate::wasi) fn unlink_at(d: &Descriptor, path: &str) -> Result<(), Errno> {
    dir(d)?.unlink_at(path.as_bytes())
}

/// WASI lets no guest make an absolute link.
pub(in crate::wasi) fn symlink_at(d: &Descriptor, target: &str, path: &str) -> Result<(), Errno> {
    let d = dir(d)?;
    if target.starts_with('/') {
        return Err(Errno::NotPermitted);
    }
    d.symlink_at(target.as_bytes(), path.as_bytes())
}

pub(in crate::wasi) fn rename_at(
    from: (&Descriptor, &str),
    to: (&Descriptor, &str),
) -> Result<(), Errno> {
    dir(from.0)?.rename_at(from.1.as_bytes(), dir(to.0)?, to.1.as_bytes())
}

pub(in crate::wasi) fn stat_at(d: &Descriptor, follow: Follow, path: &str) -> Result<Stat, Errno> {
    dir(d)?.stat_at(follow, path.as_bytes())
}

/// The object's number and the device of the file system that it is in, of
/// which its metadata hash is made.
pub(in crate::wasi) fn identity_at(
    d: &Descriptor,
    follow: Follow,
    path: &str,
) -> Result<(u64, FileId), Errno> {
    let (stat, device) = dir(d)?.locate_at(follow, path.as_bytes())?;
    Ok((device, stat.id))
}

pub(in crate::wasi) fn set_times_at(
    d: &Descriptor,
    follow: Follow,
    path: &str,
    atime: Result<SetTime, Errno>,
    mtime: Result<SetTime, Errno>,
) -> Result<(), Errno> {
    let (atime, mtime) = (atime?, mtime?);
    dir(d)?.set_times_at(follow, path.as_bytes(), atime, mtime)
}

pub(in crate::wasi) fn open_at(
    d: &Descriptor,
    follow: Follow,
    path: &str,
    open: OpenFlags,
    access: Access,
) -> Result<Descriptor, Errno> {
    dir(d)?.open_at(follow, path.as_bytes(), open, access)
}

/// A hard link to what a symbolic link points at is not offered.
pub(in crate::wasi) fn link_at(
    from: (&Descriptor, Follow, &str),
    to: (&Descriptor, &str),
) -> Result<(), Errno> {
    let ((old_dir, follow, old_path), (new_dir, new_path)) = (from, to);
    let (old_dir, new_dir) = (dir(old_dir)?, dir(new_dir)?);
    for side in [old_dir, new_dir] {
        if side.rights() == Rights::ReadOnly {
            return Err(Errno::NotPermitted);
        }
    }
    match follow {
        Follow::Yes => Err(Errno::Invalid),
        Follow::No => old_dir.link_at(old_path.as_bytes(), new_dir, new_path.as_bytes()),
    }
}
