//! Reading into several buffers, and writing out of several, as one step.

use parking_lot::MutexGuard;

use super::descriptor::{Access, Descriptor};
use super::fs::recheck;
use super::state::FsState;
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;
use crate::meta::Time;
use crate::overlay::{FetchedBlocks, NotDone, Rest, WriteOutcome};

impl Descriptor {
    /// Begins a read into several buffers. The lock is held until it is
    /// [`unlocked`](Reading::unlock); a virtual file provided by the host is not
    /// locked, since its host is called.
    ///
    /// # Errors
    ///
    /// As [`Descriptor::read_at`].
    pub(crate) fn reading(&self) -> Result<Reading<'_>, Errno> {
        self.expect_file(Access::READ)?;
        let state = match self.live() {
            Some(_) => None,
            None => {
                let state = self.fs().lock();
                self.allow_look(&state)?;
                Some(state)
            }
        };
        Ok(Reading {
            file: self,
            state,
            rest: Rest::default(),
        })
    }

    /// Begins a write of `total` bytes out of several buffers, at an offset or
    /// (`None`) at the end. The lock is held until it is
    /// [`finished`](Writing::finish); base content that the write needs has
    /// been read before.
    ///
    /// # Errors
    ///
    /// As [`Descriptor::write_at`]; a ticket for content that has to be
    /// fetched.
    pub(crate) fn writing(&self, at: Option<u64>, total: u64) -> Result<Writing<'_>, NotDone> {
        self.expect_file(Access::WRITE)?;
        let mut brought = FetchedBlocks::default();
        if self.fs().has_clock() && self.live().is_none() {
            self.bring(at, total, &mut brought)?;
        }
        let now = self.fs().now();
        loop {
            let (state, start) = match self.live() {
                Some(live) => (None, at.unwrap_or_else(|| live.size())),
                None if self.fs().is_read_only() => return Err(Errno::ReadOnly.into()),
                None => {
                    let state = self.fs().lock();
                    let start = match at {
                        Some(offset) => offset,
                        None => state.stat(self.id())?.size,
                    };
                    self.allow_write(&state, start)?;
                    if let Some(need) = state.need(self.id(), start, total, &brought) {
                        drop(state);
                        brought.fetch(self.fs().image(), need)?;
                        continue;
                    }
                    (Some(state), start)
                }
            };
            return Ok(Writing {
                file: self,
                now,
                state,
                brought,
                start,
                at: start,
                end: start.saturating_add(total),
                staged: Vec::new(),
                failed: None,
            });
        }
    }
}

/// A read into several buffers, one after the other. Made by
/// [`Descriptor::reading`].
pub(crate) struct Reading<'a> {
    file: &'a Descriptor,
    /// Absent for a virtual file provided by the host.
    state: Option<MutexGuard<'a, FsState>>,
    rest: Rest,
}

impl<'a> Reading<'a> {
    /// Copies what the instance has itself of the bytes from `offset` on into
    /// `buf`. Returns how many bytes there are. Offsets come in order.
    pub(crate) fn part(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, NotDone> {
        match &self.state {
            Some(state) => Ok(state.read_piece(self.file.id(), offset, buf, &mut self.rest)?),
            None => self.file.try_read_at(buf, offset),
        }
    }

    /// Frees the lock. What is left is the base's bytes: buffers are to be
    /// filled where [`Rest::within`] says so.
    pub(crate) fn unlock(self) -> PendingPieces<'a> {
        PendingPieces {
            file: self.file,
            rest: self.rest,
        }
    }
}

/// What a read into several buffers leaves to be done without the lock.
pub(crate) struct PendingPieces<'a> {
    file: &'a Descriptor,
    pub(crate) rest: Rest,
}

impl PendingPieces<'_> {
    /// Fills `buf` with the base's bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`Errno::Io`] for what cannot be read; a ticket for what has to be
    /// fetched.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, NotDone> {
        self.rest.read(self.file.fs().image(), offset, buf)?;
        Ok(buf.len())
    }

    /// Notes that so many bytes were read.
    pub(crate) fn note(&self, offset: u64, len: usize) {
        if self.file.live().is_none() {
            self.file.note_read(offset, len);
        }
    }
}

/// A write out of several buffers, one after the other. Made by
/// [`Descriptor::writing`].
///
/// A block that several buffers share is put together first: it is written
/// once, and of the base only what none of them covers is needed.
pub(crate) struct Writing<'a> {
    file: &'a Descriptor,
    now: Time,
    /// Absent for a virtual file provided by the host.
    state: Option<MutexGuard<'a, FsState>>,
    brought: FetchedBlocks,
    start: u64,
    /// Where the next byte goes: all before it are written.
    at: u64,
    /// Where the last one will have gone.
    end: u64,
    /// The beginning of a block, from `at` on, of which more is to come.
    staged: Vec<u8>,
    /// Why not one byte was written.
    failed: Option<Errno>,
}

impl Writing<'_> {
    /// Where the write starts.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Takes the next bytes. Returns how many of them it took: fewer than there
    /// are where the write ends, which [`finish`](Self::finish) tells more of.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> usize {
        let len = bytes.len();
        if self.state.is_none() {
            return self.write(bytes);
        }
        if !self.staged.is_empty() {
            let room = to_border(self.at.saturating_add(self.staged.len() as u64));
            let (now, later) = bytes.split_at(room.min(len));
            self.staged.extend_from_slice(now);
            bytes = later;
            if now.len() < room && self.is_more(0) {
                return len;
            }
            if !self.flush() {
                return 0;
            }
        }
        // The beginning of a block that goes on in the next buffer waits for it.
        let end = self.at.saturating_add(bytes.len() as u64);
        let tail = if self.is_more(bytes.len()) {
            within(end).min(bytes.len())
        } else {
            0
        };
        let (now, later) = bytes.split_at(bytes.len() - tail);
        let wrote = if now.is_empty() { 0 } else { self.write(now) };
        if wrote < now.len() {
            return len - bytes.len() + wrote;
        }
        self.staged.extend_from_slice(later);
        len
    }

    /// Returns whether bytes are to come after those that are staged and `count`
    /// others.
    fn is_more(&self, count: usize) -> bool {
        let have = (self.staged.len() as u64).saturating_add(count as u64);
        self.at.saturating_add(have) < self.end
    }

    /// Writes what is staged. Returns whether all of it was.
    fn flush(&mut self) -> bool {
        let staged = std::mem::take(&mut self.staged);
        staged.is_empty() || self.write(&staged) == staged.len()
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let wrote = match &mut self.state {
            None => self.file.write_at(bytes, self.at),
            Some(state) => {
                match state.try_write(self.file.id(), self.at, bytes, self.now, &self.brought) {
                    Ok(WriteOutcome::Bytes(len)) => Ok(len),
                    // Never: all that the write needs was brought before it.
                    Ok(WriteOutcome::Needs(_)) => Err(Errno::Io),
                    Err(errno) => Err(errno),
                }
            }
        };
        match wrote {
            Ok(len) => {
                self.at = self.at.saturating_add(len as u64);
                len
            }
            Err(errno) => {
                self.failed = Some(errno);
                0
            }
        }
    }

    /// Writes what is left and frees the lock. Returns the bytes written.
    ///
    /// # Errors
    ///
    /// As [`Descriptor::write_at`], if not one byte was written.
    pub(crate) fn finish(mut self) -> Result<u64, Errno> {
        self.flush();
        if let Some(state) = &self.state {
            recheck(state);
        }
        match self.failed {
            Some(errno) if self.at == self.start => Err(errno),
            Some(_) | None => Ok(self.at - self.start),
        }
    }
}

/// Bytes from the start of the block to `offset`.
fn within(offset: u64) -> usize {
    // Below BLOCK_BYTES, so it fits.
    usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0)
}

/// Bytes from `offset` to the end of its block.
fn to_border(offset: u64) -> usize {
    BLOCK_BYTES - within(offset)
}
