//! The bytes of a changed or new file: private blocks over base content.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::chunk::{Content, copy_or_zero};
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A file as three storeys: private blocks, below them what still shows of
/// the base's bytes, below that zeros. The base's content itself is passed in
/// by the caller, who knows the image.
#[derive(Clone)]
pub(super) struct FileBody {
    size: u64,
    /// Base bytes at and past this offset do not show: a file cut short and
    /// grown again reads zeros there. At most `size`.
    base_end: u64,
    /// By number. What a block's bytes do not reach up to the block's end is
    /// zeros, not base.
    blocks: OrdMap<u64, Block>,
    /// The bytes in `blocks`.
    private: u64,
}

/// At most [`BLOCK_BYTES`] bytes.
type Block = Arc<Vec<u8>>;

/// What a write may use up.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Private bytes.
    pub(super) bytes: u64,
    /// Private blocks, the first of a file not counted.
    pub(super) blocks: u64,
}

/// What a write did.
pub(super) struct Written {
    /// Bytes taken from the caller's buffer.
    pub(super) bytes: usize,
    /// Private bytes added.
    pub(super) charged: u64,
}

impl FileBody {
    /// A base file of `size` bytes, nothing changed yet.
    pub(super) fn over(size: u64) -> Self {
        Self {
            size,
            base_end: size,
            blocks: OrdMap::new(),
            private: 0,
        }
    }

    /// An empty new file.
    pub(super) fn new() -> Self {
        Self::over(0)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn private_bytes(&self) -> u64 {
        self.private
    }

    /// Counts the private blocks beyond the first: what a file costs its host
    /// besides its bytes and itself.
    pub(super) fn further_blocks(&self) -> u64 {
        (self.blocks.len() as u64).saturating_sub(1)
    }

    /// Tells whether the bytes differ from the base's in no way.
    pub(super) fn is_base_of(&self, size: u64) -> bool {
        self.blocks.is_empty() && self.base_end == size && self.size == size
    }

    /// Copies bytes from `offset` on into `buf`, as many as there are.
    pub(super) fn read_at(
        &self,
        base: Option<&Content>,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        let total = self.size.saturating_sub(offset).min(buf.len() as u64);
        let len = usize::try_from(total).unwrap_or(0);
        let Some(buf) = buf.get_mut(..len) else {
            return Ok(0);
        };
        if self.blocks.is_empty() || len == 0 {
            self.read_below(base, offset, buf)?;
            return Ok(len);
        }
        let end = offset + total;
        let mut at = offset;
        let mut rest = buf;
        for (number, block) in self.blocks.range(offset / BLOCK..=(end - 1) / BLOCK) {
            let start = number * BLOCK;
            if at < start {
                let gap = take(&mut rest, start - at);
                self.read_below(base, at, gap)?;
                at = start;
            }
            let stop = end.min(start + BLOCK);
            read_block(block, at - start, take(&mut rest, stop - at));
            at = stop;
        }
        self.read_below(base, at, rest)?;
        Ok(len)
    }

    /// Gives bytes from `offset` on without a copy where base content shows
    /// through in one piece, else a copy: at most `max`, empty at the end.
    pub(super) fn read_bytes(
        &self,
        base: Option<&Content>,
        offset: u64,
        max: usize,
    ) -> Result<Bytes, Errno> {
        let shows = self.base_end.saturating_sub(offset).min(max as u64);
        let last = offset.saturating_add(shows.max(1) - 1) / BLOCK;
        let covered =
            !self.blocks.is_empty() && self.blocks.range(offset / BLOCK..=last).next().is_some();
        if shows > 0 && !covered {
            let len = usize::try_from(shows).unwrap_or(max);
            if let Some(slice) = base.and_then(|base| base.slice_at(offset, len)) {
                return Ok(slice);
            }
        }
        let left = self.size.saturating_sub(offset).min(max as u64);
        let mut buf = vec![0; usize::try_from(left).unwrap_or(max)];
        let len = self.read_at(base, offset, &mut buf)?;
        buf.truncate(len);
        Ok(buf.into())
    }

    /// Reads where no block lies: base bytes, then zeros.
    fn read_below(&self, base: Option<&Content>, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let shows = self.base_end.saturating_sub(offset).min(buf.len() as u64);
        let (head, tail) = buf.split_at_mut(usize::try_from(shows).unwrap_or(0));
        let read = base.map_or(Ok(0), |base| base.read_at(offset, head));
        let read = read.map_err(|_| Errno::Io)?;
        if let Some(missing) = head.get_mut(read..) {
            missing.fill(0);
        }
        tail.fill(0);
        Ok(())
    }

    /// Writes `buf` at `offset`, as far as `room` more private bytes and
    /// blocks allow.
    /// A block of base content that is written in part is copied first, and
    /// no other; if it cannot be read the write ends before it.
    pub(super) fn write_at(
        &mut self,
        base: Option<&Content>,
        offset: u64,
        buf: &[u8],
        room: Room,
    ) -> Result<Written, Errno> {
        let had = self.further_blocks();
        let mut done = Written {
            bytes: 0,
            charged: 0,
        };
        while let Some(rest) = buf.get(done.bytes..).filter(|rest| !rest.is_empty()) {
            let at = offset + done.bytes as u64;
            let within = within_block(at);
            let want = rest.len().min(BLOCK_BYTES - within);
            let is_new = !self.blocks.contains_key(&(at / BLOCK));
            if is_new && !self.blocks.is_empty() && self.further_blocks() - had >= room.blocks {
                break;
            }
            let piece = rest.get(..want).unwrap_or_default();
            let left = room.bytes - done.charged;
            let (wrote, charged) = match self.write_block(base, at / BLOCK, within, piece, left) {
                Ok(wrote) => wrote,
                Err(errno) if done.bytes == 0 => return Err(errno),
                Err(_) => break,
            };
            done.bytes += wrote;
            done.charged += charged;
            if wrote < want {
                break;
            }
        }
        if done.bytes > 0 {
            self.size = self.size.max(offset + done.bytes as u64);
            self.private += done.charged;
        }
        Ok(done)
    }

    /// Writes into one block from byte `within` of it on. Gives the bytes
    /// written and charged: fewer than wanted when `room` ends.
    fn write_block(
        &mut self,
        base: Option<&Content>,
        number: u64,
        within: usize,
        piece: &[u8],
        room: u64,
    ) -> Result<(usize, u64), Errno> {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if let Some(block) = self.blocks.get_mut(&number) {
            let old = block.len();
            let fits = old
                .saturating_add(room)
                .saturating_sub(within)
                .min(piece.len());
            if fits > 0 {
                put(
                    Arc::make_mut(block),
                    within,
                    piece.get(..fits).unwrap_or_default(),
                );
            }
            return Ok((fits, (block.len() - old) as u64));
        }
        let start = number * BLOCK;
        let below = usize::try_from(self.base_end.saturating_sub(start).min(BLOCK)).unwrap_or(0);
        let fits = room.saturating_sub(within).min(piece.len());
        if fits == 0 || below > room {
            return Ok((0, 0));
        }
        let len = below.max(within + fits);
        let mut block = Vec::with_capacity(if len > BLOCK_BYTES / 2 {
            BLOCK_BYTES
        } else {
            len
        });
        let replaced = within == 0 && fits >= below;
        if !replaced && below > 0 {
            block.resize(below, 0);
            self.read_below(base, start, &mut block)?;
        }
        put(&mut block, within, piece.get(..fits).unwrap_or_default());
        let charged = block.len() as u64;
        self.blocks.insert(number, Arc::new(block));
        Ok((fits, charged))
    }

    /// Cuts or grows to `size`. Gives the private bytes freed. Growing stores
    /// nothing; O(blocks cut off).
    pub(super) fn set_size(&mut self, size: u64) -> u64 {
        let mut freed = 0;
        if size == 0 {
            freed = self.private;
            self.blocks = OrdMap::new();
        } else if size < self.size {
            freed = self.cut_blocks(size);
        }
        self.private -= freed;
        self.base_end = self.base_end.min(size);
        self.size = size;
        freed
    }

    fn cut_blocks(&mut self, size: u64) -> u64 {
        let mut freed = 0;
        let keep = within_block(size);
        let first_gone = size.div_ceil(BLOCK);
        let gone: Vec<u64> = self
            .blocks
            .range(first_gone..)
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            freed += self
                .blocks
                .remove(&number)
                .map_or(0, |block| block.len() as u64);
        }
        if keep > 0
            && let Some(block) = self.blocks.get_mut(&(size / BLOCK))
            && block.len() > keep
        {
            freed += (block.len() - keep) as u64;
            Arc::make_mut(block).truncate(keep);
        }
        freed
    }

    /// Gives the length of the run of zeros nobody stored that starts at
    /// `offset`; 0 if a stored byte is there. For copying sparse files out.
    pub(super) fn hole_at(&self, base: Option<&Content>, offset: u64) -> u64 {
        if self.blocks.contains_key(&(offset / BLOCK)) {
            return 0;
        }
        let next = self.blocks.range(offset / BLOCK..).next();
        let end = next.map_or(self.size, |(number, _)| self.size.min(number * BLOCK));
        let len = end.saturating_sub(offset);
        let shows = self.base_end.saturating_sub(offset).min(len);
        if shows == 0 || base.is_none_or(|base| base.is_hole(offset, shows)) {
            return len;
        }
        0
    }

    /// Gives the byte ranges in which two states over one base may differ, in
    /// order: blocks that do, what was cut off, what was added. O(blocks that
    /// differ).
    pub(super) fn compare(&self, later: &Self) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        let end = self.size.max(later.size);
        for item in self.blocks.diff(&later.blocks) {
            let number = match item {
                DiffItem::Add(number, _) | DiffItem::Remove(number, _) => *number,
                DiffItem::Update { new, .. } => *new.0,
            };
            found.push(number * BLOCK..end.min((number + 1) * BLOCK));
        }
        for (one, two) in [(self.base_end, later.base_end), (self.size, later.size)] {
            if one != two {
                found.push(one.min(two)..one.max(two));
            }
        }
        found.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(found.len());
        for range in found {
            match merged.last_mut().filter(|last| range.start <= last.end) {
                Some(last) => last.end = last.end.max(range.end),
                None => merged.push(range),
            }
        }
        merged
    }

    /// Recounts the private bytes.
    pub(super) fn recount(&self) -> u64 {
        self.blocks.values().map(|block| block.len() as u64).sum()
    }

    /// Tells whether no block lies past the end and none is over-long.
    pub(super) fn is_sound(&self) -> bool {
        self.base_end <= self.size
            && self.blocks.iter().all(|(number, block)| {
                block.len() <= BLOCK_BYTES && number * BLOCK + block.len() as u64 <= self.size
            })
    }
}

fn within_block(offset: u64) -> usize {
    // Below BLOCK_BYTES, so it fits.
    usize::try_from(offset % BLOCK).unwrap_or(0)
}

/// Splits `len` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a mut [u8], len: u64) -> &'a mut [u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}

/// Copies a block's bytes from `start` on, zeros past its end.
fn read_block(block: &[u8], start: u64, out: &mut [u8]) {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    copy_or_zero(block.get(start..).unwrap_or_default(), out);
}

/// Puts `piece` at `at` of `block`, zeros between its old end and there.
fn put(block: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if block.len() < at {
        block.resize(at, 0);
    }
    let over = (block.len() - at).min(piece.len());
    let (inside, beyond) = piece.split_at(over);
    if let Some(old) = block.get_mut(at..at + over) {
        old.copy_from_slice(inside);
    }
    if block.capacity() < block.len() + beyond.len() && block.len() + beyond.len() > BLOCK_BYTES / 2
    {
        block.reserve_exact(BLOCK_BYTES - block.len());
    }
    block.extend_from_slice(beyond);
}
