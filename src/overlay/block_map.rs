//! The private blocks of a file by number.
//!
//! A file of one block holds it in place. More lie in leaves of
//! [`LEAF_BLOCKS`], which a persistent map orders: a clone shares all leaves,
//! and whoever writes then copies the one it writes to. The leaf that was begun
//! last stays beside the map until the next one is: who writes blocks one after the
//! other goes to the map once for each leaf.

use std::iter::FusedIterator;
use std::ops::Range;

use imbl::OrdMap;
use imbl::ordmap::{DiffItem, RangedIter};
use imbl::shared_ptr::DefaultSharedPtr;
use triomphe::Arc;

use super::block::Block;
use crate::chunk::GonePages;

/// Blocks of a leaf: what a clone of a file copies at most when it changes one.
const LEAF_BLOCKS: usize = 16;

/// [`LEAF_BLOCKS`] as numbers of blocks count.
const LEAF: u64 = LEAF_BLOCKS as u64;

#[derive(Clone, Default)]
pub(super) struct BlockMap(Nodes);

#[derive(Clone, Default)]
enum Nodes {
    #[default]
    None,
    One(u64, Block),
    Many(Box<Leaves>),
}

/// By the number of the first block over [`LEAF_BLOCKS`].
#[derive(Clone)]
struct Leaves {
    /// None is empty.
    others: OrdMap<u64, Leaf>,
    /// One that is not among the others, and may be empty.
    open: Leaf,
    open_number: u64,
    /// Blocks in all of them.
    len: usize,
}

/// Blocks that follow each other, cheap to clone.
#[derive(Clone, Default)]
struct Leaf(Arc<LeafSlots>);

#[derive(Clone, Default)]
struct LeafSlots([Option<Block>; LEAF_BLOCKS]);

impl Drop for LeafSlots {
    fn drop(&mut self) {
        let mut gone = GonePages::default();
        for block in self.0.iter_mut().filter_map(Option::take) {
            block.go(&mut gone);
        }
    }
}

impl LeafSlots {
    fn get(&self, number: u64) -> Option<&Block> {
        self.0.get(slot(number))?.as_ref()
    }

    /// The slots from that of block `number` on.
    fn from(&self, number: u64) -> &[Option<Block>] {
        self.0.get(slot(number)..).unwrap_or_default()
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Block>> {
        self.0.get_mut(slot(number))
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl PartialEq for Leaf {
    /// Returns whether both are one: others may be equal too.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The place of a block in its leaf.
fn slot(number: u64) -> usize {
    // Below LEAF_BLOCKS, so it fits.
    usize::try_from(number % LEAF).unwrap_or(0)
}

impl Leaves {
    fn of_one(number: u64, block: Block) -> Self {
        let mut leaves = Self {
            others: OrdMap::new(),
            open: Leaf::default(),
            open_number: number / LEAF,
            len: 0,
        };
        leaves.insert(number, block);
        leaves
    }

    #[inline]
    fn leaf(&self, number: u64) -> Option<&Leaf> {
        if number == self.open_number {
            return Some(&self.open);
        }
        self.others.get(&number)
    }

    /// A leaf to change, copied if a clone shares it.
    #[inline]
    fn slots_mut(&mut self, number: u64) -> Option<&mut LeafSlots> {
        let leaf = match number == self.open_number {
            true => &mut self.open,
            false => self.others.get_mut(&number)?,
        };
        Some(Arc::make_mut(&mut leaf.0))
    }

    fn insert(&mut self, number: u64, block: Block) {
        let leaf = number / LEAF;
        if leaf != self.open_number && !self.others.contains_key(&leaf) {
            self.begin(leaf);
        }
        let slot = self.slots_mut(leaf).and_then(|slots| slots.slot(number));
        if slot.is_some_and(|slot| slot.replace(block).is_none()) {
            self.len += 1;
        }
    }

    /// Puts the open leaf to the others and opens a new one.
    fn begin(&mut self, number: u64) {
        let before = std::mem::take(&mut self.open);
        if !before.0.is_empty() {
            self.others.insert(self.open_number, before);
        }
        self.open_number = number;
    }

    fn remove(&mut self, number: u64) -> Option<Block> {
        let leaf = number / LEAF;
        // Nothing is copied for a block that is not there.
        self.leaf(leaf)?.0.get(number)?;
        let slots = self.slots_mut(leaf)?;
        let block = slots.slot(number)?.take()?;
        if slots.is_empty() && leaf != self.open_number {
            self.others.remove(&leaf);
        }
        self.len -= 1;
        Some(block)
    }

    /// The numbers at which there can be other blocks than in `other`, in order.
    fn differing(&self, other: &Self) -> Vec<u64> {
        let mut numbers: Vec<u64> = Vec::new();
        for item in self.others.diff(&other.others) {
            let leaf = match item {
                DiffItem::Add(leaf, _) | DiffItem::Remove(leaf, _) => *leaf,
                DiffItem::Update { old, .. } => *old.0,
            };
            numbers.extend(other_slots(leaf, self.leaf(leaf), other.leaf(leaf)));
        }
        for leaf in [self.open_number, other.open_number] {
            let (one, two) = (self.leaf(leaf), other.leaf(leaf));
            if one != two {
                numbers.extend(other_slots(leaf, one, two));
            }
        }
        numbers
    }
}

impl BlockMap {
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Nodes::None => 0,
            Nodes::One(..) => 1,
            Nodes::Many(leaves) => leaves.len,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.0, Nodes::None)
    }

    /// Returns block `number`. O(log blocks).
    pub(super) fn get(&self, number: u64) -> Option<&Block> {
        match &self.0 {
            Nodes::One(only, block) => (*only == number).then_some(block),
            Nodes::None => None,
            Nodes::Many(leaves) => leaves.leaf(number / LEAF)?.0.get(number),
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Returns block `number` to change it. O(log blocks), and a copy of its leaf
    /// if a clone shares that.
    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Block> {
        match &mut self.0 {
            Nodes::One(only, block) => (*only == number).then_some(block),
            Nodes::None => None,
            Nodes::Many(leaves) => {
                let slots = leaves.slots_mut(number / LEAF)?;
                slots.slot(number)?.as_mut()
            }
        }
    }

    /// Puts `block` at `number`, in the place of what was there.
    pub(super) fn insert(&mut self, number: u64, block: Block) {
        match &mut self.0 {
            Nodes::Many(leaves) => return leaves.insert(number, block),
            Nodes::One(only, old) if *only == number => {
                *old = block;
                return;
            }
            Nodes::None | Nodes::One(..) => {}
        }
        self.0 = match std::mem::take(&mut self.0) {
            Nodes::One(only, old) => {
                let mut leaves = Box::new(Leaves::of_one(only, old));
                leaves.insert(number, block);
                Nodes::Many(leaves)
            }
            Nodes::None | Nodes::Many(_) => Nodes::One(number, block),
        };
    }

    /// Takes block `number` out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Block> {
        match &mut self.0 {
            Nodes::Many(leaves) => {
                let block = leaves.remove(number);
                if leaves.len == 0 {
                    self.0 = Nodes::None;
                }
                return block;
            }
            Nodes::One(only, _) if *only == number => {}
            Nodes::None | Nodes::One(..) => return None,
        }
        match std::mem::take(&mut self.0) {
            Nodes::One(_, block) => Some(block),
            Nodes::None | Nodes::Many(_) => None,
        }
    }

    /// Returns the blocks of `numbers` in order. O(log blocks), and O(1) each.
    pub(super) fn range(&self, numbers: Range<u64>) -> Iter<'_> {
        let mut iter = Iter {
            one: None,
            slots: [].iter(),
            leaves: None,
            open: None,
            next: None,
            at: numbers.start,
            end: numbers.end,
        };
        match &self.0 {
            _ if numbers.is_empty() => {}
            Nodes::None => {}
            Nodes::One(number, block) => {
                iter.one = numbers.contains(number).then_some((*number, block));
            }
            Nodes::Many(leaves) => {
                let (first, last) = (numbers.start / LEAF, (numbers.end - 1) / LEAF);
                // Most ranges lie in one leaf: then there is no need to walk.
                let slots = leaves.leaf(first).map(|leaf| leaf.0.from(numbers.start));
                iter.slots = slots.unwrap_or_default().iter();
                if first < last {
                    let mut after = leaves.others.range(first + 1..=last);
                    iter.next = after.next();
                    iter.leaves = Some(after);
                    let is_after = (first + 1..=last).contains(&leaves.open_number);
                    iter.open = is_after.then_some((leaves.open_number, &leaves.open));
                }
            }
        }
        iter
    }

    /// Returns all blocks in order.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.range(0..u64::MAX)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Block> {
        self.iter().map(|(_, block)| block)
    }

    /// Returns whether both are clones of one, neither changed since: what is not
    /// may be equal too.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Nodes::None, Nodes::None) => true,
            (Nodes::One(one, a), Nodes::One(two, b)) => one == two && a.is_same(b),
            (Nodes::Many(one), Nodes::Many(two)) => {
                one.open_number == two.open_number
                    && one.open == two.open
                    && one.others.ptr_eq(&two.others)
            }
            _ => false,
        }
    }

    /// Returns the numbers at which there can be other blocks than in `other`, in
    /// order. O(leaves that are not shared).
    pub(super) fn differing(&self, other: &Self) -> Vec<u64> {
        let mut numbers = match (&self.0, &other.0) {
            (Nodes::Many(one), Nodes::Many(two)) => one.differing(two),
            _ if self.is_same(other) => return Vec::new(),
            _ => self
                .iter()
                .chain(other.iter())
                .map(|(number, _)| number)
                .collect(),
        };
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// The numbers at which two leaves have not the same block.
fn other_slots(leaf: u64, one: Option<&Leaf>, two: Option<&Leaf>) -> impl Iterator<Item = u64> {
    let numbers = leaf * LEAF..(leaf + 1) * LEAF;
    numbers.filter(move |number| {
        let at = |leaf: Option<&Leaf>| leaf?.0.get(*number).cloned();
        match (at(one), at(two)) {
            (None, None) => false,
            (Some(one), Some(two)) => !one.is_same(&two),
            (Some(_), None) | (None, Some(_)) => true,
        }
    })
}

/// Blocks in order, with their numbers.
pub(super) struct Iter<'a> {
    one: Option<(u64, &'a Block)>,
    /// Those from `at` on of the leaf that it lies in.
    slots: std::slice::Iter<'a, Option<Block>>,
    /// The leaves after that, the first of them taken out, but for the open one.
    leaves: Option<RangedIter<'a, u64, Leaf, DefaultSharedPtr>>,
    next: Option<(&'a u64, &'a Leaf)>,
    open: Option<(u64, &'a Leaf)>,
    at: u64,
    end: u64,
}

impl<'a> Iter<'a> {
    /// The next leaf and its number.
    fn next_leaf(&mut self) -> Option<(u64, &'a Leaf)> {
        let next = self.next.map(|(number, leaf)| (*number, leaf));
        if let Some(open) = self
            .open
            .filter(|open| next.is_none_or(|next| open.0 < next.0))
        {
            self.open = None;
            return Some(open);
        }
        self.next = self.leaves.as_mut().and_then(Iterator::next);
        next
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (u64, &'a Block);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(one) = self.one.take() {
            return Some(one);
        }
        loop {
            for slot in self.slots.by_ref() {
                let number = self.at;
                self.at += 1;
                if number >= self.end {
                    self.slots = [].iter();
                    return None;
                }
                if let Some(block) = slot {
                    return Some((number, block));
                }
            }
            let (leaf, next) = self.next_leaf()?;
            self.at = leaf * LEAF;
            self.slots = next.0.from(self.at).iter();
        }
    }
}

impl FusedIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::chunk::{Buffer, Pages};

    /// Goes through a sequence of changes by a simple generator, beside a map
    /// of the standard library.
    #[test]
    fn blocks_are_found_as_in_a_map_and_clones_stay_as_they_are() {
        let mut pages = Pages::default();
        let mut seed = 7_u64;
        let mut next = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut block = |byte: u8| Block::Own(Buffer::copy(&[byte], 1, &mut pages).unwrap());
        let (mut map, mut model) = (BlockMap::default(), BTreeMap::new());
        let mut clones = Vec::new();
        for round in 0..4_000 {
            let number = next(70) * (1 + next(2) * 1_000);
            match next(3) {
                0 => {
                    let removed = map.remove(number).map(|block| block.bytes().to_vec());
                    assert_eq!(removed, model.remove(&number));
                }
                _ => {
                    let byte = next(250).to_le_bytes()[0];
                    map.insert(number, block(byte));
                    model.insert(number, vec![byte]);
                }
            }
            if round % 500 == 0 {
                clones.push((map.clone(), model.clone()));
            }
            let (from, to) = (next(80), next(2) * 70_000 + next(90));
            let range = from..to.max(from);
            let seen: Vec<u64> = map.range(range.clone()).map(|(number, _)| number).collect();
            let expected: Vec<u64> = model.range(range).map(|(number, _)| *number).collect();
            assert_eq!(seen, expected);
            assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(map.contains(number), model.contains_key(&number));
        }
        for (clone, was) in clones {
            let all = clone.iter().map(|(n, block)| (n, block.bytes().to_vec()));
            assert_eq!(all.collect::<BTreeMap<_, _>>(), was);
            let numbers = clone.differing(&map);
            for number in 0..70_000 {
                if was.get(&number) != model.get(&number) {
                    assert!(numbers.contains(&number));
                }
            }
            assert!(clone.differing(&clone.clone()).is_empty());
        }
    }

    #[test]
    fn a_slot_is_as_small_as_a_buffer_and_a_map_as_one_block() {
        assert_eq!(size_of::<Option<Block>>(), 16);
        assert_eq!(size_of::<BlockMap>(), 24);
    }
}
