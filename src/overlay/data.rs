//! Reading and changing the bytes of files.

use std::sync::Arc;

use bytes::Bytes;

use super::blocks::Room;
use super::inode::Body;
use super::{Object, Overlay};
use crate::chunk::Content;
use crate::errno::Errno;
use crate::limits::MAX_FILE_BYTES;
use crate::meta::{FileId, Time};

impl Overlay {
    /// The base's bytes, if `id` is from there. [`Errno::Io`] over a damaged
    /// base, where the content might be another's.
    fn base_content(&self, id: FileId) -> Result<Option<&Content>, Errno> {
        let content = self.node(id).and_then(|node| self.image.content(node));
        self.intact().map(|()| content)
    }

    /// Copies bytes from `offset` on into `buf`: as many as there are.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] if `id` is gone, [`Errno::Io`] if it is no file,
    /// or for data at rest that cannot be read.
    pub(crate) fn read_at(&self, id: FileId, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        match self.object(id) {
            Object::Base(_) => {
                let content = self.base_content(id)?.ok_or(Errno::Io)?;
                content.read_at(offset, buf).map_err(|_| Errno::Io)
            }
            Object::Own(inode) => match &inode.body {
                Body::File(file) => file.read_at(self.base_content(id)?, offset, buf),
                Body::Dir(_) | Body::Symlink(_) => Err(Errno::Io),
            },
            Object::Gone => Err(Errno::BadDescriptor),
        }
    }

    /// Gives bytes from `offset` on, without a copy where base content shows
    /// through: 1 to `max` of them, none at the end.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub(crate) fn read_bytes(&self, id: FileId, offset: u64, max: usize) -> Result<Bytes, Errno> {
        match self.object(id) {
            Object::Base(_) => {
                let content = self.base_content(id)?.ok_or(Errno::Io)?;
                if let Some(slice) = content.slice_at(offset, max) {
                    return Ok(slice);
                }
                let left = content.size().saturating_sub(offset).min(max as u64);
                let mut buf = vec![0; usize::try_from(left).unwrap_or(max)];
                let read = content.read_at(offset, &mut buf);
                let len = read.map_err(|_| Errno::Io)?;
                buf.truncate(len);
                Ok(buf.into())
            }
            Object::Own(inode) => match &inode.body {
                Body::File(file) => file.read_bytes(self.base_content(id)?, offset, max),
                Body::Dir(_) | Body::Symlink(_) => Err(Errno::Io),
            },
            Object::Gone => Err(Errno::BadDescriptor),
        }
    }

    /// The length of the hole that starts at `offset`; 0 where there is none.
    pub(crate) fn hole_at(&self, id: FileId, offset: u64) -> u64 {
        match self.object(id) {
            Object::Base(node) => self.image.content(node).map_or(0, |content| {
                let left = content.size().saturating_sub(offset);
                if content.is_hole(offset, left) {
                    left
                } else {
                    0
                }
            }),
            Object::Own(inode) => match &inode.body {
                Body::File(file) => {
                    let base = self.base_content(id);
                    base.map_or(0, |base| file.hole_at(base, offset))
                }
                Body::Dir(_) | Body::Symlink(_) => 0,
            },
            Object::Gone => 0,
        }
    }

    /// Writes as much of `buf` at `offset` as quota and file size allow.
    ///
    /// # Errors
    ///
    /// [`Errno::FileTooLarge`] if `offset` is past the largest file already,
    /// [`Errno::NoSpace`] if not one byte fits, [`Errno::Io`] if the block to
    /// be changed cannot be read.
    pub(crate) fn write_at(
        &mut self,
        id: FileId,
        offset: u64,
        buf: &[u8],
        now: Time,
    ) -> Result<usize, Errno> {
        if buf.is_empty() {
            return Ok(0);
        }
        let below_max = MAX_FILE_BYTES.saturating_sub(offset);
        let len = usize::try_from(below_max)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let Some(buf) = buf.get(..len).filter(|buf| !buf.is_empty()) else {
            return Err(Errno::FileTooLarge);
        };
        let room = self
            .quota
            .max_bytes
            .saturating_sub(self.usage.private_bytes);
        let untouched = matches!(self.object(id), Object::Base(_));
        if room == 0 && untouched {
            return Err(Errno::NoSpace);
        }
        self.own(id)?;
        // Again by its parts, so that image and inodes are borrowed apart.
        let base = id
            .node_below(self.image.nodes())
            .and_then(|node| self.image.content(node));
        self.image.intact()?;
        let held = self.inodes.get_mut(&id).and_then(Option::as_mut);
        let inode = Arc::make_mut(&mut held.ok_or(Errno::BadDescriptor)?.0);
        let Body::File(file) = &mut inode.body else {
            return Err(Errno::Io);
        };
        let had = file.further_blocks();
        let room = Room {
            bytes: room,
            blocks: self.quota.max_blocks().saturating_sub(self.blocks),
        };
        let written = match file.write_at(base, offset, buf, room) {
            Ok(written) if written.bytes > 0 => written,
            other => {
                if untouched {
                    self.inodes.remove(&id);
                }
                return Err(other.err().unwrap_or(Errno::NoSpace));
            }
        };
        self.blocks += file.further_blocks() - had;
        inode.touch(now);
        self.usage.private_bytes += written.charged;
        Ok(written.bytes)
    }

    /// Cuts or grows a file. Growing stores nothing.
    ///
    /// # Errors
    ///
    /// [`Errno::FileTooLarge`].
    pub(crate) fn set_size(&mut self, id: FileId, size: u64, now: Time) -> Result<(), Errno> {
        if size > MAX_FILE_BYTES {
            return Err(Errno::FileTooLarge);
        }
        let inode = self.own(id)?;
        let Body::File(file) = &mut inode.body else {
            return Err(Errno::Invalid);
        };
        let had = file.further_blocks();
        let freed = file.set_size(size);
        let gone = had - file.further_blocks();
        inode.touch(now);
        self.blocks -= gone;
        self.usage.private_bytes -= freed;
        Ok(())
    }
}
