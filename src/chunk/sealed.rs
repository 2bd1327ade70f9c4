//! Blocks and whole files that no longer change, held once in a scope.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::buffer::Buffer;
use super::pages::GonePages;
use crate::limits::BLOCK_BYTES;
use crate::weak_table::WeakTable;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What a scope finds again: blocks by a hash of their bytes, and files by a hash
/// of the blocks they are made of. A hash finds, and never decides: what it leads
/// to is compared.
pub(super) struct SealedTable {
    /// The seed of all hashes, drawn at random, so that no guest can choose bytes
    /// that collide. Immutable.
    pub(super) seed: u64,
    pub(super) blocks: WeakTable<u64, PieceInner>,
    files: WeakTable<u64, FileInner>,
    /// Bytes of all blocks that are held. Atomic.
    held_bytes: AtomicU64,
}

impl SealedTable {
    pub(super) fn new(
        blocks: WeakTable<u64, PieceInner>,
        files: WeakTable<u64, FileInner>,
    ) -> Self {
        Self {
            seed: RandomState::new().build_hasher().finish(),
            blocks,
            files,
            held_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Returns the block with the bytes of `buffer`, and whether it is `buffer`
    /// itself, new. `None` if `hash` leads to a block with other bytes.
    pub(super) fn put_block(self: &Arc<Self>, hash: u64, buffer: &Buffer) -> Option<(Piece, bool)> {
        let make = || {
            let len = buffer.bytes().len() as u64;
            self.held_bytes.fetch_add(len, Ordering::Relaxed);
            Arc::new(PieceInner {
                buffer: Some(buffer.clone()),
                hash,
                home: Arc::downgrade(self),
            })
        };
        let (found, is_new) = self.blocks.get_or_insert_with(hash, make);
        // Compared without the lock. A new one is `buffer` itself.
        let found = Piece(found);
        let equal = is_new || found.bytes() == buffer.bytes();
        equal.then_some((found, is_new))
    }

    /// Returns the file that is made of `parts`, and whether it is new. `None` if
    /// `hash` leads to a file that is made of others.
    pub(super) fn put_file(
        self: &Arc<Self>,
        hash: u64,
        size: u64,
        parts: Vec<SealedBlock>,
    ) -> Option<(SealedFile, bool)> {
        let mut given = Some(parts);
        let make = || {
            let parts = given.take().unwrap_or_default();
            let pieces = parts.iter().filter_map(SealedBlock::piece);
            Arc::new(FileInner {
                size,
                held: pieces.map(Piece::held_bytes).sum(),
                parts: parts.into(),
                hash,
                home: Arc::downgrade(self),
            })
        };
        let (found, is_new) = self.files.get_or_insert_with(hash, make);
        // `given` is left exactly if the file was there before.
        let equal = given.is_none_or(|parts| found.is_made_of(size, &parts));
        equal.then_some((SealedFile(found), is_new))
    }
}

/// A block that no longer changes, held once in its scope.
#[derive(Clone)]
pub(crate) struct Piece(Arc<PieceInner>);

pub(super) struct PieceInner {
    /// There until it is dropped.
    buffer: Option<Buffer>,
    hash: u64,
    /// The scope to leave when the last holder goes.
    home: Weak<SealedTable>,
}

impl Piece {
    /// Stands for it as long as it is held.
    pub(crate) fn address(&self) -> u64 {
        Arc::as_ptr(&self.0).addr() as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.buffer.as_ref().map_or(&[], Buffer::bytes)
    }

    /// Stands for its bytes as long as they are held.
    pub(crate) fn buffer_address(&self) -> usize {
        self.0.buffer.as_ref().map_or(0, Buffer::address)
    }

    /// Counts the bytes that are held for it.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.0.buffer.as_ref().map_or(0, Buffer::capacity) as u64
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Counts what holds it.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Drops it, with others.
    pub(crate) fn go(self, gone: &mut GonePages) {
        let last = Arc::into_inner(self.0);
        if let Some(buffer) = last.and_then(|mut last| last.leave()) {
            buffer.go(gone);
        }
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &Arc<PieceInner> {
        &self.0
    }
}

impl PieceInner {
    /// Leaves the scope, and hands the bytes out. Returns none if it has left before.
    fn leave(&mut self) -> Option<Buffer> {
        let buffer = self.buffer.take()?;
        if let Some(home) = self.home.upgrade() {
            let len = buffer.len() as u64;
            home.held_bytes.fetch_sub(len, Ordering::Relaxed);
            home.blocks.forget_dead(&self.hash);
        }
        Some(buffer)
    }
}

impl Drop for PieceInner {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

/// The sealed blocks of one file, none missing. Immutable; what a holder of it
/// pays is one reference, whatever the size. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct SealedFile(Arc<FileInner>);

pub(super) struct FileInner {
    size: u64,
    /// The bytes of all blocks, shown by their holder or not.
    held: u64,
    parts: Box<[SealedBlock]>,
    hash: u64,
    /// The scope to leave when the last holder goes.
    home: Weak<SealedTable>,
}

/// One block of a sealed file.
pub(crate) enum SealedBlock {
    /// All zeros.
    Zeros,
    /// A block that came into the scope with this file.
    New(Piece),
    /// A block that was in the scope before.
    Old(Piece),
}

impl SealedBlock {
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
            Some(SealedBlock::New(piece)) => piece.bytes().len() as u64,
            Some(SealedBlock::Zeros | SealedBlock::Old(_)) | None => 0,
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
        self.0.parts.iter().filter_map(SealedBlock::piece)
    }

    /// All blocks, in order.
    pub(crate) fn parts(&self) -> &[SealedBlock] {
        &self.0.parts
    }

    /// The bytes of block `number`; `None` for zeros.
    pub(crate) fn piece(&self, number: u64) -> Option<&Piece> {
        self.part(number).and_then(SealedBlock::piece)
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

    fn part(&self, number: u64) -> Option<&SealedBlock> {
        self.0.parts.get(usize::try_from(number).ok()?)
    }
}

impl FileInner {
    fn is_made_of(&self, size: u64, parts: &[SealedBlock]) -> bool {
        let addresses =
            |parts: &[SealedBlock]| parts.iter().map(SealedBlock::address).collect::<Vec<_>>();
        self.size == size && addresses(&self.parts) == addresses(parts)
    }
}

impl Drop for FileInner {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else {
            return;
        };
        home.files.forget_dead(&self.hash);
        let (mut gone, mut left) = (GonePages::default(), 0);
        for part in std::mem::take(&mut self.parts) {
            if let SealedBlock::New(piece) | SealedBlock::Old(piece) = part
                && let Some(mut last) = Arc::into_inner(piece.0)
                && let Some(buffer) = last.buffer.take()
            {
                // All of them are in the scope that the file is in.
                left += buffer.len() as u64;
                home.blocks.forget_dead(&last.hash);
                buffer.go(&mut gone);
            }
        }
        home.held_bytes.fetch_sub(left, Ordering::Relaxed);
    }
}
