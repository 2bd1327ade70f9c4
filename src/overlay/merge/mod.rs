//! Three-way merge: what another state changed since a common one, done here
//! as well.
//!
//! An object keeps number and branch in all states, so that a file edited
//! there and renamed here is one file. First its bytes and metadata are
//! merged, object by object ([`objects`]), then the names ([`names`]). All is
//! done on a copy of this state, which takes its place if there is no
//! conflict: nothing is half applied.

mod names;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::changes::Key;
use super::{Object, Overlay};
use crate::errno::Errno;
use crate::meta::{FileId, Time};
use crate::name::LayerPath;

/// Something that both sides of a merge changed, each in its own way. Paths
/// are of the common state for what was there, else of the other state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Conflict {
    /// A file has other bytes on both sides.
    Content {
        /// Its path.
        path: LayerPath,
        /// Where both changed it, by the block; empty if only the sizes differ.
        ranges: Vec<(u64, u64)>,
    },
    /// Mode or owner were changed on both sides.
    Meta {
        /// Its path.
        path: LayerPath,
    },
    /// One side removed what the other changed, renamed, or put an entry into.
    Removed {
        /// Its path.
        path: LayerPath,
    },
    /// Both sides renamed it, to different places.
    Renamed {
        /// Its path in the common state.
        path: LayerPath,
    },
    /// Both sides gave a name to different objects.
    Name {
        /// The name.
        path: LayerPath,
    },
    /// Each side moved a directory so that one would come to lie in itself.
    Loop {
        /// Its path.
        path: LayerPath,
    },
    /// A preopened directory would be removed, replaced or moved.
    Busy {
        /// Its path.
        path: LayerPath,
    },
}

/// Why two states were not merged. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// What both sides changed, sorted.
    #[error("{} conflicts, the first: {:?}", .0.len(), .0.first())]
    Conflicts(Vec<Conflict>),
    /// Anything else: see [`Fs::merge`](crate::vfs::Fs::merge).
    #[error(transparent)]
    Errno(#[from] Errno),
}

impl Overlay {
    /// Gives what this becomes with what `theirs` changed since `base`. See
    /// [`Fs::merge`](crate::vfs::Fs::merge).
    pub(crate) fn merged(&self, base: &Self, theirs: &Self, now: Time) -> Result<Self, MergeError> {
        for state in [base, theirs] {
            if !self.image.is_same(&state.image) {
                return Err(Errno::CrossDevice.into());
            }
        }
        base.expect_ancestor_of(theirs)?;
        base.expect_ancestor_of(self)?;
        let mut merge = Merge {
            base,
            theirs,
            ours: self,
            to: self.twin(),
            now,
            made: BTreeMap::new(),
            conflicts: BTreeSet::new(),
        };
        let delta = base.name_delta(theirs);
        for id in &delta.ids {
            merge.merge_object(*id)?;
        }
        merge.merge_names(&delta)?;
        let Merge { to, conflicts, .. } = merge;
        self.intact()?;
        if !conflicts.is_empty() {
            return Err(MergeError::Conflicts(conflicts.into_iter().collect()));
        }
        if !to.fits(self.quota) {
            return Err(Errno::NoSpace.into());
        }
        Ok(to)
    }

    /// [`Errno::Invalid`] if a number stands for one object here and for
    /// another there: then this is no earlier state of it.
    fn expect_ancestor_of(&self, later: &Self) -> Result<(), Errno> {
        let differs = |id: FileId| match (self.birth(id), later.birth(id)) {
            (Some(one), Some(two)) => one != two,
            _ => false,
        };
        if self.differing(later).into_iter().any(differs) {
            Err(Errno::Invalid)
        } else {
            Ok(())
        }
    }

    /// A copy that has the same descriptors open.
    fn twin(&self) -> Self {
        Self {
            branch: self.branch,
            usage: self.usage,
            open: self.open.clone(),
            pinned: self.pinned.clone(),
            ..self.snapshot()
        }
    }
}

/// A merge under way.
struct Merge<'a> {
    base: &'a Overlay,
    theirs: &'a Overlay,
    ours: &'a Overlay,
    /// What becomes of `ours`.
    to: Overlay,
    now: Time,
    /// Their new objects by what stands for them in `to`.
    made: BTreeMap<Key, FileId>,
    conflicts: BTreeSet<Conflict>,
}

impl Merge<'_> {
    /// What `to` has for an object of theirs; `None` if it has none.
    fn here(&self, key: Key) -> Option<FileId> {
        if let Some(id) = self.made.get(&key) {
            return Some(*id);
        }
        self.to.is_alive(key).then_some(key.0)
    }

    /// The path of an object in the first of the states that has it.
    fn path(&self, id: FileId) -> LayerPath {
        let states = [self.base, self.theirs, self.ours];
        let mut paths = states.into_iter().filter_map(|state| state.path_of(id));
        paths.next().unwrap_or_else(LayerPath::root)
    }
}

impl Overlay {
    /// Tells whether this very object is here and has a name.
    fn is_alive(&self, (id, birth): Key) -> bool {
        match self.object(id) {
            Object::Own(inode) => inode.birth == birth && inode.nlink > 0,
            Object::Base(_) => birth == 0,
            Object::Gone => false,
        }
    }
}

/// Joins what lies in both of two sorted lists of ranges.
fn overlap(one: &[Range<u64>], two: &[Range<u64>]) -> Vec<(u64, u64)> {
    let mut both = Vec::new();
    for a in one {
        for b in two {
            let (start, end) = (a.start.max(b.start), a.end.min(b.end));
            if start < end {
                both.push((start, end));
            }
        }
    }
    both
}
