//! Reading and changing the bytes of files.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{FileBody, Terms};
use super::compare::{self, State};
use super::inode::Body;
use super::runs::{Data, Runs};
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

    /// The runs of a part of a file, holes of the base told apart. None for what
    /// is no file.
    pub(super) fn runs(&self, id: FileId, range: Range<u64>) -> Option<Runs<'_>> {
        match self.object(id) {
            Object::Base(node) => {
                let content = self.image.content(node)?;
                let range = range.start..range.end.min(content.size());
                let runs = Runs::of_base(node, content.size(), range);
                Some(runs.over(Some(content)))
            }
            Object::Own(inode) => match &inode.body {
                Body::File(file) => {
                    let content = content_below(&self.image, file);
                    Some(file.runs(range).over(content))
                }
                Body::Dir(_) | Body::Symlink(_) => None,
            },
            Object::Gone => None,
        }
    }

    /// The length of the hole that starts at `offset`; 0 where there is none.
    pub(crate) fn hole_at(&self, id: FileId, offset: u64) -> u64 {
        let mut end = offset;
        for run in self.runs(id, offset..u64::MAX).into_iter().flatten() {
            match run.data {
                Data::Hole => end = run.range.end,
                Data::Base(_) | Data::Block(_) => break,
            }
        }
        // Over a damaged base nothing is known to be a hole.
        if self.intact().is_err() {
            return 0;
        }
        end - offset
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
        let base = Base { image: &self.image };
        let had = Counts::of(file);
        let terms = Terms {
            bytes: room,
            blocks: self.quota.max_blocks().saturating_sub(self.blocks),
            account: &self.account,
            dirty: self.dirty.as_mut().map(|dirty| dirty.of(id)),
        };
        let written = match file.write_at(&base, offset, buf, terms) {
            Ok(written) if written > 0 => written,
            other => {
                if untouched {
                    self.inodes.remove(&id);
                    self.forget_dirty(id);
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
        self.cut_dirty(id);
        Ok(())
    }

    pub(super) fn forget_dirty(&mut self, id: FileId) {
        if let Some(dirty) = &mut self.dirty {
            dirty.forget(id);
        }
    }

    /// Forgets blocks to be sealed that are no more, after a change of many
    /// files.
    pub(super) fn follow_dirty(&mut self) {
        if let Some(mut dirty) = self.dirty.take() {
            dirty.follow(|id| match &self.changed(id)?.body {
                Body::File(file) => Some(file),
                Body::Dir(_) | Body::Symlink(_) => None,
            });
            self.dirty = Some(dirty);
        }
    }

    /// Forgets blocks to be sealed that have been cut off.
    pub(super) fn cut_dirty(&mut self, id: FileId) {
        let Some(dirty) = &mut self.dirty else {
            return;
        };
        if let Some(Some(inode)) = self.inodes.get(&id)
            && let Body::File(file) = &inode.body
        {
            dirty.cut(id, file);
        }
    }

    /// Where a file that is in both states differs: see [`compare::ranges`].
    pub(super) fn ranges(
        &self,
        later: &Self,
        _id: FileId,
        was: &FileBody,
        is: &FileBody,
    ) -> Vec<Range<u64>> {
        compare::ranges(self.state(was), later.state(is))
    }

    /// Tells whether a file of this state and one of another read the same in
    /// `range`: see [`compare::is_equal`].
    pub(super) fn reads_alike(
        &self,
        file: &FileBody,
        (other, its): (&Self, &FileBody),
        range: Range<u64>,
    ) -> bool {
        compare::is_equal(self.state(file), other.state(its), range)
    }

    fn state<'a>(&'a self, file: &'a FileBody) -> State<'a> {
        let content = content_below(&self.image, file);
        State { file, content }
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
    image.content(file.base_node()?)
}

/// Where a write finds the bytes of a base block that it covers in part.
pub(super) struct Base<'a> {
    image: &'a Image,
}

impl Base<'_> {
    /// Fills `block` with the bytes of base file `node` from the start of block
    /// `number` on.
    ///
    /// # Errors
    ///
    /// [`Errno::Io`] if they cannot be read.
    pub(super) fn read_block(&self, node: u32, number: u64, block: &mut [u8]) -> Result<(), Errno> {
        let content = self.image.content(node).ok_or(Errno::Io)?;
        let read = content.read_at(number * BLOCK_BYTES as u64, block);
        let missing = block.get_mut(read.map_err(|_| Errno::Io)?..);
        missing.unwrap_or_default().fill(0);
        Ok(())
    }
}
