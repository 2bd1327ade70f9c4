//! What a merge is going to do, and the making of it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Overlay;
use super::super::delta::{DirEntryKey, ObjectKey};
use super::super::inode::Inode;
use super::{Conflict, Conflicts, MergeReads, Merger};
use crate::errno::Errno;
use crate::meta::{FileId, Kind, Time};

/// What is to be done to this state, in the order of the fields.
#[derive(Default)]
pub(super) struct MergePlan {
    pub(super) bytes: Vec<(FileId, NewBytes)>,
    pub(super) metas: Vec<(FileId, NewMeta)>,
    /// Objects of theirs to be made here, without a name at first.
    pub(super) made: Vec<ObjectKey>,
    /// Names to be taken away, each from the object given.
    pub(super) detach: Vec<(DirEntryKey, FileId)>,
    /// Names to be given.
    pub(super) attach: Vec<Attach>,
    /// Objects that have no name in the end.
    pub(super) gone: Vec<FileId>,
}

/// Where the new bytes of a file come from.
pub(super) enum NewBytes {
    /// Theirs, whole: nothing was changed here.
    Theirs,
    /// Both: each side's where it changed them. The size is the one given.
    Both(super::bytes::SideChanges),
}

/// What an object's metadata become; what is absent stays.
pub(super) struct NewMeta {
    pub(super) owners: Option<(u32, u32, u32)>,
    pub(super) atime: Option<Time>,
    pub(super) mtime: Option<Time>,
}

/// A name to be given.
pub(super) struct Attach {
    pub(super) what: PlannedObject,
    pub(super) kind: Kind,
    pub(super) dir: PlannedObject,
    pub(super) name: crate::name::Name,
}

/// An object of this state as it is going to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum PlannedObject {
    /// One that is here.
    Here(FileId),
    /// One of [`MergePlan::made`], by its place.
    Made(usize),
}

/// A plan in the making.
pub(super) struct Planner<'a, 'm> {
    pub(super) merger: &'m mut Merger<'a>,
    pub(super) ours: &'m Overlay,
    pub(super) reading: MergeReads,
    pub(super) plan: MergePlan,
    pub(super) conflicts: Conflicts<'m>,
    /// What stands here for objects that theirs made.
    pub(super) stand_ins: BTreeMap<ObjectKey, PlannedObject>,
    /// The entries of [`MergePlan::detach`].
    pub(super) detached: BTreeSet<DirEntryKey>,
    /// The names that objects lose and gain by the plan.
    pub(super) counts: BTreeMap<PlannedObject, NameCount>,
    /// Objects that a conflict about names was noted of.
    pub(super) refused: BTreeSet<PlannedObject>,
}

/// How many names an object loses and gains.
#[derive(Clone, Copy, Default)]
pub(super) struct NameCount {
    pub(super) lost: u32,
    pub(super) gained: u32,
}

impl<'a: 'm, 'm> Planner<'a, 'm> {
    pub(super) fn new(merger: &'m mut Merger<'a>, ours: &'m Overlay, reading: MergeReads) -> Self {
        let conflicts = Conflicts::new(merger.base, merger.theirs, ours);
        Self {
            merger,
            ours,
            reading,
            plan: MergePlan::default(),
            conflicts,
            stand_ins: BTreeMap::new(),
            detached: BTreeSet::new(),
            counts: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Returns the plan, which is good only if there are no conflicts.
    pub(super) fn finish(self) -> Result<(MergePlan, Vec<Conflict>), Errno> {
        Ok((self.plan, self.conflicts.finish()?))
    }

    /// What is here for an object of theirs, by now or before; `None` if there
    /// is nothing.
    pub(super) fn here(&self, key: ObjectKey) -> Option<PlannedObject> {
        if let Some(target) = self.stand_ins.get(&key) {
            return Some(*target);
        }
        self.ours
            .is_alive(key)
            .then_some(PlannedObject::Here(key.0))
    }

    pub(super) fn was_in_base(&self, (id, birth): ObjectKey) -> bool {
        let was = self.merger.base.living(id);
        was.is_some_and(|was| was.birth == birth)
    }
}

pub(super) fn owners(inode: &Inode) -> (u32, u32, u32) {
    (inode.mode, inode.uid, inode.gid)
}
