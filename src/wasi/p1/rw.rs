//! `fd_read`, `fd_write` and their positioned forms.

use wasmtime_wasi::p1::types;

use super::abi::Result;
use super::ctx::Ctx;
use super::iovec::Iovecs;
use super::memory::CallMemory;
use super::table::FileDescriptor;
use crate::wasi::write_at::WriteAt;

impl Ctx {
    pub(super) fn fd_read(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        iovs: i32,
        count: i32,
        out: i32,
    ) -> Result<()> {
        let iovecs = Iovecs::new(memory, iovs, count)?;
        let file = self.table.file_mut(fd)?;
        let read = iovecs.read(memory, &file.descriptor, file.offset)?;
        file.offset = file.offset.saturating_add(read.into());
        memory.store_u32(out.cast_unsigned(), read)
    }

    pub(super) fn fd_pread(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        iovs: i32,
        count: i32,
        offset: i64,
        out: i32,
    ) -> Result<()> {
        let iovecs = Iovecs::new(memory, iovs, count)?;
        let file = self.table.file(fd)?;
        let read = iovecs.read(memory, &file.descriptor, offset.cast_unsigned())?;
        memory.store_u32(out.cast_unsigned(), read)
    }

    pub(super) fn fd_write(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        iovs: i32,
        count: i32,
        out: i32,
    ) -> Result<()> {
        let iovecs = Iovecs::new(memory, iovs, count)?;
        let file = self.table.file_mut(fd)?;
        let place = place(file, file.offset);
        let (written, end) = iovecs.write(memory, &file.descriptor, place)?;
        // Also after an append (POSIX `write`).
        file.offset = end;
        memory.store_u32(out.cast_unsigned(), written)
    }

    pub(super) fn fd_pwrite(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        iovs: i32,
        count: i32,
        offset: i64,
        out: i32,
    ) -> Result<()> {
        let iovecs = Iovecs::new(memory, iovs, count)?;
        let file = self.table.file(fd)?;
        let place = place(file, offset.cast_unsigned());
        let (written, _) = iovecs.write(memory, &file.descriptor, place)?;
        memory.store_u32(out.cast_unsigned(), written)
    }
}

/// A file in append mode is written at its end whatever the offset, also by
/// `fd_pwrite` (Linux `pwrite`, BUGS).
fn place(file: &FileDescriptor, offset: u64) -> WriteAt {
    if file.flags.contains(types::Fdflags::APPEND) {
        WriteAt::End
    } else {
        WriteAt::Offset(offset)
    }
}
