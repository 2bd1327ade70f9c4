//! Sealing: finding the equal of what was written, so that it is held once.
//!
//! What a guest writes is first its own, block by block. Once the last
//! descriptor of a file is closed, or when the host asks, the blocks written
//! since are looked at: zeros go, a whole file that equals one of the base
//! shows that one instead, and each other block is looked up in the scope.
//! The bytes that a guest reads and its quota are the same before and after.
//!
//! Looking takes time for each byte, so it is done on a copy of the file's
//! state, which shares all blocks, and without the lock. What came of it
//! is then put in place where the block is still the one that was looked at.

use std::ops::Range;

use smallvec::SmallVec;

use super::Overlay;
use super::backing::{First, Owner};
use super::block::Block;
use super::blocks::FileBody;
use super::data::Counts;
use super::dirty::Dirty;
use super::inode::Body;
use crate::chunk::{Buffer, Piece, Sample, Scope, SealedBlock, digest_of};
use crate::digest::Digest;
use crate::image::Image;
use crate::limits::{BLOCK_BYTES, CHUNK_BYTES, MAX_CLOSE_BLOCKS, MIN_SCOPED_BYTES};
use crate::meta::FileId;
use crate::steps;

/// Blocks that are sampled together: as many as [`CHUNK_BYTES`] has.
const BATCH: usize = CHUNK_BYTES / BLOCK_BYTES;

/// Blocks of one file to be sealed.
pub(crate) struct Batch {
    id: FileId,
    image: Image,
    file: FileBody,
    /// In order and apart.
    numbers: Vec<Range<u64>>,
}

/// What came of a batch.
pub(crate) struct Sealed {
    id: FileId,
    found: SealInput,
}

enum SealInput {
    /// What the file, if it is still so, is to show as a whole.
    Whole(FileBody, Owner),
    /// Blocks by number: what was looked at, and what to put there.
    Blocks(Vec<(u64, Buffer, Block)>),
}

impl Batch {
    /// Looks for equals in the base and in `scope`. O(bytes), no lock but a
    /// scope's, for the time of a look-up. Asks `go_on` before each piece of at
    /// most [`CHUNK_BYTES`]; what is left when it says no stays as it was written.
    pub(crate) fn seal(self, scope: &Scope, go_on: &dyn Fn() -> bool) -> Sealed {
        let id = self.id;
        let file = &self.file;
        let count = self
            .numbers
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        let whole = file.size() > 0 && file.is_own_throughout(count);
        if whole {
            let small = file.size() < MIN_SCOPED_BYTES;
            let equal = self.find_equal(go_on);
            // One block is found again as such.
            let is_one = file.block_count() == 1;
            let in_scope = || seal_file(file, scope, go_on);
            let in_scope = || (!small && !is_one).then(in_scope).flatten();
            if let Some(owner) = equal.or_else(in_scope) {
                let found = SealInput::Whole(self.file, owner);
                return Sealed { id, found };
            }
            if small {
                let found = SealInput::Blocks(Vec::new());
                return Sealed { id, found };
            }
        }
        let own = |number: u64| {
            steps::add(1);
            let buffer = self.file.own_block(number)?;
            Some((number, buffer.clone(), seal_block(buffer, scope)?))
        };
        let numbers = self.numbers.iter().cloned().flatten();
        let in_time = numbers.take_while(|_| go_on());
        let found = SealInput::Blocks(in_time.filter_map(own).collect());
        Sealed { id, found }
    }

    /// The base file that all of this one equals. Asked only of a file that
    /// was written whole, so that the cost follows what a guest wrote.
    fn find_equal(&self, go_on: &dyn Fn() -> bool) -> Option<Owner> {
        let size = self.file.size();
        let mut files = self.image.files_of(size).peekable();
        files.peek()?;
        let digest = digest_file(&self.file, go_on)?;
        let equals = |node: &u32| {
            let content = self.image.content(*node);
            // What the guest wrote goes for it: it has to be there.
            content.is_some_and(|content| content.digest() == digest && content.is_readable(go_on))
        };
        let equal = files.find(equals);
        self.image
            .check_undamaged()
            .ok()
            .and(equal)
            .map(Owner::Dedup)
    }
}

/// The digest that the content of a file without base bytes would have; `None`
/// if `go_on` says no meanwhile.
fn digest_file(file: &FileBody, go_on: &dyn Fn() -> bool) -> Option<Digest> {
    let grid = CHUNK_BYTES as u64;
    let mut buf = vec![0; CHUNK_BYTES];
    let mut pieces = Vec::new();
    for number in 0..file.size().div_ceil(grid) {
        if !go_on() {
            return None;
        }
        let len = file.read_own(number * grid, &mut buf, &mut |_, _| {});
        let piece = buf.get(..len)?;
        if piece.iter().any(|byte| *byte != 0) {
            pieces.push((number, Digest::of(piece)));
        }
    }
    Some(digest_of(file.size(), pieces.into_iter()))
}

/// The same file held by the scope, each block once. `None` if a block has
/// to stay by itself, or `go_on` says no meanwhile.
fn seal_file(file: &FileBody, scope: &Scope, go_on: &dyn Fn() -> bool) -> Option<Owner> {
    let mut sealer = BlockSealer { scope, last: None };
    let mut all = Vec::with_capacity(file.block_count());
    let mut blocks = file.own_blocks();
    loop {
        // Sampled apart from the look-ups, whose locks the processor does not look past: so it
        // waits for the memory of several blocks at once.
        let batch: SmallVec<[(&Buffer, Sample); BATCH]> = blocks
            .by_ref()
            .take(BATCH)
            .map(|buffer| (buffer, scope.sample(buffer)))
            .collect();
        if batch.is_empty() {
            break;
        }
        if !go_on() {
            return None;
        }
        for (buffer, sample) in batch {
            steps::add(1);
            all.push(sealer.seal(buffer, sample)?);
        }
    }
    let (file, is_new) = scope.put_file(file.size(), all)?;
    let first = if is_new { First::Yes } else { First::No };
    Some(Owner::Sealed(file, first))
}

/// Seals the blocks of one file in order.
struct BlockSealer<'s> {
    scope: &'s Scope,
    /// Blocks that repeat follow each other as a rule.
    last: Option<(Piece, Sample)>,
}

impl BlockSealer<'_> {
    fn seal(&mut self, buffer: &Buffer, sample: Sample) -> Option<SealedBlock> {
        let equals = |(piece, other): &&(Piece, Sample)| {
            sample.may_equal(*other) && piece.bytes() == buffer.bytes()
        };
        if let Some((piece, _)) = self.last.as_ref().filter(equals) {
            return Some(SealedBlock::Old(piece.clone()));
        }
        if sample.may_be_zeros() && Block::zeros_like(buffer.bytes()).is_some() {
            return Some(SealedBlock::Zeros);
        }
        let (piece, is_new) = self.scope.put_sampled(buffer, sample)?;
        self.last = Some((piece.clone(), sample));
        Some(match is_new {
            true => SealedBlock::New(piece),
            false => SealedBlock::Old(piece),
        })
    }
}

/// What to hold in place of a block; `None` to leave it.
fn seal_block(buffer: &Buffer, scope: &Scope) -> Option<Block> {
    if let Some(zeros) = Block::zeros_like(buffer.bytes()) {
        return Some(zeros);
    }
    let (piece, is_new) = scope.put(buffer)?;
    Some(if is_new {
        Block::First(piece)
    } else {
        Block::Shared(piece)
    })
}

impl Overlay {
    /// Takes the blocks of a file that were written and not sealed since; none
    /// while a descriptor is open on it, nor if they are more than
    /// [`MAX_CLOSE_BLOCKS`], which then wait for the host.
    pub(crate) fn take_closed(&mut self, id: FileId) -> Option<Batch> {
        let blocks = self.dirty.as_ref()?.get(id)?;
        if self.is_open(id) {
            return None;
        }
        if let Body::File(file) = &self.changed(id)?.body
            && file.block_count() as u64 > MAX_CLOSE_BLOCKS
            && blocks.len() > MAX_CLOSE_BLOCKS
        {
            return None;
        }
        self.take_dirty(id)
    }

    /// Counts the files that have blocks to be sealed.
    pub(crate) fn unsealed_files(&self) -> usize {
        self.dirty.as_ref().map_or(0, Dirty::len)
    }

    /// Takes the blocks of any file that has such, open or not.
    pub(crate) fn take_any(&mut self) -> Option<Batch> {
        loop {
            let id = self.dirty.as_ref()?.any()?;
            if let Some(batch) = self.take_dirty(id) {
                return Some(batch);
            }
        }
    }

    fn take_dirty(&mut self, id: FileId) -> Option<Batch> {
        let dirty = self.dirty.as_mut()?.take(id)?;
        match &self.changed(id)?.body {
            // Most small files have no equal: not worth a copy of the state.
            Body::File(file)
                if file.size() < MIN_SCOPED_BYTES && !self.image.may_have_files_of(file.size()) =>
            {
                None
            }
            Body::File(file) => Some(Batch {
                id,
                image: self.image.clone(),
                file: file.clone(),
                numbers: dirty.numbers(file),
            }),
            Body::Dir(_) | Body::Symlink(_) => None,
        }
    }

    /// Puts up to `max` blocks in place where the file is as it was looked at.
    /// Returns whether more are left.
    pub(crate) fn put_sealed(&mut self, sealed: &mut Sealed, max: usize) -> bool {
        if matches!(&sealed.found, SealInput::Blocks(blocks) if blocks.is_empty()) {
            return false;
        }
        let held = self.inodes.get_mut(&sealed.id).and_then(Option::as_mut);
        let Some(inode) = held.map(|held| held.change_by(self.pages.account())) else {
            return false;
        };
        let Body::File(file) = &mut inode.body else {
            return false;
        };
        let had = Counts::of(file);
        let more = match &mut sealed.found {
            SealInput::Whole(seen, owner) => {
                file.show(seen, owner.clone());
                false
            }
            SealInput::Blocks(blocks) => {
                let from = blocks.len().saturating_sub(max);
                for (number, seen, block) in blocks.drain(from..) {
                    file.replace(number, &seen, block);
                }
                !blocks.is_empty()
            }
        };
        let has = Counts::of(file);
        self.recount(had, has);
        more
    }
}
