//! Reading and writing the bytes of open files.

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::descriptor::{Access, Descriptor};
use super::fs::recheck;
use crate::errno::Errno;
use crate::limits::CHUNK_BYTES;
use crate::meta::{Kind, Time};
use crate::overlay::Overlay;

impl Descriptor {
    fn expect_file(&self, access: Access) -> Result<(), Errno> {
        match self.kind() {
            Kind::File if self.access().contains(access) => Ok(()),
            Kind::File | Kind::Dir | Kind::Symlink => Err(Errno::BadDescriptor),
        }
    }

    fn note_read(&self, offset: u64, len: usize) {
        let id = self.id();
        self.fs().note(id, |trace| trace.read(id, offset, len));
    }

    /// Copies bytes from `offset` on into `buf` and gives their count: fewer
    /// than `buf` holds only at the end of the file, 0 at or past it. One
    /// copy; holes read as zeros.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for a directory or without
    /// [`Access::READ`].
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.expect_file(Access::READ)?;
        if let Some(live) = self.live() {
            return Ok(live.read_at(offset, buf));
        }
        let state = self.fs().lock();
        self.allow_look(&state)?;
        let len = state.read_at(self.id(), offset, buf)?;
        drop(state);
        self.note_read(offset, len);
        Ok(len)
    }

    /// Gives bytes from `offset` on, 1 to `max`, none at the end. Base content
    /// comes without a copy and may be less than `max` before the end: one
    /// chunk at most. Allocates `max` bytes at most.
    ///
    /// # Errors
    ///
    /// As [`Self::read_at`].
    pub fn read_bytes(&self, offset: u64, max: usize) -> Result<Bytes, Errno> {
        self.expect_file(Access::READ)?;
        if let Some(live) = self.live() {
            return Ok(live.slice(offset, max));
        }
        let state = self.fs().lock();
        self.allow_look(&state)?;
        let bytes = state.read_bytes(self.id(), offset, max)?;
        drop(state);
        self.note_read(offset, bytes.len());
        Ok(bytes)
    }

    /// Gives bytes from `offset` on as one read of a guest: as
    /// [`Self::read_bytes`], but less than `max` and 64 KiB only at the end of
    /// the file. What lies in one chunk comes without a copy.
    ///
    /// # Errors
    ///
    /// As [`Self::read_at`].
    pub fn read_full(&self, offset: u64, max: usize) -> Result<Bytes, Errno> {
        self.expect_file(Access::READ)?;
        if let Some(live) = self.live() {
            return Ok(live.slice(offset, max.min(CHUNK_BYTES)));
        }
        let state = self.fs().lock();
        self.allow_look(&state)?;
        let piece = state.read_bytes(self.id(), offset, max)?;
        let left = state.stat(self.id())?.size.saturating_sub(offset);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let wanted = max.min(CHUNK_BYTES).min(left);
        if piece.len() >= wanted {
            return Ok(piece);
        }
        let mut whole = vec![0; wanted];
        let read = state.read_at(self.id(), offset, &mut whole)?;
        whole.truncate(read);
        Ok(whole.into())
    }

    /// Gives the length of the hole that starts at `offset`: bytes that read
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

    /// Writes `buf` at `offset` and gives the bytes written: fewer than `buf`
    /// has where the quota ends. Copies one block of base content for the
    /// first write into it, and nothing else (invariant 5). A gap past the old
    /// end is a hole.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for a directory or without [`Access::WRITE`],
    /// [`Errno::ReadOnly`], [`Errno::FileTooLarge`], [`Errno::NoSpace`] if not
    /// one byte fits.
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.expect_file(Access::WRITE)?;
        if let Some(live) = self.live() {
            return live.write(Some(offset), buf);
        }
        self.fs().change(|state, now| {
            self.allow_write(state, offset)?;
            state.write_at(self.id(), offset, buf, now)
        })
    }

    /// Writes `buf` at the end of the file, which is found and moved in one
    /// step: concurrent appends never overlap.
    ///
    /// # Errors
    ///
    /// As [`Self::write_at`].
    pub fn append(&self, buf: &[u8]) -> Result<usize, Errno> {
        self.expect_file(Access::WRITE)?;
        if let Some(live) = self.live() {
            return live.write(None, buf);
        }
        self.fs().change(|state, now| {
            let end = state.stat(self.id())?.size;
            self.allow_write(state, end)?;
            state.write_at(self.id(), end, buf, now)
        })
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

    /// Locks the instance, so that several pieces are read or written as one
    /// step. Keep it short: everything else on the instance waits. A file of the
    /// host's making is not locked, since its host is called.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for a directory.
    pub fn lock(&self) -> Result<LockedFile<'_>, Errno> {
        self.expect_file(Access::empty())?;
        let now = self.fs().now();
        let state = match self.live() {
            Some(_) => None,
            None => Some(self.fs().lock()),
        };
        Ok(LockedFile {
            file: self,
            now,
            state,
        })
    }
}

/// A file of a locked instance. Made by [`Descriptor::lock`].
pub struct LockedFile<'a> {
    file: &'a Descriptor,
    now: Time,
    /// Absent for a file of the host's making.
    state: Option<MutexGuard<'a, Overlay>>,
}

impl LockedFile<'_> {
    /// As [`Descriptor::read_at`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.file.expect_file(Access::READ)?;
        let Some(state) = &self.state else {
            return self.file.read_at(offset, buf);
        };
        self.file.allow_look(state)?;
        let len = state.read_at(self.file.id(), offset, buf)?;
        self.file.note_read(offset, len);
        Ok(len)
    }

    /// As [`Descriptor::write_at`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.file.expect_file(Access::WRITE)?;
        let Some(state) = &mut self.state else {
            return self.file.write_at(offset, buf);
        };
        if self.file.fs().is_read_only() {
            return Err(Errno::ReadOnly);
        }
        self.file.allow_write(state, offset)?;
        let written = state.write_at(self.file.id(), offset, buf, self.now);
        recheck(state);
        written
    }

    /// Gives the size of the file in bytes.
    ///
    /// # Errors
    ///
    /// As [`Descriptor::stat`].
    pub fn size(&self) -> Result<u64, Errno> {
        let Some(state) = &self.state else {
            return self.file.stat().map(|stat| stat.size);
        };
        self.file.allow_look(state)?;
        state.stat(self.file.id()).map(|stat| stat.size)
    }
}
