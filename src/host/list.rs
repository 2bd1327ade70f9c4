//! Listing directories and walking trees.

use std::fmt;
use std::ops::ControlFlow;

use super::error::Error;
use crate::errno::Errno;
use crate::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES};
use crate::meta::{FileId, Kind};
use crate::name::show;
use crate::vfs::{Access, Descriptor, Follow, Fs, OpenFlags};

/// An entry of a directory. Shown as its path, odd bytes escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    path: Vec<u8>,
    name_at: usize,
    id: FileId,
    kind: Kind,
}

impl Entry {
    /// Gives the path from the root, with a leading `/`.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Gives the name's bytes.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.get(self.name_at..).unwrap_or_default()
    }

    /// Gives the inode number.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Tells what the entry is; links are not followed.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.path))
    }
}

/// Lists one directory, opened through `root`.
fn list(root: &Descriptor, path: &[u8]) -> Result<Vec<Entry>, Errno> {
    let dir = root.open_at(Follow::Yes, path, OpenFlags::DIRECTORY, Access::READ)?;
    let mut prefix = match path {
        b"." => Vec::new(),
        path => [b"/", path].concat(),
    };
    while prefix.ends_with(b"/") {
        prefix.pop();
    }
    let mut entries = Vec::new();
    dir.read_dir(0, &mut |entry| {
        entries.push(Entry {
            path: [&prefix, entry.name].join(&b'/'),
            name_at: prefix.len() + 1,
            id: entry.id,
            kind: entry.kind,
        });
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// A directory below another is reached by a path up to this long, a deeper
/// one through a descriptor of its own.
const FAR_BYTES: usize = MAX_PATH_BYTES - MAX_NAME_BYTES - 1;

/// Removes all below the directory at `path`, the deepest first.
pub(super) fn remove_below(root: &Descriptor, path: &[u8]) -> Result<(), Errno> {
    let mut todo = remove_leaves(root, path)?;
    // A directory is met twice: full, then empty.
    let mut emptied = Vec::new();
    while let Some(dir) = todo.pop() {
        if emptied.last() == Some(&dir) {
            emptied.pop();
            root.remove_dir_at(&dir)?;
            continue;
        }
        let below = if dir.len() > FAR_BYTES {
            let far = root.open_at(Follow::No, &dir, OpenFlags::DIRECTORY, Access::READ)?;
            remove_below(&far, b".")?;
            Vec::new()
        } else {
            remove_leaves(root, &dir)?
        };
        todo.push(dir.clone());
        todo.extend(below);
        emptied.push(dir);
    }
    Ok(())
}

/// Removes what is not a directory. Gives the directories.
fn remove_leaves(root: &Descriptor, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let mut dirs = Vec::new();
    for entry in list(root, path)? {
        let below = entry.path.get(1..).unwrap_or_default();
        match entry.kind {
            Kind::Dir => dirs.push(below.to_vec()),
            Kind::File | Kind::Symlink => root.unlink_at(below)?,
        }
    }
    Ok(dirs)
}

impl Fs {
    /// Lists a directory as it is now: entries of the base by name, then
    /// those made since, by age. O(entries) time and memory.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::open_at`], [`Errno::NotDirectory`].
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<Vec<Entry>, Error> {
        self.at("list", path.as_ref(), list)
    }

    /// Walks the tree below a directory, each directory before what is in it,
    /// links not followed. Each directory is listed when the walk gets there.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read_dir`]; each step may give them too.
    pub fn walk(&self, path: impl AsRef<[u8]>) -> Result<Walk, Error> {
        let mut todo = self.read_dir(path)?;
        todo.reverse();
        Ok(Walk {
            fs: self.clone(),
            todo,
        })
    }
}

/// A walk over a tree. Made by [`Fs::walk`].
#[derive(Debug)]
pub struct Walk {
    fs: Fs,
    /// The next one last.
    todo: Vec<Entry>,
}

impl Iterator for Walk {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.todo.pop()?;
        if entry.kind == Kind::Dir {
            match self.fs.read_dir(&entry.path) {
                Ok(below) => self.todo.extend(below.into_iter().rev()),
                // Gone since it was listed: nothing is below it.
                Err(error) if error.errno() == Errno::NoEntry => {}
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(entry))
    }
}
