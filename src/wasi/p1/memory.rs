//! The guest's linear memory during one call.
//!
//! What a call does with a few bytes of it is always inlined: left to itself, the compiler makes
//! functions of it in some builds of the same source.

use std::borrow::Cow;

use wiggle::{GuestError, GuestMemory, GuestPtr, Region};

use super::abi::{CallFailure, Result};

/// Bytes that cross at once into or out of a memory that threads share: those
/// cannot be borrowed, so they pass through a buffer of the host.
const SHARED_PIECE_BYTES: u32 = 64 * 1024;

/// The guest's memory. Each access checks bounds and alignment; what is wrong
/// is a trap (see the module's head).
pub(super) struct CallMemory<'a, 'm>(pub(super) &'a mut GuestMemory<'m>);

#[cold]
fn out_of_bounds(start: u32, len: u32) -> CallFailure {
    GuestError::PtrOutOfBounds(Region { start, len }).into()
}

#[cold]
fn misaligned(start: u32, len: u32, align: u32) -> CallFailure {
    GuestError::PtrNotAligned(Region { start, len }, align).into()
}

/// The bytes `start .. start + len` of a memory, if they lie in it.
#[inline(always)]
fn slice(bytes: &[u8], start: u32, len: u32) -> Result<&[u8]> {
    bytes
        .get(start as usize..)
        .and_then(|rest| rest.get(..len as usize))
        .ok_or_else(|| out_of_bounds(start, len))
}

#[inline(always)]
fn slice_mut(bytes: &mut [u8], start: u32, len: u32) -> Result<&mut [u8]> {
    bytes
        .get_mut(start as usize..)
        .and_then(|rest| rest.get_mut(..len as usize))
        .ok_or_else(|| out_of_bounds(start, len))
}

impl CallMemory<'_, '_> {
    /// Checks that `len` bytes from `start` on lie in the memory.
    #[inline(always)]
    pub(super) fn check(&self, start: u32, len: u32) -> Result<()> {
        let size = match &*self.0 {
            GuestMemory::Unshared(bytes) => bytes.len(),
            GuestMemory::Shared(cells) => cells.len(),
        };
        match (start as usize).checked_add(len as usize) {
            Some(end) if end <= size => Ok(()),
            Some(_) | None => Err(out_of_bounds(start, len)),
        }
    }

    /// Returns `len` bytes: borrowed, or copied when threads share the memory.
    /// The caller bounds `len` for the copy's sake.
    #[inline]
    pub(super) fn bytes(&self, start: u32, len: u32) -> Result<Cow<'_, [u8]>> {
        match &*self.0 {
            GuestMemory::Unshared(bytes) => slice(bytes, start, len).map(Cow::Borrowed),
            GuestMemory::Shared(_) => Ok(Cow::Owned(self.0.to_vec(array(start, len))?)),
        }
    }

    /// Reads `N` bytes that stand at a multiple of `align`.
    #[inline(always)]
    pub(super) fn load<const N: usize>(&self, start: u32, align: u32) -> Result<[u8; N]> {
        aligned::<N>(start, align)?;
        let mut value = [0; N];
        match &*self.0 {
            GuestMemory::Unshared(bytes) => {
                value.copy_from_slice(slice(bytes, start, length::<N>())?);
            }
            GuestMemory::Shared(_) => {
                value.copy_from_slice(&self.0.to_vec(array(start, length::<N>()))?);
            }
        }
        Ok(value)
    }

    /// Writes `N` bytes at a multiple of `align`.
    #[inline(always)]
    pub(super) fn store<const N: usize>(
        &mut self,
        start: u32,
        align: u32,
        value: &[u8; N],
    ) -> Result<()> {
        aligned::<N>(start, align)?;
        self.put(start, value)
    }

    /// Writes a preview1 `size` or `fd`.
    #[inline(always)]
    pub(super) fn store_u32(&mut self, start: u32, value: u32) -> Result<()> {
        self.store(start, 4, &value.to_le_bytes())
    }

    /// Writes a preview1 `filesize` or `timestamp`.
    #[inline(always)]
    pub(super) fn store_u64(&mut self, start: u32, value: u64) -> Result<()> {
        self.store(start, 8, &value.to_le_bytes())
    }

    /// Writes bytes. No bytes are fine at any address, as in wasmtime-wasi.
    #[inline(always)]
    pub(super) fn put(&mut self, start: u32, value: &[u8]) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        let len = u32::try_from(value.len()).map_err(GuestError::from)?;
        match &mut *self.0 {
            GuestMemory::Unshared(bytes) => slice_mut(bytes, start, len)?.copy_from_slice(value),
            GuestMemory::Shared(_) => self.0.copy_from_slice(value, array(start, len))?,
        }
        Ok(())
    }

    /// Writes `tail` behind `head`.
    #[inline]
    pub(super) fn put_both(&mut self, start: u32, head: &[u8; 24], tail: &[u8]) -> Result<()> {
        if let GuestMemory::Unshared(bytes) = &mut *self.0 {
            let len = u32::try_from(tail.len()).map_err(GuestError::from)?;
            let len = len.saturating_add(length::<24>());
            let (first, second) = slice_mut(bytes, start, len)?.split_at_mut(head.len());
            first.copy_from_slice(head);
            second.copy_from_slice(tail);
            return Ok(());
        }
        self.put(start, head)?;
        self.put(start.wrapping_add(length::<24>()), tail)
    }

    /// Lets `source` fill `len` bytes. It is called with the number of bytes
    /// done and the room that is left, once, or piece by piece when threads
    /// share the memory, until it gives less than there was room for.
    ///
    /// Returns the number of bytes filled. An error after the first piece ends
    /// the filling early, as POSIX has it for a partial read.
    #[inline]
    pub(super) fn fill<E: Into<CallFailure>>(
        &mut self,
        start: u32,
        len: u32,
        mut source: impl FnMut(u32, &mut [u8]) -> std::result::Result<usize, E>,
    ) -> Result<u32> {
        match &mut *self.0 {
            GuestMemory::Unshared(bytes) => {
                let filled = source(0, slice_mut(bytes, start, len)?).map_err(Into::into)?;
                Ok(count(filled, len))
            }
            GuestMemory::Shared(_) => self.fill_shared(start, len, source),
        }
    }

    #[cold]
    fn fill_shared<E: Into<CallFailure>>(
        &mut self,
        start: u32,
        len: u32,
        mut source: impl FnMut(u32, &mut [u8]) -> std::result::Result<usize, E>,
    ) -> Result<u32> {
        self.check(start, len)?;
        let mut buffer = vec![0; len.min(SHARED_PIECE_BYTES) as usize];
        pieces(start, len, |at, done, room| {
            let piece = buffer.get_mut(..room as usize).unwrap_or_default();
            let filled = count(source(done, piece).map_err(Into::into)?, room);
            let filled_bytes = piece.get(..filled as usize).unwrap_or_default();
            self.0.copy_from_slice(filled_bytes, array(at, filled))?;
            Ok(filled)
        })
    }

    /// Hands `len` bytes to `sink`: the inverse of [`Self::fill`].
    #[inline]
    pub(super) fn drain<E: Into<CallFailure>>(
        &self,
        start: u32,
        len: u32,
        mut sink: impl FnMut(u32, &[u8]) -> std::result::Result<usize, E>,
    ) -> Result<u32> {
        match &*self.0 {
            GuestMemory::Unshared(bytes) => {
                let taken = sink(0, slice(bytes, start, len)?).map_err(Into::into)?;
                Ok(count(taken, len))
            }
            GuestMemory::Shared(_) => pieces(start, len, |at, done, room| {
                let piece = self.0.to_vec(array(at, room))?;
                Ok(count(sink(done, &piece).map_err(Into::into)?, room))
            }),
        }
    }

    /// Returns whether threads share the memory.
    #[inline]
    pub(super) fn is_shared(&self) -> bool {
        self.0.is_shared_memory()
    }
}

/// Cuts `len` bytes from `start` on into pieces until one comes out short.
/// `step` gets the piece's address, the bytes done, and the piece's length.
fn pieces(start: u32, len: u32, mut step: impl FnMut(u32, u32, u32) -> Result<u32>) -> Result<u32> {
    let mut done: u32 = 0;
    loop {
        let room = len.saturating_sub(done).min(SHARED_PIECE_BYTES);
        let Some(at) = start.checked_add(done) else {
            return Err(GuestError::PtrOverflow.into());
        };
        match step(at, done, room) {
            Ok(moved) => {
                done = done.saturating_add(moved);
                if moved < room || done >= len {
                    return Ok(done);
                }
            }
            Err(CallFailure::Errno(_)) if done > 0 => return Ok(done),
            Err(fail) => return Err(fail),
        }
    }
}

/// Bytes moved, never more than there was room for.
#[inline]
fn count(moved: usize, room: u32) -> u32 {
    u32::try_from(moved).map_or(room, |moved| moved.min(room))
}

#[inline]
fn length<const N: usize>() -> u32 {
    u32::try_from(N).unwrap_or(u32::MAX)
}

#[inline(always)]
fn aligned<const N: usize>(start: u32, align: u32) -> Result<()> {
    if start.is_multiple_of(align) {
        Ok(())
    } else {
        Err(misaligned(start, length::<N>(), align))
    }
}

#[inline]
fn array(start: u32, len: u32) -> GuestPtr<[u8]> {
    GuestPtr::new((start, len))
}
