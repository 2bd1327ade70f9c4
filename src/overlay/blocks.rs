//! The bytes of a changed or new file: private blocks over base content.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::block::{Block, room_for};
use crate::budget::Account;
use crate::chunk::{Buffer, Content, SealedFile, copy_or_zero};
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A file as three storeys: private blocks, below them what still shows of
/// a base file's bytes, below that zeros. The base's content itself is passed
/// in by the caller, who knows the image.
#[derive(Clone)]
pub(super) struct FileBody {
    size: u64,
    /// Base bytes at and past this offset do not show: a file cut short and
    /// grown again reads zeros there. At most `size`.
    base_end: u64,
    below: Below,
    /// By number. What a block's bytes do not reach up to the block's end is
    /// zeros, not base. A block that starts before `base_end` reaches at least
    /// to there or to its own end.
    blocks: OrdMap<u64, Block>,
    /// The bytes that count against the quota: those of `blocks`, and what
    /// shows of a lent base file.
    logical: u64,
    /// The bytes in `blocks` that are there because of this instance.
    private: u64,
}

/// What shows where no block lies.
#[derive(Clone)]
pub(super) enum Below {
    /// Nothing.
    Nothing,
    /// The base file that this one was, by its index number.
    Own(u32),
    /// A base file that this one was found to equal. Its bytes were written,
    /// so they count against the quota.
    Lent(u32),
    /// All blocks of a whole file, sealed, which count as well; and whether
    /// this instance brought the file into its scope.
    Sealed(SealedFile, bool),
}

impl PartialEq for Below {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Own(one), Self::Own(two)) | (Self::Lent(one), Self::Lent(two)) => one == two,
            (Self::Sealed(one, _), Self::Sealed(two, _)) => one.is_same(two),
            _ => false,
        }
    }
}

impl Below {
    /// Tells whether what shows counts against the quota.
    fn counts(&self) -> bool {
        matches!(self, Self::Lent(_) | Self::Sealed(..))
    }

    /// The private bytes of block `number` as it shows.
    fn private_bytes(&self, number: u64) -> u64 {
        match self {
            Self::Sealed(file, true) => file.new_bytes(number),
            Self::Nothing | Self::Own(_) | Self::Lent(_) | Self::Sealed(..) => 0,
        }
    }
}

/// What a write may use up, and who pays.
pub(super) struct Terms<'a> {
    /// Bytes left of the quota.
    pub(super) bytes: u64,
    /// Private blocks left, the first of a file not counted.
    pub(super) blocks: u64,
    pub(super) account: &'a Account,
    /// Takes the numbers of blocks that are to be sealed again.
    pub(super) fresh: Option<&'a mut Vec<u64>>,
}

impl FileBody {
    /// A base file of `size` bytes, nothing changed yet.
    pub(super) fn over(size: u64, node: u32) -> Self {
        Self {
            size,
            base_end: size,
            below: Below::Own(node),
            ..Self::new()
        }
    }

    /// An empty new file.
    pub(super) fn new() -> Self {
        Self {
            size: 0,
            base_end: 0,
            below: Below::Nothing,
            blocks: OrdMap::new(),
            logical: 0,
            private: 0,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn logical_bytes(&self) -> u64 {
        self.logical
    }

    pub(super) fn private_bytes(&self) -> u64 {
        self.private
    }

    /// The base file whose content the other methods are to be given.
    pub(super) fn below(&self) -> &Below {
        &self.below
    }

    /// Counts the private blocks beyond the first: what a file costs its host
    /// besides its bytes and itself.
    pub(super) fn further_blocks(&self) -> u64 {
        (self.blocks.len() as u64).saturating_sub(1)
    }

    /// The base file, of `size` bytes, that this one's bytes are.
    pub(super) fn is_whole(&self, size: u64) -> bool {
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
            read_block(block.bytes(), at - start, take(&mut rest, stop - at));
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
        let read = match (&self.below, base) {
            (Below::Sealed(file, _), _) => {
                file.read_at(offset, head);
                head.len()
            }
            (_, Some(base)) => base.read_at(offset, head).map_err(|_| Errno::Io)?,
            (_, None) => 0,
        };
        if let Some(missing) = head.get_mut(read..) {
            missing.fill(0);
        }
        tail.fill(0);
        Ok(())
    }

    /// Writes `buf` at `offset`, as far as the terms allow, and gives the bytes
    /// written.
    /// A block of base content that is written in part is copied first, and
    /// no other; if it cannot be read the write ends before it.
    pub(super) fn write_at(
        &mut self,
        base: Option<&Content>,
        offset: u64,
        buf: &[u8],
        mut terms: Terms<'_>,
    ) -> Result<usize, Errno> {
        let had = (self.further_blocks(), self.logical);
        let mut done = 0;
        while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let within = within_block(at);
            let want = rest.len().min(BLOCK_BYTES - within);
            let piece = rest.get(..want).unwrap_or_default();
            let left = terms.bytes - (self.logical - had.1);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let blocks = self.further_blocks() - had.0;
            let may_add = self.blocks.is_empty() || blocks < terms.blocks;
            let wrote = match self.write_block(base, at, piece, left, may_add, &mut terms) {
                Ok(wrote) => wrote,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            };
            done += wrote;
            if wrote > 0 {
                self.size = self.size.max(offset + done as u64);
            }
            if wrote < want {
                break;
            }
        }
        Ok(done)
    }

    /// Writes into one block from offset `at` of the file on. Gives the bytes
    /// written: fewer than wanted when `room` ends.
    fn write_block(
        &mut self,
        base: Option<&Content>,
        at: u64,
        piece: &[u8],
        room: usize,
        may_add: bool,
        terms: &mut Terms<'_>,
    ) -> Result<usize, Errno> {
        let (number, within) = (at / BLOCK, within_block(at));
        if let Some(block) = self.blocks.get_mut(&number) {
            let (old, paid) = (block.len(), block.private_len());
            let reach = old.saturating_add(room).saturating_sub(within);
            let Some(piece) = piece.get(..reach.min(piece.len())) else {
                return Ok(0);
            };
            if piece.is_empty() {
                return Ok(0);
            }
            let was_own = block.is_own();
            let buffer = block.buffer(terms.account)?;
            let put = buffer.put(within, piece, room_for(within + piece.len()));
            self.private += block.private_len() - paid;
            self.logical += (block.len() - old) as u64;
            if let Some(fresh) = terms.fresh.as_mut().filter(|_| !was_own) {
                fresh.push(number);
            }
            return put.map(|()| piece.len());
        }
        if !may_add {
            return Ok(0);
        }
        let start = number * BLOCK;
        let below = usize::try_from(self.base_end.saturating_sub(start).min(BLOCK)).unwrap_or(0);
        // What shows of a lent file has been counted before.
        let counted = if self.below.counts() { below } else { 0 };
        let room = room.saturating_add(counted);
        let fits = room.saturating_sub(within).min(piece.len());
        if fits == 0 || below > room {
            return Ok(0);
        }
        let piece = piece.get(..fits).unwrap_or_default();
        let replaced = within == 0 && fits >= below;
        let kept = if replaced { 0 } else { below };
        let capacity = room_for(below.max(within + fits));
        let mut block = Buffer::zeros(kept, capacity, terms.account)?;
        self.read_below(base, start, block.bytes_mut())?;
        block.put(within, piece, capacity)?;
        let len = block.bytes().len();
        self.private = self.private + len as u64 - self.shown_private(number);
        self.logical += (len - counted) as u64;
        self.blocks.insert(number, Block::Own(Arc::new(block)));
        if let Some(fresh) = &mut terms.fresh {
            fresh.push(number);
        }
        Ok(fits)
    }

    /// Cuts or grows to `size`. Growing stores nothing; O(blocks cut off).
    pub(super) fn set_size(&mut self, size: u64, account: &Account) {
        if size == 0 {
            self.blocks = OrdMap::new();
            (self.logical, self.private) = (0, 0);
        } else if size < self.size {
            self.cut_blocks(size, account);
        }
        self.base_end = self.base_end.min(size);
        self.size = size;
    }

    fn cut_blocks(&mut self, size: u64, account: &Account) {
        // Bytes past the new end that show of the base.
        self.cut_shown(size);
        let gone: Vec<u64> = self
            .blocks
            .range(size.div_ceil(BLOCK)..)
            .map(|(number, _)| *number)
            .collect();
        let keep = within_block(size);
        let last = size / BLOCK;
        for number in gone {
            if let Some(block) = self.blocks.remove(&number) {
                self.logical -= block.len() as u64;
                self.private -= block.private_len();
            }
        }
        if keep > 0
            && let Some(block) = self.blocks.get_mut(&last)
            && block.len() > keep
        {
            let (len, paid) = (block.len(), block.private_len());
            block.truncate(keep, account);
            self.logical -= (len - keep) as u64;
            self.private = self.private + block.private_len() - paid;
        }
    }

    /// Takes what shows past `size` out of the counts. O(blocks cut off).
    fn cut_shown(&mut self, size: u64) {
        if !self.below.counts() {
            return;
        }
        for number in size / BLOCK..self.base_end.div_ceil(BLOCK) {
            if self.blocks.contains_key(&number) {
                continue;
            }
            let (start, old) = (number * BLOCK, self.shown_private(number));
            let end = self.base_end.min(start + BLOCK);
            let kept = size.min(end).saturating_sub(start);
            self.logical -= end - start - kept;
            self.private = self.private + old.min(kept) - old;
        }
    }

    /// The private bytes of block `number` as far as it shows.
    fn shown_private(&self, number: u64) -> u64 {
        let shown = self.base_end.saturating_sub(number * BLOCK);
        self.below.private_bytes(number).min(shown)
    }

    /// The block at `number`, if it is not sealed.
    pub(super) fn own_block(&self, number: u64) -> Option<&Arc<Buffer>> {
        match self.blocks.get(&number)? {
            Block::Own(buffer) => Some(buffer),
            Block::Brought(_) | Block::Lent(_) | Block::Zeros(_) => None,
        }
    }

    /// All blocks in order, of a file that is its own throughout.
    pub(super) fn own_blocks(&self) -> impl Iterator<Item = &Arc<Buffer>> {
        self.blocks.values().filter_map(|block| match block {
            Block::Own(buffer) => Some(buffer),
            Block::Brought(_) | Block::Lent(_) | Block::Zeros(_) => None,
        })
    }

    /// Tells whether the file consists of `fresh` blocks and nothing else: no
    /// hole, no base content.
    pub(super) fn is_own_throughout(&self, fresh: usize) -> bool {
        self.base_end == 0
            && self.logical == self.size
            && self.blocks.len() <= fresh
            && self.blocks.values().all(Block::is_own)
    }

    /// Puts `block`, which has the same bytes, in the place of `seen`.
    pub(super) fn replace(&mut self, number: u64, seen: &Arc<Buffer>, block: Block) {
        let own = self.own_block(number);
        if own.is_some_and(|own| Arc::ptr_eq(own, seen)) {
            self.private = self.private + block.private_len() - seen.bytes().len() as u64;
            self.blocks.insert(number, block);
        }
    }

    /// Shows `below`, which has the same bytes, if this is still as it was
    /// `seen`.
    pub(super) fn show(&mut self, seen: &Self, below: Below) {
        if self.blocks.ptr_eq(&seen.blocks) && self.size == seen.size && self.base_end == 0 {
            self.private = match &below {
                Below::Sealed(file, true) => file.all_new_bytes(),
                Below::Nothing | Below::Own(_) | Below::Lent(_) | Below::Sealed(..) => 0,
            };
            self.blocks = OrdMap::new();
            self.below = below;
            self.base_end = self.size;
        }
    }

    /// Gives the length of the run of zeros nobody stored that starts at
    /// `offset`; 0 if a stored byte is there. For copying sparse files out.
    pub(super) fn hole_at(&self, base: Option<&Content>, offset: u64) -> u64 {
        if let Some(block) = self.blocks.get(&(offset / BLOCK)) {
            let end = self.size.min((offset / BLOCK + 1) * BLOCK);
            let zeros = block.is_zeros();
            return if zeros { end.saturating_sub(offset) } else { 0 };
        }
        let next = self.blocks.range(offset / BLOCK..).next();
        let end = next.map_or(self.size, |(number, _)| self.size.min(number * BLOCK));
        let len = end.saturating_sub(offset);
        let shows = self.base_end.saturating_sub(offset).min(len);
        let end = (offset / BLOCK + 1) * BLOCK;
        match (&self.below, base) {
            _ if shows == 0 => len,
            (Below::Sealed(file, _), _) if file.is_hole(offset) => len.min(end - offset),
            (Below::Sealed(..), _) => 0,
            (_, Some(base)) if !base.is_hole(offset, shows) => 0,
            (_, Some(_) | None) => len,
        }
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

    /// All blocks that are here.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values()
    }

    /// Recounts the bytes that count against the quota and the private ones.
    pub(super) fn recount(&self) -> (u64, u64) {
        let (mut logical, mut private) = (0, 0);
        if self.below.counts() {
            let shown = (0..self.base_end.div_ceil(BLOCK))
                .filter(|number| !self.blocks.contains_key(number));
            for number in shown {
                logical += (self.base_end - number * BLOCK).min(BLOCK);
                private += self.shown_private(number);
            }
        }
        for block in self.blocks.values() {
            logical += block.len() as u64;
            private += block.private_len();
        }
        (logical, private)
    }

    /// Tells whether no block lies past the end, none is over-long, and none
    /// hides base bytes that it has not.
    pub(super) fn is_sound(&self) -> bool {
        self.base_end <= self.size
            && self.blocks.iter().all(|(number, block)| {
                let (start, len) = (number * BLOCK, block.len() as u64);
                let below = self.base_end.saturating_sub(start).min(BLOCK);
                len <= BLOCK && len >= below && start + len <= self.size
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
