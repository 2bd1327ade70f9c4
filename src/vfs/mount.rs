//! Directories of other file systems and virtual files provided by the host, at
//! paths of an instance.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Fs;
use super::descriptor::Rights;
use super::fs::{below_root, find_dir};
use super::kept_dirs::make_dirs;
use super::state::FsState;
use super::virtual_file::VirtualFile;
use super::walk::{Follow, Last, Start, WalkTarget, resolve};
use crate::errno::Errno;
use crate::error::Error;
use crate::limits::MAX_MOUNTS;
use crate::meta::{FileId, Kind};
use crate::overlay::{New, Rule};
use crate::path::IntoFsPath;
use crate::steps;

/// A directory of another file system that is shown in place of one here.
#[derive(Clone)]
pub(super) struct DirMount(Arc<MountedDir>);

/// A directory that is pinned for as long as it is mounted somewhere. It takes
/// none of the descriptors that its users share.
struct MountedDir {
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
        Ok(Self(Arc::new(MountedDir { fs, id, rights })))
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

    /// Returns a number that no other mount has while this one lives.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl Drop for MountedDir {
    fn drop(&mut self) {
        self.fs.lock().unpin(self.id);
    }
}

/// A host's file that is shown in place of one here.
#[derive(Clone)]
pub(super) struct FileMount {
    pub(super) file: Arc<dyn VirtualFile>,
    pub(super) writable: bool,
    pub(super) is_device: bool,
}

/// What is shown in place of objects of an instance. Forks have the same.
#[derive(Default)]
pub(super) struct Mounts {
    /// Shared with forks until one of them changes it.
    table: Arc<MountTable>,
    /// File systems that are about to be mounted: in no walk and no fork yet,
    /// but seen by who looks for circles. So of several mounts that would make
    /// one together, the one that is noted last sees all others.
    pending: Vec<Fs>,
}

#[derive(Clone, Default)]
struct MountTable {
    dirs: HashMap<FileId, DirMount>,
    files: HashMap<FileId, FileMount>,
}

impl Mounts {
    /// What a fork shows. O(1).
    pub(super) fn of_fork(&self) -> Self {
        Self {
            table: Arc::clone(&self.table),
            pending: Vec::new(),
        }
    }
}

impl MountTable {
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
    /// leads through mounts. Without mounts nothing costs more. O(file systems
    /// that are mounted below), once.
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::{Fs, Rights}};
    ///
    /// let (fs, data) = (Fs::new(&Image::empty()), Fs::new(&Image::empty()));
    /// data.write("/results", "42")?;
    /// fs.mount("/mnt/data", &data, "/", Rights::ReadOnly)?;
    /// assert_eq!(fs.read("/mnt/data/results")?, b"42");
    /// # Ok::<(), stratafs::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::Loop`] if this is the other file system or is
    /// mounted somewhere in it, or is being mounted by another thread (of two
    /// that would make a circle one fails, or both); those of the walk to `other_path`, which has to
    /// be a directory ([`Errno::NotDirectory`]), and of
    /// [`Self::keep_dir`] here; [`Errno::Busy`] for the root and where
    /// something is mounted; [`Errno::NoSpace`] past
    /// [`MAX_MOUNTS`](crate::limits::MAX_MOUNTS) and as [`Self::keep_dir`].
    pub fn mount(
        &self,
        path: impl IntoFsPath,
        other: &Self,
        other_path: impl IntoFsPath,
        rights: Rights,
    ) -> Result<(), Error> {
        let path = path.fs_path();
        self.mounts().write().pending.push(other.clone());
        let outcome = if other.leads_to(self) {
            Err(Error::new("mount at", &path, Errno::Loop))
        } else {
            let other_path = other_path.fs_path();
            let dir = DirMount::new(other, &other_path, rights);
            dir.map_err(|errno| Error::new("mount", &other_path, errno))
                .and_then(|dir| {
                    let mounted = self.mount_dir(&path, dir);
                    mounted.map_err(|errno| Error::new("mount at", &path, errno))
                })
        };
        let mut mounts = self.mounts().write();
        let at = mounts.pending.iter().position(|fs| fs.is_same(other));
        let noted = at.map(|at| mounts.pending.swap_remove(at));
        // If it was the last handle, the other file system goes with it.
        drop(mounts);
        drop(noted);
        outcome
    }

    fn mount_dir(&self, path: &[u8], dir: DirMount) -> Result<(), Errno> {
        let now = self.now();
        let mut state = self.lock();
        let place = make_dirs(&mut state, path, now)?;
        let mut mounts = self.mounts().write();
        if place == FileId::ROOT || mounts.table.dirs.contains_key(&place) {
            return Err(Errno::Busy);
        }
        if mounts.table.len() >= MAX_MOUNTS {
            return Err(Errno::NoSpace);
        }
        state.keep(place)?;
        Arc::make_mut(&mut mounts.table).dirs.insert(place, dir);
        Ok(())
    }

    /// Shows a virtual file provided by the host at `path`, in place of the file that
    /// is there; an empty one is made if none is, also in a read-only instance.
    /// Directories missing on the way are made. Links are followed.
    ///
    /// Its name is under a rule ([`Rule::ReadOnly`]): guests can neither
    /// remove, replace nor move it, nor a directory above it. The file below
    /// is what a diff holds, and nothing of the virtual file; forks show the
    /// same. Mounting again replaces it for who opens it from then on.
    ///
    /// # Errors
    ///
    /// Those of the walk, [`Errno::IsDirectory`], [`Errno::Loop`],
    /// [`Errno::NoSpace`] by the quotas, past
    /// [`MAX_MOUNTS`](crate::limits::MAX_MOUNTS) and as [`Self::set_rule`].
    /// Directories that were made until then stay.
    pub fn mount_file(
        &self,
        path: impl IntoFsPath,
        file: Arc<dyn VirtualFile>,
    ) -> Result<(), Error> {
        let path = path.fs_path();
        let mounted = self.mount_file_at(&path, file);
        mounted.map_err(|errno| Error::new("mount file at", &path, errno))
    }

    fn mount_file_at(&self, path: &[u8], file: Arc<dyn VirtualFile>) -> Result<(), Errno> {
        let relative = below_root(path)?;
        let now = self.now();
        let mut state = self.lock();
        // A path with a slash at its end is no file's.
        let name_at = relative.iter().rposition(|byte| *byte == b'/');
        if let Some(above) = name_at.and_then(|at| relative.get(..at))
            && !relative.ends_with(b"/")
        {
            make_dirs(&mut state, above, now)?;
        }
        let last = Last::Create(Follow::Yes);
        let (dir, name, found) = match resolve(&state, Start::of_host(), relative, last)? {
            WalkTarget::Dir(_) => return Err(Errno::IsDirectory),
            WalkTarget::Entry {
                dir, name, found, ..
            } => (dir, name.to_vec(), found),
        };
        let id = match found.map(|found| (found.kind, found.id)) {
            Some((Kind::Dir, _)) => return Err(Errno::IsDirectory),
            Some((Kind::Symlink, _)) => return Err(Errno::Loop),
            Some((Kind::File, id)) => id,
            None => state.create(dir, &name, New::File, now)?,
        };
        self.show_file(state, id, file, Rule::ReadOnly)
    }

    /// Shows a virtual file provided by the host in place of the file `id`, whose name is under
    /// `rule`: it may be free where a directory above it is not.
    pub(super) fn show_file(
        &self,
        mut state: MutexGuard<'_, FsState>,
        id: FileId,
        file: Arc<dyn VirtualFile>,
        rule: Rule,
    ) -> Result<(), Errno> {
        let mount = FileMount {
            writable: file.is_writable(),
            is_device: file.is_device(),
            file,
        };
        let mut mounts = self.mounts().write();
        let is_new = !mounts.table.files.contains_key(&id);
        if is_new && mounts.table.len() >= MAX_MOUNTS {
            return Err(Errno::NoSpace);
        }
        if rule != Rule::Free {
            state.set_rule(id, rule)?;
        }
        let table = Arc::make_mut(&mut mounts.table);
        let old = table.files.insert(id, mount);
        // The host's own code runs when its last reference goes: under no lock.
        drop((mounts, state));
        drop(old);
        Ok(())
    }

    /// What is mounted on the directory `id`.
    pub(super) fn mounted_dir(&self, id: FileId) -> Option<DirMount> {
        self.mounted()?.read().table.dirs.get(&id).cloned()
    }

    /// What is mounted on the file `id`.
    pub(super) fn mounted_file(&self, id: FileId) -> Option<FileMount> {
        self.mounted()?.read().table.files.get(&id).cloned()
    }

    /// Whether a device is mounted on the file `id`.
    pub(super) fn shows_device(&self, id: FileId) -> bool {
        self.has_mounts() && self.mounted_file(id).is_some_and(|mount| mount.is_device)
    }

    /// All that is mounted, for a fork. O(1). Asked under the instance's lock,
    /// so that it goes with the state.
    pub(super) fn all_mounted(&self) -> Option<Mounts> {
        Some(self.mounted()?.read().of_fork())
    }

    /// Returns whether a walk in this file system may lead into `other`, or may
    /// soon. O(file systems that it may lead into).
    fn leads_to(&self, other: &Self) -> bool {
        let mut seen = HashSet::from([self.address()]);
        let mut todo = vec![self.clone()];
        while let Some(fs) = todo.pop() {
            if fs.is_same(other) {
                return true;
            }
            steps::add(1);
            if let Some(mounts) = fs.mounted() {
                let mounts = mounts.read();
                let shown = mounts.table.dirs.values().map(DirMount::fs);
                let below = shown.chain(&mounts.pending);
                let new = below.filter(|fs| seen.insert(fs.address()));
                todo.extend(new.cloned());
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::steps::{assert_linear, counted};

    fn empty() -> Fs {
        Fs::new(&Image::empty())
    }

    #[test]
    fn looking_for_a_circle_is_linear_in_the_file_systems() {
        // Each shows the next one twice: 2^n ways lead to the last.
        assert_linear(20, |levels| {
            let all: Vec<_> = (0..levels).map(|_| empty()).collect();
            for pair in all.windows(2) {
                for path in [b"/left".as_slice(), b"/right"] {
                    pair[0]
                        .mount(path, &pair[1], b"/", Rights::ReadWrite)
                        .unwrap();
                }
            }
            let (first, last) = (&all[0], &all[levels - 1]);
            let circle = || last.mount("/up", first, "/", Rights::ReadWrite);
            let steps = counted(|| assert_eq!(circle().unwrap_err().errno(), Errno::Loop));
            assert!(!last.leads_to(first));
            steps
        });
    }

    #[test]
    fn mounts_at_the_same_time_make_no_circle() {
        let mounted = |fs: &Fs| fs.mounts().read().table.dirs.len() == 1;
        for _ in 0..200 {
            let all = [empty(), empty(), empty()];
            std::thread::scope(|scope| {
                for at in 0..3 {
                    let (one, next) = (&all[at], &all[(at + 1) % 3]);
                    scope.spawn(move || {
                        let outcome = one.mount("/next", next, "/", Rights::ReadWrite);
                        let refused = outcome.err().map(|error| error.errno());
                        assert!(matches!(refused, None | Some(Errno::Loop)));
                    });
                }
            });
            assert!(!all.iter().all(mounted), "a circle");
            for fs in &all {
                assert!(fs.mounts().read().pending.is_empty());
            }
        }
    }
}
