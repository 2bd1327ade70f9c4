//! Calls on names: directories, links, removal, renaming, metadata.

use super::below_root;
use crate::errno::Errno;
use crate::error::Error;
use crate::meta::{Kind, Stat};
use crate::path::IntoFsPath;
use crate::vfs::{Descriptor, Follow, Fs, SetTime};

impl Fs {
    /// Runs `step` on the root and a path relative to it.
    pub(super) fn at<R>(
        &self,
        operation: &'static str,
        path: &[u8],
        step: impl FnOnce(&Descriptor, &[u8]) -> Result<R, Errno>,
    ) -> Result<R, Error> {
        let (root, relative) = below_root(self, path);
        step(&root, relative).map_err(|errno| Error::new(operation, path, errno))
    }

    /// As [`Self::at`] for two paths; the error names the second.
    fn at_both(
        &self,
        operation: &'static str,
        (from, to): (&[u8], &[u8]),
        step: impl FnOnce(&Descriptor, &[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), Error> {
        let (root, from) = below_root(self, from);
        let (_, below) = below_root(self, to);
        step(&root, from, below).map_err(|errno| Error::new(operation, to, errno))
    }

    /// Returns what is known of the object at `path`; links are followed.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::stat_at`].
    pub fn metadata(&self, path: impl IntoFsPath) -> Result<Stat, Error> {
        self.at("stat", &path.fs_path(), |root, path| {
            root.stat_at(Follow::Yes, path)
        })
    }

    /// Returns what is known of the object at `path`; a link is not followed.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::stat_at`].
    pub fn symlink_metadata(&self, path: impl IntoFsPath) -> Result<Stat, Error> {
        self.at("stat", &path.fs_path(), |root, path| {
            root.stat_at(Follow::No, path)
        })
    }

    /// Returns whether something is at `path`; links are followed.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::stat_at`] but for a missing name.
    pub fn exists(&self, path: impl IntoFsPath) -> Result<bool, Error> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Errno::NoEntry => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::create_dir_at`].
    pub fn create_dir(&self, path: impl IntoFsPath) -> Result<(), Error> {
        self.at(
            "create directory",
            &path.fs_path(),
            Descriptor::create_dir_at,
        )
    }

    /// Makes a directory and those above it that are missing. One that is
    /// there already is fine.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::create_dir_at`]; [`Errno::NotDirectory`] or
    /// [`Errno::Exist`] where something else stands in the way.
    pub fn create_dir_all(&self, path: impl IntoFsPath) -> Result<(), Error> {
        let path = &path.fs_path();
        self.at("create directory", path, |root, relative| {
            let ends = relative
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'/');
            let ends = ends.map(|(at, _)| at).chain([relative.len()]);
            for end in ends {
                let prefix = relative.get(..end).unwrap_or_default();
                match root.create_dir_at(prefix) {
                    Ok(()) => {}
                    Err(Errno::Exist) => match root.stat_at(Follow::Yes, prefix)?.kind {
                        Kind::Dir => {}
                        Kind::File | Kind::Symlink if end < relative.len() => {
                            return Err(Errno::NotDirectory);
                        }
                        Kind::File | Kind::Symlink => return Err(Errno::Exist),
                    },
                    Err(errno) => return Err(errno),
                }
            }
            Ok(())
        })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::remove_dir_at`].
    pub fn remove_dir(&self, path: impl IntoFsPath) -> Result<(), Error> {
        self.at(
            "remove directory",
            &path.fs_path(),
            Descriptor::remove_dir_at,
        )
    }

    /// Removes a directory and all below it, the deepest first; of the root,
    /// all below it. A link is not followed, and is an error itself. Not one
    /// step: a guest may see it half done. What is mounted below is not
    /// entered, and its place stays ([`Errno::Busy`]).
    ///
    /// Safe on a tree that a guest made, whatever its depth: O(entries), a step
    /// for each directory and each 256 entries, no path is walked, no descriptor
    /// of the instance is taken; holds a name for each directory that it is in.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`], and those of [`Descriptor::remove_dir_at`].
    pub fn remove_dir_all(&self, path: impl IntoFsPath) -> Result<(), Error> {
        self.at("remove directory", &path.fs_path(), |root, path| {
            root.pass_to(Follow::No, path)?.remove_below()?;
            match root.remove_dir_at(path) {
                Err(Errno::Invalid) => Ok(()),
                other => other,
            }
        })
    }

    /// Removes the name of a file or link.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::unlink_at`].
    pub fn remove_file(&self, path: impl IntoFsPath) -> Result<(), Error> {
        self.at("remove", &path.fs_path(), Descriptor::unlink_at)
    }

    /// Moves `from` to `to`, replacing what stands there. One step.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::rename_at`].
    pub fn rename(&self, from: impl IntoFsPath, to: impl IntoFsPath) -> Result<(), Error> {
        self.at_both(
            "rename to",
            (&from.fs_path(), &to.fs_path()),
            |root, from, to| root.rename_at(from, root, to),
        )
    }

    /// Adds the name `link` for the file or link at `original`.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::link_at`].
    pub fn hard_link(&self, original: impl IntoFsPath, link: impl IntoFsPath) -> Result<(), Error> {
        self.at_both(
            "link",
            (&original.fs_path(), &link.fs_path()),
            |root, from, to| root.link_at(from, root, to),
        )
    }

    /// Makes a symbolic link at `link` that leads to `target`, absolute or
    /// relative to the link's directory.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::symlink_at`].
    pub fn symlink(&self, target: impl IntoFsPath, link: impl IntoFsPath) -> Result<(), Error> {
        self.at("symlink", &link.fs_path(), |root, path| {
            root.symlink_at(&target.fs_path(), path)
        })
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::readlink_at`].
    pub fn read_link(&self, path: impl IntoFsPath) -> Result<Vec<u8>, Error> {
        self.at("read link", &path.fs_path(), |root, path| {
            root.readlink_at(path).map(|target| target.to_vec())
        })
    }

    /// Sets times of the object at `path`; links are followed.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::set_times_at`].
    pub fn set_times(
        &self,
        path: impl IntoFsPath,
        atime: SetTime,
        mtime: SetTime,
    ) -> Result<(), Error> {
        self.at("set times of", &path.fs_path(), |root, path| {
            root.set_times_at(Follow::Yes, path, atime, mtime)
        })
    }

    /// Sets permission bits and owners of the object at `path`; links are
    /// followed. They are kept and given back, not enforced.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::set_owner_at`].
    pub fn set_owner(
        &self,
        path: impl IntoFsPath,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<(), Error> {
        self.at("set owner of", &path.fs_path(), |root, path| {
            root.set_owner_at(Follow::Yes, path, mode, owner)
        })
    }
}
