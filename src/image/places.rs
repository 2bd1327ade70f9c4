//! From an object to the names it has in the base: the way back that look-ups
//! do not need. Made at the first question, shared by all instances.

use std::collections::HashMap;

use super::index::Index;

/// Stands for an object without a name: the root.
const NOWHERE: u32 = u32::MAX;

/// The slots that lead to each object.
pub(super) struct Places {
    /// The first, by object.
    first: Box<[u32]>,
    /// The others of files with several names.
    further: HashMap<u32, Vec<u32>>,
}

impl Places {
    /// Looks at each slot once.
    pub(super) fn of(index: &Index) -> Self {
        let mut first = vec![NOWHERE; index.nodes() as usize];
        let mut further: HashMap<u32, Vec<u32>> = HashMap::new();
        let slots = index.slots.slice(0..index.slots.len());
        for (slot, record) in (0..).zip(slots.unwrap_or_default()) {
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
        }
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
