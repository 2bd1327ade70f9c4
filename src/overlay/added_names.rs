//! The names that an object was given in the overlay.

use std::sync::Arc;

use imbl::OrdSet;

use super::delta::DirEntryKey;
use crate::meta::FileId;
use crate::name::Name;

/// All names of an object that are own entries of directories, so that a path
/// of it is found without a look through directories. Names that it has from
/// the base are not among them: the image knows those.
///
/// Most objects have one; a set is made for the second.
#[derive(Clone, Default)]
pub(super) struct AddedNames {
    one: Option<DirEntryKey>,
    /// All others: none while `one` is absent.
    more: Option<Arc<OrdSet<DirEntryKey>>>,
}

impl AddedNames {
    /// Those of an object with its first name.
    pub(super) fn first(entry: DirEntryKey) -> Self {
        Self {
            one: Some(entry),
            more: None,
        }
    }

    /// Adds a name that it has got. O(log names).
    pub(super) fn add(&mut self, entry: DirEntryKey) {
        if self.one.is_none() {
            self.one = Some(entry);
            return;
        }
        let more = self.more.get_or_insert_default();
        Arc::make_mut(more).insert(entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.one.is_none()
    }

    /// Counts the names beyond the first. O(1).
    pub(super) fn further(&self) -> u64 {
        self.more.as_ref().map_or(0, |set| set.len() as u64)
    }

    /// Takes out a name that it has lost; one from the base is not here. O(log
    /// names).
    pub(super) fn remove(&mut self, dir: FileId, name: &[u8]) {
        let is_first = |one: &mut DirEntryKey| one.0 == dir && one.1.as_bytes() == name;
        let was_first = self.one.take_if(is_first).is_some();
        let Some(set) = &mut self.more else {
            return;
        };
        let set = Arc::make_mut(set);
        if was_first {
            self.one = set.get_min().cloned();
            if let Some(one) = &self.one {
                set.remove(one);
            }
        } else {
            set.remove(&(dir, Name::from_checked(name)));
        }
        if set.is_empty() {
            self.more = None;
        }
    }

    /// One of them.
    pub(super) fn any(&self) -> Option<&DirEntryKey> {
        self.one.as_ref()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &DirEntryKey> {
        let more = self.more.iter().flat_map(|set| set.iter());
        self.one.iter().chain(more)
    }
}
