//! Metadata: `fd_filestat_*`, `path_filestat_*` and `fd_fdstat_*`.

use wasmtime_wasi::p1::types;

use super::abi::{Result, argument};
use super::ctx::Ctx;
use super::iovec::check_offset;
use super::memory::CallMemory;
use super::path::{follow, text};
use super::table::{DirDescriptor, FileDescriptor, Slot};
use crate::meta::{Kind, Stat, Time};
use crate::vfs::{Access, Descriptor, SetTime};

/// Rights on a preopened directory: the set that wasmtime-wasi gives, which
/// many guests expect to the bit.
const PREOPEN_RIGHTS: types::Rights = types::Rights::PATH_CREATE_DIRECTORY
    .union(types::Rights::PATH_CREATE_FILE)
    .union(types::Rights::PATH_LINK_SOURCE)
    .union(types::Rights::PATH_LINK_TARGET)
    .union(types::Rights::PATH_OPEN)
    .union(types::Rights::FD_READDIR)
    .union(types::Rights::PATH_READLINK)
    .union(types::Rights::PATH_RENAME_SOURCE)
    .union(types::Rights::PATH_RENAME_TARGET)
    .union(types::Rights::PATH_SYMLINK)
    .union(types::Rights::PATH_REMOVE_DIRECTORY)
    .union(types::Rights::PATH_UNLINK_FILE)
    .union(types::Rights::PATH_FILESTAT_GET)
    .union(types::Rights::PATH_FILESTAT_SET_TIMES)
    .union(types::Rights::FD_FILESTAT_GET)
    .union(types::Rights::FD_FILESTAT_SET_TIMES);

/// Rights on what is opened below a preopened directory.
const PREOPEN_INHERITING: types::Rights = PREOPEN_RIGHTS
    .union(types::Rights::FD_DATASYNC)
    .union(types::Rights::FD_READ)
    .union(types::Rights::FD_SEEK)
    .union(types::Rights::FD_FDSTAT_SET_FLAGS)
    .union(types::Rights::FD_SYNC)
    .union(types::Rights::FD_TELL)
    .union(types::Rights::FD_WRITE)
    .union(types::Rights::FD_ADVISE)
    .union(types::Rights::FD_ALLOCATE)
    .union(types::Rights::FD_FILESTAT_SET_SIZE)
    .union(types::Rights::POLL_FD_READWRITE);

/// Rights that make no sense on a directory.
const FILE_ONLY: types::Rights = types::Rights::FD_SEEK
    .union(types::Rights::FD_FILESTAT_SET_SIZE)
    .union(types::Rights::PATH_FILESTAT_SET_SIZE);

/// The device and the inode number of an object, which no other object has both of.
pub(super) struct DeviceInode {
    pub(super) device: u64,
    /// The inode number.
    pub(super) number: u64,
}

impl Ctx {
    pub(super) fn fd_filestat_get(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        out: i32,
    ) -> Result<()> {
        let (stat, place) = self.fd_stat(fd)?;
        memory.store(out.cast_unsigned(), 8, &filestat(&stat, &place))
    }

    pub(super) fn path_filestat_get(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        flags: i32,
        path: i32,
        path_len: i32,
        out: i32,
    ) -> Result<()> {
        let (stat, place) = self.path_stat(memory, fd, flags, path, path_len)?;
        memory.store(out.cast_unsigned(), 8, &filestat(&stat, &place))
    }

    /// Returns what `fd_filestat_get` tells, in whatever shape.
    #[inline]
    pub(super) fn fd_stat(&self, fd: i32) -> Result<(Stat, DeviceInode)> {
        if let Some(known) = &self.known {
            return known.fd_stat(self.descriptor(fd)?);
        }
        let descriptor = self.descriptor(fd)?;
        let stat = descriptor.stat()?;
        let (device, number) = (descriptor.fs().device(), stat.id.get());
        Ok((stat, DeviceInode { device, number }))
    }

    /// Returns what `path_filestat_get` tells, in whatever shape.
    #[inline]
    pub(super) fn path_stat(
        &self,
        memory: &CallMemory<'_, '_>,
        fd: i32,
        flags: i32,
        path: i32,
        path_len: i32,
    ) -> Result<(Stat, DeviceInode)> {
        let flags = argument(flags)?;
        let dir = &self.table.dir(fd)?.descriptor;
        let path = text(memory, path, path_len)?;
        let (stat, device) = dir.locate_at(follow(flags), &path)?;
        if let Some(known) = &self.known {
            return Ok(known.stat_of(dir.fs(), device, stat));
        }
        let number = stat.id.get();
        Ok((stat, DeviceInode { device, number }))
    }

    pub(super) fn fd_filestat_set_size(
        &mut self,
        _: &mut CallMemory<'_, '_>,
        fd: i32,
        size: i64,
    ) -> Result<()> {
        let (file, size) = (self.table.file(fd)?, size.cast_unsigned());
        // A read-only preopen is told of before a size that no file can have.
        if file.descriptor.rights() == crate::vfs::Rights::ReadWrite {
            check_offset(size)?;
        }
        Ok(file.descriptor.set_size(size)?)
    }

    pub(super) fn fd_filestat_set_times(
        &mut self,
        _: &mut CallMemory<'_, '_>,
        fd: i32,
        atim: i64,
        mtim: i64,
        flags: i32,
    ) -> Result<()> {
        let (atime, mtime) = times(atim, mtim, argument(flags)?)?;
        let descriptor = self.descriptor(fd)?;
        descriptor.set_times(atime, mtime)?;
        if self.knows_times() && atime != SetTime::Keep {
            let (fs, id) = (descriptor.fs().clone(), descriptor.id());
            self.accessed(&fs, id);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "preview1's signature")]
    pub(super) fn path_filestat_set_times(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        flags: i32,
        path: i32,
        path_len: i32,
        atim: i64,
        mtim: i64,
        time_flags: i32,
    ) -> Result<()> {
        let flags = argument(flags)?;
        let (atime, mtime) = times(atim, mtim, argument(time_flags)?)?;
        let dir = self.table.dir(fd)?;
        let path = text(memory, path, path_len)?;
        let dir = &dir.descriptor;
        dir.set_times_at(follow(flags), &path, atime, mtime)?;
        if self.knows_times() && atime != SetTime::Keep {
            let (stat, device) = dir.locate_at(follow(flags), &path)?;
            let fs = dir.fs().clone();
            if fs.device() == device {
                self.accessed(&fs, stat.id);
            }
        }
        Ok(())
    }

    pub(super) fn fd_fdstat_get(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        out: i32,
    ) -> Result<()> {
        let stat = match self.table.slot(fd.cast_unsigned()) {
            Slot::Closed | Slot::Host(_) => return Err(types::Errno::Badf.into()),
            Slot::File(file) => file_fdstat(file),
            Slot::Dir(dir) => dir_fdstat(dir),
        };
        memory.store(out.cast_unsigned(), 8, &stat)
    }

    pub(super) fn fd_fdstat_set_flags(
        &mut self,
        _: &mut CallMemory<'_, '_>,
        fd: i32,
        flags: i32,
    ) -> Result<()> {
        let flags: types::Fdflags = argument(flags)?;
        self.table.file_mut(fd)?.flags = flags;
        Ok(())
    }

    pub(super) fn fd_fdstat_set_rights(
        &mut self,
        _: &mut CallMemory<'_, '_>,
        fd: i32,
        rights: i64,
        inheriting: i64,
    ) -> Result<()> {
        argument::<types::Rights, _>(rights)?;
        argument::<types::Rights, _>(inheriting)?;
        self.descriptor(fd)?;
        Err(types::Errno::Notsup.into())
    }

    /// Returns the file or directory of stratafs behind a number.
    #[inline]
    pub(super) fn descriptor(&self, fd: i32) -> Result<&Descriptor> {
        match self.table.slot(fd.cast_unsigned()) {
            Slot::File(file) => Ok(&file.descriptor),
            Slot::Dir(dir) => Ok(&dir.descriptor),
            Slot::Closed | Slot::Host(_) => Err(types::Errno::Badf.into()),
        }
    }
}

/// Returns preview1's number of a kind. A guest takes a character device for a terminal
/// only if its descriptor has no right to seek, which ours have, as in wasmtime-wasi.
pub(super) fn filetype(kind: Kind, is_device: bool) -> types::Filetype {
    match kind {
        Kind::File if is_device => types::Filetype::CharacterDevice,
        Kind::File => types::Filetype::RegularFile,
        Kind::Dir => types::Filetype::Directory,
        Kind::Symlink => types::Filetype::SymbolicLink,
    }
}

/// Joins byte arrays to one record. The fields' order and sizes are the
/// record's; padding is written as zeros.
macro_rules! record {
    ($size:literal: $($at:literal => $field:expr),+ $(,)?) => {{
        let mut record = [0_u8; $size];
        $({
            let field = $field;
            let (_, rest) = record.split_at_mut($at);
            let (place, _) = rest.split_at_mut(field.len());
            place.copy_from_slice(&field);
        })+
        record
    }};
}
pub(super) use record;

/// Encodes a `filestat`. Times that preview1 cannot show are clamped.
#[inline]
fn filestat(stat: &Stat, place: &DeviceInode) -> [u8; 64] {
    record!(64:
        0 => place.device.to_le_bytes(),
        8 => place.number.to_le_bytes(),
        16 => [filetype(stat.kind, stat.is_device) as u8],
        24 => u64::from(stat.nlink).to_le_bytes(),
        32 => stat.size.to_le_bytes(),
        40 => stat.atime.as_nanos_clamped().to_le_bytes(),
        48 => stat.mtime.as_nanos_clamped().to_le_bytes(),
        56 => stat.ctime.as_nanos_clamped().to_le_bytes(),
    )
}

/// Encodes an `fdstat`.
fn fdstat(
    filetype: types::Filetype,
    flags: types::Fdflags,
    rights: types::Rights,
    inheriting: types::Rights,
) -> [u8; 24] {
    record!(24:
        0 => [filetype as u8],
        2 => flags.bits().to_le_bytes(),
        8 => rights.bits().to_le_bytes(),
        16 => inheriting.bits().to_le_bytes(),
    )
}

fn file_fdstat(file: &FileDescriptor) -> [u8; 24] {
    let rights = rights(file.descriptor.access(), types::Rights::all());
    let filetype = filetype(Kind::File, file.descriptor.is_device());
    fdstat(filetype, file.flags, rights, rights)
}

fn dir_fdstat(dir: &DirDescriptor) -> [u8; 24] {
    let none = types::Fdflags::empty();
    if dir.preopen.is_some() {
        return fdstat(
            types::Filetype::Directory,
            none,
            PREOPEN_RIGHTS,
            PREOPEN_INHERITING,
        );
    }
    // Being allowed to change a directory is not FD_WRITE.
    let access = dir.descriptor.access().difference(Access::WRITE);
    let rights = rights(access, types::Rights::all().difference(FILE_ONLY));
    fdstat(types::Filetype::Directory, none, rights, rights)
}

/// What is left of `all` for a descriptor opened for `access`.
fn rights(access: Access, all: types::Rights) -> types::Rights {
    let mut rights = all;
    if !access.contains(Access::READ) {
        rights.remove(types::Rights::FD_READ | types::Rights::FD_READDIR);
    }
    if !access.contains(Access::WRITE) {
        rights.remove(types::Rights::FD_WRITE);
    }
    rights
}

/// Reads the two times of a `set_times`: INVAL when one is both given and now.
fn times(atim: i64, mtim: i64, flags: types::Fstflags) -> Result<(SetTime, SetTime)> {
    let one = |set, now, nanos: i64| match (flags.contains(set), flags.contains(now)) {
        (true, true) => Err(types::Errno::Inval),
        (true, false) => Ok(SetTime::To(Time::from_nanos(nanos.cast_unsigned()))),
        (false, true) => Ok(SetTime::Now),
        (false, false) => Ok(SetTime::Keep),
    };
    let atime = one(types::Fstflags::ATIM, types::Fstflags::ATIM_NOW, atim)?;
    let mtime = one(types::Fstflags::MTIM, types::Fstflags::MTIM_NOW, mtim)?;
    Ok((atime, mtime))
}
