//! Whole files that are equal, held once.

use std::sync::{Arc, Weak};

use super::scope::{Piece, Table};
use crate::limits::BLOCK_BYTES;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// The sealed blocks of one file, none missing. Immutable; what a holder of it
/// pays is one reference, whatever the size. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct SealedFile(pub(super) Arc<Blocks>);

pub(super) struct Blocks {
    pub(super) size: u64,
    /// The bytes of all blocks, shown by their holder or not.
    pub(super) held: u64,
    pub(super) parts: Box<[Part]>,
    pub(super) hash: u64,
    /// The scope to leave when the last holder goes.
    pub(super) home: Weak<Table>,
}

/// One block of a sealed file.
pub(crate) enum Part {
    /// All zeros.
    Zeros,
    /// A block that came into the scope with this file.
    New(Piece),
    /// A block that was in the scope before.
    Old(Piece),
}

impl Part {
    pub(crate) fn piece(&self) -> Option<&Piece> {
        match self {
            Self::Zeros => None,
            Self::New(piece) | Self::Old(piece) => Some(piece),
        }
    }

    /// Stands for the bytes as long as they are held.
    pub(super) fn address(&self) -> u64 {
        self.piece().map_or(0, Piece::address)
    }
}

impl SealedFile {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The bytes of block `number` that came into the scope with this file.
    pub(crate) fn new_bytes(&self, number: u64) -> u64 {
        match self.part(number) {
            Some(Part::New(piece)) => piece.bytes().len() as u64,
            Some(Part::Zeros | Part::Old(_)) | None => 0,
        }
    }

    /// Adds up [`new_bytes`](Self::new_bytes). O(blocks).
    pub(crate) fn all_new_bytes(&self) -> u64 {
        (0..self.0.parts.len() as u64)
            .map(|number| self.new_bytes(number))
            .sum()
    }

    /// Counts the bytes that are held for it, each block once for each place.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.0.held
    }

    /// Counts what holds it.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Stands for it as long as it is held.
    pub(crate) fn address(&self) -> u64 {
        Arc::as_ptr(&self.0).addr() as u64
    }

    /// The blocks that it holds, each once for each place in it.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.0.parts.iter().filter_map(Part::piece)
    }

    /// All blocks, in order.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.0.parts
    }

    /// The bytes of block `number`; `None` for zeros.
    pub(crate) fn piece(&self, number: u64) -> Option<&Piece> {
        self.part(number).and_then(Part::piece)
    }

    /// Fills `buf` from `offset` on; past the end with zeros.
    pub(crate) fn read_at(&self, offset: u64, mut buf: &mut [u8]) {
        let mut at = offset;
        while !buf.is_empty() {
            let within = usize::try_from(at % BLOCK).unwrap_or(0);
            let len = buf.len().min(BLOCK_BYTES - within);
            let (now, later) = buf.split_at_mut(len);
            let bytes = self.piece(at / BLOCK).map_or(&[][..], Piece::bytes);
            super::copy_or_zero(bytes.get(within..).unwrap_or_default(), now);
            at += len as u64;
            buf = later;
        }
    }

    fn part(&self, number: u64) -> Option<&Part> {
        self.0.parts.get(usize::try_from(number).ok()?)
    }
}

impl Blocks {
    pub(super) fn is_made_of(&self, size: u64, parts: &[Part]) -> bool {
        let addresses = |parts: &[Part]| parts.iter().map(Part::address).collect::<Vec<_>>();
        self.size == size && addresses(&self.parts) == addresses(parts)
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.files
                .remove_if(&self.hash, |_, held| held.strong_count() == 0);
        }
    }
}
