//! What differs between two states of one image, object by object.
//!
//! The maps of two states that came of one another share most of their nodes,
//! and comparing skips what they share. So the cost follows what differs. An
//! object is the same in both if number and branch are (see `fork`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::dir::DirBody;
use super::inode::{Body, Inode};
use super::{Object, Overlay};
use crate::budget::Hold;
use crate::errno::Errno;
use crate::meta::{FileId, Kind};
use crate::name::{LayerPath, Name};

/// One difference between an earlier and a later state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A name came: of a new object, or a further one of an old.
    Added {
        /// The name, in the later state.
        path: LayerPath,
        /// What it leads to.
        kind: Kind,
    },
    /// A name went, with its object or not.
    Removed {
        /// The name, in the earlier state.
        path: LayerPath,
        /// What it led to.
        kind: Kind,
    },
    /// An object has another name. What is below a directory is not told.
    Renamed {
        /// The name, in the earlier state.
        from: LayerPath,
        /// The name, in the later state.
        to: LayerPath,
        /// What it leads to.
        kind: Kind,
    },
    /// A file that is in both has other bytes.
    Content {
        /// Its name, in the later state.
        path: LayerPath,
        /// Where: in order, apart, by the block. All bytes outside are equal.
        ranges: Vec<Range<u64>>,
        /// Its size in the later state.
        size: u64,
    },
    /// An object that is in both has another mode, owner or time, other than
    /// by a change that is told.
    Meta {
        /// Its name, in the later state.
        path: LayerPath,
    },
}

impl Change {
    /// The path that the change is about; of a rename the new one.
    #[must_use]
    pub fn path(&self) -> &LayerPath {
        match self {
            Self::Added { path, .. }
            | Self::Removed { path, .. }
            | Self::Content { path, .. }
            | Self::Meta { path } => path,
            Self::Renamed { to, .. } => to,
        }
    }
}

/// An object in all states: its number and the branch that made it.
pub(super) type Key = (FileId, u64);

/// A directory and a name in it.
pub(super) type Spot = (FileId, Name);

/// The names that each object has lost and gained.
type Names = BTreeMap<Key, (BTreeSet<Spot>, BTreeSet<Spot>)>;

/// What [`Overlay::name_delta`] tells.
pub(super) struct NameDelta {
    /// All objects that differ.
    pub(super) ids: Vec<FileId>,
    pub(super) names: Names,
}

impl Overlay {
    /// Tells what has to be done to make `later` of this, sorted by path.
    /// O(what differs, each with its depth) beside the first look at an image.
    ///
    /// # Errors
    ///
    /// [`Errno::CrossDevice`] for another image, [`Errno::Io`] once the base is
    /// known to be damaged.
    pub(crate) fn changes(&self, later: &Self) -> Result<Vec<Change>, Errno> {
        if !self.image.is_same(&later.image) {
            return Err(Errno::CrossDevice);
        }
        let mut delta = Delta::new(self, later);
        let ids = self.differing(later);
        for id in &ids {
            delta.compare_entries(*id);
        }
        delta.tell_names();
        for id in &ids {
            delta.tell_replaced(*id);
        }
        for id in &ids {
            delta.compare_object(*id);
        }
        self.intact()?;
        delta.told.sort_by(|one, two| one.path().cmp(two.path()));
        Ok(delta.told)
    }

    /// The objects that are not the same in both, in order. O(what differs).
    pub(super) fn differing(&self, later: &Self) -> Vec<FileId> {
        let differing = self.inodes.diff(&later.inodes);
        differing
            .map(|item| match item {
                imbl::ordmap::DiffItem::Add(id, _) | imbl::ordmap::DiffItem::Remove(id, _) => *id,
                imbl::ordmap::DiffItem::Update { new, .. } => *new.0,
            })
            .collect()
    }

    /// The names that went and came between two states, an earlier and a later.
    pub(super) fn name_delta(&self, later: &Self) -> NameDelta {
        let mut delta = Delta::new(self, later);
        let ids = self.differing(later);
        for id in &ids {
            delta.compare_entries(*id);
        }
        let names = delta.names;
        NameDelta { ids, names }
    }

    /// A path of an object that has a name; `None` for one that has not.
    pub(super) fn path_of(&self, id: FileId) -> Option<LayerPath> {
        let mut names = Vec::new();
        let mut at = id;
        while at != FileId::ROOT {
            // A damaged base may have directories within themselves.
            self.intact().ok()?;
            let (dir, name) = self.spot_of(at)?;
            names.push(name);
            at = dir;
        }
        Some(
            names
                .into_iter()
                .rev()
                .fold(LayerPath::root(), |path, name| path.join(name)),
        )
    }

    /// A directory and a name in it that lead to `id`.
    pub(super) fn spot_of(&self, id: FileId) -> Option<Spot> {
        let leads = |dir: FileId, name: &[u8]| {
            !self.is_removed(dir) && self.find(dir, name).is_some_and(|found| found.id == id)
        };
        let inode = self.changed(id);
        if inode.is_some_and(|inode| inode.nlink == 0) {
            return None;
        }
        let place = inode.and_then(|inode| inode.place.as_ref());
        if let Some((dir, name)) = place.filter(|(dir, name)| leads(*dir, name.as_bytes())) {
            return Some((*dir, name.clone()));
        }
        let slots = self.node(id).map(|node| self.image.slots_of(node));
        for slot in slots.into_iter().flatten() {
            let dir = FileId::of_node(self.image.dir_of(slot));
            if let Some(entry) = self.image.slot(slot).filter(|entry| leads(dir, entry.name)) {
                return Some((dir, Name::from_checked(entry.name)));
            }
        }
        // A file that has lost the last name it was given but has others.
        self.inodes.iter().find_map(|(dir, held)| {
            let Body::Dir(entries) = &held.as_ref()?.body else {
                return None;
            };
            let own = entries.own_entries().find(|own| own.id == id)?;
            Some((*dir, own.name.clone()))
        })
    }

    /// The object at `id` as if it had been changed here, if it has a name.
    pub(super) fn living(&self, id: FileId) -> Option<Inode> {
        match self.object(id) {
            Object::Own(inode) => (inode.nlink > 0).then(|| inode.clone()),
            Object::Base(node) => Some(Inode::of_base(&self.image, node, Hold::default())),
            Object::Gone => None,
        }
    }
}

struct Delta<'a> {
    old: &'a Overlay,
    new: &'a Overlay,
    names: Names,
    /// Objects of either state whose names are told.
    named: BTreeSet<(Key, bool)>,
    /// Directories with an entry lost or gained.
    moved_in: BTreeSet<FileId>,
    told: Vec<Change>,
}

impl<'a> Delta<'a> {
    fn new(old: &'a Overlay, new: &'a Overlay) -> Self {
        Self {
            old,
            new,
            names: Names::new(),
            named: BTreeSet::new(),
            moved_in: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    /// Compares the entries of a directory that has changed, come or gone.
    fn compare_entries(&mut self, id: FileId) {
        let same = self.old.birth(id) == self.new.birth(id);
        let (before, after) = (self.old.living(id), self.new.living(id));
        let (before, after) = (dir_body(before.as_ref()), dir_body(after.as_ref()));
        let (mut lost, mut gained) = (Vec::new(), Vec::new());
        match (before, after) {
            (Some(before), Some(after)) if same && before.base() == after.base() => before.compare(
                after,
                &self.old.image,
                &mut |id, name| lost.push((id, Name::from_checked(name))),
                &mut |id, name| gained.push((id, Name::from_checked(name))),
            ),
            (before, after) => {
                lost = before.map_or_else(Vec::new, |dir| all_entries(self.old, dir));
                gained = after.map_or_else(Vec::new, |dir| all_entries(self.new, dir));
            }
        }
        if !lost.is_empty() || !gained.is_empty() {
            self.moved_in.insert(id);
        }
        for (child, name) in lost {
            let key = (child, self.old.birth(child).unwrap_or(0));
            self.names.entry(key).or_default().0.insert((id, name));
        }
        for (child, name) in gained {
            let key = (child, self.new.birth(child).unwrap_or(0));
            self.names.entry(key).or_default().1.insert((id, name));
        }
    }

    /// Pairs names lost with names gained; what is left over came or went.
    fn tell_names(&mut self) {
        for ((id, birth), (lost, gained)) in std::mem::take(&mut self.names) {
            for (names, late) in [(&lost, false), (&gained, true)] {
                if !names.is_empty() {
                    self.named.insert(((id, birth), late));
                }
            }
            let mut gone = lost.difference(&gained);
            let mut come = gained.difference(&lost);
            loop {
                let (from, to) = (gone.next(), come.next());
                let told =
                    match (from, to) {
                        (None, None) => break,
                        (Some(from), Some(to)) => spell(self.old, from)
                            .zip(spell(self.new, to))
                            .map(|(from, to)| Change::Renamed {
                                from,
                                to,
                                kind: self.new.kind(id),
                            }),
                        (Some(from), None) => spell(self.old, from).map(|path| Change::Removed {
                            path,
                            kind: self.old.kind(id),
                        }),
                        (None, Some(to)) => spell(self.new, to).map(|path| Change::Added {
                            path,
                            kind: self.new.kind(id),
                        }),
                    };
                self.told.extend(told);
            }
        }
    }

    /// Compares bytes and metadata of an object that is in both.
    fn compare_object(&mut self, id: FileId) {
        let (Some(before), Some(after)) = (self.old.living(id), self.new.living(id)) else {
            return;
        };
        if before.birth != after.birth {
            return;
        }
        let Some(path) = self.new.path_of(id) else {
            return;
        };
        let mut told = self.moved_in.contains(&id);
        if let (Body::File(one), Body::File(two)) = (&before.body, &after.body) {
            let ranges = self.old.ranges(self.new, id, one, two);
            if !ranges.is_empty() {
                told = true;
                self.told.push(Change::Content {
                    path: path.clone(),
                    ranges,
                    size: two.size(),
                });
            }
        }
        let owners = |inode: &Inode| (inode.mode, inode.uid, inode.gid);
        let times = |inode: &Inode| (inode.atime, inode.mtime);
        if owners(&before) != owners(&after) || (!told && times(&before) != times(&after)) {
            self.told.push(Change::Meta { path });
        }
    }

    /// Tells of two objects that were given one number on two branches. Their
    /// directory's entries look alike, so the names are not told so far.
    fn tell_replaced(&mut self, id: FileId) {
        let births = self.old.birth(id).zip(self.new.birth(id));
        let Some((one, two)) = births.filter(|(one, two)| one != two) else {
            return;
        };
        if !self.named.contains(&((id, one), false))
            && let Some(spot) = self.old.spot_of(id)
        {
            self.moved_in.insert(spot.0);
            let kind = self.old.kind(id);
            self.told
                .extend(spell(self.old, &spot).map(|path| Change::Removed { path, kind }));
        }
        if !self.named.contains(&((id, two), true))
            && let Some(spot) = self.new.spot_of(id)
        {
            self.moved_in.insert(spot.0);
            let kind = self.new.kind(id);
            self.told
                .extend(spell(self.new, &spot).map(|path| Change::Added { path, kind }));
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
    let _: std::ops::ControlFlow<()> = dir.list(&tree.image, 0, u64::MAX, &mut |listed| {
        entries.push((listed.id, Name::from_checked(listed.name)));
        std::ops::ControlFlow::Continue(())
    });
    entries
}

fn spell(tree: &Overlay, (dir, name): &Spot) -> Option<LayerPath> {
    Some(tree.path_of(*dir)?.join(name.clone()))
}
