//! Where files are copied from: a directory of the host, or the tree of an image.

mod host;
mod stored;
mod xattrs;

use std::sync::Arc;

use stratafs::chunk::{ChunkPool, Content};
use stratafs::meta::{Kind, Meta, Xattrs};
use stratafs::name::show;

pub(super) use self::host::HostTree;
pub(super) use self::stored::StoredTree;
use crate::failure::Failure;

/// Symbolic links on the way to one file.
const MAX_LINKS: usize = stratafs::limits::MAX_SYMLINKS;

/// One file, directory or link.
#[derive(Clone, Debug)]
pub(super) struct TreeEntry {
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    /// What a link says.
    pub(super) target: Option<Vec<u8>>,
    /// The number that all names of one file share, if it has several.
    pub(super) object: Option<u64>,
}

/// A tree of files. Paths are names with slashes between them, empty for the root.
pub(super) enum FileTree {
    Host(HostTree),
    Stored(StoredTree),
}

impl FileTree {
    /// Looks at a path; links are not followed, those on the way neither.
    pub(super) fn look(&self, path: &[u8]) -> Result<Option<TreeEntry>, Failure> {
        match self {
            Self::Host(tree) => tree.look(path),
            Self::Stored(tree) => Ok(tree.look(path)),
        }
    }

    /// Lists the names in a directory, in order.
    pub(super) fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        match self {
            Self::Host(tree) => tree.list(path),
            Self::Stored(tree) => Ok(tree.list(path)),
        }
    }

    /// Reads a file, and of the host its extended attributes; of an image nothing is read.
    pub(super) fn content(
        &self,
        path: &[u8],
        pool: &ChunkPool,
    ) -> Result<(Content, Option<Arc<Xattrs>>), Failure> {
        match self {
            Self::Host(tree) => tree.content(path, pool),
            Self::Stored(tree) => Ok((tree.content(path)?, None)),
        }
    }

    /// Reads the extended attributes of a directory of the host; those of an image come with
    /// what [`look`](Self::look) gives.
    pub(super) fn dir_xattrs(&self, path: &[u8]) -> Result<Option<Arc<Xattrs>>, Failure> {
        match self {
            Self::Host(tree) => tree.dir_xattrs(path),
            Self::Stored(_) => Ok(None),
        }
    }

    /// Follows the links on the way to a path, and at its end if `last`. The host's tree ends at
    /// its root: what leads out of it is refused. Returns `None` for what is not there.
    pub(super) fn resolve(&self, path: &[u8], last: bool) -> Result<Option<Vec<u8>>, Failure> {
        let leaves = || {
            Failure::new(format_args!(
                "{}: a link there leads out of the context: copy what it leads to into the context, or give it with --build-context",
                show(path)
            ))
        };
        let may_leave = matches!(self, Self::Stored(_));
        let mut todo: Vec<Vec<u8>> = names(path).map(<[u8]>::to_vec).rev().collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    if done.pop().is_none() && !may_leave {
                        return Err(leaves());
                    }
                    continue;
                }
                _ => done.push(name),
            }
            let Some(entry) = self.look(&done.join(&b'/'))? else {
                return Ok(None);
            };
            let Some(target) = entry.target.filter(|_| last || !todo.is_empty()) else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Failure::new(format_args!(
                    "{}: more than {MAX_LINKS} links lead to each other there",
                    show(path)
                )));
            }
            done.pop();
            if target.starts_with(b"/") {
                if !may_leave {
                    return Err(leaves());
                }
                done.clear();
            }
            todo.extend(names(&target).map(<[u8]>::to_vec).rev());
        }
        Ok(Some(done.join(&b'/')))
    }
}

/// The names of a path.
pub(super) fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
}

/// A path with one more name.
pub(super) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir.is_empty() || name.is_empty() {
        true => [dir, name].concat(),
        false => [dir, b"/", name].concat(),
    }
}
