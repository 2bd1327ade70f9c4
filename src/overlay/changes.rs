//! What differs between two states of one image, told by path.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Overlay;
use super::delta::{Delta, DirEntryKey, ObjectKey};
use super::inode::{Body, Inode};
use super::paths::{PathNumber, PathTable, TreePath};
use crate::errno::Errno;
use crate::meta::{FileId, Kind};

/// One difference between an earlier and a later state.
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::vfs::{Change, Fs};
///
/// let fs = Fs::new(&Image::empty());
/// fs.write("/report", "all is well")?;
/// for change in fs.changes()? {
///     assert!(matches!(change, Change::Added { .. }));
///     assert_eq!((change.path().to_string(), change.size()), ("report".to_owned(), 11));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A name came: of a new object, or a further one of an old.
    Added {
        /// The name, in the later state.
        path: TreePath,
        /// What it leads to.
        kind: Kind,
        /// The size of the file, or of a link's target; 0 for a directory.
        size: u64,
    },
    /// A name went, with its object or not.
    Removed {
        /// The name, in the earlier state.
        path: TreePath,
        /// What it led to.
        kind: Kind,
        /// The size that it had, as for [`Added`](Self::Added).
        size: u64,
    },
    /// An object has another name. What is below a directory is not told.
    Renamed {
        /// The name, in the earlier state.
        from: TreePath,
        /// The name, in the later state.
        to: TreePath,
        /// What it leads to.
        kind: Kind,
        /// Its size in the later state, as for [`Added`](Self::Added).
        size: u64,
    },
    /// A file that is in both has other bytes.
    Content {
        /// Its name, in the later state.
        path: TreePath,
        /// Where: in order, apart, by the block. All bytes outside are equal.
        ranges: Vec<Range<u64>>,
        /// Its size in the later state.
        size: u64,
    },
    /// An object that is in both has another mode, owner or time, other than
    /// by a change that is told.
    Meta {
        /// Its name, in the later state.
        path: TreePath,
        /// What it is.
        kind: Kind,
        /// Its size, as for [`Added`](Self::Added).
        size: u64,
    },
}

impl Change {
    /// Returns the path that the change is about; of a rename the new one.
    ///
    /// Every call on [`Fs`](crate::vfs::Fs) takes it as a path, whatever bytes a
    /// guest put into it.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        match self {
            Self::Added { path, .. }
            | Self::Removed { path, .. }
            | Self::Content { path, .. }
            | Self::Meta { path, .. } => path,
            Self::Renamed { to, .. } => to,
        }
    }

    /// Returns what kind of object the change is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Added { kind, .. }
            | Self::Removed { kind, .. }
            | Self::Renamed { kind, .. }
            | Self::Meta { kind, .. } => *kind,
            Self::Content { .. } => Kind::File,
        }
    }

    /// Returns the size of the file, or of a link's target, in the later state, or
    /// in the earlier one if it was removed; 0 for a directory.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Added { size, .. }
            | Self::Removed { size, .. }
            | Self::Renamed { size, .. }
            | Self::Content { size, .. }
            | Self::Meta { size, .. } => *size,
        }
    }
}

impl Overlay {
    /// Returns what has to be done to make `later` of this, sorted by path.
    ///
    /// O(n log n) in the objects, entries, blocks and directories above them
    /// that differ, beside the first look at an image. Paths are not spelt, so
    /// that neither time nor memory depends on their length.
    ///
    /// # Errors
    ///
    /// [`Errno::CrossDevice`] for another image, [`Errno::Io`] once the base is
    /// known to be damaged.
    pub(crate) fn changes(&self, later: &Self) -> Result<Vec<Change>, Errno> {
        if !self.image.is_same(&later.image) {
            return Err(Errno::CrossDevice);
        }
        self.image.begin();
        let delta = self.delta(later);
        let mut changes = ChangeLister {
            old: self,
            new: later,
            paths: PathTable::new(&[self, later]),
            named: BTreeSet::new(),
            moved_in: delta.dirs.clone(),
            reported: Vec::new(),
        };
        changes.emit_names(&delta);
        for id in &delta.ids {
            changes.emit_replaced(*id);
        }
        for id in &delta.ids {
            changes.compare_object(*id);
        }
        self.check_undamaged()?;
        changes.paths.check()?;
        Ok(changes.finish())
    }
}

/// The states that a [`PathTable`] of changes is for, by place.
const OLD: usize = 0;
const NEW: usize = 1;

/// The size of an object as `stat` returns it.
fn size(tree: &Overlay, id: FileId) -> u64 {
    tree.stat(id).map_or(0, |stat| stat.size)
}

struct ChangeLister<'a> {
    old: &'a Overlay,
    new: &'a Overlay,
    paths: PathTable<'a>,
    /// Objects of either state whose names are reported.
    named: BTreeSet<(ObjectKey, usize)>,
    /// Directories with an entry lost or gained.
    moved_in: BTreeSet<FileId>,
    /// With the path that each is sorted by.
    reported: Vec<(PathNumber, Change)>,
}

impl ChangeLister<'_> {
    /// Returns all that was reported, sorted by path.
    fn finish(self) -> Vec<Change> {
        let ranks = self.paths.ranks();
        let mut reported = self.reported;
        reported.sort_by_key(|(path, _)| ranks.get(*path));
        reported.into_iter().map(|(_, change)| change).collect()
    }

    /// Pairs names lost with names gained; what is left over came or went.
    fn emit_names(&mut self, delta: &Delta) {
        for (key, names) in &delta.names {
            if !names.lost.is_empty() {
                self.named.insert((*key, OLD));
            }
            if !names.gained.is_empty() {
                self.named.insert((*key, NEW));
            }
            let (mut gone, mut came) = (names.gone(), names.came());
            loop {
                match (gone.next(), came.next()) {
                    (None, None) => break,
                    (Some(from), Some(to)) => self.emit_renamed(key.0, from, to),
                    (Some(from), None) => self.emit_removed(key.0, from),
                    (None, Some(to)) => self.emit_added(key.0, to),
                }
            }
        }
    }

    fn emit_renamed(&mut self, id: FileId, from: &DirEntryKey, to: &DirEntryKey) {
        let ends = (self.paths.of_entry(OLD, from), self.paths.of_entry(NEW, to));
        if let (Some(from), Some(to)) = ends {
            let change = Change::Renamed {
                from: self.paths.path(from),
                to: self.paths.path(to),
                kind: self.new.kind(id),
                size: size(self.new, id),
            };
            self.reported.push((to, change));
        }
    }

    fn emit_removed(&mut self, id: FileId, entry: &DirEntryKey) {
        if let Some(number) = self.paths.of_entry(OLD, entry) {
            let path = self.paths.path(number);
            let (kind, size) = (self.old.kind(id), size(self.old, id));
            self.reported
                .push((number, Change::Removed { path, kind, size }));
        }
    }

    fn emit_added(&mut self, id: FileId, entry: &DirEntryKey) {
        if let Some(number) = self.paths.of_entry(NEW, entry) {
            let path = self.paths.path(number);
            let (kind, size) = (self.new.kind(id), size(self.new, id));
            self.reported
                .push((number, Change::Added { path, kind, size }));
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
        let mut reported = self.moved_in.contains(&id);
        if let (Body::File(one), Body::File(two)) = (&before.body, &after.body) {
            let ranges = self.old.ranges(self.new, id, one, two);
            if !ranges.is_empty() {
                reported = true;
                let size = two.size();
                self.emit_of(id, |path| Change::Content { path, ranges, size });
            }
        }
        let owners = |inode: &Inode| (inode.mode, inode.uid, inode.gid);
        let times = |inode: &Inode| (inode.atime, inode.mtime);
        if owners(&before) != owners(&after) || (!reported && times(&before) != times(&after)) {
            let (kind, size) = (self.new.kind(id), size(self.new, id));
            self.emit_of(id, |path| Change::Meta { path, kind, size });
        }
    }

    /// Reports a change of an object by its path in the later state.
    fn emit_of(&mut self, id: FileId, change: impl FnOnce(TreePath) -> Change) {
        if let Some(number) = self.paths.of(NEW, id) {
            let path = self.paths.path(number);
            self.reported.push((number, change(path)));
        }
    }

    /// Reports two objects that were given one number on two branches. Their
    /// directory's entries look alike, so the names are not reported so far.
    fn emit_replaced(&mut self, id: FileId) {
        let births = self.old.birth(id).zip(self.new.birth(id));
        let Some((one, two)) = births.filter(|(one, two)| one != two) else {
            return;
        };
        if !self.named.contains(&((id, one), OLD))
            && let Some(entry) = self.old.a_name_of(id)
        {
            self.moved_in.insert(entry.0);
            self.emit_removed(id, &entry);
        }
        if !self.named.contains(&((id, two), NEW))
            && let Some(entry) = self.new.a_name_of(id)
        {
            self.moved_in.insert(entry.0);
            self.emit_added(id, &entry);
        }
    }
}
