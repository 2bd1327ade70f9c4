//! Directories of other file systems and files of the host's making at paths
//! of an instance.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Fs;
use super::descriptor::Rights;
use super::fs::find_dir;
use super::place::make_dirs;
use super::virtual_file::VirtualFile;
use super::walk::{End, Follow, Last, Start, resolve};
use crate::errno::Errno;
use crate::limits::MAX_MOUNTS;
use crate::meta::{FileId, Kind};
use crate::overlay::{New, Overlay, Rule};

/// One mount at a time in the process, so that two cannot make a circle.
static MOUNTING: Mutex<()> = Mutex::new(());

/// A directory of another file system that is shown in place of one here.
#[derive(Clone)]
pub(super) struct DirMount(Arc<Shown>);

/// A directory that is pinned for as long as it is mounted somewhere. It takes
/// none of the descriptors that its users share.
struct Shown {
    fs: Fs,
    id: FileId,
    rights: Rights,
}

impl DirMount {
    fn new(fs: &Fs, path: &[u8], rights: Rights) -> Result<Self, Errno> {
        let mut state = fs.lock();
        let id = find_dir(&state, path)?;
        state.pin(id);
        let fs = fs.clone();
        Ok(Self(Arc::new(Shown { fs, id, rights })))
    }

    pub(super) fn fs(&self) -> &Fs {
        &self.0.fs
    }

    pub(super) fn id(&self) -> FileId {
        self.0.id
    }

    pub(super) fn rights(&self) -> Rights {
        self.0.rights
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.fs.lock().unpin(self.id);
    }
}

/// A host's file that is shown in place of one here.
#[derive(Clone)]
pub(super) struct FileMount {
    pub(super) file: Arc<dyn VirtualFile>,
    pub(super) writable: bool,
}

/// What is shown in place of objects of an instance. Forks have the same.
#[derive(Clone, Default)]
pub(super) struct Mounts {
    dirs: HashMap<FileId, DirMount>,
    files: HashMap<FileId, FileMount>,
}

impl Mounts {
    /// Keeps the directories that something is mounted on where they are.
    pub(super) fn pin(&self, state: &mut Overlay) {
        for id in self.dirs.keys() {
            state.pin(*id);
        }
    }

    /// [`Errno::Busy`] if `later` lacks a directory that something is mounted on.
    pub(super) fn check(&self, state: &Overlay, later: &Overlay) -> Result<(), Errno> {
        let mut all = self.dirs.keys();
        if all.all(|id| state.shares(later, *id)) {
            Ok(())
        } else {
            Err(Errno::Busy)
        }
    }

    fn len(&self) -> usize {
        self.dirs.len() + self.files.len()
    }
}

impl Fs {
    /// Shows the directory at `other_path` of another file system at `path`
    /// of this one: an instance that others use too, or a part of an image.
    /// A walk from above leads into it by name, and `..` back out; links may
    /// cross both ways. Directories missing on the way are made, also in a
    /// read-only instance, and the last is listed above and cannot be removed,
    /// replaced or moved ([`Errno::Busy`]), nor can `other_path` there. With
    /// [`Rights::ReadOnly`] nothing is changed through it.
    ///
    /// All below belongs to the other file system: its device, numbers, quotas,
    /// rules. Between the two rename and link give [`Errno::CrossDevice`]. A
    /// call is one step of the file system that its last name is in. Forks and
    /// snapshots show the same live directory; it is in no diff. Neither path
    /// leads through mounts. Without mounts nothing costs more.
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::{Fs, Rights}};
    ///
    /// let (fs, data) = (Fs::new(&Image::empty()), Fs::new(&Image::empty()));
    /// data.write("/results", "42")?;
    /// fs.mount(b"/mnt/data", &data, b"/", Rights::ReadOnly).expect("both are there");
    /// assert_eq!(fs.read("/mnt/data/results")?, b"42");
    /// # Ok::<(), stratafs::host::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::Loop`] if this is the other file system or is
    /// mounted somewhere in it; those of the walk to `other_path`, which has to
    /// be a directory ([`Errno::NotDirectory`]), and of
    /// [`Self::keep_place`] here; [`Errno::Busy`] for the root and where
    /// something is mounted; [`Errno::NoSpace`] past
    /// [`MAX_MOUNTS`](crate::limits::MAX_MOUNTS).
    pub fn mount(
        &self,
        path: &[u8],
        other: &Self,
        other_path: &[u8],
        rights: Rights,
    ) -> Result<(), Errno> {
        let _one_at_a_time = MOUNTING.lock();
        if other.leads_to(self) {
            return Err(Errno::Loop);
        }
        let dir = DirMount::new(other, other_path, rights)?;
        let now = self.now();
        let mut state = self.lock();
        let place = make_dirs(&mut state, path, now)?;
        let mut mounts = self.mounts().write();
        if place == FileId::ROOT || mounts.dirs.contains_key(&place) {
            return Err(Errno::Busy);
        }
        if mounts.len() >= MAX_MOUNTS {
            return Err(Errno::NoSpace);
        }
        state.pin(place);
        mounts.dirs.insert(place, dir);
        Ok(())
    }

    /// Shows a file of the host's making at `path`, in place of the file that
    /// is there; an empty one is made if none is, also in a read-only instance.
    /// Links are followed; directories above have to be there.
    ///
    /// Its name is under a rule ([`Rule::ReadOnly`]): guests can neither
    /// remove, replace nor move it, nor a directory above it. The file below
    /// is what a diff holds, and nothing of the host's making; forks show the
    /// same. Mounting again replaces it for who opens it from then on.
    ///
    /// # Errors
    ///
    /// Those of the walk, [`Errno::IsDirectory`], [`Errno::Loop`],
    /// [`Errno::NoSpace`] by the quotas, past
    /// [`MAX_MOUNTS`](crate::limits::MAX_MOUNTS) and as [`Self::set_rule`].
    pub fn mount_file(&self, path: &[u8], file: Arc<dyn VirtualFile>) -> Result<(), Errno> {
        let writable = file.is_writable();
        let now = self.now();
        let mut state = self.lock();
        let from = path.iter().position(|byte| *byte != b'/');
        let relative = from.and_then(|from| path.get(from..)).unwrap_or(b".");
        let last = Last::Create(Follow::Yes);
        let (dir, name, found) = match resolve(&state, Start::of_host(), relative, last)? {
            End::Dir(_) => return Err(Errno::IsDirectory),
            End::Entry {
                dir, name, found, ..
            } => (dir, name.to_vec(), found),
        };
        let id = match found.map(|found| (found.kind, found.id)) {
            Some((Kind::Dir, _)) => return Err(Errno::IsDirectory),
            Some((Kind::Symlink, _)) => return Err(Errno::Loop),
            Some((Kind::File, id)) => id,
            None => state.create(dir, &name, New::File, now)?,
        };
        let mut mounts = self.mounts().write();
        if mounts.len() >= MAX_MOUNTS {
            return Err(Errno::NoSpace);
        }
        state.set_rule(dir, id, Rule::ReadOnly)?;
        let old = mounts.files.insert(id, FileMount { file, writable });
        // The host's own code runs when its last reference goes: under no lock.
        drop((mounts, state));
        drop(old);
        Ok(())
    }

    /// What is mounted on the directory `id`.
    pub(super) fn mounted_dir(&self, id: FileId) -> Option<DirMount> {
        self.mounted()?.read().dirs.get(&id).cloned()
    }

    /// What is mounted on the file `id`.
    pub(super) fn mounted_file(&self, id: FileId) -> Option<FileMount> {
        self.mounted()?.read().files.get(&id).cloned()
    }

    /// A copy of all that is mounted, for a fork.
    pub(super) fn all_mounted(&self) -> Option<Mounts> {
        Some(self.mounted()?.read().clone())
    }

    /// Tells whether a walk in this file system may lead into `other`.
    fn leads_to(&self, other: &Self) -> bool {
        let mut todo = vec![self.clone()];
        while let Some(fs) = todo.pop() {
            if fs.is_same(other) {
                return true;
            }
            if let Some(mounts) = fs.mounted() {
                let below = mounts.read();
                todo.extend(below.dirs.values().map(|mount| mount.fs().clone()));
            }
        }
        false
    }
}
