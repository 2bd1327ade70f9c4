//! From an object to the entries of the base that name it. Look-ups do not need it:
//! it is built on first use, and shared by all instances.

use std::collections::HashMap;

use super::guard;
use super::index::Index;
use crate::bounded::bounded_u32;

/// Stands for an object without a name: the root.
const NOWHERE: u32 = u32::MAX;

/// The slots that lead to each object.
pub(super) struct SlotsByNode {
    /// The first, by object.
    first: Box<[u32]>,
    /// The others of files with several names.
    further: HashMap<u32, Vec<u32>>,
    /// Whether every slot could be looked at.
    pub(super) whole: bool,
}

impl SlotsByNode {
    /// Looks at each slot once; those in a damaged block are left out.
    pub(super) fn of(index: &Index) -> Self {
        let (mut places, refused) = guard::isolated(|| Self::found(index));
        places.whole = !refused;
        places
    }

    fn found(index: &Index) -> Self {
        let mut first = vec![NOWHERE; index.nodes() as usize];
        let mut further: HashMap<u32, Vec<u32>> = HashMap::new();
        // `Parts` refuses more than `MAX_RECORDS`, and a file has the number in 32 bits.
        for slot in 0..bounded_u32(index.slots.len(), "`Parts`") {
            let Some(record) = index.record(slot) else {
                continue;
            };
            let node = record.node.get();
            match first.get_mut(node as usize) {
                Some(place) if *place == NOWHERE => *place = slot,
                Some(_) => further.entry(node).or_default().push(slot),
                None => {}
            }
        }
        Self {
            first: first.into(),
            further,
            whole: true,
        }
    }

    /// Counts the slots of `node`.
    pub(super) fn count(&self, node: u32) -> usize {
        let has_first = self
            .first
            .get(node as usize)
            .is_some_and(|slot| *slot != NOWHERE);
        usize::from(has_first) + self.further.get(&node).map_or(0, Vec::len)
    }

    /// The slots of `node`, in order.
    pub(super) fn slots(&self, node: u32) -> impl Iterator<Item = u32> {
        let first = self.first.get(node as usize).copied();
        let further = self.further.get(&node).into_iter().flatten().copied();
        first
            .filter(|slot| *slot != NOWHERE)
            .into_iter()
            .chain(further)
    }
}
