//! Values by key for as long as somebody holds them.
//!
//! The pool of chunks, the blocks of a scope, its whole files and the accounts of a
//! budget are each such a table: it finds what is alive, and keeps nothing alive itself.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// A map of weak references. A value removes its own entry when it is dropped,
/// by [`forget_dead`](Self::forget_dead): it has to hold the table, weakly if the
/// table may go first.
///
/// Locks: one shard of the map for the time of a call. `make` runs under it and
/// must not use the table. A value must never be dropped under it either, since
/// its `drop` takes the same lock: so values are only handed out here.
pub(crate) struct WeakTable<K, V>(DashMap<K, Weak<V>, BuildHasherDefault<PlainHasher>>);

impl<K: Eq + Hash, V> WeakTable<K, V> {
    /// Makes an empty table with few shards, which takes little memory.
    pub(crate) fn small() -> Self {
        let hasher = BuildHasherDefault::default();
        Self(DashMap::with_capacity_and_hasher_and_shard_amount(
            0, hasher, 2,
        ))
    }

    /// Returns the value that lives under `key`, or else puts what `make` returns
    /// there. The flag is set if the value is new.
    pub(crate) fn get_or_insert_with(
        &self,
        key: K,
        make: impl FnOnce() -> Arc<V>,
    ) -> (Arc<V>, bool) {
        match self.0.entry(key) {
            Entry::Occupied(mut slot) => {
                if let Some(live) = slot.get().upgrade() {
                    return (live, false);
                }
                let made = make();
                slot.insert(Arc::downgrade(&made));
                (made, true)
            }
            Entry::Vacant(slot) => {
                let made = make();
                slot.insert(Arc::downgrade(&made));
                (made, true)
            }
        }
    }

    /// Removes the entry of a value that is being dropped. The entry may belong to
    /// a younger value of the same key by now, which was put while this one was on
    /// its way out: only a dead entry goes, so the younger one stays known.
    pub(crate) fn forget_dead(&self, key: &K) {
        self.0.remove_if(key, |_, value| value.strong_count() == 0);
    }

    /// Counts the entries.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all values that are alive. O(entries).
    pub(crate) fn live(&self) -> Vec<Arc<V>> {
        // Collected under the locks, and dropped by the caller without them.
        self.0
            .iter()
            .filter_map(|entry| entry.value().upgrade())
            .collect()
    }

    /// Puts a value under a key, whatever is there.
    pub(crate) fn insert(&self, key: K, value: &Arc<V>) {
        self.0.insert(key, Arc::downgrade(value));
    }
}

impl<K: Eq + Hash, V> Default for WeakTable<K, V> {
    fn default() -> Self {
        Self(DashMap::default())
    }
}

/// Takes the hash out of a key: a digest, which is uniform already, or a number.
#[derive(Default)]
struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        // Numbers in a row go to different shards.
        self.0 = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, _: usize) {
        // The length of the array of a digest, the same for all.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_while_it_lives_and_a_younger_one_is_not_forgotten() {
        let table = WeakTable::<u64, &str>::small();
        let (first, is_new) = table.get_or_insert_with(1, || Arc::new("first"));
        assert!(is_new);
        let (again, is_new) = table.get_or_insert_with(1, || Arc::new("other"));
        assert!(!is_new && Arc::ptr_eq(&first, &again));
        table.forget_dead(&1);
        assert_eq!((table.len(), table.live().len()), (1, 1));
        drop((first, again));
        assert_eq!((table.len(), table.live().len()), (1, 0));
        let (second, is_new) = table.get_or_insert_with(1, || Arc::new("second"));
        assert!(is_new);
        table.forget_dead(&1);
        assert_eq!(table.len(), 1);
        drop(second);
        table.forget_dead(&1);
        assert!(table.is_empty());
    }
}
