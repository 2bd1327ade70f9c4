//! What one state holds and no other does.

use std::collections::BTreeMap;

use super::Overlay;
use super::block::Block;
use super::inode::Body;
use crate::chunk::{Piece, SealedFile};

/// What is held by counted reference, by address, and how often by this state.
#[derive(Default)]
struct SharedCount<'a> {
    files: BTreeMap<u64, (&'a SealedFile, usize)>,
    pieces: BTreeMap<u64, (&'a Piece, usize)>,
}

impl<'a> SharedCount<'a> {
    fn add_piece(&mut self, piece: &'a Piece) {
        self.pieces.entry(piece.address()).or_insert((piece, 0)).1 += 1;
    }

    /// The bytes of all pieces that nothing else holds.
    fn lone_bytes(mut self) -> u64 {
        for (file, here) in std::mem::take(&mut self.files).into_values() {
            if file.holders() == here {
                file.pieces().for_each(|piece| self.add_piece(piece));
            }
        }
        let lone = self.pieces.into_values();
        let lone = lone.filter(|(piece, here)| piece.holders() == *here);
        lone.map(|(piece, _)| piece.bytes().len() as u64).sum()
    }
}

impl Overlay {
    /// Adds up the bytes that nothing but this state, its forks and snapshots
    /// hold. O(changed objects and blocks).
    pub(crate) fn count_exclusive_bytes(&self) -> u64 {
        let (mut counts, mut own) = (SharedCount::default(), 0);
        for inode in self.inodes.values().flatten() {
            let Body::File(file) = &inode.body else {
                if inode.birth != 0 {
                    own += inode.body.target_bytes();
                }
                continue;
            };
            if let Some(file) = file.backing().sealed() {
                counts.files.entry(file.address()).or_insert((file, 0)).1 += 1;
            }
            for block in file.blocks() {
                match block {
                    Block::Own(buffer) => own += buffer.bytes().len() as u64,
                    Block::First(piece) | Block::Shared(piece) => counts.add_piece(piece),
                    Block::Zeros(_) => {}
                }
            }
        }
        own + counts.lone_bytes()
    }

    /// Adds up the bytes of buffers that can be reached from here, each once.
    /// O(changed objects and blocks).
    pub(super) fn reachable_bytes(&self) -> u64 {
        let mut buffers = BTreeMap::new();
        let mut add = |piece: &Piece| {
            buffers.insert(piece.buffer_address(), piece.held_bytes());
        };
        let mut own = Vec::new();
        for inode in self.inodes.values().flatten() {
            let Body::File(file) = &inode.body else {
                continue;
            };
            if let Some(sealed) = file.backing().sealed() {
                sealed.pieces().for_each(&mut add);
            }
            for block in file.blocks() {
                match block {
                    Block::Own(buffer) => own.push((buffer.address(), buffer.capacity() as u64)),
                    Block::First(piece) | Block::Shared(piece) => add(piece),
                    Block::Zeros(_) => {}
                }
            }
        }
        buffers.extend(own);
        buffers.into_values().sum()
    }
}
