//! The slots of a base directory that are gone, held as ranges.
//!
//! A guest that empties a directory of the base hides one slot after another.
//! As ranges they take one step of a listing together, however many they are,
//! so that a directory that is used as a queue costs the same for each name.

use std::ops::Range;

use imbl::{OrdMap, ordmap::DiffItem};

/// A set of slots. Clones share structure.
#[derive(Clone, Default)]
pub(super) struct Hidden {
    /// The end of each range by its first slot. No two overlap or adjoin.
    ranges: OrdMap<u32, u32>,
}

impl Hidden {
    /// The range that `slot` is in. O(log ranges).
    fn range_at(&self, slot: u32) -> Option<Range<u32>> {
        let (first, end) = self.ranges.get_prev(&slot)?;
        (slot < *end).then_some(*first..*end)
    }

    /// Returns whether `slot` is in the set. O(log ranges).
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.range_at(slot).is_some()
    }

    /// Adds a slot. O(log ranges).
    pub(super) fn insert(&mut self, slot: u32) {
        if self.contains(slot) {
            return;
        }
        let next = slot.saturating_add(1);
        let end = self.ranges.remove(&next).unwrap_or(next);
        let before = self.ranges.get_prev(&slot);
        let adjoining = before.filter(|(_, end)| **end == slot);
        let first = adjoining.map_or(slot, |(first, _)| *first);
        self.ranges.insert(first, end);
    }

    /// Returns the ranges of slots in `within` that are not in the set, in
    /// order. O(log ranges), and O(1) for each range that is passed.
    pub(super) fn gaps(&self, within: Range<u32>) -> impl Iterator<Item = Range<u32>> {
        let start = self
            .range_at(within.start)
            .map_or(within.start, |range| range.end);
        let inside = self.ranges.range(start..).map(|(first, end)| *first..*end);
        // A range past all slots closes the last gap.
        let all = inside.chain(std::iter::once(within.end..within.end));
        let gap = move |at: &mut u32, range: Range<u32>| {
            let gap = *at..range.start.min(within.end);
            *at = range.end.max(*at);
            (gap.start < within.end).then_some(gap)
        };
        all.scan(start, gap).filter(|gap| !gap.is_empty())
    }

    /// Returns the slots in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.ranges.iter().flat_map(|(first, end)| *first..*end)
    }

    /// Counts the slots. O(ranges).
    pub(super) fn len(&self) -> usize {
        self.ranges
            .iter()
            .map(|(first, end)| (end - first) as usize)
            .sum()
    }

    /// Returns the ranges that only `self` has, and those that only `later`
    /// has. O(ranges that differ).
    pub(super) fn compare(&self, later: &Self) -> (Vec<Range<u32>>, Vec<Range<u32>>) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for item in self.ranges.diff(&later.ranges) {
            match item {
                DiffItem::Add(first, end) => theirs.push(*first..*end),
                DiffItem::Remove(first, end) => ours.push(*first..*end),
                DiffItem::Update { old, new } => {
                    ours.push(*old.0..*old.1);
                    theirs.push(*new.0..*new.1);
                }
            }
        }
        (without(&ours, &theirs), without(&theirs, &ours))
    }

    /// Returns whether no two ranges overlap or adjoin, and none is empty.
    pub(super) fn is_sound(&self) -> bool {
        let ends = self.ranges.values();
        let firsts = self.ranges.keys().skip(1);
        self.ranges.iter().all(|(first, end)| first < end)
            && ends.zip(firsts).all(|(end, first)| end < first)
    }
}

/// What of `these` is not in `those`; both are in order and without overlap.
fn without(these: &[Range<u32>], those: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut left = Vec::new();
    let mut those = those.iter().peekable();
    for one in these {
        let mut at = one.start;
        while let Some(other) = those.peek() {
            if other.start >= one.end {
                break;
            }
            if at < other.start {
                left.push(at..other.start);
            }
            at = at.max(other.end);
            if other.end > one.end {
                // It may take something of the next one too.
                break;
            }
            those.next();
        }
        if at < one.end {
            left.push(at..one.end);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Numbers from a seed, as good as random.
    fn numbers(seed: u64) -> impl FnMut(u32) -> u32 {
        let mut state = seed;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u32 % below
        }
    }

    #[test]
    fn ranges_are_the_set_of_slots_that_were_added() {
        for seed in 0..200 {
            let mut next = numbers(seed);
            let (mut set, mut plain) = (Hidden::default(), BTreeSet::new());
            let (mut before, mut plain_before) = (set.clone(), plain.clone());
            for _ in 0..next(120) {
                let slot = next(64);
                set.insert(slot);
                plain.insert(slot);
                assert!(set.is_sound());
                if next(10) == 0 {
                    (before, plain_before) = (set.clone(), plain.clone());
                }
            }
            assert!(set.iter().eq(plain.iter().copied()), "seed {seed}");
            assert_eq!(set.len(), plain.len());
            let (from, to) = (next(70), next(70));
            let shown: Vec<u32> = set.gaps(from..to).flatten().collect();
            let expected: Vec<u32> = (from..to).filter(|slot| !plain.contains(slot)).collect();
            assert_eq!(shown, expected, "seed {seed}, {from}..{to}");
            assert!((0..70).all(|slot| set.contains(slot) == plain.contains(&slot)));
            let (lost, gained) = before.compare(&set);
            assert!(lost.is_empty(), "nothing is taken out");
            let gained: Vec<u32> = gained.into_iter().flatten().collect();
            let expected: Vec<u32> = plain.difference(&plain_before).copied().collect();
            assert_eq!(gained, expected, "seed {seed}");
            let (lost, gained) = set.compare(&before);
            let lost: Vec<u32> = lost.into_iter().flatten().collect();
            assert!(lost == expected && gained.is_empty(), "seed {seed}");
        }
    }
    #[test]
    fn two_sets_that_grew_apart_differ_both_ways() {
        for seed in 0..200 {
            let mut next = numbers(seed);
            let mut ours = Hidden::default();
            for _ in 0..20 {
                ours.insert(next(64));
            }
            let mut theirs = ours.clone();
            for _ in 0..20 {
                ours.insert(next(64));
                theirs.insert(next(64));
            }
            let (one, other): (BTreeSet<_>, BTreeSet<_>) =
                (ours.iter().collect(), theirs.iter().collect());
            let (only_ours, only_theirs) = ours.compare(&theirs);
            assert!(
                only_ours
                    .into_iter()
                    .flatten()
                    .eq(one.difference(&other).copied())
            );
            assert!(
                only_theirs
                    .into_iter()
                    .flatten()
                    .eq(other.difference(&one).copied())
            );
        }
    }

    #[test]
    fn emptying_in_order_is_one_range() {
        let mut set = Hidden::default();
        for slot in 0..1000 {
            set.insert(slot);
        }
        assert_eq!(set.ranges.len(), 1);
        assert!(set.gaps(0..1001).eq(std::iter::once(1000..1001)));
        assert_eq!(set.gaps(0..1000).count(), 0);
        assert_eq!(set.gaps(7..7).count(), 0);
    }
}
