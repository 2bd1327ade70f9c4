//! Descriptors themselves: close, renumber, seek, sync, advise, preopens.

use wasmtime_wasi::p1::types;

use super::abi::{Result, argument};
use super::ctx::Ctx;
use super::memory::CallMemory;
use super::stat::record;
use super::table::Slot;

impl Ctx {
    pub(super) fn fd_close(&mut self, _: &mut CallMemory<'_, '_>, fd: i32) -> Result<()> {
        #[cfg(feature = "freeze")]
        self.note_closed(fd.cast_unsigned());
        self.table.close(fd.cast_unsigned())
    }

    pub(super) fn fd_renumber(
        &mut self,
        _: &mut CallMemory<'_, '_>,
        from: i32,
        to: i32,
    ) -> Result<()> {
        // `to` may lie behind ours, where `is_host` has looked; `from` too.
        self.complete()?;
        let replaced = self
            .table
            .renumber(from.cast_unsigned(), to.cast_unsigned())?;
        #[cfg(feature = "freeze")]
        if let Some(slot) = &replaced {
            self.note_removed(slot);
        }
        drop(replaced);
        Ok(())
    }

    pub(super) fn fd_seek(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        offset: i64,
        whence: i32,
        out: i32,
    ) -> Result<()> {
        let whence = argument(whence)?;
        let file = self.table.file_mut(fd)?;
        let base = match whence {
            types::Whence::Set => 0,
            types::Whence::Cur => file.offset,
            types::Whence::End => file.descriptor.stat()?.size,
        };
        file.offset = base.checked_add_signed(offset).ok_or(types::Errno::Inval)?;
        memory.store_u64(out.cast_unsigned(), file.offset)
    }

    pub(super) fn fd_tell(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        out: i32,
    ) -> Result<()> {
        let offset = self.table.file(fd)?.offset;
        memory.store_u64(out.cast_unsigned(), offset)
    }

    /// Directories too: databases ask for it after they made or removed a file.
    pub(super) fn fd_sync(&mut self, _: &mut CallMemory<'_, '_>, fd: i32) -> Result<()> {
        Ok(self.descriptor(fd)?.sync()?)
    }

    pub(super) fn fd_datasync(&mut self, memory: &mut CallMemory<'_, '_>, fd: i32) -> Result<()> {
        self.fd_sync(memory, fd)
    }

    /// Advice is taken and not needed: content is in memory already. A
    /// negative length is refused, as by Linux `fadvise64`.
    pub(super) fn fd_advise(
        &mut self,
        _: &mut CallMemory<'_, '_>,
        fd: i32,
        _offset: i64,
        len: i64,
        advice: i32,
    ) -> Result<()> {
        argument::<types::Advice, _>(advice)?;
        self.table.file(fd)?;
        if len < 0 {
            return Err(types::Errno::Inval.into());
        }
        Ok(())
    }

    /// Not offered, as in wasmtime-wasi: preview1 dropped it.
    pub(super) fn fd_allocate(
        &mut self,
        _: &mut CallMemory<'_, '_>,
        fd: i32,
        _offset: i64,
        _len: i64,
    ) -> Result<()> {
        self.table.file(fd)?;
        Err(types::Errno::Notsup.into())
    }

    pub(super) fn fd_prestat_get(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        out: i32,
    ) -> Result<()> {
        let name = self.preopen_name(fd)?.ok_or(types::Errno::Badf)?;
        let len = u32::try_from(name.len()).map_err(|_| types::Errno::Overflow)?;
        // Tag 0 is the only kind of preopen there is: a directory.
        let prestat = record!(8: 4 => len.to_le_bytes());
        memory.store(out.cast_unsigned(), 4, &prestat)
    }

    pub(super) fn fd_prestat_dir_name(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        path: i32,
        path_len: i32,
    ) -> Result<()> {
        let name = self.preopen_name(fd)?.ok_or(types::Errno::Notdir)?;
        if name.len() > path_len.cast_unsigned() as usize {
            return Err(types::Errno::Nametoolong.into());
        }
        memory.put(path.cast_unsigned(), name.as_bytes())
    }

    /// The name of a preopen of ours; `None` for another open descriptor.
    fn preopen_name(&self, fd: i32) -> Result<Option<&str>> {
        match self.table.slot(fd.cast_unsigned()) {
            Slot::Dir(dir) => Ok(dir.preopen.as_deref()),
            Slot::File(_) | Slot::Host(_) => Ok(None),
            Slot::Closed => Err(types::Errno::Badf.into()),
        }
    }

    /// There are no sockets in a preview1 table: NOTSOCK for what is open.
    pub(super) fn not_a_socket(&mut self, fd: i32) -> Result<()> {
        self.complete()?;
        match self.table.slot(fd.cast_unsigned()) {
            Slot::Closed => Err(types::Errno::Badf.into()),
            Slot::Host(_) | Slot::File(_) | Slot::Dir(_) => Err(types::Errno::Notsock.into()),
        }
    }
}
