//! Scatter and gather: the lists of buffers of `fd_read` and its kin.

use wasmtime_wasi::p1::types;
use wiggle::GuestError;

use super::abi::{Fail, Result};
use super::memory::Memory;
use crate::errno::Errno;
use crate::vfs::Descriptor;

/// Bytes of one `iovec`: an address and a length.
const IOVEC_BYTES: u32 = 8;

/// A list of buffers in the guest's memory. Nothing of it is copied to the
/// host, whatever its length.
#[derive(Clone, Copy)]
pub(super) struct Iovecs {
    start: u32,
    count: u32,
}

/// Where a write goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// At this offset.
    At(u64),
    /// At the end of the file, wherever that is by then.
    End,
}

impl Iovecs {
    /// Names the list and checks that it and each buffer lie in the memory.
    pub(super) fn new(memory: &Memory<'_, '_>, start: i32, count: i32) -> Result<Self> {
        let list = Self {
            start: start.cast_unsigned(),
            count: count.cast_unsigned(),
        };
        for n in 0..list.count {
            let (at, len) = list.get(memory, n)?;
            if len > 0 {
                memory.check(at, len)?;
            }
        }
        Ok(list)
    }

    /// Gives address and length of buffer `n`.
    #[inline]
    fn get(self, memory: &Memory<'_, '_>, n: u32) -> Result<(u32, u32)> {
        let offset = n.checked_mul(IOVEC_BYTES);
        let Some(at) = offset.and_then(|offset| self.start.checked_add(offset)) else {
            return Err(GuestError::PtrOverflow.into());
        };
        let raw: [u8; 8] = memory.load(at, 4)?;
        let [a, b, c, d, e, f, g, h] = raw;
        Ok((
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        ))
    }

    /// Fills the buffers, in order, from `offset` on. Gives the bytes read:
    /// fewer than there is room for only at the end of the file.
    ///
    /// # Errors
    ///
    /// INVAL when the buffers together pass 4 GiB, which preview1 could not
    /// report (POSIX `readv`), and when `offset` is negative as Linux counts.
    #[inline]
    pub(super) fn read(
        self,
        memory: &mut Memory<'_, '_>,
        file: &Descriptor,
        offset: u64,
    ) -> Result<u32> {
        check_offset(offset)?;
        match self.count {
            1 => {
                let (at, len) = self.get(memory, 0)?;
                memory.fill(at, len, |done, room| {
                    file.read_at(offset.saturating_add(done.into()), room)
                })
            }
            _ => self.read_many(memory, file, offset),
        }
    }

    fn read_many(self, memory: &mut Memory<'_, '_>, file: &Descriptor, offset: u64) -> Result<u32> {
        self.check_total(memory)?;
        let file = file.lock()?;
        // Also of no buffers at all: a file that may not be read says so.
        file.read_at(offset, &mut [])?;
        self.each(memory, |memory, total, at, len| {
            let from = offset.saturating_add(total.into());
            memory.fill(at, len, |done, room| {
                file.read_at(from.saturating_add(done.into()), room)
            })
        })
    }

    /// Writes the buffers, in order, as one step. Gives the bytes written,
    /// fewer than there are only when a quota cuts them off, and the offset
    /// behind the last of them.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and those of [`Descriptor::write_at`].
    #[inline]
    pub(super) fn write(
        self,
        memory: &mut Memory<'_, '_>,
        file: &Descriptor,
        place: Place,
    ) -> Result<(u32, u64)> {
        match (place, self.count) {
            (Place::At(offset), 1) if !memory.is_shared() => {
                check_offset(offset)?;
                let (at, len) = self.get(memory, 0)?;
                let written = memory.drain(at, len, |_, bytes| file.write_at(offset, bytes))?;
                Ok((written, offset.saturating_add(written.into())))
            }
            (Place::At(_) | Place::End, _) => self.write_locked(memory, file, place),
        }
    }

    fn write_locked(
        self,
        memory: &mut Memory<'_, '_>,
        file: &Descriptor,
        place: Place,
    ) -> Result<(u32, u64)> {
        self.check_total(memory)?;
        let mut file = file.lock()?;
        let start = match place {
            Place::At(offset) => offset,
            Place::End => file.size()?,
        };
        check_offset(start)?;
        // Also of no buffers at all: a file that may not be written says so.
        file.write_at(start, &[])?;
        let written = self.each(memory, |memory, total, at, len| {
            let to = start.saturating_add(total.into());
            memory.drain(at, len, |done, bytes| {
                file.write_at(to.saturating_add(done.into()), bytes)
            })
        })?;
        Ok((written, start.saturating_add(written.into())))
    }

    /// Refuses buffers whose lengths together are no preview1 `size`.
    fn check_total(self, memory: &Memory<'_, '_>) -> Result<()> {
        let mut total: u32 = 0;
        for n in 0..self.count {
            let (_, len) = self.get(memory, n)?;
            total = total.checked_add(len).ok_or(types::Errno::Inval)?;
        }
        Ok(())
    }

    /// Runs `step` over the buffers that have a length until one comes out
    /// short. It gets the bytes moved so far and the buffer.
    fn each(
        self,
        memory: &mut Memory<'_, '_>,
        mut step: impl FnMut(&mut Memory<'_, '_>, u32, u32, u32) -> Result<u32>,
    ) -> Result<u32> {
        let mut total: u32 = 0;
        for n in 0..self.count {
            let (at, len) = self.get(memory, n)?;
            if len == 0 {
                continue;
            }
            match step(memory, total, at, len) {
                Ok(moved) => {
                    total = total.saturating_add(moved);
                    if moved < len {
                        break;
                    }
                }
                Err(Fail::Errno(_)) if total > 0 => break,
                Err(fail) => return Err(fail),
            }
        }
        Ok(total)
    }
}

/// Offsets past `i64::MAX` are negative to Linux, which refuses them.
#[inline]
pub(super) fn check_offset(offset: u64) -> Result<()> {
    if i64::try_from(offset).is_ok() {
        Ok(())
    } else {
        Err(Errno::Invalid.into())
    }
}
