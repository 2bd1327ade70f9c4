//! The directories of snapshots: `snapshots/NUMBER/fs`, and `work` beside it for the kernel's overlays.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use tonic::Status;

use super::users::{self, UserFiles};
use crate::failure::Failure;

/// The directories of snapshots.
pub(super) struct Dirs {
    root: PathBuf,
}

impl Dirs {
    /// Takes a root, made if it is missing.
    pub(super) fn open(root: &Path) -> Result<Self, Failure> {
        let make = |dir: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| Failure::at(dir, error))
        };
        make(root)?;
        // What is told to others are whole paths.
        let root = fs::canonicalize(root).map_err(|error| Failure::at(root, error))?;
        let dirs = Self { root };
        for dir in [dirs.snapshots(), dirs.removed(), dirs.empty()] {
            make(&dir)?;
        }
        Ok(dirs)
    }

    /// Returns the file of what is known of snapshots.
    pub(super) fn metadata(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    /// Returns the directory with the files of a snapshot.
    pub(super) fn files(&self, number: u64) -> PathBuf {
        self.of(number).join("fs")
    }

    /// Returns the directory that the kernel's overlay of a snapshot works in.
    pub(super) fn work(&self, number: u64) -> PathBuf {
        self.of(number).join("work")
    }

    /// Returns a directory in which nothing is: what an overlay has below it in place of an image.
    pub(super) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    fn of(&self, number: u64) -> PathBuf {
        self.snapshots().join(number.to_string())
    }

    /// Makes the directories of a snapshot.
    pub(super) fn make(&self, number: u64) -> Result<(), Status> {
        let of = self.of(number);
        let make = || {
            DirBuilder::new().mode(0o700).create(&of)?;
            // A root is readable for everybody, as that of an image is.
            DirBuilder::new().mode(0o755).create(of.join("fs"))?;
            DirBuilder::new().mode(0o711).create(of.join("work"))?;
            File::open(&of)?.sync_all()?;
            File::open(self.snapshots())?.sync_all()
        };
        make().map_err(|error| failed(&of, &error))
    }

    /// Puts the files of users into a snapshot that was made.
    pub(super) fn show_users(&self, number: u64, files: &UserFiles) -> Result<(), Status> {
        let root = self.files(number);
        users::write(&root, files).map_err(|error| failed(&root, &error))
    }

    /// Takes the directories of a snapshot out of the way, so that they can be removed.
    pub(super) fn discard(&self, number: u64) -> Result<(), Status> {
        let (from, to) = (self.of(number), self.removed().join(number.to_string()));
        match fs::rename(&from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&from, &error)),
            _ => Ok(()),
        }
    }

    /// Removes what was discarded.
    pub(super) fn empty_removed(&self) -> Result<(), Status> {
        let removed = self.removed();
        let listed = fs::read_dir(&removed).map_err(|error| failed(&removed, &error))?;
        for entry in listed {
            let path = entry.map_err(|error| failed(&removed, &error))?.path();
            match fs::remove_dir_all(&path) {
                // Somebody else removes it as well.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                gone => gone.map_err(|error| failed(&path, &error))?,
            }
        }
        Ok(())
    }

    /// Discards the directories that belong to no snapshot.
    pub(super) fn discard_others(&self, known: &HashSet<u64>) -> Result<(), Status> {
        let snapshots = self.snapshots();
        let listed = fs::read_dir(&snapshots).map_err(|error| failed(&snapshots, &error))?;
        for entry in listed {
            let name = entry
                .map_err(|error| failed(&snapshots, &error))?
                .file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            match number {
                Some(number) if !known.contains(&number) => self.discard(number)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts bytes and inodes of the files of a snapshot; hard links once.
    pub(super) fn usage(&self, number: u64) -> Result<(u64, u64), Status> {
        let top = self.files(number);
        let (mut bytes, mut seen, mut left) = (0_u64, HashSet::new(), vec![top.clone()]);
        while let Some(dir) = left.pop() {
            let listed = match fs::read_dir(&dir) {
                // It is written to meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed.map_err(|error| failed(&dir, &error))?,
            };
            for entry in listed {
                let path = entry.map_err(|error| failed(&dir, &error))?.path();
                let meta = match fs::symlink_metadata(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    meta => meta.map_err(|error| failed(&path, &error))?,
                };
                if seen.insert((meta.dev(), meta.ino())) {
                    bytes = bytes.saturating_add(meta.blocks().saturating_mul(512));
                }
                if meta.is_dir() {
                    left.push(path);
                }
            }
        }
        Ok((bytes, seen.len() as u64))
    }
}

fn failed(path: &Path, error: &io::Error) -> Status {
    Status::internal(format!("{}: {error}", path.display()))
}
