//! The hash table from (directory, name) to slot.
//!
//! One table for the whole index, so that a lookup costs the same in a small
//! and in a huge directory. An entry is looked for in [`WINDOW`] places from
//! its hash on and nowhere else: names made to collide end up outside the
//! table, where a binary search finds them, so a lookup is O(log n) at worst
//! and building is O(n) always.

use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::byteorder::little_endian::U32;

use super::records::Records;
use crate::steps;

/// SlotsByNode that an entry may lie in: a cache line of them.
pub(super) const WINDOW: usize = 16;

const EMPTY: u32 = 0;

/// Each place holds 0, or the number of a slot plus one in its lower bits and
/// as much of the hash as there is room for in the upper ones: most names that
/// are not the wanted one are told by that alone.
pub(super) struct NameTable {
    /// A power of two of places, and [`WINDOW`] more so that no search wraps.
    pub(super) buckets: Records<U32>,
    layout: HashLayout,
}

/// A table that is being filled.
pub(super) struct TableBuilder {
    buckets: Vec<U32>,
    layout: HashLayout,
}

/// How hashes become places.
#[derive(Clone, Copy)]
struct HashLayout {
    /// Bits of a place that hold the slot.
    bits: u32,
    mask: u64,
}

/// What a search in the table found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TableLookup {
    Slot(u32),
    /// The name is not there.
    Nothing,
    /// The window is full of others: the name may have found no place.
    Full,
}

#[inline]
pub(super) fn hash(dir: u32, name: &[u8]) -> u64 {
    // Odd factor: neighbouring numbers give seeds that differ all over.
    xxh3_64_with_seed(name, u64::from(dir).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl TableBuilder {
    /// Makes a table for `slots` entries, at most half full. Below 2^31.
    pub(super) fn new(slots: u32) -> Self {
        let capacity = (slots as usize * 2).next_power_of_two();
        Self {
            buckets: vec![U32::new(EMPTY); capacity + WINDOW - 1],
            layout: HashLayout::new(slots, capacity),
        }
    }

    /// Takes a slot in. Returns whether it found a place.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) -> bool {
        let entry = self.layout.tag(hash) << self.layout.bits | (slot + 1);
        let start = self.layout.start(hash);
        let free = self
            .buckets
            .get_mut(start..start + WINDOW)
            .and_then(|window| {
                window.iter_mut().find(|bucket| {
                    steps::add(1);
                    bucket.get() == EMPTY
                })
            });
        match free {
            Some(bucket) => {
                bucket.set(entry);
                true
            }
            None => false,
        }
    }

    /// Ends the table.
    pub(super) fn finish(self) -> NameTable {
        NameTable {
            buckets: Records::owned(self.buckets),
            layout: self.layout,
        }
    }
}

impl NameTable {
    /// Takes over the places of a table for `slots` entries, if their number
    /// is right.
    #[cfg(feature = "store")]
    pub(super) fn over(buckets: Records<U32>, slots: u32) -> Option<Self> {
        let capacity = (slots as usize)
            .checked_mul(2)?
            .checked_next_power_of_two()?;
        (buckets.len() == capacity.checked_add(WINDOW - 1)?).then(|| Self {
            buckets,
            layout: HashLayout::new(slots, capacity),
        })
    }

    /// Finds the slot that has `hash` and that `is` says is the one.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> TableLookup {
        let HashLayout { bits, .. } = self.layout;
        let start = self.layout.start(hash);
        let Some(window) = self.buckets.slice(start..start + WINDOW) else {
            return TableLookup::Nothing;
        };
        let tag = self.layout.tag(hash);
        for bucket in window {
            steps::add(1);
            let entry = bucket.get();
            if entry == EMPTY {
                return TableLookup::Nothing;
            }
            if entry >> bits == tag {
                let slot = (entry & !(u32::MAX << bits)).wrapping_sub(1);
                if is(slot) {
                    return TableLookup::Slot(slot);
                }
            }
        }
        TableLookup::Full
    }
}

impl HashLayout {
    fn new(slots: u32, capacity: usize) -> Self {
        Self {
            bits: u32::BITS - slots.leading_zeros(),
            mask: capacity as u64 - 1,
        }
    }

    fn start(&self, hash: u64) -> usize {
        // Below the number of places, so it fits.
        usize::try_from(hash & self.mask).unwrap_or(0)
    }

    /// The upper bits of the hash, as many as fit beside a slot.
    fn tag(&self, hash: u64) -> u32 {
        let upper = u32::try_from(hash >> u32::BITS).unwrap_or(0);
        upper >> self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colliding_entries_are_bounded() {
        // All in one place, as names made to collide would be.
        let mut table = TableBuilder::new(1000);
        let placed = (0..1000).filter(|slot| table.insert(7, *slot)).count();
        assert_eq!(placed, WINDOW);
        let table = table.finish();
        let looked_at = std::cell::Cell::new(0);
        let found = table.find(7, |_| {
            looked_at.set(looked_at.get() + 1);
            false
        });
        assert_eq!((found, looked_at.get()), (TableLookup::Full, WINDOW));
        assert_eq!(table.find(7, |slot| slot == 5), TableLookup::Slot(5));
        assert_eq!(
            table.find(7 + WINDOW as u64, |_| true),
            TableLookup::Nothing
        );
    }

    #[test]
    fn the_last_place_and_the_largest_slot_fit() {
        let mut table = TableBuilder::new(5);
        for slot in 0..5 {
            assert!(table.insert(u64::MAX, slot));
        }
        let table = table.finish();
        for slot in 0..5 {
            assert_eq!(
                table.find(u64::MAX, |it| it == slot),
                TableLookup::Slot(slot)
            );
        }
        assert_eq!(
            TableBuilder::new(0).finish().find(9, |_| true),
            TableLookup::Nothing
        );
    }
}
