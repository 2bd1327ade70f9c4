//! The merged tree of an image, whose files are taken over without reading them.

use std::collections::BTreeMap;

use stratafs::chunk::{ChunkPool, Content};
use stratafs::image::Image;
use stratafs::layer::EntryBody;
use stratafs::meta::{Kind, Meta};
use stratafs::name::show;
use stratafs::vfs::Fs;

use super::TreeEntry;
use crate::failure::Failure;

/// The tree of an image, by path.
pub(in crate::build) struct StoredTree {
    entries: BTreeMap<Vec<u8>, (TreeEntry, Option<Content>)>,
}

impl StoredTree {
    /// Reads the tree. O(entries).
    pub(in crate::build) fn of(image: &Image) -> Result<Self, Failure> {
        let layer = Fs::new(image).tree("/", &ChunkPool::new())?;
        let mut entries = BTreeMap::new();
        for entry in layer.entries() {
            let (found, content) = match entry.body {
                EntryBody::Dir { meta, .. } => {
                    let meta = meta.cloned().unwrap_or_else(|| Meta::with_mode(0o755));
                    (tree_entry(Kind::Dir, meta, None, None), None)
                }
                EntryBody::File {
                    meta,
                    content,
                    object,
                    links,
                } => {
                    let object = (links > 1).then_some(u64::from(object));
                    let file = tree_entry(Kind::File, meta.clone(), None, object);
                    (file, Some(content.clone()))
                }
                EntryBody::Symlink { meta, target, .. } => {
                    let target = Some(target.to_vec());
                    (tree_entry(Kind::Symlink, meta.clone(), target, None), None)
                }
                // A whole tree has none of these.
                EntryBody::Whiteout | EntryBody::LowerLink { .. } => continue,
            };
            entries.insert(entry.path.to_bytes(), (found, content));
        }
        Ok(Self { entries })
    }

    pub(super) fn look(&self, path: &[u8]) -> Option<TreeEntry> {
        if path.is_empty() && !self.entries.contains_key(path) {
            return Some(tree_entry(Kind::Dir, Meta::with_mode(0o755), None, None));
        }
        self.entries.get(path).map(|(entry, _)| entry.clone())
    }

    pub(super) fn list(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut prefix = path.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut from = prefix.clone();
        // What lies below an entry is passed over at one stroke.
        while let Some((path, _)) = self.entries.range(from.clone()..).next() {
            let Some(rest) = path.strip_prefix(prefix.as_slice()) else {
                break;
            };
            let name = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
            let own = [prefix.as_slice(), name].concat();
            if !name.is_empty() && path.len() == own.len() {
                found.push(name.to_vec());
            }
            from = match name.is_empty() {
                true => [path.as_slice(), &[0]].concat(),
                // `0` follows `/`, but names with what comes before `/` are their own.
                false if path.len() == own.len() => [own.as_slice(), &[0]].concat(),
                false => [own.as_slice(), b"0"].concat(),
            };
        }
        found
    }

    pub(super) fn content(&self, path: &[u8]) -> Result<Content, Failure> {
        let found = self
            .entries
            .get(path)
            .and_then(|(_, content)| content.clone());
        found.ok_or_else(|| Failure::new(format_args!("{}: no file", show(path))))
    }
}

fn tree_entry(kind: Kind, meta: Meta, target: Option<Vec<u8>>, object: Option<u64>) -> TreeEntry {
    TreeEntry {
        kind,
        meta,
        target,
        object,
    }
}
