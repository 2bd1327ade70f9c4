//! Reading and changing the bytes of files.

use std::ops::Range;

use super::blocks::{FileBody, WriteLimits};
use super::compare::{self, FileState};
use super::inode::{Body, Inode};
use super::read::{FetchedBlocks, NeededBlock, NotDone};
use super::runs::{Data, Runs};
use super::{Copied, Object, Overlay};
use crate::chunk::{Content, copy_or_zero};
use crate::errno::Errno;
use crate::image::Image;
use crate::limits::{BLOCK_BYTES, MAX_FILE_BYTES};
use crate::meta::{FileId, Time};

impl Overlay {
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
        if self.check_undamaged().is_err() {
            return 0;
        }
        end - offset
    }

    /// Writes as much of `buf` at `offset` as quota and file size allow. For
    /// states that no lock is around: the thread waits for what of the base has
    /// to be read or fetched.
    ///
    /// # Errors
    ///
    /// As [`try_write`](Self::try_write), and [`Errno::Io`] if the block to be
    /// changed cannot be read.
    pub(crate) fn write_at(
        &mut self,
        id: FileId,
        offset: u64,
        buf: &[u8],
        now: Time,
    ) -> Result<usize, Errno> {
        let mut brought = FetchedBlocks::default();
        loop {
            match self.try_write(id, offset, buf, now, &brought)? {
                WriteOutcome::Bytes(len) => return Ok(len),
                WriteOutcome::Needs(need) => {
                    NotDone::wait_for(|| brought.fetch(&self.image, need))?
                }
            }
        }
    }

    /// Writes as much of `buf` at `offset` as quota and file size allow; or
    /// changes nothing and returns a block of the base that has to be fetched
    /// first.
    ///
    /// # Errors
    ///
    /// [`Errno::FileTooLarge`] if `offset` is past the largest file already,
    /// [`Errno::Io`] over a base that is damaged, [`Errno::NoSpace`] if not one byte fits.
    pub(crate) fn try_write(
        &mut self,
        id: FileId,
        offset: u64,
        buf: &[u8],
        now: Time,
        brought: &FetchedBlocks,
    ) -> Result<WriteOutcome, Errno> {
        if buf.is_empty() {
            return Ok(WriteOutcome::Bytes(0));
        }
        let buf = below_max(offset, buf).ok_or(Errno::FileTooLarge)?;
        self.image.check_undamaged()?;
        let asked = Write {
            id,
            offset,
            buf,
            now,
            brought,
        };
        // What has been written before and shows nothing of the base is the commonest: it is
        // found by one look-up.
        match self.write_held(&asked, |inode| inode.body.is_file_without_base())? {
            Some(written) => Ok(WriteOutcome::Bytes(written)),
            None => self.write_over_base(&asked),
        }
    }

    /// As [`try_write`](Self::try_write), for a file in which the base shows, or that has
    /// not been changed yet.
    fn write_over_base(&mut self, asked: &Write<'_>) -> Result<WriteOutcome, Errno> {
        let id = asked.id;
        let untouched = matches!(self.object(id), Object::Base(_));
        if untouched && self.usage.logical_bytes >= self.quota.max_bytes {
            return Err(Errno::NoSpace);
        }
        if let Some(need) = self.need(id, asked.offset, asked.buf.len() as u64, asked.brought) {
            return Ok(WriteOutcome::Needs(need));
        }
        let copied = match untouched {
            true => self.prepare(&[id])?,
            false => Copied::new(),
        };
        // What was looked at of the base up to here may have been damaged.
        let undamaged = self.image.check_undamaged();
        let written = undamaged.and_then(|()| self.write_held(asked, |_| true));
        if written.is_err() {
            self.put_back(copied);
        }
        Ok(WriteOutcome::Bytes(written?.ok_or(Errno::BadDescriptor)?))
    }

    /// Writes into a file that has been changed already. Returns none, and changes
    /// nothing, if it is not one for which `may` holds.
    fn write_held(
        &mut self,
        asked: &Write<'_>,
        may: impl FnOnce(&Inode) -> bool,
    ) -> Result<Option<usize>, Errno> {
        let held = self.inodes.get_mut(&asked.id).and_then(Option::as_mut);
        let Some(held) = held.filter(|held| may(held)) else {
            return Ok(None);
        };
        let inode = held.change_by(self.pages.account());
        let Body::File(file) = &mut inode.body else {
            return Err(Errno::Io);
        };
        let (offset, buf) = (asked.offset, asked.buf);
        if offset < file.size() && file.overwrite(offset, buf) {
            inode.touch(asked.now);
            return Ok(Some(buf.len()));
        }
        let base = Base {
            image: &self.image,
            brought: asked.brought,
        };
        let had = Counts::of(file);
        let (bytes, blocks) = (self.quota.max_bytes, self.quota.max_blocks());
        let terms = WriteLimits {
            bytes: bytes.saturating_sub(self.usage.logical_bytes),
            blocks: blocks.saturating_sub(self.tally.blocks),
            pages: &mut self.pages,
            dirty: self.dirty.as_mut().map(|dirty| dirty.of(asked.id)),
        };
        let written = file.write_at(&base, offset, buf, terms)?;
        if written == 0 {
            return Err(Errno::NoSpace);
        }
        let has = Counts::of(file);
        inode.touch(asked.now);
        self.recount(had, has);
        Ok(Some(written))
    }

    /// A block of base content at rest that a write would cover in part and
    /// that is not among those `brought`: only the first and the last block of
    /// a write can be.
    pub(crate) fn need(
        &self,
        id: FileId,
        offset: u64,
        len: u64,
        brought: &FetchedBlocks,
    ) -> Option<NeededBlock> {
        let (node, file) = match self.object(id) {
            Object::Base(node) => (node, None),
            Object::Own(inode) => match &inode.body {
                Body::File(file) => (file.base_node()?, Some(file)),
                Body::Dir(_) | Body::Symlink(_) => return None,
            },
            Object::Gone => return None,
        };
        // Bytes in memory are copied under the lock.
        let content = self.image.content(node)?;
        content.stored()?;
        if len == 0 {
            return None;
        }
        let end = offset.saturating_add(len).min(MAX_FILE_BYTES);
        let last = end.checked_sub(1)? / BLOCK_BYTES as u64;
        let first = offset / BLOCK_BYTES as u64;
        let needs = |number: &u64| {
            let start = number * BLOCK_BYTES as u64;
            let below = match file {
                Some(file) => file.shown_in(*number),
                None => content.size().saturating_sub(start).min(BLOCK_BYTES as u64),
            };
            let covered = offset <= start && end >= start + below;
            let need = NeededBlock {
                node,
                number: *number,
            };
            below > 0 && !covered && brought.get(need).is_none()
        };
        let ends = [first, last];
        let number = ends.into_iter().find(needs)?;
        Some(NeededBlock { node, number })
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
        if let Object::Base(node) = self.object(id) {
            if self.image.stat(node).size < size {
                self.prepare(&[id])?;
            } else {
                // What cuts a file makes room, and is never refused.
                self.prepare_unasked(id)?;
            }
        }
        let held = self.inodes.get_mut(&id).and_then(Option::as_mut);
        let inode = held
            .ok_or(Errno::BadDescriptor)?
            .change_by(self.pages.account());
        let Body::File(file) = &mut inode.body else {
            return Err(Errno::Invalid);
        };
        let had = Counts::of(file);
        file.set_size(size, &mut self.pages);
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

    /// Returns whether a file of this state and one of another read the same in
    /// `range`: see [`compare::is_equal`].
    pub(super) fn reads_alike(
        &self,
        file: &FileBody,
        (other, its): (&Self, &FileBody),
        range: Range<u64>,
    ) -> bool {
        compare::is_equal(self.state(file), other.state(its), range)
    }

    fn state<'a>(&'a self, file: &'a FileBody) -> FileState<'a> {
        let content = content_below(&self.image, file);
        FileState { file, content }
    }

    /// Follows what became of the counts of one file.
    pub(super) fn recount(&mut self, had: Counts, has: Counts) {
        let usage = &mut self.usage;
        usage.logical_bytes = usage.logical_bytes + has.logical - had.logical;
        usage.private_bytes = usage.private_bytes + has.private - had.private;
        let tally = &mut self.tally;
        tally.blocks = tally.blocks + has.blocks - had.blocks;
        tally.in_blocks = tally.in_blocks + has.held - had.held;
    }
}

/// The part of `buf`, at `offset`, that lies in what a file may have; none if that
/// is nothing.
fn below_max(offset: u64, buf: &[u8]) -> Option<&[u8]> {
    let left = MAX_FILE_BYTES.saturating_sub(offset);
    let len = usize::try_from(left).unwrap_or(usize::MAX);
    buf.get(..len.min(buf.len())).filter(|buf| !buf.is_empty())
}

/// What one file adds to the counts of its instance.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    logical: u64,
    private: u64,
    blocks: u64,
    held: u64,
}

impl Counts {
    #[inline]
    pub(super) fn of(file: &FileBody) -> Self {
        Self {
            logical: file.logical_bytes(),
            private: file.private_bytes(),
            blocks: file.further_blocks(),
            held: file.held_bytes(),
        }
    }

    /// Those of a file that is gone.
    pub(super) fn none() -> Self {
        Self {
            logical: 0,
            private: 0,
            blocks: 0,
            held: 0,
        }
    }
}

/// The base content that shows through in a file.
pub(super) fn content_below<'a>(image: &'a Image, file: &FileBody) -> Option<&'a Content> {
    image.content(file.base_node()?)
}

/// What came of a write.
pub(crate) enum WriteOutcome {
    /// So many bytes were written.
    Bytes(usize),
    /// Nothing was changed: this has to be brought first.
    Needs(NeededBlock),
}

/// Bytes to be written into a file.
struct Write<'a> {
    id: FileId,
    offset: u64,
    buf: &'a [u8],
    now: Time,
    brought: &'a FetchedBlocks,
}

/// Where a write finds the bytes of a base block that it covers in part.
pub(super) struct Base<'a> {
    image: &'a Image,
    brought: &'a FetchedBlocks,
}

impl Base<'_> {
    /// Fills `block` with the base's bytes from the start of block `number` on.
    pub(super) fn read_block(&self, node: u32, number: u64, block: &mut [u8]) -> Result<(), Errno> {
        if let Some(bytes) = self.brought.get(NeededBlock { node, number }) {
            copy_or_zero(bytes, block);
            return Ok(());
        }
        let content = self.image.content(node).ok_or(Errno::Io)?;
        if content.stored().is_some() {
            // Never: the write was refused before it began.
            return Err(Errno::Io);
        }
        let read = content.read_at(block, number * BLOCK_BYTES as u64);
        let read = read.map_err(|_| Errno::Io)?;
        if let Some(missing) = block.get_mut(read..) {
            missing.fill(0);
        }
        Ok(())
    }
}
