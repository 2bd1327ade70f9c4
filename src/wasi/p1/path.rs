//! Names: open, create, link, rename, remove, read links.

use std::borrow::Cow;

use wasmtime_wasi::p1::types;

use super::abi::{Result, argument};
use super::ctx::Ctx;
use super::memory::CallMemory;
use super::table::{DirDescriptor, FileDescriptor, Slot};
use crate::limits::MAX_PATH_BYTES;
use crate::meta::Kind;
use crate::vfs::{Access, Follow, OpenFlags, Rights};

/// Returns a path, borrowed from the guest's memory where that is possible.
///
/// # Errors
///
/// ILSEQ when it is not UTF-8, as preview1's strings are. Of a memory that
/// threads share it is copied, so there NAMETOOLONG comes before that.
#[inline]
pub(super) fn text<'a>(
    memory: &'a CallMemory<'_, '_>,
    start: i32,
    len: i32,
) -> Result<Cow<'a, [u8]>> {
    let (start, len) = (start.cast_unsigned(), len.cast_unsigned());
    if memory.is_shared() && len as usize > MAX_PATH_BYTES {
        memory.check(start, len)?;
        return Err(types::Errno::Nametoolong.into());
    }
    let bytes = memory.bytes(start, len)?;
    // Most are ASCII, which is quicker to see.
    if bytes.is_ascii() || std::str::from_utf8(&bytes).is_ok() {
        return Ok(bytes);
    }
    Err(types::Errno::Ilseq.into())
}

#[inline]
pub(super) fn follow(flags: types::Lookupflags) -> Follow {
    if flags.contains(types::Lookupflags::SYMLINK_FOLLOW) {
        Follow::Yes
    } else {
        Follow::No
    }
}

fn open_flags(flags: types::Oflags) -> OpenFlags {
    let mut ours = OpenFlags::empty();
    ours.set(OpenFlags::CREATE, flags.contains(types::Oflags::CREAT));
    ours.set(
        OpenFlags::DIRECTORY,
        flags.contains(types::Oflags::DIRECTORY),
    );
    ours.set(OpenFlags::EXCLUSIVE, flags.contains(types::Oflags::EXCL));
    ours.set(OpenFlags::TRUNCATE, flags.contains(types::Oflags::TRUNC));
    ours
}

/// Of preview1's rights only these two decide what a file is opened for.
pub(super) fn access(rights: types::Rights) -> Access {
    let mut access = Access::empty();
    access.set(Access::READ, rights.contains(types::Rights::FD_READ));
    access.set(Access::WRITE, rights.contains(types::Rights::FD_WRITE));
    access
}

impl Ctx {
    #[expect(clippy::too_many_arguments, reason = "preview1's signature")]
    pub(super) fn path_open(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        dir: i32,
        dir_flags: i32,
        path: i32,
        path_len: i32,
        flags: i32,
        rights: i64,
        inheriting: i64,
        fd_flags: i32,
        out: i32,
    ) -> Result<()> {
        let dir_flags = argument(dir_flags)?;
        let flags = argument(flags)?;
        let rights = argument(rights)?;
        argument::<types::Rights, _>(inheriting)?;
        let fd_flags: types::Fdflags = argument(fd_flags)?;
        self.complete()?;
        let descriptor = {
            let path = text(memory, path, path_len)?;
            let dir = self.open_base(dir)?;
            self.table.check_room()?;
            dir.descriptor
                .open_at(follow(dir_flags), &path, open_flags(flags), access(rights))?
        };
        let slot = match descriptor.kind() {
            Kind::Dir => Slot::Dir(DirDescriptor {
                descriptor,
                preopen: None,
                restored: None,
            }),
            Kind::File | Kind::Symlink => Slot::File(FileDescriptor {
                descriptor,
                offset: 0,
                flags: fd_flags,
            }),
        };
        let fd = self.table.insert(slot);
        memory.store_u32(out.cast_unsigned(), fd)
    }

    /// The directory that `path_open` starts from. A file here is NOTDIR, in
    /// every other call on paths BADF; both as in wasmtime-wasi.
    fn open_base(&self, fd: i32) -> Result<&DirDescriptor> {
        match self.table.slot(fd.cast_unsigned()) {
            Slot::Dir(dir) => Ok(dir),
            Slot::File(_) => Err(types::Errno::Notdir.into()),
            Slot::Closed | Slot::Host(_) => Err(types::Errno::Badf.into()),
        }
    }

    pub(super) fn path_create_directory(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        path: i32,
        path_len: i32,
    ) -> Result<()> {
        let dir = self.table.dir(fd)?;
        let path = text(memory, path, path_len)?;
        Ok(dir.descriptor.create_dir_at(&path)?)
    }

    pub(super) fn path_remove_directory(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        path: i32,
        path_len: i32,
    ) -> Result<()> {
        let dir = self.table.dir(fd)?;
        let path = text(memory, path, path_len)?;
        Ok(dir.descriptor.remove_dir_at(&path)?)
    }

    pub(super) fn path_unlink_file(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        path: i32,
        path_len: i32,
    ) -> Result<()> {
        let dir = self.table.dir(fd)?;
        let path = text(memory, path, path_len)?;
        Ok(dir.descriptor.unlink_at(&path)?)
    }

    pub(super) fn path_symlink(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        target: i32,
        target_len: i32,
        fd: i32,
        path: i32,
        path_len: i32,
    ) -> Result<()> {
        let dir = self.table.dir(fd)?;
        let target = text(memory, target, target_len)?;
        let path = text(memory, path, path_len)?;
        // Links that came with a layer may be absolute; guests make none.
        if target.first() == Some(&b'/') {
            return Err(types::Errno::Perm.into());
        }
        Ok(dir.descriptor.symlink_at(&target, &path)?)
    }

    /// A short buffer cuts the target off silently, as POSIX `readlink` does.
    #[expect(clippy::too_many_arguments, reason = "preview1's signature")]
    pub(super) fn path_readlink(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        path: i32,
        path_len: i32,
        buf: i32,
        buf_len: i32,
        out: i32,
    ) -> Result<()> {
        let dir = self.table.dir(fd)?;
        let target = {
            let path = text(memory, path, path_len)?;
            dir.descriptor.readlink_at(&path)?
        };
        let len = target.len().min(buf_len.cast_unsigned() as usize);
        let shown = target.get(..len).unwrap_or_default();
        memory.put(buf.cast_unsigned(), shown)?;
        let len = u32::try_from(len).map_err(|_| types::Errno::Overflow)?;
        memory.store_u32(out.cast_unsigned(), len)
    }

    #[expect(clippy::too_many_arguments, reason = "preview1's signature")]
    pub(super) fn path_link(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        old_fd: i32,
        old_flags: i32,
        old_path: i32,
        old_path_len: i32,
        new_fd: i32,
        new_path: i32,
        new_path_len: i32,
    ) -> Result<()> {
        let old_flags = argument(old_flags)?;
        let (old, new) = self.pair(old_fd, new_fd)?;
        let old_path = text(memory, old_path, old_path_len)?;
        let new_path = text(memory, new_path, new_path_len)?;
        let (Some(old), Some(new)) = (old, new) else {
            return Err(types::Errno::Xdev.into());
        };
        let read_only = [old, new]
            .iter()
            .any(|dir| dir.descriptor.rights() == Rights::ReadOnly);
        match follow(old_flags) {
            // Following is refused, though rights are looked at first.
            Follow::Yes if !read_only => Err(types::Errno::Inval.into()),
            Follow::Yes | Follow::No => {
                Ok(old
                    .descriptor
                    .link_at(&old_path, &new.descriptor, &new_path)?)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "preview1's signature")]
    pub(super) fn path_rename(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        old_fd: i32,
        old_path: i32,
        old_path_len: i32,
        new_fd: i32,
        new_path: i32,
        new_path_len: i32,
    ) -> Result<()> {
        let (old, new) = self.pair(old_fd, new_fd)?;
        let old_path = text(memory, old_path, old_path_len)?;
        let new_path = text(memory, new_path, new_path_len)?;
        let (Some(old), Some(new)) = (old, new) else {
            return Err(types::Errno::Xdev.into());
        };
        Ok(old
            .descriptor
            .rename_at(&old_path, &new.descriptor, &new_path)?)
    }

    /// The two directories of a call: `None` for one that lies on the host,
    /// which is another file system. BADF if either is no directory.
    fn pair(&self, old: i32, new: i32) -> Result<(Option<&DirDescriptor>, Option<&DirDescriptor>)> {
        let one = |fd: i32| match self.table.slot(fd.cast_unsigned()) {
            Slot::Dir(dir) => Ok(Some(dir)),
            Slot::Host(theirs) if *theirs > 2 => Ok(None),
            Slot::Host(_) | Slot::File(_) | Slot::Closed => Err(types::Errno::Badf),
        };
        Ok((one(old)?, one(new)?))
    }
}
