//! Cutting a file, and making holes in it.

use std::ops::Range;

use super::{BLOCK, FileBody, within_block};
use crate::chunk::Pages;

impl FileBody {
    /// Cuts or grows to `size`. Growing stores nothing; O(blocks cut off).
    pub(in crate::overlay) fn set_size(&mut self, size: u64, pages: &mut Pages) {
        if size == 0 {
            *self = Self::new();
        } else if size < self.size {
            self.cut_blocks(size, pages);
        }
        self.size = size;
    }

    /// Takes away all blocks and all of the backing past `size`.
    ///
    /// Preconditions: `size` is above 0 and below the present one. The order counts:
    /// `cut_shown` reads from blocks and backing what shows as yet, and the backing is
    /// told at its cut how many of the blocks over it are gone (`hidden`).
    fn cut_blocks(&mut self, size: u64, pages: &mut Pages) {
        self.cut_shown(size);
        let (from, end) = (size.div_ceil(BLOCK), self.backing.end().div_ceil(BLOCK));
        let gone: Vec<u64> = self
            .blocks
            .range(from..u64::MAX)
            .map(|(number, _)| number)
            .collect();
        let hidden = gone.partition_point(|number| *number < end);
        for number in gone {
            if let Some(block) = self.blocks.remove(number) {
                self.logical -= block.len() as u64;
                self.private -= block.private_len();
                self.in_blocks -= block.held_bytes();
            }
        }
        self.cut_block(size, pages);
        self.backing.cut(size, hidden as u64);
        self.release_hidden(pages);
    }

    /// Drops the private blocks of `numbers` below which nothing shows: there
    /// the file reads as zeros that nobody stored. O(blocks dropped).
    pub(in crate::overlay) fn drop_blocks(&mut self, numbers: Range<u64>) {
        let first = numbers.start.max(self.backing.end().div_ceil(BLOCK));
        if first >= numbers.end {
            return;
        }
        let gone = self.blocks.range(first..numbers.end);
        let gone: Vec<u64> = gone.map(|(number, _)| number).collect();
        for number in gone {
            if let Some(block) = self.blocks.remove(number) {
                self.logical -= block.len() as u64;
                self.private -= block.private_len();
                self.in_blocks -= block.held_bytes();
            }
        }
    }

    /// Cuts the block that `size` lies in.
    fn cut_block(&mut self, size: u64, pages: &mut Pages) {
        let keep = within_block(size);
        if keep > 0
            && let Some(block) = self.blocks.get_mut(size / BLOCK)
            && block.len() > keep
        {
            let (len, paid) = (block.len(), block.private_len());
            let held = block.held_bytes();
            block.truncate(keep, pages);
            self.in_blocks = self.in_blocks + block.held_bytes() - held;
            self.logical -= (len - keep) as u64;
            self.private = self.private + block.private_len() - paid;
        }
    }

    /// Takes what shows past `size` out of the counts. O(blocks cut off).
    ///
    /// Precondition: neither the blocks nor the backing have been cut yet.
    fn cut_shown(&mut self, size: u64) {
        if !self.backing.counts() {
            return;
        }
        let end = self.backing.end();
        for number in size / BLOCK..end.div_ceil(BLOCK) {
            if self.blocks.contains(number) {
                continue;
            }
            let (start, old) = (number * BLOCK, self.backing.private_of(number));
            let end = end.min(start + BLOCK);
            let kept = size.min(end).saturating_sub(start);
            self.logical -= end - start - kept;
            self.private = self.private + old.min(kept) - old;
        }
    }
}
