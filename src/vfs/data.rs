//! Reading and writing the bytes of open files.
//!
//! Each call comes twice: in a form that gives a ticket for bytes that have to
//! be fetched first and has changed nothing then, for front ends that wait in
//! their own way; and in one that blocks the thread meanwhile, for hosts. In
//! neither is the lock held while base content is read.

use bytes::Bytes;

use super::descriptor::{Access, Descriptor};
use crate::errno::Errno;
use crate::limits::CHUNK_BYTES;
use crate::meta::Kind;
use crate::overlay::{FetchedBlocks, NotDone, Rest, WriteOutcome};

/// Bytes that are copied from one file to another at a time.
const COPIED_BYTES: usize = 64 << 10;

impl Descriptor {
    pub(super) fn expect_file(&self, access: Access) -> Result<(), Errno> {
        match self.kind() {
            Kind::File if self.access().contains(access) => Ok(()),
            Kind::File | Kind::Dir | Kind::Symlink => Err(Errno::BadDescriptor),
        }
    }

    #[inline(always)]
    pub(super) fn note_read(&self, offset: u64, len: usize) {
        let id = self.id();
        self.fs().note(id, |trace| trace.read(id, offset, len));
    }

    /// Copies bytes from `offset` on into `buf` and returns their count: fewer
    /// than `buf` holds only at the end of the file, 0 at or past it. One
    /// copy; holes read as zeros. The thread waits for content that has to be
    /// fetched first.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for a directory or without
    /// [`Access::READ`]; [`Errno::Io`] for base content that cannot be read.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        NotDone::wait_for(|| self.try_read_at(buf, offset))
    }

    /// As [`Self::read_at`], but never waits.
    pub(crate) fn try_read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, NotDone> {
        self.expect_file(Access::READ)?;
        if let Some(live) = self.live() {
            return live.read_at(offset, buf);
        }
        // Written in its place: it is large, and most reads leave it empty.
        let mut rest = Rest::default();
        let begun = {
            let state = self.fs().lock();
            self.allow_look(&state)?;
            state.begin_read(self.id(), offset, buf, &mut rest)?
        };
        let len = begun.finish(self.fs().image(), &rest, offset, buf)?;
        self.note_read(offset, len);
        Ok(len)
    }

    /// Returns bytes from `offset` on, 1 to `max`, none at the end. Base content
    /// comes without a copy and may be less than `max` before the end: one
    /// chunk at most. Allocates `max` bytes at most. Waits as
    /// [`Self::read_at`].
    ///
    /// # Errors
    ///
    /// As [`Self::read_at`].
    pub fn read_bytes(&self, offset: u64, max: usize) -> Result<Bytes, Errno> {
        NotDone::wait_for(|| self.try_read_bytes(offset, max, true))
    }

    /// Returns bytes from `offset` on as one read of a guest: as
    /// [`Self::read_bytes`], but less than `max` and 64 KiB only at the end of
    /// the file. What lies in one chunk comes without a copy.
    ///
    /// # Errors
    ///
    /// As [`Self::read_at`].
    pub fn read_full(&self, offset: u64, max: usize) -> Result<Bytes, Errno> {
        NotDone::wait_for(|| self.try_read_full(offset, max))
    }

    /// As [`Self::read_full`], but never waits.
    pub(crate) fn try_read_full(&self, offset: u64, max: usize) -> Result<Bytes, NotDone> {
        self.try_read_bytes(offset, max.min(CHUNK_BYTES), false)
    }

    fn try_read_bytes(&self, offset: u64, max: usize, fewer: bool) -> Result<Bytes, NotDone> {
        self.expect_file(Access::READ)?;
        if let Some(live) = self.live() {
            return live.slice(offset, max);
        }
        let asked = {
            let state = self.fs().lock();
            self.allow_look(&state)?;
            state.ask(self.id(), offset, max, fewer)?
        };
        let bytes = asked.finish(self.fs().image(), offset, fewer)?;
        self.note_read(offset, bytes.len());
        Ok(bytes)
    }

    /// Returns the length of the hole that starts at `offset`: bytes that read
    /// as zeros and that nobody stored. 0 where there is none; a hole may be
    /// told as several.
    ///
    /// # Errors
    ///
    /// As [`Self::read_at`].
    pub fn hole_at(&self, offset: u64) -> Result<u64, Errno> {
        self.expect_file(Access::READ)?;
        if self.live().is_some() {
            return Ok(0);
        }
        let state = self.fs().lock();
        self.allow_look(&state)?;
        Ok(state.hole_at(self.id(), offset))
    }

    /// Writes `buf` at `offset` and returns the bytes written: fewer than `buf`
    /// has where the quota ends. Copies one block of base content for the
    /// first write into it, and nothing else (invariant 5); the thread waits
    /// if it has to be fetched first. A gap past the old end is a hole.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for a directory or without [`Access::WRITE`],
    /// [`Errno::ReadOnly`], [`Errno::FileTooLarge`], [`Errno::NoSpace`] if not
    /// one byte fits, [`Errno::Io`] if a block that has to be copied cannot be
    /// read.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        NotDone::wait_for(|| self.try_write_at(buf, offset))
    }

    /// As [`Self::write_at`], but never waits.
    pub(crate) fn try_write_at(&self, buf: &[u8], offset: u64) -> Result<usize, NotDone> {
        self.try_write(Some(offset), buf).map(|(len, _)| len)
    }

    /// Writes `buf` at the end of the file, which is found and moved in one
    /// step: concurrent appends never overlap.
    ///
    /// # Errors
    ///
    /// As [`Self::write_at`].
    pub fn append(&self, buf: &[u8]) -> Result<usize, Errno> {
        NotDone::wait_for(|| self.try_append(buf)).map(|(len, _)| len)
    }

    /// As [`Self::append`], but never waits, and returns the offset past the last
    /// byte written too.
    pub(crate) fn try_append(&self, buf: &[u8]) -> Result<(usize, u64), NotDone> {
        self.try_write(None, buf)
    }

    fn try_write(&self, at: Option<u64>, buf: &[u8]) -> Result<(usize, u64), NotDone> {
        self.expect_file(Access::WRITE)?;
        if let Some(live) = self.live() {
            let start = at.unwrap_or_else(|| live.size());
            let len = live.write(at, buf)?;
            return Ok((len, start.saturating_add(len as u64)));
        }
        let mut brought = FetchedBlocks::default();
        if self.fs().has_clock() {
            self.bring(at, buf.len() as u64, &mut brought)?;
        }
        // Read once: the clock of a run that repeats counts its readings.
        let mut time = None;
        loop {
            let now = || *time.get_or_insert_with(|| self.fs().now());
            let (start, wrote) = self.fs().change_at(now, |state, now| {
                let start = match at {
                    Some(offset) => offset,
                    None => state.stat(self.id())?.size,
                };
                self.allow_write(state, start)?;
                let wrote = state.try_write(self.id(), start, buf, now, &brought)?;
                Ok((start, wrote))
            })?;
            match wrote {
                WriteOutcome::Bytes(len) => return Ok((len, start.saturating_add(len as u64))),
                WriteOutcome::Needs(need) => brought.fetch(self.fs().image(), need)?,
            }
        }
    }

    /// Reads what a write needs of the base, for a clock that may count its readings: a call
    /// that is put off until its base is here is made again, and must not have read it before.
    #[cold]
    pub(super) fn bring(
        &self,
        at: Option<u64>,
        len: u64,
        brought: &mut FetchedBlocks,
    ) -> Result<(), NotDone> {
        if self.fs().is_read_only() {
            return Ok(());
        }
        loop {
            let state = self.fs().lock();
            let start = match at {
                Some(offset) => offset,
                None => state.stat(self.id())?.size,
            };
            self.allow_write(&state, start)?;
            let need = state.need(self.id(), start, len, brought);
            drop(state);
            match need {
                Some(need) => brought.fetch(self.fs().image(), need)?,
                None => return Ok(()),
            }
        }
    }

    /// Writes all of `bytes` from `offset` on, or fails with those written that fitted.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.write_at(rest, offset + done as u64)?;
        }
        Ok(())
    }

    /// Makes the content of this file that of another, holes as holes, whatever the other was opened
    /// for. O(bytes outside holes), a piece at a time.
    pub(crate) fn copy_content_of(&self, other: &Self) -> Result<(), Errno> {
        let other = other.to_be_read();
        let size = other.stat()?.size;
        self.set_size(0)?;
        let mut at = 0;
        while at < size {
            let hole = other.hole_at(at)?;
            if hole > 0 {
                at += hole;
                continue;
            }
            let piece = other.read_bytes(at, COPIED_BYTES)?;
            if piece.is_empty() {
                break;
            }
            self.write_all_at(&piece, at)?;
            at += piece.len() as u64;
        }
        self.set_size(size)
    }

    /// Cuts or grows the file to `size` bytes. Growing stores nothing.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for a directory, [`Errno::NotPermitted`]
    /// through a read-only preopen, [`Errno::Invalid`] without
    /// [`Access::WRITE`] (as `ftruncate`), [`Errno::ReadOnly`],
    /// [`Errno::FileTooLarge`].
    pub fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.expect_file(Access::empty())?;
        self.expect_writable()?;
        self.expect_file(Access::WRITE)
            .map_err(|_| Errno::Invalid)?;
        if self.live().is_some() {
            return Err(Errno::NotPermitted);
        }
        self.fs().change(|state, now| {
            self.allow_change(state)?;
            state.set_size(self.id(), size, now)
        })
    }

    /// Does nothing, at once: the overlay lives in memory and promises no
    /// durability (docs/SEMANTICS.md).
    ///
    /// # Errors
    ///
    /// None.
    pub fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}
