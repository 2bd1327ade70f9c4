//! Reading the bytes of files in two steps: under the lock of an instance what
//! it wrote itself is copied, and noted where the base shows; the base's bytes
//! are read once the lock is free.
//!
//! A base never changes, so what is read of it later is what it was under the
//! lock, and both steps together are one moment. The base is reached through
//! the image of whoever reads: noting where it shows counts no reference.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::inode::Body;
use super::{Object, Overlay};
use crate::chunk::{Content, Ticket, Unread};
use crate::errno::Errno;
use crate::image::Image;
use crate::limits::BLOCK_BYTES;
use crate::meta::FileId;

/// Why a call on the bytes of a file was not done. Nothing has been changed.
#[derive(Debug)]
pub(crate) enum NotDone {
    Errno(Errno),
    /// Bytes have to be fetched first: wait for this and make the call again.
    Absent(Box<Ticket>),
}

impl From<Errno> for NotDone {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Unread> for NotDone {
    #[cold]
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Absent(ticket) => Self::Absent(Box::new(ticket)),
            Unread::Failed(_) => Self::Errno(Errno::Io),
        }
    }
}

impl NotDone {
    /// Makes a call until it is done, and blocks the thread while bytes are
    /// fetched. No lock is to be held.
    #[inline]
    pub(crate) fn wait_for<R>(mut call: impl FnMut() -> Result<R, Self>) -> Result<R, Errno> {
        loop {
            match call() {
                Ok(done) => return Ok(done),
                Err(Self::Errno(errno)) => return Err(errno),
                Err(Self::Absent(ticket)) => ticket.wait(),
            }
        }
    }
}

/// What a read leaves to be done without the lock: where the bytes of a base
/// file show, in order. An own file shows one base file at most, each byte at
/// the offset that it has there.
#[derive(Default)]
pub(crate) struct Rest {
    node: u32,
    /// 16 bytes for each place, of which there are as many as own blocks that
    /// the read passes.
    shows: SmallVec<[Range<u64>; 4]>,
}

impl Rest {
    fn add(&mut self, node: u32, range: Range<u64>) {
        self.node = node;
        match self.shows.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None if range.is_empty() => {}
            None => self.shows.push(range),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shows.is_empty()
    }

    /// The parts of `range` where the base shows, in order. O(log places).
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.shows.partition_point(|shows| shows.end <= range.start);
        let shows = self.shows.get(first..).unwrap_or_default().iter();
        shows
            .take_while(move |shows| shows.start < range.end)
            .map(move |shows| shows.start.max(range.start)..shows.end.min(range.end))
    }

    /// Reads bytes from `offset` on of the base file.
    ///
    /// # Errors
    ///
    /// [`Errno::Io`] for data that cannot be read or is damaged; a ticket for
    /// what has to be fetched.
    pub(crate) fn read(&self, image: &Image, offset: u64, buf: &mut [u8]) -> Result<(), NotDone> {
        let read = content_of(image, self.node)?.try_read_at(buf, offset)?;
        if let Some(missing) = buf.get_mut(read..) {
            missing.fill(0);
        }
        Ok(())
    }

    /// Fills the places in `buf`, which stands for the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn fill(&self, image: &Image, offset: u64, buf: &mut [u8]) -> Result<(), NotDone> {
        for place in self.within(offset..offset.saturating_add(buf.len() as u64)) {
            if let Some(buf) = buf.get_mut(at(place.start - offset)..at(place.end - offset)) {
                self.read(image, place.start, buf)?;
            }
        }
        Ok(())
    }
}

/// A read that has been begun under the lock.
pub(crate) enum StartedRead {
    /// The file is as the base has it: all is left to be done.
    Base(u32),
    /// So many bytes are in the buffer, but for the rest that was noted.
    Read(usize),
}

impl StartedRead {
    /// Does the rest, without the lock. Returns the bytes read.
    ///
    /// # Errors
    ///
    /// As [`Rest::read`]; `buf` may have been written to.
    #[inline(always)]
    pub(crate) fn finish(
        self,
        image: &Image,
        rest: &Rest,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, NotDone> {
        match self {
            Self::Base(node) => Ok(content_of(image, node)?.try_read_at(buf, offset)?),
            Self::Read(len) => {
                if !rest.is_empty() {
                    rest.fill(image, offset, buf.get_mut(..len).unwrap_or_default())?;
                }
                Ok(len)
            }
        }
    }
}

/// Bytes that have been asked for under the lock.
pub(crate) enum Asked {
    /// So many bytes of a base file, and whether fewer will do.
    Base(u32, usize),
    /// A copy, but for the rest.
    Copied(Vec<u8>, Rest),
}

impl Asked {
    /// Returns the bytes, without the lock: a slice of a chunk where one has all
    /// that are wanted, or the first of them if `fewer` will do.
    ///
    /// # Errors
    ///
    /// As [`Rest::read`].
    pub(crate) fn finish(self, image: &Image, offset: u64, fewer: bool) -> Result<Bytes, NotDone> {
        match self {
            Self::Base(node, len) => {
                let content = content_of(image, node)?;
                let left = content.size().saturating_sub(offset);
                let len = usize::try_from(left).unwrap_or(len).min(len);
                match content.slice_at(offset, len) {
                    Some(slice) if fewer || slice.len() == len => Ok(slice),
                    Some(_) | None => {
                        let mut buf = vec![0; len];
                        let read = content.try_read_at(&mut buf, offset)?;
                        buf.truncate(read);
                        Ok(buf.into())
                    }
                }
            }
            Self::Copied(mut buf, rest) => {
                rest.fill(image, offset, &mut buf)?;
                Ok(buf.into())
            }
        }
    }
}

/// The content of a base file, for a read without the lock.
#[inline]
fn content_of(image: &Image, node: u32) -> Result<&Content, Errno> {
    let content = image.content(node);
    image.check_undamaged()?;
    content.ok_or(Errno::Io)
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Overlay {
    /// Copies bytes from `offset` on into `buf`: as many as there are. For
    /// states that no lock is around: the thread waits for what has to be
    /// fetched.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] if `id` is gone, [`Errno::Io`] if it is no file,
    /// or for data at rest that cannot be read.
    pub(crate) fn read_at(&self, id: FileId, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        NotDone::wait_for(|| {
            let mut rest = Rest::default();
            let begun = self.begin_read(id, offset, buf, &mut rest)?;
            begun.finish(&self.image, &rest, offset, buf)
        })
    }

    /// Copies what of a read from `offset` on is this instance's own, and notes in `rest`,
    /// which is empty, what is left of such a file.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] if `id` is gone, [`Errno::Io`] if it is no file.
    #[inline]
    pub(crate) fn begin_read(
        &self,
        id: FileId,
        offset: u64,
        buf: &mut [u8],
        rest: &mut Rest,
    ) -> Result<StartedRead, Errno> {
        match self.object(id) {
            Object::Base(node) => Ok(StartedRead::Base(node)),
            Object::Own(inode) => match &inode.body {
                Body::File(file) => {
                    let len = file.read_own(offset, buf, &mut |node, range| rest.add(node, range));
                    Ok(StartedRead::Read(len))
                }
                Body::Dir(_) | Body::Symlink(_) => Err(Errno::Io),
            },
            Object::Gone => Err(Errno::BadDescriptor),
        }
    }

    /// As [`begin_read`](Self::begin_read), for one piece of several that are
    /// read as one step: notes in `rest` what is left. Returns the bytes that
    /// there are. Pieces come in the order of their offsets.
    #[cfg_attr(
        not(feature = "p1"),
        allow(dead_code, reason = "preview1 alone reads in pieces")
    )]
    pub(crate) fn read_piece(
        &self,
        id: FileId,
        offset: u64,
        buf: &mut [u8],
        rest: &mut Rest,
    ) -> Result<usize, Errno> {
        match self.object(id) {
            Object::Base(node) => {
                let left = self.image.stat(node).size.saturating_sub(offset);
                self.check_undamaged()?;
                let len = at(left).min(buf.len());
                rest.add(node, offset..offset.saturating_add(len as u64));
                Ok(len)
            }
            Object::Own(inode) => match &inode.body {
                Body::File(file) => {
                    Ok(file.read_own(offset, buf, &mut |node, range| rest.add(node, range)))
                }
                Body::Dir(_) | Body::Symlink(_) => Err(Errno::Io),
            },
            Object::Gone => Err(Errno::BadDescriptor),
        }
    }

    /// Asks for up to `max` bytes from `offset` on. If `fewer` will do, 1 at
    /// least before the end of the file.
    ///
    /// # Errors
    ///
    /// As [`begin_read`](Self::begin_read).
    pub(crate) fn ask(
        &self,
        id: FileId,
        offset: u64,
        max: usize,
        fewer: bool,
    ) -> Result<Asked, Errno> {
        let file = match self.object(id) {
            Object::Base(node) => return Ok(Asked::Base(node, max)),
            Object::Own(inode) => match &inode.body {
                Body::File(file) => file,
                Body::Dir(_) | Body::Symlink(_) => return Err(Errno::Io),
            },
            Object::Gone => return Err(Errno::BadDescriptor),
        };
        let len = at(file.size().saturating_sub(offset)).min(max);
        if let Some((node, shows)) = file.base_at(offset, len)
            && (fewer || shows == len)
        {
            return Ok(Asked::Base(node, shows));
        }
        let (mut buf, mut rest) = (vec![0; len], Rest::default());
        let len = file.read_own(offset, &mut buf, &mut |node, range| rest.add(node, range));
        buf.truncate(len);
        Ok(Asked::Copied(buf, rest))
    }
}

/// A block of base content at rest that a write covers in part: its bytes have
/// to be read before the lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeededBlock {
    pub(super) node: u32,
    /// The block, by its number.
    pub(super) number: u64,
}

/// Blocks of base content that were read for a write. A base never changes, so
/// they stay right whatever became of the file meanwhile.
#[derive(Default)]
pub(crate) struct FetchedBlocks(SmallVec<[(NeededBlock, Vec<u8>); 2]>);

impl FetchedBlocks {
    /// Reads a block, without the lock.
    ///
    /// # Errors
    ///
    /// As [`Rest::read`].
    #[cold]
    pub(crate) fn fetch(&mut self, image: &Image, need: NeededBlock) -> Result<(), NotDone> {
        let mut block = vec![0; BLOCK_BYTES];
        let offset = need.number.saturating_mul(BLOCK_BYTES as u64);
        let read = content_of(image, need.node)?.try_read_at(&mut block, offset)?;
        block.truncate(read);
        // A write has two such blocks. More come up if others write as well.
        if self.0.len() >= 4 {
            self.0.remove(0);
        }
        self.0.push((need, block));
        Ok(())
    }

    /// The bytes of a block, if it was read.
    pub(super) fn get(&self, need: NeededBlock) -> Option<&[u8]> {
        let found = self.0.iter().find(|(have, _)| *have == need);
        found.map(|(_, block)| block.as_slice())
    }
}
