//! What differs between two states of one image, object by object.
//!
//! The maps of two states that came of one another share most of their nodes,
//! and comparing skips what they share. So the cost follows what differs. An
//! object is the same in both if number and branch are (see `fork`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use imbl::ordmap::DiffItem;

use super::dir::DirBody;
use super::inode::{Body, Inode};
use super::{Object, Overlay, steps};
use crate::budget::Charge;
use crate::meta::FileId;
use crate::name::Name;

/// An object in all states: its number and the branch that made it.
pub(super) type ObjectKey = (FileId, u64);

/// A directory and a name in it.
pub(super) type DirEntryKey = (FileId, Name);

/// What differs between an earlier state and a later one.
#[derive(Default)]
pub(super) struct Delta {
    /// All objects that are not the same in both, in order.
    pub(super) ids: Vec<FileId>,
    /// The names that each object has lost and gained.
    pub(super) names: BTreeMap<ObjectKey, Names>,
    /// Directories with an entry lost or gained.
    pub(super) dirs: BTreeSet<FileId>,
}

/// The names that an object has lost and gained. One that went and came again
/// is in both.
#[derive(Default)]
pub(super) struct Names {
    pub(super) lost: BTreeSet<DirEntryKey>,
    pub(super) gained: BTreeSet<DirEntryKey>,
}

impl Names {
    /// Those of the earlier state that the later one lacks.
    pub(super) fn gone(&self) -> impl Iterator<Item = &DirEntryKey> {
        self.lost.difference(&self.gained)
    }

    /// Those of the later state that the earlier one lacks.
    pub(super) fn came(&self) -> impl Iterator<Item = &DirEntryKey> {
        self.gained.difference(&self.lost)
    }
}

impl Overlay {
    /// Compares this state with a later one: objects, and entries of
    /// directories. O(n log n) in what differs.
    pub(super) fn delta(&self, later: &Self) -> Delta {
        let differing = self.inodes.diff(&later.inodes);
        let ids = differing.map(|item| match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) => *id,
            DiffItem::Update { new, .. } => *new.0,
        });
        let mut delta = Delta {
            ids: ids.collect(),
            ..Delta::default()
        };
        for at in 0..delta.ids.len() {
            if let Some(id) = delta.ids.get(at) {
                delta.compare_entries(*id, self, later);
            }
        }
        delta
    }

    /// The object at `id` as if it had been changed here, if it has a name.
    pub(super) fn living(&self, id: FileId) -> Option<Cow<'_, Inode>> {
        match self.object(id) {
            Object::Own(inode) => (inode.nlink > 0).then_some(Cow::Borrowed(inode)),
            Object::Base(node) => {
                let inode = Inode::of_base(&self.image, node, Charge::default());
                Some(Cow::Owned(inode))
            }
            Object::Gone => None,
        }
    }

    /// A directory and a name in it that lead to `id`; `None` if none do. O(log
    /// names), or O(names that it has in the base) if only those are left.
    pub(super) fn a_name_of(&self, id: FileId) -> Option<DirEntryKey> {
        if let Some(inode) = self.changed(id) {
            if inode.nlink == 0 {
                return None;
            }
            if let Some(name) = inode.given.any() {
                return Some(name.clone());
            }
        }
        let slots = self.image.slots_of(self.node(id)?);
        slots.into_iter().find_map(|slot| {
            steps::add(1);
            let dir = FileId::of_node(self.image.dir_of(slot));
            let entry = self.image.slot(slot)?;
            self.leads(dir, entry.name, id)
                .then(|| (dir, Name::from_checked(entry.name)))
        })
    }

    /// Returns the directories that have a name for `id`, once for each name.
    /// O(names log entries).
    pub(super) fn dirs_of(&self, id: FileId) -> Vec<FileId> {
        let given = self.changed(id).into_iter().flat_map(|it| it.given.iter());
        let mut dirs: Vec<FileId> = given.map(|(dir, _)| *dir).collect();
        if let Some(node) = self.node(id) {
            dirs.extend(self.image.slots_of(node).filter_map(|slot| {
                let dir = FileId::of_node(self.image.dir_of(slot));
                let name = self.image.slot(slot)?.name;
                // A name that was given anew is among those above.
                self.leads(dir, name, id).then_some(dir)
            }));
        }
        dirs
    }

    fn leads(&self, dir: FileId, name: &[u8], to: FileId) -> bool {
        !self.is_removed(dir) && self.find(dir, name).is_some_and(|found| found.id == to)
    }
}

impl Delta {
    /// Compares the entries of a directory that has changed, come or gone.
    fn compare_entries(&mut self, id: FileId, old: &Overlay, new: &Overlay) {
        let same = old.birth(id) == new.birth(id);
        let (before, after) = (old.living(id), new.living(id));
        let (before, after) = (dir_body(before.as_deref()), dir_body(after.as_deref()));
        let (mut lost, mut gained) = (Vec::new(), Vec::new());
        match (before, after) {
            (Some(before), Some(after)) if same && before.base() == after.base() => before.compare(
                after,
                &old.image,
                &mut |id, name| lost.push((id, Name::from_checked(name))),
                &mut |id, name| gained.push((id, Name::from_checked(name))),
            ),
            (before, after) => {
                lost = before.map_or_else(Vec::new, |dir| all_entries(old, dir));
                gained = after.map_or_else(Vec::new, |dir| all_entries(new, dir));
            }
        }
        if !lost.is_empty() || !gained.is_empty() {
            self.dirs.insert(id);
        }
        for (child, name) in lost {
            steps::add(1);
            let key = (child, old.birth(child).unwrap_or(0));
            self.names.entry(key).or_default().lost.insert((id, name));
        }
        for (child, name) in gained {
            steps::add(1);
            let key = (child, new.birth(child).unwrap_or(0));
            self.names.entry(key).or_default().gained.insert((id, name));
        }
    }
}

fn dir_body(inode: Option<&Inode>) -> Option<&DirBody> {
    match inode.map(|inode| &inode.body) {
        Some(Body::Dir(dir)) => Some(dir),
        Some(Body::File(_) | Body::Symlink(_)) | None => None,
    }
}

fn all_entries(tree: &Overlay, dir: &DirBody) -> Vec<(FileId, Name)> {
    let mut entries = Vec::new();
    let _: ControlFlow<()> = dir.list(&tree.image, 0, u64::MAX, &mut |listed| {
        entries.push((listed.id, Name::from_checked(listed.name)));
        ControlFlow::Continue(())
    });
    entries
}
