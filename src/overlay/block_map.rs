//! The private blocks of a file by number.
//!
//! A file of one block holds it in place. More lie in leaves of
//! [`LEAF_BLOCKS`], which a persistent map orders: a clone shares all leaves,
//! and whoever writes then copies the one it writes to.

use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::{DiffItem, RangedIter};
use imbl::shared_ptr::DefaultSharedPtr;

use super::block::Block;

/// Blocks of a leaf: what a clone of a file copies at most when it changes one.
const LEAF_BLOCKS: usize = 16;

/// [`LEAF_BLOCKS`] as numbers of blocks count.
const LEAF: u64 = LEAF_BLOCKS as u64;

#[derive(Clone, Default)]
pub(super) struct BlockMap {
    nodes: Nodes,
    len: usize,
}

#[derive(Clone, Default)]
enum Nodes {
    #[default]
    None,
    One(u64, Block),
    /// By the number of the first block over [`LEAF_BLOCKS`]; none is empty.
    Leaves(OrdMap<u64, Leaf>),
}

/// Blocks that follow each other, cheap to clone.
#[derive(Clone, Default)]
struct Leaf(Arc<Slots>);

type Slots = [Option<Block>; LEAF_BLOCKS];

impl PartialEq for Leaf {
    /// Returns whether both are one: others may be equal too.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Leaf {
    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// The place of a block in its leaf.
fn slot(number: u64) -> usize {
    // Below LEAF_BLOCKS, so it fits.
    usize::try_from(number % LEAF).unwrap_or(0)
}

impl BlockMap {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn slots(&self, leaf: u64) -> Option<&Slots> {
        match &self.nodes {
            Nodes::Leaves(leaves) => Some(&leaves.get(&leaf)?.0),
            Nodes::None | Nodes::One(..) => None,
        }
    }

    /// Returns block `number`. O(log blocks).
    pub(super) fn get(&self, number: u64) -> Option<&Block> {
        match &self.nodes {
            Nodes::One(only, block) => (*only == number).then_some(block),
            Nodes::None => None,
            Nodes::Leaves(_) => self.slots(number / LEAF)?.get(slot(number))?.as_ref(),
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Returns block `number` to change it. O(log blocks), and a copy of its leaf
    /// if a clone shares that.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Block> {
        match &mut self.nodes {
            Nodes::One(only, block) => (*only == number).then_some(block),
            Nodes::None => None,
            Nodes::Leaves(leaves) => {
                let leaf = leaves.get_mut(&(number / LEAF))?;
                Arc::make_mut(&mut leaf.0).get_mut(slot(number))?.as_mut()
            }
        }
    }

    /// Puts `block` at `number`, in the place of what was there.
    pub(super) fn insert(&mut self, number: u64, block: Block) {
        match &mut self.nodes {
            Nodes::None => {
                self.nodes = Nodes::One(number, block);
                self.len = 1;
                return;
            }
            Nodes::One(only, old) if *only == number => {
                *old = block;
                return;
            }
            Nodes::One(..) => {
                if let Nodes::One(only, old) = std::mem::take(&mut self.nodes) {
                    let mut leaves = OrdMap::new();
                    put(&mut leaves, only, old);
                    self.nodes = Nodes::Leaves(leaves);
                }
            }
            Nodes::Leaves(_) => {}
        }
        if let Nodes::Leaves(leaves) = &mut self.nodes
            && !put(leaves, number, block)
        {
            self.len += 1;
        }
    }

    /// Takes block `number` out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Block> {
        let block = match &mut self.nodes {
            Nodes::None => return None,
            Nodes::One(only, _) if *only != number => return None,
            Nodes::One(..) => match std::mem::take(&mut self.nodes) {
                Nodes::One(_, block) => block,
                Nodes::None | Nodes::Leaves(_) => return None,
            },
            Nodes::Leaves(leaves) => {
                let leaf = leaves.get_mut(&(number / LEAF))?;
                let slots = Arc::make_mut(&mut leaf.0);
                let block = slots.get_mut(slot(number))?.take()?;
                if leaf.is_empty() {
                    leaves.remove(&(number / LEAF));
                }
                block
            }
        };
        self.len -= 1;
        if self.len == 0 {
            self.nodes = Nodes::None;
        }
        Some(block)
    }

    /// Returns the blocks of `numbers` in order. O(log blocks), and O(1) each.
    pub(super) fn range(&self, numbers: Range<u64>) -> Iter<'_> {
        let mut iter = Iter {
            one: None,
            slots: None,
            leaves: None,
            at: numbers.start,
            end: numbers.end,
        };
        match &self.nodes {
            _ if numbers.is_empty() => {}
            Nodes::None => {}
            Nodes::One(number, block) => {
                iter.one = numbers.contains(number).then_some((*number, block));
            }
            Nodes::Leaves(leaves) => {
                let (first, last) = (numbers.start / LEAF, (numbers.end - 1) / LEAF);
                // Most ranges lie in one leaf: then there is no need to walk.
                iter.slots = self.slots(first);
                if first < last {
                    iter.leaves = Some(leaves.range(first + 1..=last));
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
        match (&self.nodes, &other.nodes) {
            (Nodes::None, Nodes::None) => true,
            (Nodes::One(one, a), Nodes::One(two, b)) => one == two && a.is_same(b),
            (Nodes::Leaves(one), Nodes::Leaves(two)) => one.ptr_eq(two),
            _ => false,
        }
    }

    /// Returns the numbers at which there can be other blocks than in `other`, in
    /// order. O(leaves that are not shared).
    pub(super) fn differing(&self, other: &Self) -> Vec<u64> {
        let mut numbers: Vec<u64> = Vec::new();
        if let (Nodes::Leaves(one), Nodes::Leaves(two)) = (&self.nodes, &other.nodes) {
            for item in one.diff(two) {
                let (one, two, leaf) = match item {
                    DiffItem::Add(leaf, added) => (None, Some(added), *leaf),
                    DiffItem::Remove(leaf, removed) => (Some(removed), None, *leaf),
                    DiffItem::Update { old, new } => (Some(old.1), Some(new.1), *old.0),
                };
                numbers.extend(other_slots(leaf, one, two));
            }
        } else if !self.is_same(other) {
            numbers.extend(self.iter().chain(other.iter()).map(|(number, _)| number));
            numbers.sort_unstable();
            numbers.dedup();
        }
        numbers
    }
}

/// Puts a block in its leaf. Tells whether there was one.
fn put(leaves: &mut OrdMap<u64, Leaf>, number: u64, block: Block) -> bool {
    let leaf = match leaves.get_mut(&(number / LEAF)) {
        Some(leaf) => leaf,
        None => leaves.entry(number / LEAF).or_default(),
    };
    let slots = Arc::make_mut(&mut leaf.0);
    let slot = slots.get_mut(slot(number));
    slot.is_some_and(|slot| slot.replace(block).is_some())
}

/// The numbers at which two leaves have not the same block.
fn other_slots(leaf: u64, one: Option<&Leaf>, two: Option<&Leaf>) -> impl Iterator<Item = u64> {
    let numbers = leaf * LEAF..(leaf + 1) * LEAF;
    numbers.filter(move |number| {
        let at = |leaf: Option<&Leaf>| leaf?.0.get(slot(*number))?.clone();
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
    /// Those of the leaf that `at` lies in.
    slots: Option<&'a Slots>,
    /// The leaves after that.
    leaves: Option<RangedIter<'a, u64, Leaf, DefaultSharedPtr>>,
    at: u64,
    end: u64,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (u64, &'a Block);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(one) = self.one.take() {
            return Some(one);
        }
        loop {
            if let Some(slots) = self.slots {
                let rest = slots.get(slot(self.at)..).unwrap_or_default();
                let found = (self.at..self.end)
                    .zip(rest)
                    .find(|(_, slot)| slot.is_some());
                if let Some((number, slot)) = found {
                    self.at = number + 1;
                    if slot_is_last(number) {
                        self.slots = None;
                    }
                    return Some((number, slot.as_ref()?));
                }
                self.slots = None;
            }
            let (leaf, next) = self.leaves.as_mut()?.next()?;
            self.at = leaf * LEAF;
            self.slots = Some(&next.0);
        }
    }
}

impl FusedIterator for Iter<'_> {}

fn slot_is_last(number: u64) -> bool {
    slot(number) == LEAF_BLOCKS - 1
}

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
    fn a_slot_is_as_small_as_a_buffer() {
        assert_eq!(size_of::<Option<Block>>(), 16);
    }
}
