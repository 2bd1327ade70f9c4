//! Reading and changing the bytes of files.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{Below, FileBody, Terms};
use super::inode::Body;
use super::{Object, Overlay};
use crate::chunk::Content;
use crate::errno::Errno;
use crate::image::Image;
use crate::limits::{BLOCK_BYTES, MAX_FILE_BYTES};
use crate::meta::{FileId, Time};

impl Overlay {
    /// The base's bytes that show through in `file`. [`Errno::Io`] over a
    /// damaged base, where the content might be another's.
    fn below(&self, file: &FileBody) -> Result<Option<&Content>, Errno> {
        let content = content_below(&self.image, file);
        self.intact().map(|()| content)
    }

    /// The base's bytes at `node`, as [`below`](Self::below).
    fn base_content(&self, node: u32) -> Result<&Content, Errno> {
        let content = self.image.content(node);
        self.intact()?;
        content.ok_or(Errno::Io)
    }

    /// Copies bytes from `offset` on into `buf`: as many as there are.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] if `id` is gone, [`Errno::Io`] if it is no file,
    /// or for data at rest that cannot be read.
    pub(crate) fn read_at(&self, id: FileId, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        match self.object(id) {
            Object::Base(node) => {
                let content = self.base_content(node)?;
                content.read_at(offset, buf).map_err(|_| Errno::Io)
            }
            Object::Own(inode) => match &inode.body {
                Body::File(file) => file.read_at(self.below(file)?, offset, buf),
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
            Object::Base(node) => {
                let content = self.base_content(node)?;
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
                Body::File(file) => file.read_bytes(self.below(file)?, offset, max),
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
                    let base = self.below(file);
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
            .saturating_sub(self.usage.logical_bytes);
        let untouched = matches!(self.object(id), Object::Base(_));
        if room == 0 && untouched {
            return Err(Errno::NoSpace);
        }
        self.own(id)?;
        // Again by its parts, so that image and inodes are borrowed apart.
        self.image.intact()?;
        let held = self.inodes.get_mut(&id).and_then(Option::as_mut);
        let inode = Arc::make_mut(&mut held.ok_or(Errno::BadDescriptor)?.0);
        let Body::File(file) = &mut inode.body else {
            return Err(Errno::Io);
        };
        let base = content_below(&self.image, file);
        let had = Counts::of(file);
        let terms = Terms {
            bytes: room,
            blocks: self.quota.max_blocks().saturating_sub(self.blocks),
            account: &self.account,
            fresh: self.fresh.as_mut().map(|fresh| fresh.of(id)),
        };
        let written = match file.write_at(base, offset, buf, terms) {
            Ok(written) if written > 0 => written,
            other => {
                if untouched {
                    self.inodes.remove(&id);
                }
                return Err(other.err().unwrap_or(Errno::NoSpace));
            }
        };
        let has = Counts::of(file);
        inode.touch(now);
        self.recount(had, has);
        Ok(written)
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
        let account = self.account.clone();
        let inode = self.own(id)?;
        let Body::File(file) = &mut inode.body else {
            return Err(Errno::Invalid);
        };
        let had = Counts::of(file);
        file.set_size(size, &account);
        let has = Counts::of(file);
        inode.touch(now);
        self.recount(had, has);
        Ok(())
    }

    /// Where a file that is in both states differs, by the block.
    pub(super) fn ranges(
        &self,
        later: &Self,
        id: FileId,
        was: &FileBody,
        is: &FileBody,
    ) -> Vec<Range<u64>> {
        if was.below() == is.below() {
            was.compare(is)
        } else {
            self.compare_bytes(later, id)
        }
    }

    /// The blocks of a file that differ, by their bytes: one of the states shows
    /// a base file that the other does not. O(size).
    fn compare_bytes(&self, later: &Self, id: FileId) -> Vec<Range<u64>> {
        let size = |tree: &Overlay| tree.stat(id).map_or(0, |stat| stat.size);
        let (old, new) = (size(self), size(later));
        let (mut one, mut two) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while at < old.max(new) {
            let end = (at + BLOCK_BYTES as u64).min(old.max(new));
            let read = (
                self.read_at(id, at, &mut one),
                later.read_at(id, at, &mut two),
            );
            let same = match read {
                (Ok(a), Ok(b)) => one.get(..a) == two.get(..b),
                (Err(_), _) | (_, Err(_)) => false,
            };
            match found.last_mut().filter(|last| last.end == at) {
                Some(last) if !same => last.end = end,
                _ if !same => found.push(at..end),
                _ => {}
            }
            at = end;
        }
        found
    }

    /// Follows what became of the counts of one file.
    pub(super) fn recount(&mut self, had: Counts, has: Counts) {
        let usage = &mut self.usage;
        usage.logical_bytes = usage.logical_bytes + has.logical - had.logical;
        usage.private_bytes = usage.private_bytes + has.private - had.private;
        self.blocks = self.blocks + has.blocks - had.blocks;
    }
}

/// What one file adds to the counts of its instance.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    logical: u64,
    private: u64,
    blocks: u64,
}

impl Counts {
    pub(super) fn of(file: &FileBody) -> Self {
        Self {
            logical: file.logical_bytes(),
            private: file.private_bytes(),
            blocks: file.further_blocks(),
        }
    }

    /// Those of a file that is gone.
    pub(super) fn none() -> Self {
        Self {
            logical: 0,
            private: 0,
            blocks: 0,
        }
    }
}

/// The base content that shows through in a file.
pub(super) fn content_below<'a>(image: &'a Image, file: &FileBody) -> Option<&'a Content> {
    match file.below() {
        Below::Nothing | Below::Sealed(..) => None,
        Below::Own(node) | Below::Lent(node) => image.content(*node),
    }
}
