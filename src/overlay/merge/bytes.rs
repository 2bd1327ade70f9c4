//! The bytes of a file that both sides changed.

use std::ops::Range;
use std::sync::Arc;

use super::super::blocks::FileBody;
use super::super::data::content_below;
use super::super::inode::{Body, Inode};
use super::super::runs::{Data, Runs};
use super::super::steps;
use super::super::{Counts, Overlay};
use crate::chunk::Content;
use crate::errno::Errno;
use crate::limits::{BLOCK_BYTES, CHUNK_BYTES};
use crate::meta::{FileId, Time};

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Which bytes each side changed. Where both did, both have the same.
pub(super) struct SideChanges {
    /// Of the outcome.
    pub(super) size: u64,
    pub(super) here: Arc<[Range<u64>]>,
    pub(super) there: Arc<[Range<u64>]>,
}

impl Overlay {
    /// The base's content that may show in `file`.
    fn content_of(&self, file: &FileBody) -> Option<&Content> {
        content_below(&self.image, file)
    }

    /// Returns whether bytes that show in `file` may have to be read from a
    /// store.
    pub(super) fn is_at_rest(&self, file: &FileBody) -> bool {
        self.content_of(file)
            .is_some_and(|content| content.stored().is_some())
    }

    /// The runs of a part of `file`, holes of the base told apart.
    fn runs_of<'a>(&'a self, file: &'a FileBody, range: Range<u64>) -> Runs<'a> {
        file.runs(range).over(self.content_of(file))
    }

    /// Takes over the bytes that a file has in the state `theirs`: shared, not
    /// copied.
    pub(super) fn take_bytes(
        &mut self,
        id: FileId,
        theirs: &Overlay,
        from: &FileBody,
    ) -> Result<(), Errno> {
        let inode = self.own(id)?;
        let Body::File(here) = &mut inode.body else {
            return Err(Errno::Io);
        };
        let had = Counts::of(here);
        *here = from.clone();
        let has = Counts::of(here);
        self.recount(had, has);
        self.take_unsealed(id, theirs, id);
        Ok(())
    }

    /// Notes which blocks of a file are not sealed yet, whose bytes are those of
    /// a file of `theirs`.
    pub(super) fn take_unsealed(&mut self, id: FileId, theirs: &Overlay, their_id: FileId) {
        if let Some(dirty) = &mut self.dirty {
            let there = theirs.dirty.as_ref();
            dirty.set(id, there.and_then(|there| there.get(their_id)));
        }
    }

    /// Makes a file have what both sides made of it.
    ///
    /// One side's state is taken as it is, and the ranges that the other one
    /// changed are put over it. The state taken is the one in which less of
    /// what lies below the private blocks shows. So no range that is a hole on
    /// the other side shows anything below in the state taken, unless the
    /// other side holds zeros there itself: a hole costs nothing, and what was
    /// cut off on either side stays cut off.
    pub(super) fn merge_bytes(
        &mut self,
        id: FileId,
        sides: &SideChanges,
        theirs: &Overlay,
        now: Time,
    ) -> Result<(), Errno> {
        let (Some(here), Some(there)) = (self.living(id), theirs.living(id)) else {
            return Err(Errno::Io);
        };
        let here = here.into_owned();
        let (Some(ours), Some(other)) = (file_of(&here), file_of(&there)) else {
            return Err(Errno::Io);
        };
        if ours.backing().end() <= other.backing().end() {
            self.set_size(id, sides.size, now)?;
            self.put_ranges(id, (theirs, other), &sides.there, now)
        } else {
            // A copy, since what it is taken from is what changes.
            let before = self.snapshot();
            self.take_bytes(id, theirs, other)?;
            self.set_size(id, sides.size, now)?;
            self.put_ranges(id, (&before, ours), &sides.here, now)
        }
    }

    /// Puts the bytes that `file` of the state `from` has in `ranges` into the
    /// file `id`, as far as that reaches.
    fn put_ranges(
        &mut self,
        id: FileId,
        (from, file): (&Overlay, &FileBody),
        ranges: &[Range<u64>],
        now: Time,
    ) -> Result<(), Errno> {
        let size = self.stat(id)?.size.min(file.size());
        for range in ranges {
            let range = range.start.min(size)..range.end.min(size);
            for run in from.runs_of(file, range) {
                steps::add(1);
                match run.data {
                    Data::Hole => self.put_hole(id, run.range, now)?,
                    // What both made the same stays as it is held here.
                    Data::Block(_) | Data::Base(_)
                        if self.has_alike(id, (from, file), &run.range) => {}
                    Data::Block(bytes) => self.put_bytes(id, run.range.start, bytes, now)?,
                    Data::Base(_) => self.copy_base(id, (from, file), run.range, now)?,
                }
            }
        }
        Ok(())
    }

    /// Returns whether the file `id` reads in `range` as one of another state.
    fn has_alike(&self, id: FileId, other: (&Overlay, &FileBody), range: &Range<u64>) -> bool {
        let here = self.changed(id).and_then(file_of);
        here.is_some_and(|here| self.reads_alike(here, other, range.clone()))
    }

    fn put_bytes(&mut self, id: FileId, offset: u64, bytes: &[u8], now: Time) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.write_at(id, offset + done as u64, rest, now)?;
        }
        Ok(())
    }

    /// Copies base bytes that show in `file` and not here: a side went back to
    /// a state before the common one.
    fn copy_base(
        &mut self,
        id: FileId,
        (from, file): (&Overlay, &FileBody),
        range: Range<u64>,
        now: Time,
    ) -> Result<(), Errno> {
        let content = from.content_of(file).ok_or(Errno::Io)?;
        let mut buf = vec![0; CHUNK_BYTES];
        let mut at = range.start;
        while at < range.end {
            let want = usize::try_from(range.end - at).unwrap_or(CHUNK_BYTES);
            let piece = buf.get_mut(..want.min(CHUNK_BYTES)).unwrap_or_default();
            let read = content.read_at(piece, at).map_err(|_| Errno::Io)?;
            let piece = piece.get(..read).filter(|piece| !piece.is_empty());
            self.put_bytes(id, at, piece.ok_or(Errno::Io)?, now)?;
            at += read as u64;
        }
        Ok(())
    }

    /// Makes a range read as zeros: whole blocks that hide nothing go, and
    /// zeros are stored only over bytes that would show.
    fn put_hole(&mut self, id: FileId, range: Range<u64>, now: Time) -> Result<(), Errno> {
        let inode = self.own(id)?;
        let Body::File(file) = &mut inode.body else {
            return Err(Errno::Io);
        };
        let had = Counts::of(file);
        file.drop_blocks(range.start.div_ceil(BLOCK)..blocks_before(range.end, file.size()));
        let has = Counts::of(file);
        self.recount(had, has);
        let stored: Vec<Range<u64>> = {
            let Some(inode) = self.changed(id) else {
                return Err(Errno::Io);
            };
            let runs = file_of(inode).map(|file| self.runs_of(file, range));
            let stored = runs.into_iter().flatten();
            stored
                .filter(|run| !matches!(run.data, Data::Hole))
                .map(|run| run.range)
                .collect()
        };
        let zeros = [0; BLOCK_BYTES];
        for range in stored {
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min((at / BLOCK + 1) * BLOCK);
                let len = usize::try_from(end - at).unwrap_or(BLOCK_BYTES);
                self.put_bytes(id, at, zeros.get(..len).unwrap_or(&zeros), now)?;
                at = end;
            }
        }
        Ok(())
    }
}

/// The number of the first block that does not lie before `end` as a whole: the
/// last one of a file does even if it is short.
fn blocks_before(end: u64, size: u64) -> u64 {
    if end >= size {
        end.div_ceil(BLOCK)
    } else {
        end / BLOCK
    }
}

fn file_of(inode: &Inode) -> Option<&FileBody> {
    match &inode.body {
        Body::File(file) => Some(file),
        Body::Dir(_) | Body::Symlink(_) => None,
    }
}
