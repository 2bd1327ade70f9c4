//! A file as a sequence of runs: where its bytes are, from front to back.
//!
//! This is the one place that knows which of private blocks, sealed blocks,
//! base content and zeros a byte comes from. What reads, compares or copies a
//! file does so run by run, so that a hole costs one step whatever its size.

use std::iter::FusedIterator;
use std::ops::Range;

use super::backing::{Backing, Owner};
use super::block::Block;
use super::block_map::Iter;
use crate::chunk::{Content, Piece};
use crate::limits::BLOCK_BYTES;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Bytes that lie in one place. Never empty.
#[derive(Clone, Debug)]
pub(super) struct Run<'a> {
    /// Where in the file.
    pub(super) range: Range<u64>,
    pub(super) data: Data<'a>,
}

/// Where the bytes of a run are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data<'a> {
    /// Nowhere: they are zeros that nobody stored.
    Hole,
    /// In the base file of this index number, at the same offset.
    Base(u32),
    /// In a block: these.
    Block(&'a [u8]),
}

/// The runs of a part of a file, in order and without a gap.
pub(super) struct Runs<'a> {
    /// Private blocks from `at` on, the first of them taken out.
    blocks: Option<Iter<'a>>,
    block: Option<(u64, &'a Block)>,
    backing: BackingRef<'a>,
    /// If given, holes of the base are told as such.
    content: Option<&'a Content>,
    at: u64,
    end: u64,
}

/// What shows where no private block lies, and up to where.
enum BackingRef<'a> {
    Own(&'a Backing),
    /// A base file that was not changed.
    Base(u32, u64),
}

impl<'a> Runs<'a> {
    /// Those of a changed or new file; `range` lies within it.
    pub(super) fn new(
        mut blocks: Option<Iter<'a>>,
        backing: &'a Backing,
        range: Range<u64>,
    ) -> Self {
        let block = next_of(&mut blocks);
        Self {
            blocks,
            block,
            backing: BackingRef::Own(backing),
            content: None,
            at: range.start,
            end: range.end,
        }
    }

    /// Those of a base file that was not changed; `range` lies within it.
    pub(super) fn of_base(node: u32, size: u64, range: Range<u64>) -> Self {
        Self {
            blocks: None,
            block: None,
            backing: BackingRef::Base(node, size),
            content: None,
            at: range.start,
            end: range.end,
        }
    }

    /// Reports holes of the base as such, given the content of the base file that
    /// shows. Otherwise a run of base bytes may have holes in it.
    pub(super) fn over(self, content: Option<&'a Content>) -> Self {
        Self { content, ..self }
    }

    /// What the private block `block` has from here on.
    fn in_block(&mut self, number: u64, block: &'a Block) -> Run<'a> {
        let start = number * BLOCK;
        let stop = self.end.min(start + BLOCK);
        let bytes = if block.is_zeros() {
            &[]
        } else {
            from(block.bytes(), self.at - start)
        };
        let run = self.piece(bytes, stop);
        if run.range.end == stop {
            self.block = next_of(&mut self.blocks);
        }
        run
    }

    /// What lies below private blocks, at most up to `stop`.
    fn below(&self, stop: u64) -> Run<'a> {
        let (end, sealed, node) = match &self.backing {
            BackingRef::Base(node, size) => (*size, None, Some(*node)),
            BackingRef::Own(backing) => match backing.owner() {
                Owner::Sealed(file, _) => (backing.end(), Some(file), None),
                Owner::Base(node) | Owner::Dedup(node) => (backing.end(), None, Some(*node)),
                Owner::None => (0, None, None),
            },
        };
        if self.at >= end {
            return self.run(stop, Data::Hole);
        }
        let stop = stop.min(end);
        if let Some(file) = sealed {
            let number = self.at / BLOCK;
            let bytes = file.piece(number).map_or(&[][..], Piece::bytes);
            let bytes = from(bytes, self.at - number * BLOCK);
            return self.piece(bytes, stop.min((number + 1) * BLOCK));
        }
        match (node, self.content) {
            (None, _) => self.run(stop, Data::Hole),
            (Some(node), None) => self.run(stop, Data::Base(node)),
            (Some(node), Some(content)) => match content.next_data(self.at) {
                Some(data) if data <= self.at => {
                    let stop = content.data_end(self.at, stop);
                    self.run(stop, Data::Base(node))
                }
                Some(data) => self.run(stop.min(data), Data::Hole),
                None => self.run(stop, Data::Hole),
            },
        }
    }

    /// `bytes`, as far as they reach before `stop`, or else zeros up to there.
    fn piece(&self, bytes: &'a [u8], stop: u64) -> Run<'a> {
        let len = usize::try_from(stop - self.at).unwrap_or(usize::MAX);
        let bytes = bytes.get(..len).unwrap_or(bytes);
        if bytes.is_empty() {
            return self.run(stop, Data::Hole);
        }
        self.run(self.at + bytes.len() as u64, Data::Block(bytes))
    }

    fn run(&self, stop: u64, data: Data<'a>) -> Run<'a> {
        Run {
            range: self.at..stop,
            data,
        }
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        if self.at >= self.end {
            return None;
        }
        let run = match self.block {
            Some((number, block)) if number * BLOCK <= self.at => self.in_block(number, block),
            Some((number, _)) => self.below(self.end.min(number * BLOCK)),
            None => self.below(self.end),
        };
        self.at = run.range.end;
        Some(run)
    }
}

impl FusedIterator for Runs<'_> {}

fn next_of<'a>(blocks: &mut Option<Iter<'a>>) -> Option<(u64, &'a Block)> {
    blocks.as_mut()?.next()
}

/// The bytes from `start` on.
fn from(bytes: &[u8], start: u64) -> &[u8] {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    bytes.get(start..).unwrap_or_default()
}
