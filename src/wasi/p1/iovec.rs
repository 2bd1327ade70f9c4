//! Scatter and gather: the lists of buffers of `fd_read` and its kin.

use wasmtime_wasi::p1::types;
use wiggle::GuestError;

use super::abi::{CallFailure, Result};
use super::memory::CallMemory;
use crate::errno::Errno;
use crate::vfs::{Descriptor, NotDone, PendingPieces};
use crate::wasi::write_at::WriteAt;

/// Bytes of one `iovec`: an address and a length.
const IOVEC_BYTES: u32 = 8;

/// A list of buffers in the guest's memory. Nothing of it is copied to the
/// host, whatever its length.
#[derive(Clone, Copy)]
pub(super) struct Iovecs {
    start: u32,
    count: u32,
    /// The first buffer, which is the only one as a rule; empty if there is none.
    first: (u32, u32),
}

impl Iovecs {
    /// Names the list and checks that it and each buffer lie in the memory.
    pub(super) fn new(memory: &CallMemory<'_, '_>, start: i32, count: i32) -> Result<Self> {
        let mut list = Self {
            start: start.cast_unsigned(),
            count: count.cast_unsigned(),
            first: (0, 0),
        };
        for n in 0..list.count {
            let (at, len) = list.get(memory, n)?;
            if len > 0 {
                memory.check(at, len)?;
            }
            if n == 0 {
                list.first = (at, len);
            }
        }
        Ok(list)
    }

    /// Returns address and length of buffer `n`.
    #[inline(always)]
    fn get(self, memory: &CallMemory<'_, '_>, n: u32) -> Result<(u32, u32)> {
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

    /// Fills the buffers, in order, from `offset` on. Returns the bytes read:
    /// fewer than there is room for only at the end of the file. When it meets
    /// content that has to be fetched it has read nothing, though buffers may
    /// have been written to.
    ///
    /// # Errors
    ///
    /// INVAL when the buffers together pass 4 GiB, which preview1 could not
    /// report (POSIX `readv`), and when `offset` is negative as Linux counts.
    #[inline(always)]
    pub(super) fn read(
        self,
        memory: &mut CallMemory<'_, '_>,
        file: &Descriptor,
        offset: u64,
    ) -> Result<u32> {
        check_offset(offset)?;
        match self.count {
            1 => {
                let (at, len) = self.first;
                memory.fill(at, len, |done, room| {
                    file.try_read_at(room, offset.saturating_add(done.into()))
                })
            }
            _ => self.read_many(memory, file, offset),
        }
    }

    /// One moment of the file, however many buffers: what the instance wrote is
    /// copied under the lock, and the base, which never changes, after it.
    fn read_many(
        self,
        memory: &mut CallMemory<'_, '_>,
        file: &Descriptor,
        offset: u64,
    ) -> Result<u32> {
        self.check_total(memory)?;
        // Also of no buffers at all: a file that may not be read says so.
        let mut reading = file.reading()?;
        let total = self.each(memory, |memory, total, at, len| {
            let from = offset.saturating_add(total.into());
            memory.fill(at, len, |done, room| {
                reading.part(from.saturating_add(done.into()), room)
            })
        })?;
        let left = reading.unlock();
        let total = self.fill_rest(memory, &left, offset, total)?;
        left.note(offset, total as usize);
        Ok(total)
    }

    /// Fills the places of the base's bytes in the first `total` bytes of the
    /// buffers. Returns the bytes read: fewer than `total` where the base cannot
    /// be read.
    fn fill_rest(
        self,
        memory: &mut CallMemory<'_, '_>,
        left: &PendingPieces<'_>,
        offset: u64,
        total: u32,
    ) -> Result<u32> {
        if left.rest.is_empty() {
            return Ok(total);
        }
        self.each(memory, |memory, done, at, len| {
            let len = len.min(total.saturating_sub(done));
            let from = offset.saturating_add(done.into());
            for place in left.rest.within(from..from.saturating_add(len.into())) {
                // Both lie within a buffer.
                let skip = u32::try_from(place.start.saturating_sub(from)).unwrap_or(len);
                let want = u32::try_from(place.end.saturating_sub(place.start)).unwrap_or(len);
                let filled = memory.fill(at.saturating_add(skip), want, |done, room| {
                    left.read(place.start.saturating_add(done.into()), room)
                });
                match filled {
                    Ok(filled) if filled == want => {}
                    Ok(filled) => return Ok(skip.saturating_add(filled)),
                    Err(CallFailure::Errno(_)) if skip > 0 => return Ok(skip),
                    Err(fail) => return Err(fail),
                }
            }
            Ok(len)
        })
    }

    /// Writes the buffers, in order, as one step. Returns the bytes written,
    /// fewer than there are only when a quota cuts them off, and the offset
    /// behind the last of them.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and those of [`Descriptor::write_at`].
    #[inline]
    pub(super) fn write(
        self,
        memory: &mut CallMemory<'_, '_>,
        file: &Descriptor,
        place: WriteAt,
    ) -> Result<(u32, u64)> {
        match (place, self.count) {
            (WriteAt::Offset(offset), 1) if !memory.is_shared() => {
                check_offset(offset)?;
                let (at, len) = self.first;
                let written = memory.drain(at, len, |_, bytes| file.try_write_at(bytes, offset))?;
                Ok((written, offset.saturating_add(written.into())))
            }
            (WriteAt::End, 1) if !memory.is_shared() => {
                let (at, len) = self.first;
                let mut end = 0;
                let written = memory.drain(at, len, |_, bytes| {
                    let (written, past) = file.try_append(bytes)?;
                    end = past;
                    Ok::<_, NotDone>(written)
                })?;
                Ok((written, end))
            }
            (WriteAt::Offset(_) | WriteAt::End, _) => self.write_many(memory, file, place),
        }
    }

    fn write_many(
        self,
        memory: &mut CallMemory<'_, '_>,
        file: &Descriptor,
        place: WriteAt,
    ) -> Result<(u32, u64)> {
        let total = self.check_total(memory)?;
        let at = match place {
            WriteAt::Offset(offset) => {
                check_offset(offset)?;
                Some(offset)
            }
            WriteAt::End => None,
        };
        // Also of no buffers at all: a file that may not be written says so.
        let mut writing = file.writing(at, total.into())?;
        let start = writing.start();
        self.each(memory, |memory, _, at, len| {
            memory.drain(at, len, |_, bytes| Ok::<_, CallFailure>(writing.put(bytes)))
        })?;
        let written = writing.finish()?;
        let count = u32::try_from(written).unwrap_or(total);
        Ok((count, start.saturating_add(written)))
    }

    /// Refuses buffers whose lengths together are not a preview1 `size`.
    /// Returns their sum.
    fn check_total(self, memory: &CallMemory<'_, '_>) -> Result<u32> {
        let mut total: u32 = 0;
        for n in 0..self.count {
            let (_, len) = self.get(memory, n)?;
            total = total.checked_add(len).ok_or(types::Errno::Inval)?;
        }
        Ok(total)
    }

    /// Runs `step` over the buffers that have a length until one comes out
    /// short. It gets the bytes moved so far and the buffer.
    fn each(
        self,
        memory: &mut CallMemory<'_, '_>,
        mut step: impl FnMut(&mut CallMemory<'_, '_>, u32, u32, u32) -> Result<u32>,
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
                Err(CallFailure::Errno(_)) if total > 0 => break,
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
