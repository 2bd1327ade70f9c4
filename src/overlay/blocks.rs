//! The bytes of a changed or new file: private blocks over what shows below.

mod cut;

use std::ops::Range;

use super::backing::{Backing, First, Owner};
use super::block::{Block, room_for};
use super::block_map::BlockMap;
use super::data::Base;
use super::dirty::DirtyBlocks;
use super::runs::{Data, Runs};
use crate::chunk::{Buffer, Pages};
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A file as three levels: private blocks, below them what still shows of
/// the bytes of a base file or of sealed ones, below that zeros. The content of
/// a base file itself is passed in by the caller, who knows the image.
///
/// A body belongs to one inode of one overlay and has no lock of its own: whoever
/// changes it holds the lock of the instance, and whoever keeps a clone (a snapshot, a
/// batch that is sealed) has one that never changes, since clones share structure and
/// are copied where they are written.
///
/// What holds between any two calls, which [`Self::is_sound`] and [`Self::recount`] check:
///
/// * no block reaches past `size`, and the backing does not either;
/// * a block has at least the bytes that the backing shows in its range, so
///   that making a block never uncovers older bytes;
/// * `logical`, `private` and `in_blocks` are the sums that [`Self::recount`] finds. Each
///   method that changes a block or the backing changes them in the same step: the
///   quotas of the instance are kept by their differences.
#[derive(Clone)]
pub(super) struct FileBody {
    size: u64,
    backing: Backing,
    /// By number. What a block's bytes do not reach up to the block's end is
    /// zeros, not what is below. A block that starts before the end of the
    /// backing reaches at least to there or to its own end.
    blocks: BlockMap,
    /// The bytes that count against the quota: those of `blocks`, and what
    /// shows of a backing that was written.
    logical: u64,
    /// Those that are there because of this instance.
    private: u64,
    /// The bytes that are held for `blocks`.
    in_blocks: u64,
}

/// What a write may use up, and who pays.
pub(super) struct WriteLimits<'a> {
    /// Bytes left of the quota.
    pub(super) bytes: u64,
    /// Blocks left, the first of a file not counted.
    pub(super) blocks: u64,
    pub(super) pages: &'a mut Pages,
    /// Takes the numbers of blocks that are to be sealed again.
    pub(super) dirty: Option<&'a mut DirtyBlocks>,
}

impl FileBody {
    /// A base file of `size` bytes, nothing changed yet.
    pub(super) fn over(size: u64, node: u32) -> Self {
        Self {
            size,
            backing: Backing::whole(Owner::Base(node), size),
            ..Self::new()
        }
    }

    /// An empty new file.
    pub(super) fn new() -> Self {
        Self {
            size: 0,
            backing: Backing::none(),
            blocks: BlockMap::default(),
            logical: 0,
            private: 0,
            in_blocks: 0,
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

    /// The bytes that are held because of this file, whoever holds them too.
    pub(super) fn held_bytes(&self) -> u64 {
        self.in_blocks + self.backing.held_bytes()
    }

    pub(super) fn backing(&self) -> &Backing {
        &self.backing
    }

    pub(super) fn block_map(&self) -> &BlockMap {
        &self.blocks
    }

    /// The base file that shows through somewhere, by its index number: the
    /// one whose content other methods are to be given.
    pub(super) fn base_node(&self) -> Option<u32> {
        self.backing.base_node()
    }

    /// Counts the blocks beyond the first that were written: what a file costs
    /// its host besides its bytes and itself. Sealing changes nothing of it.
    pub(super) fn further_blocks(&self) -> u64 {
        self.written_blocks().saturating_sub(1)
    }

    fn written_blocks(&self) -> u64 {
        self.blocks.len() as u64 + self.backing.counted_blocks()
    }

    /// Returns whether the bytes are those of a base file of `size` bytes that
    /// shows, all of them.
    pub(super) fn is_whole(&self, size: u64) -> bool {
        self.blocks.is_empty() && self.backing.end() == size && self.size == size
    }

    /// Returns whether nothing was written into base file `node` of `size` bytes,
    /// or all of it has been taken back.
    pub(super) fn is_base(&self, node: u32, size: u64) -> bool {
        let is_owner = match self.backing.owner() {
            Owner::Base(owner) => *owner == node,
            Owner::None => size == 0,
            Owner::Dedup(_) | Owner::Sealed(..) => false,
        };
        is_owner && self.is_whole(size)
    }

    /// Returns the runs of the part of the file that lies in `range`.
    pub(super) fn runs(&self, range: Range<u64>) -> Runs<'_> {
        let range = range.start..range.end.min(self.size);
        let blocks = (!self.blocks.is_empty() && !range.is_empty()).then(|| {
            let numbers = range.start / BLOCK..(range.end - 1) / BLOCK + 1;
            self.blocks.range(numbers)
        });
        Runs::new(blocks, &self.backing, range)
    }

    /// The base file, if it shows at `offset` without a block above, and how
    /// many of `len` bytes it does.
    pub(super) fn base_at(&self, offset: u64, len: usize) -> Option<(u32, usize)> {
        let end = offset.saturating_add(len as u64);
        let run = self.runs(offset..end).next()?;
        match run.data {
            Data::Base(node) => {
                let shows = usize::try_from(run.range.end - offset).unwrap_or(len);
                Some((node, shows))
            }
            Data::Hole | Data::Block(_) => None,
        }
    }

    /// Copies the own bytes from `offset` on into `buf` and passes to `shows` where
    /// a base file's are to go, in order. Returns how many bytes there are.
    pub(super) fn read_own(
        &self,
        offset: u64,
        buf: &mut [u8],
        shows: &mut impl FnMut(u32, Range<u64>),
    ) -> usize {
        let total = self.size.saturating_sub(offset).min(buf.len() as u64);
        let len = usize::try_from(total).unwrap_or(0);
        let Some(mut rest) = buf.get_mut(..len) else {
            return 0;
        };
        for run in self.runs(offset..offset.saturating_add(total)) {
            let out = take(&mut rest, run.range.end - run.range.start);
            match run.data {
                Data::Hole => out.fill(0),
                Data::Base(node) => shows(node, run.range),
                Data::Block(bytes) => out.copy_from_slice(bytes),
            }
        }
        len
    }

    /// Counts the bytes from the start of block `number` on that show of what
    /// is below: none if there is a block.
    pub(super) fn shown_in(&self, number: u64) -> u64 {
        if self.blocks.contains(number) {
            return 0;
        }
        self.backing.bytes_of(number)
    }

    /// Writes `buf` at `offset` if all of that lies in bytes of one block that nobody
    /// else holds, so that no count changes. Returns whether it did.
    pub(super) fn overwrite(&mut self, offset: u64, buf: &[u8]) -> bool {
        let within = within_block(offset);
        if within + buf.len() > BLOCK_BYTES {
            return false;
        }
        match self.blocks.get_mut(offset / BLOCK) {
            Some(Block::Own(buffer)) => buffer.overwrite(within, buf),
            Some(Block::First(_) | Block::Shared(_) | Block::Zeros(_)) | None => false,
        }
    }

    /// Writes `buf` at `offset`, as far as `terms` allow, and returns the bytes
    /// written. A block of base content that is written in part is copied first, and
    /// no other; if it cannot be read the write ends before it.
    ///
    /// Preconditions: `offset + buf.len()` is at most `MAX_FILE_BYTES`, and `base` is the
    /// image of [`Self::base_node`], with the blocks that this write has to copy already
    /// in memory or fetched.
    pub(super) fn write_at(
        &mut self,
        base: &Base<'_>,
        offset: u64,
        buf: &[u8],
        mut terms: WriteLimits<'_>,
    ) -> Result<usize, Errno> {
        let had = (self.further_blocks(), self.logical);
        let mut done = 0;
        let mut failed = None;
        while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
            terms.pages.stock(rest.len() / BLOCK_BYTES);
            let at = offset + done as u64;
            let within = within_block(at);
            let want = rest.len().min(BLOCK_BYTES - within);
            let piece = rest.get(..want).unwrap_or_default();
            // `logical` only grows in here, and by no more than `terms.bytes`.
            let left = terms.bytes - (self.logical - had.1);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let may_add =
                self.written_blocks() == 0 || self.further_blocks() - had.0 < terms.blocks;
            let wrote = match self.write_block(base, at, piece, left, may_add, &mut terms) {
                Ok(wrote) => wrote,
                Err(errno) => {
                    failed = Some(errno);
                    break;
                }
            };
            done += wrote;
            if wrote > 0 {
                self.size = self.size.max(offset + done as u64);
            }
            if wrote < want {
                break;
            }
        }
        terms.pages.give_stock_back();
        // Only now: while blocks are written, `write_block` still counts by the backing.
        self.release_hidden(terms.pages);
        if let Some(dirty) = terms.dirty {
            dirty.keep_bounded(self);
        }
        // Like `write(2)`: what was written before an error is reported as written.
        match failed {
            Some(errno) if done == 0 => Err(errno),
            Some(_) | None => Ok(done),
        }
    }

    /// Writes into one block from offset `at` of the file on. Returns the bytes
    /// written: fewer than wanted when `room` ends.
    ///
    /// Preconditions: `piece` is not empty and ends in the block that `at` lies in; `room`
    /// is what the quota on bytes leaves, and `may_add` says whether the quota on blocks
    /// leaves one.
    ///
    /// The quota counts what a file shows that was written here. So three cases differ:
    /// a block that is here grows by what lies past its end; a new block over a backing
    /// that was written (`counted`) was paid for when that was written; a new block over
    /// a base file (`below`, not counted) is paid for in full, with the bytes that are
    /// copied from below. Either is refused before anything is changed.
    fn write_block(
        &mut self,
        base: &Base<'_>,
        at: u64,
        piece: &[u8],
        room: usize,
        may_add: bool,
        terms: &mut WriteLimits<'_>,
    ) -> Result<usize, Errno> {
        let (number, within) = (at / BLOCK, within_block(at));
        let start = number * BLOCK;
        // Past the end there is none, and most that is written is written there.
        if start < self.size
            && let Some(block) = self.blocks.get_mut(number)
        {
            let (old, paid) = (block.len(), block.private_len());
            let held = block.held_bytes();
            // The end, in the block, up to which its length may grow.
            let reach = old.saturating_add(room).saturating_sub(within);
            let Some(piece) = piece.get(..reach.min(piece.len())) else {
                return Ok(0);
            };
            if piece.is_empty() {
                return Ok(0);
            }
            let was_own = block.is_own();
            let buffer = block.buffer(terms.pages)?;
            // The counts follow even if this fails: the block may be private by now.
            let put = buffer.put(within, piece, room_for(within + piece.len()), terms.pages);
            self.private += block.private_len() - paid;
            self.logical += (block.len() - old) as u64;
            self.in_blocks = self.in_blocks + block.held_bytes() - held;
            if let Some(dirty) = terms.dirty.as_mut().filter(|_| !was_own) {
                dirty.add(number);
            }
            return put.map(|()| piece.len());
        }
        let below = usize::try_from(self.backing.bytes_of(number)).unwrap_or(0);
        // What shows of a backing that was written has been counted before.
        let counted = usize::try_from(self.backing.counted_of(number)).unwrap_or(0);
        if !may_add && counted == 0 {
            return Ok(0);
        }
        let room = room.saturating_add(counted);
        let fits = room.saturating_sub(within).min(piece.len());
        if fits == 0 || below > room {
            return Ok(0);
        }
        let piece = piece.get(..fits).unwrap_or_default();
        // Up to here nothing has changed; up to `insert` only `block` does.
        let block = self.new_block(base, at, piece, below, terms.pages)?;
        let len = block.len();
        self.private = self.private + len as u64 - self.backing.private_of(number);
        self.logical += (len - counted) as u64;
        self.in_blocks += block.capacity() as u64;
        self.blocks.insert(number, Block::Own(block));
        self.backing.hide(number);
        if let Some(dirty) = &mut terms.dirty {
            dirty.add(number);
        }
        Ok(fits)
    }

    /// Makes the block that `piece` is written into, from offset `at` of the file on,
    /// with the `below` bytes that show there so far.
    fn new_block(
        &self,
        base: &Base<'_>,
        at: u64,
        piece: &[u8],
        below: usize,
        pages: &mut Pages,
    ) -> Result<Buffer, Errno> {
        let (number, within) = (at / BLOCK, within_block(at));
        let capacity = room_for(below.max(within + piece.len()));
        // What is overwritten whole need not be read from below.
        if within == 0 && piece.len() >= below {
            return Buffer::copy(piece, capacity, pages);
        }
        let mut block = Buffer::zeros(below, capacity, pages)?;
        self.read_below(base, number * BLOCK, block.bytes_mut())?;
        block.put(within, piece, capacity, pages)?;
        Ok(block)
    }

    /// Fills `block` with what shows from `start` on, where no block lies.
    fn read_below(&self, base: &Base<'_>, start: u64, block: &mut [u8]) -> Result<(), Errno> {
        if block.is_empty() {
            return Ok(());
        }
        match self.backing.owner() {
            Owner::None => Ok(()),
            Owner::Base(node) | Owner::Dedup(node) => base.read_block(*node, start / BLOCK, block),
            Owner::Sealed(file, _) => {
                file.read_at(start, block);
                Ok(())
            }
        }
    }

    /// Lets the backing go if nothing of it shows. One that was sealed goes
    /// already when less than half of it shows: what does becomes blocks of
    /// their own, without a copy, so that nothing is held long for others.
    /// O(blocks that are hidden since the file was sealed).
    fn release_hidden(&mut self, pages: &mut Pages) {
        self.backing.release_if_hidden();
        let Some((file, first)) = self.backing.mostly_hidden() else {
            return;
        };
        let file = file.clone();
        let end = self.backing.end();
        for (number, part) in (0..end.div_ceil(BLOCK)).zip(file.parts()) {
            if self.blocks.contains(number) {
                continue;
            }
            let len = self.backing.bytes_of(number);
            let mut block = Block::of_part(part, first == First::Yes, len);
            self.private -= self.backing.private_of(number);
            let len = usize::try_from(len).unwrap_or(BLOCK_BYTES);
            if block.len() > len {
                block.truncate(len, pages);
            }
            self.private += block.private_len();
            self.in_blocks += block.held_bytes();
            self.blocks.insert(number, block);
        }
        self.backing = Backing::none();
    }

    /// The block at `number`, if it is not sealed.
    pub(super) fn own_block(&self, number: u64) -> Option<&Buffer> {
        self.blocks.get(number)?.own()
    }

    /// Counts the blocks that lie over the backing.
    pub(super) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// The numbers in `range` at which there is a block that is not sealed.
    pub(super) fn own_numbers(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        let blocks = self.blocks.range(range);
        blocks.filter_map(|(number, block)| block.is_own().then_some(number))
    }

    /// All blocks in order, of a file that is its own throughout.
    pub(super) fn own_blocks(&self) -> impl Iterator<Item = &Buffer> {
        self.blocks.values().filter_map(Block::own)
    }

    /// Returns whether the file consists of `fresh` blocks, each of which is its own,
    /// and nothing else: no hole, nothing that shows from below.
    pub(super) fn is_own_throughout(&self, fresh: u64) -> bool {
        self.backing.end() == 0 && self.logical == self.size && self.blocks.len() as u64 <= fresh
    }

    /// Puts `block`, which has the same bytes, in the place of `seen`, if that is still
    /// here. Sealing looked for equals without the lock, and the guest may have written
    /// since: then what it wrote stays, and `block` is dropped.
    ///
    /// Precondition: the caller compared bytes, not digests alone.
    pub(super) fn replace(&mut self, number: u64, seen: &Buffer, block: Block) {
        let own = self.own_block(number);
        if own.is_some_and(|own| own.is_same(seen) && own.len() == seen.len()) {
            self.private = self.private + block.private_len() - seen.bytes().len() as u64;
            self.in_blocks = self.in_blocks + block.held_bytes() - seen.capacity() as u64;
            self.blocks.insert(number, block);
        }
    }

    /// Shows the bytes of `owner`, which are the same, if this is still as it
    /// was `seen`. `logical` stays: what counts against a quota does not depend on how
    /// bytes are held.
    ///
    /// Precondition: `seen` was [`Self::is_own_throughout`], so that nothing of this body
    /// is lost with its blocks.
    pub(super) fn show(&mut self, seen: &Self, owner: Owner) {
        let is_as_seen = self.blocks.is_same(&seen.blocks) && self.size == seen.size;
        if is_as_seen && self.backing.end() == 0 {
            self.private = match &owner {
                Owner::Sealed(file, First::Yes) => file.all_new_bytes(),
                Owner::None | Owner::Base(_) | Owner::Dedup(_) | Owner::Sealed(..) => 0,
            };
            self.blocks = BlockMap::default();
            self.in_blocks = 0;
            self.backing = Backing::whole(owner, self.size);
        }
    }

    /// All blocks that are here.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values()
    }

    /// Recounts the bytes that count against the quota, the private ones, and
    /// those that are held.
    pub(super) fn recount(&self) -> (u64, u64, u64) {
        let mut held = self.backing.held_bytes();
        let (mut logical, mut private) = (0, 0);
        if self.backing.counts() {
            let shown = (0..self.backing.end().div_ceil(BLOCK))
                .filter(|number| !self.blocks.contains(*number));
            for number in shown {
                logical += self.backing.bytes_of(number);
                private += self.backing.private_of(number);
            }
        }
        for block in self.blocks.values() {
            logical += block.len() as u64;
            private += block.private_len();
            held += block.held_bytes();
        }
        (logical, private, held)
    }

    /// Returns whether no block lies past the end, none is over-long, none hides
    /// bytes that it has not, and nothing is held below that does not show.
    pub(super) fn is_sound(&self) -> bool {
        let end = self.backing.end();
        let hidden = self.blocks.range(0..end.div_ceil(BLOCK)).count() as u64;
        end <= self.size
            && self.backing.is_sound(hidden)
            && self.blocks.iter().all(|(number, block)| {
                let (start, len) = (number * BLOCK, block.len() as u64);
                len <= BLOCK && len >= self.backing.bytes_of(number) && start + len <= self.size
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
