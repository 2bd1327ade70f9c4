//! Adding entries by their position: an open directory and a name.
//!
//! For sources that walk a tree themselves: an entry costs O(1) here, however
//! deep it is. The rules are the builder's.

use std::sync::Arc;

use super::build_tree::{BuildBody, BuildTree, Placed};
use super::{LayerBuilder, LayerError};
use crate::chunk::Content;
use crate::limits::{
    ENTRY_BYTES, MAX_FILE_BYTES, MAX_LAYER_DEPTH, MAX_LAYER_PATH_BYTES, MAX_LINKS, MAX_NAME_BYTES,
    MAX_SYMLINK_BYTES, MAX_XATTR_BYTES,
};
use crate::meta::{Meta, Xattrs};
use crate::name::{LayerPath, Name};

/// A directory of the layer that is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirId(pub(super) u32);

#[cfg(feature = "dir")]
impl DirId {
    pub(crate) const ROOT: Self = Self(BuildTree::ROOT);
}

/// A file or symbolic link of the layer that is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectId(pub(super) u32);

/// The position of an entry: its directory and its name.
#[derive(Clone, Copy)]
pub(crate) struct EntryPos<'p> {
    pub(crate) dir: DirId,
    pub(crate) name: &'p Name,
    /// The whole path, for messages.
    pub(crate) path: &'p dyn Fn() -> LayerPath,
}

/// Returns whether a path of so many names and bytes, slashes counted, is
/// within bounds.
pub(crate) fn fits(names: usize, bytes: usize) -> bool {
    names <= MAX_LAYER_DEPTH && bytes <= MAX_LAYER_PATH_BYTES
}

impl LayerBuilder {
    /// Sets the metadata of the root.
    pub(crate) fn root(&mut self, meta: Meta) -> Result<(), LayerError> {
        let meta = self.checked_meta(meta, &LayerPath::root)?;
        self.tree.set_dir_meta(BuildTree::ROOT, meta);
        Ok(())
    }

    /// Finds or makes a directory, replacing what is none, and sets its
    /// metadata.
    pub(crate) fn dir_in(&mut self, pos: EntryPos<'_>, meta: Meta) -> Result<DirId, LayerError> {
        let meta = self.checked_meta(meta, pos.path)?;
        self.count_named(pos)?;
        let there = match self.tree.slot(pos.dir.0, pos.name).placed {
            Some(Placed::Node(id)) => Some(id),
            _ => None,
        };
        let id = match there.filter(|id| self.tree.is_dir(*id)) {
            Some(id) => id,
            None => {
                let id = self.tree.push_implied();
                self.tree.place(pos.dir.0, pos.name, Placed::Node(id));
                id
            }
        };
        self.tree.set_dir_meta(id, meta);
        Ok(DirId(id))
    }

    pub(crate) fn file_in(
        &mut self,
        pos: EntryPos<'_>,
        meta: Meta,
        content: Content,
    ) -> Result<ObjectId, LayerError> {
        let size = content.size();
        if size > MAX_FILE_BYTES {
            return Err(LayerError::FileTooLarge {
                path: (pos.path)(),
                size,
            });
        }
        self.object_in(pos, BuildBody::File(content), meta)
    }

    pub(crate) fn symlink_in(
        &mut self,
        pos: EntryPos<'_>,
        meta: Meta,
        target: &[u8],
    ) -> Result<(), LayerError> {
        if target.is_empty() || target.len() > MAX_SYMLINK_BYTES || target.contains(&0) {
            return Err(LayerError::SymlinkTarget { path: (pos.path)() });
        }
        self.metadata += target.len() as u64;
        self.object_in(pos, BuildBody::Symlink(Arc::from(target)), meta)
            .map(drop)
    }

    /// Adds one more name of an object.
    pub(crate) fn link_in(
        &mut self,
        pos: EntryPos<'_>,
        object: ObjectId,
    ) -> Result<(), LayerError> {
        self.count_named(pos)?;
        if self.tree.add_name(object.0) > MAX_LINKS {
            return Err(LayerError::TooManyLinks { path: (pos.path)() });
        }
        self.tree.place(pos.dir.0, pos.name, Placed::Node(object.0));
        Ok(())
    }

    /// Adds a file that has no name yet; it is part of the layer once it has one.
    /// `path` is what errors call it.
    #[cfg(feature = "tar")]
    pub(crate) fn nameless_file(
        &mut self,
        path: &LayerPath,
        meta: Meta,
        content: Content,
    ) -> Result<ObjectId, LayerError> {
        let whole = || path.clone();
        let meta = self.checked_meta(meta, &whole)?;
        self.metadata += path
            .names()
            .iter()
            .map(|name| name.as_bytes().len() as u64)
            .sum::<u64>();
        self.count(&whole)?;
        Ok(ObjectId(
            self.tree.push_nameless(BuildBody::File(content), meta),
        ))
    }

    /// Returns whether the layer has something at a path so far.
    #[cfg(feature = "tar")]
    pub(crate) fn has(&self, path: &LayerPath) -> bool {
        self.tree.find(path).is_some()
    }

    /// Adds one more name of an object.
    #[cfg(feature = "tar")]
    pub(crate) fn link_object(
        &mut self,
        path: &LayerPath,
        object: ObjectId,
    ) -> Result<(), LayerError> {
        let whole = || path.clone();
        let pos = self.position(path, "a hard link", &whole)?;
        self.link_in(pos, object)
    }

    pub(crate) fn whiteout_in(&mut self, pos: EntryPos<'_>) -> Result<(), LayerError> {
        self.count_named(pos)?;
        self.tree.slot(pos.dir.0, pos.name).hides = true;
        Ok(())
    }

    pub(crate) fn opaque_in(&mut self, dir: DirId) {
        self.tree.set_opaque(dir.0);
    }

    /// Counts an entry before it is made.
    pub(super) fn count(&mut self, path: &dyn Fn() -> LayerPath) -> Result<(), LayerError> {
        if self.entries >= self.max_entries {
            return Err(LayerError::TooManyEntries {
                path: path(),
                limit: self.max_entries,
            });
        }
        self.entries += 1;
        self.metadata += ENTRY_BYTES;
        Ok(())
    }

    fn count_named(&mut self, pos: EntryPos<'_>) -> Result<(), LayerError> {
        self.metadata += pos.name.as_bytes().len() as u64;
        self.count(pos.path)
    }

    fn object_in(
        &mut self,
        pos: EntryPos<'_>,
        object: BuildBody,
        meta: Meta,
    ) -> Result<ObjectId, LayerError> {
        let meta = self.checked_meta(meta, pos.path)?;
        self.count_named(pos)?;
        let id = self.tree.push(object, meta);
        self.tree.place(pos.dir.0, pos.name, Placed::Node(id));
        Ok(ObjectId(id))
    }

    /// Brings metadata into the one form that is hashed, and counts it.
    fn checked_meta(
        &mut self,
        mut meta: Meta,
        path: &dyn Fn() -> LayerPath,
    ) -> Result<Meta, LayerError> {
        meta.mode &= 0o7777;
        let Some(xattrs) = meta.xattrs.take().filter(|xattrs| !xattrs.is_empty()) else {
            return Ok(meta);
        };
        let bytes = bytes_of(&xattrs);
        self.metadata += bytes as u64;
        let known = self.checked_xattrs.as_ref();
        if known.is_some_and(|known| Arc::ptr_eq(known, &xattrs)) {
            meta.xattrs = Some(xattrs);
            return Ok(meta);
        }
        let xattrs = match xattrs.is_sorted() {
            true => xattrs,
            false => {
                let mut sorted: Xattrs = Arc::unwrap_or_clone(xattrs);
                sorted.sort_unstable();
                Arc::new(sorted)
            }
        };
        let twice = xattrs
            .windows(2)
            .any(|pair| matches!(pair, [(a, _), (b, _)] if a == b));
        let named = xattrs
            .iter()
            .all(|(name, _)| (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(&0));
        if twice || !named || bytes > MAX_XATTR_BYTES {
            return Err(LayerError::Xattrs { path: path() });
        }
        self.checked_xattrs = Some(Arc::clone(&xattrs));
        meta.xattrs = Some(xattrs);
        Ok(meta)
    }
}

fn bytes_of(xattrs: &Xattrs) -> usize {
    let pairs = xattrs.iter();
    pairs.map(|(name, value)| name.len() + value.len()).sum()
}
