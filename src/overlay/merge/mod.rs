//! Three-way merge: what another state changed since a common one, done here
//! as well. In three passes, each of which changes nothing that another reads:
//!
//! 1. What differs between the common state and either side, object by object
//!    ([`Delta`]). An object keeps number and branch in all states, so that a
//!    file edited there and renamed here is one file.
//! 2. A plan ([`plan`]) of what is to be done: first bytes and metadata
//!    ([`objects`]), then names, parents first ([`names`]). All conflicts are
//!    found here, by looking at the three states and at the plan so far. A
//!    plan without a conflict fits together: no name is given twice, no
//!    directory lies in itself, nothing that is kept lies in what goes.
//! 3. The plan is carried out on a copy of this state ([`apply`]), which costs
//!    O(1) to make. It takes the place of this state in one step, under the
//!    lock, if this is still the state that it was made from.
//!
//! The first two passes compare bytes, which may have to be read from a store.
//! So all three run on states that no lock is around, and are run again if the
//! instance went on meanwhile: see `Fs::merge`.

mod apply;
mod bytes;
mod names;
mod objects;
mod plan;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::delta::{Delta, DirEntryKey, ObjectKey};
use super::inode::{Body, Inode};
use super::maps::ByPtr;
use super::paths::{PathNumber, PathTable, TreePath};
use super::{Object, Overlay};
use crate::errno::Errno;
use crate::image::Image;
use crate::meta::{FileId, Time};
use plan::{MergePlan, Planner};

/// Something that both sides of a merge changed, each in its own way. Paths
/// are of the common state for what was there, else of the other state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// A file has other bytes on both sides.
    Content {
        /// Its path.
        path: TreePath,
        /// Where both changed it, by the block; empty if only the sizes differ.
        ranges: Vec<Range<u64>>,
    },
    /// Mode or owner were changed on both sides.
    Meta {
        /// Its path.
        path: TreePath,
    },
    /// One side removed what the other changed, renamed, or put an entry into.
    Removed {
        /// Its path.
        path: TreePath,
    },
    /// Both sides renamed it, to different places.
    Renamed {
        /// Its path in the common state.
        path: TreePath,
    },
    /// Both sides gave a name to different objects.
    Name {
        /// The name.
        path: TreePath,
    },
    /// Each side moved a directory so that one would come to lie in itself.
    Loop {
        /// Its path.
        path: TreePath,
    },
    /// A preopened directory would be removed, replaced or moved.
    Busy {
        /// Its path.
        path: TreePath,
    },
}

/// Why two states were not merged. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// What both sides changed, sorted by path.
    #[error("{}", summary(.0))]
    Conflicts(Vec<Conflict>),
    /// Anything else: see [`Fs::merge`](crate::vfs::Fs::merge).
    #[error(transparent)]
    Errno(#[from] Errno),
}

/// A merge of one state into another that may have to be tried more than once,
/// since the state that it is merged into goes on meanwhile. What was compared
/// for one attempt is not compared again for the next.
pub(crate) struct Merger<'a> {
    base: &'a Overlay,
    theirs: &'a Overlay,
    now: Time,
    there: Delta,
    compared_there: Compared,
    compared_here: Compared,
}

/// Whether a merge may read bytes that are not in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeReads {
    /// It may: no lock is held.
    Allowed,
    /// It ends with [`Errno::Busy`] where it would have to.
    Refused,
}

/// What comes of a merge, to take the place of the state that it was made of.
pub(crate) struct Merged(Overlay);

/// Says how many conflicts there are, and what the first one is.
fn summary(conflicts: &[Conflict]) -> String {
    match conflicts.first() {
        Some(first) => format!("{} conflicts, the first: {first:?}", conflicts.len()),
        None => "no conflicts".to_owned(),
    }
}

impl<'a> Merger<'a> {
    /// Starts a merge of what `theirs` changed since `base`. O(what differs).
    ///
    /// # Errors
    ///
    /// [`Errno::CrossDevice`] if either is not over `image`, [`Errno::Invalid`]
    /// if `base` is no earlier state of `theirs`, [`Errno::Io`] if the image is
    /// damaged where they differ.
    pub(crate) fn new(
        image: &Image,
        base: &'a Overlay,
        theirs: &'a Overlay,
        now: Time,
    ) -> Result<Self, Errno> {
        if [base, theirs].iter().any(|one| !one.image.is_same(image)) {
            return Err(Errno::CrossDevice);
        }
        image.begin();
        let there = base.delta(theirs);
        base.expect_ancestor_of(theirs, &there)?;
        image.check_undamaged()?;
        Ok(Self {
            base,
            theirs,
            now,
            there,
            compared_there: Compared::default(),
            compared_here: Compared::default(),
        })
    }

    /// Makes what `ours` becomes. O(n log n) in the objects, entries and blocks
    /// that differ between `base` and either side, and the bytes of blocks that
    /// both changed, or of files that both made under one name.
    ///
    /// # Errors
    ///
    /// As [`Fs::merge`](crate::vfs::Fs::merge) has them, quotas apart.
    pub(crate) fn merge(
        &mut self,
        ours: &Overlay,
        reading: MergeReads,
    ) -> Result<Merged, MergeError> {
        ours.image.begin();
        let here = self.base.delta(ours);
        self.base.expect_ancestor_of(ours, &here)?;
        let mut planner = Planner::new(self, ours, reading);
        planner.plan_objects()?;
        planner.plan_names()?;
        let (plan, conflicts) = planner.finish()?;
        for state in [self.base, self.theirs, ours] {
            state.check_undamaged()?;
        }
        if !conflicts.is_empty() {
            return Err(MergeError::Conflicts(conflicts));
        }
        self.apply(ours, plan, reading).map_err(MergeError::Errno)
    }

    fn apply(&self, ours: &Overlay, plan: MergePlan, reading: MergeReads) -> Result<Merged, Errno> {
        if reading == MergeReads::Refused && plan.reads_at_rest(ours, self.theirs) {
            return Err(Errno::Busy);
        }
        plan.apply(ours, self.theirs, self.now).map(Merged)
    }
}

/// Where files differ between the common state and one side, by file. Each
/// answer is kept with the object it is about: a side that goes on has another.
#[derive(Default)]
struct Compared(BTreeMap<FileId, ComparedFile>);

type ComparedFile = (Option<ByPtr<Inode>>, Arc<[Range<u64>]>);

impl Compared {
    /// Returns where the file `id` of `base` differs in `side`: see
    /// [`Overlay::ranges`].
    ///
    /// # Errors
    ///
    /// [`Errno::Busy`] if bytes at rest would have to be read for it and must
    /// not be.
    fn ranges(
        &mut self,
        id: FileId,
        (base, was): (&Overlay, &Inode),
        (side, is): (&Overlay, &Inode),
        reading: MergeReads,
    ) -> Result<Arc<[Range<u64>]>, Errno> {
        let (Body::File(was), Body::File(is)) = (&was.body, &is.body) else {
            return Ok(Arc::default());
        };
        let held = side.inodes.get(&id).cloned().flatten();
        if let Some((seen, ranges)) = self.0.get(&id)
            && *seen == held
        {
            return Ok(Arc::clone(ranges));
        }
        let unchanged = match (&held, base.inodes.get(&id)) {
            (Some(one), Some(Some(two))) => one == two,
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return Ok(Arc::default());
        }
        if reading == MergeReads::Refused && (base.is_at_rest(was) || side.is_at_rest(is)) {
            return Err(Errno::Busy);
        }
        let ranges: Arc<[_]> = base.ranges(side, id, was, is).into();
        self.0.insert(id, (held, Arc::clone(&ranges)));
        Ok(ranges)
    }
}

/// The conflicts that were found, and the paths to name them by.
struct Conflicts<'a> {
    /// Of the common state, the other one and this one, in this order.
    paths: PathTable<'a>,
    found: Vec<(PathNumber, Conflict)>,
}

/// The states of [`Conflicts::paths`], by place.
const STATES: usize = 3;
const THEIRS: usize = 1;

impl<'a> Conflicts<'a> {
    fn new(base: &'a Overlay, theirs: &'a Overlay, ours: &'a Overlay) -> Self {
        Self {
            paths: PathTable::new(&[base, theirs, ours]),
            found: Vec::new(),
        }
    }

    /// Notes a conflict about an object, by its path in the first of the
    /// states that has it.
    fn of(&mut self, id: FileId, conflict: impl FnOnce(TreePath) -> Conflict) {
        let paths = &mut self.paths;
        let number = (0..STATES).find_map(|state| paths.of(state, id));
        self.add(number, conflict);
    }

    /// Notes a conflict about a name of theirs.
    fn of_entry(&mut self, entry: &DirEntryKey, conflict: impl FnOnce(TreePath) -> Conflict) {
        let number = self.paths.of_entry(THEIRS, entry);
        self.add(number, conflict);
    }

    fn add(&mut self, number: Option<PathNumber>, conflict: impl FnOnce(TreePath) -> Conflict) {
        // Only over a damaged base does an object of a delta have no path. The conflict is
        // named by the root then, and nobody sees it: `merge` asks whether its states are
        // undamaged before it gives conflicts out.
        let number = number.unwrap_or_default();
        let path = self.paths.path(number);
        self.found.push((number, conflict(path)));
    }

    /// Returns all of them, each once, sorted by path.
    ///
    /// # Errors
    ///
    /// [`Errno::Io`] if the path of one was lost, which is a bug.
    fn finish(self) -> Result<Vec<Conflict>, Errno> {
        if self.found.is_empty() {
            return Ok(Vec::new());
        }
        self.paths.check()?;
        let ranks = self.paths.ranks();
        let mut found = self.found;
        found.sort_by_key(|(path, conflict)| (ranks.get(*path), conflict.rank()));
        found.dedup_by(|one, two| one.0 == two.0 && one.1 == two.1);
        Ok(found.into_iter().map(|(_, conflict)| conflict).collect())
    }
}

impl Conflict {
    /// Sorts conflicts of one path.
    fn rank(&self) -> u8 {
        match self {
            Self::Content { .. } => 0,
            Self::Meta { .. } => 1,
            Self::Removed { .. } => 2,
            Self::Renamed { .. } => 3,
            Self::Name { .. } => 4,
            Self::Loop { .. } => 5,
            Self::Busy { .. } => 6,
        }
    }
}

impl Overlay {
    /// [`Errno::Invalid`] if a number stands for one object here and for
    /// another in a state that `delta` leads to: then this is no earlier state
    /// of it.
    fn expect_ancestor_of(&self, later: &Self, delta: &Delta) -> Result<(), Errno> {
        let differs = |id: &FileId| match (self.birth(*id), later.birth(*id)) {
            (Some(one), Some(two)) => one != two,
            _ => false,
        };
        if delta.ids.iter().any(differs) {
            Err(Errno::Invalid)
        } else {
            Ok(())
        }
    }

    /// Returns a copy to plan a merge from, which has the same directories
    /// pinned and the same branch. O(pins).
    pub(crate) fn copy_to_plan(&self) -> Self {
        Self {
            branch: self.branch,
            pinned: self.pinned.clone(),
            ..self.snapshot()
        }
    }

    /// Returns whether nothing that a merge depends on has changed since `copy`
    /// was made of this. O(pins).
    ///
    /// Called under the lock of the instance, right before [`Self::succeeded_by`]: between
    /// the two nothing may change, or the change would be lost. All changes of files,
    /// names and metadata replace the root of `inodes`, so that comparing its address is
    /// enough; descriptors and rules, which do not, are taken over by `succeeded_by`.
    pub(crate) fn is_still(&self, copy: &Self) -> bool {
        self.inodes.ptr_eq(&copy.inodes)
            && (self.next, self.branch) == (copy.next, copy.branch)
            && self.pinned == copy.pinned
    }

    /// Prepares what comes of a merge to take the place of this state, which
    /// is the one that it was made from: descriptors stay open, and what has
    /// lost its last name is freed unless one is. `None` if it exceeds the
    /// quotas. O(descriptors, and objects without a name).
    pub(crate) fn succeeded_by(&self, merged: Merged) -> Option<Self> {
        let mut next = merged.0;
        next.rules = self.rules.clone();
        next.open = self.open.clone();
        next.usage.open = self.usage.open;
        next.reap_orphans();
        next.fits(self.quota).then_some(next)
    }

    /// Returns whether this very object is here and has a name.
    fn is_alive(&self, (id, birth): ObjectKey) -> bool {
        match self.object(id) {
            Object::Own(inode) => inode.birth == birth && inode.nlink > 0,
            Object::Base(_) => birth == 0,
            Object::Gone => false,
        }
    }
}
