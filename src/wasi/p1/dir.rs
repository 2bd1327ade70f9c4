//! Listings: `fd_readdir`.

use std::ops::ControlFlow;

use super::abi::{CallFailure, Result};
use super::ctx::Ctx;
use super::memory::CallMemory;
use super::stat::{filetype, record};
use wasmtime_wasi::p1::types;

/// The cookies before those of [`Descriptor::read_dir`]: 0 is the start, 1
/// stands behind `.` and 2 behind `..`, where its own 0 is.
///
/// [`Descriptor::read_dir`]: crate::vfs::Descriptor::read_dir
const DOTS: u64 = 2;

/// The guest's buffer, filled entry by entry.
struct DirBuffer<'a, 'm, 'g> {
    memory: &'a mut CallMemory<'m, 'g>,
    at: u32,
    room: u32,
}

impl DirBuffer<'_, '_, '_> {
    /// Writes an entry, or as much of it as there is room for: a listing that
    /// fills the buffer exactly tells the guest that there is more.
    fn entry(
        &mut self,
        name: &[u8],
        number: u64,
        filetype: types::Filetype,
        next: u64,
    ) -> Result<()> {
        let len = u32::try_from(name.len()).map_err(|_| types::Errno::Overflow)?;
        let head = record!(24:
            0 => next.to_le_bytes(),
            8 => number.to_le_bytes(),
            16 => len.to_le_bytes(),
            20 => [filetype as u8],
        );
        match head.len().checked_add(name.len()) {
            Some(whole) if whole <= self.room as usize => {
                self.memory.put_both(self.at, &head, name)?;
                self.advance(whole)
            }
            Some(_) | None => {
                self.put(&head)?;
                self.put(name)
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let fitting = bytes.get(..self.room as usize).unwrap_or(bytes);
        self.memory.put(self.at, fitting)?;
        self.advance(fitting.len())
    }

    fn advance(&mut self, len: usize) -> Result<()> {
        let len = u32::try_from(len).map_err(|_| types::Errno::Overflow)?;
        self.room = self.room.saturating_sub(len);
        // Past the last byte of a 4 GiB memory only when nothing follows.
        self.at = self.at.wrapping_add(len);
        Ok(())
    }
}

impl Ctx {
    pub(super) fn fd_readdir(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        buf: i32,
        buf_len: i32,
        cookie: i64,
        out: i32,
    ) -> Result<()> {
        let opened = self.table.dir(fd)?;
        let (dir, restored) = (&opened.descriptor, &opened.restored);
        let device = dir.fs().device();
        let number = |id| self.number(dir.fs(), device, id);
        let (cookie, buf_len) = (cookie.cast_unsigned(), buf_len.cast_unsigned());
        let mut listing = DirBuffer {
            memory,
            at: buf.cast_unsigned(),
            room: buf_len,
        };
        if cookie == 0 {
            listing.entry(b".", number(dir.id()), types::Filetype::Directory, 1)?;
        }
        if cookie < DOTS && listing.room > 0 {
            let known = restored.as_ref().and_then(|restored| restored.parent);
            let parent = match known {
                Some(known) => known,
                None => number(dir.parent_id()?),
            };
            listing.entry(b"..", parent, types::Filetype::Directory, DOTS)?;
        }
        let mut outcome = Ok(());
        if listing.room > 0 {
            let from = cookie.saturating_sub(DOTS);
            let until = restored
                .as_ref()
                .map_or(u64::MAX, |restored| restored.until(from));
            self.list(dir, (from, until), &mut |entry| {
                let written = match entry.next.checked_add(DOTS) {
                    Some(next) => {
                        let filetype = filetype(entry.kind, entry.is_device);
                        listing.entry(entry.name, number(entry.id), filetype, next)
                    }
                    None => Err(CallFailure::Errno(types::Errno::Overflow)),
                };
                match written {
                    Ok(()) if listing.room > 0 => ControlFlow::Continue(()),
                    end => {
                        outcome = end;
                        ControlFlow::Break(())
                    }
                }
            })?;
        }
        outcome?;
        let used = buf_len.saturating_sub(listing.room);
        memory.store_u32(out.cast_unsigned(), used)
    }
}
