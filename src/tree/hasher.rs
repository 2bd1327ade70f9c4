//! Hashing a tree while walking it.

use std::collections::HashMap;

use super::encode::{self, Tag};
use crate::digest::Digest;
use crate::meta::Meta;
use crate::name::LayerPath;

/// What a directory's entry says besides its metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirMark {
    /// It hides what lower layers have in it.
    pub(crate) opaque: bool,
    /// Its metadata is a lower layer's to give, so it is not hashed.
    pub(crate) implied: bool,
}

/// Takes a tree in canonical order (entries of a directory by name, a
/// directory's entries right after it) and computes its digest.
///
/// O(1) per entry and one hasher per level, no recursion. Every
/// [`enter`](Self::enter) has its [`leave`](Self::leave).
pub(crate) struct TreeHasher {
    root: Vec<u8>,
    open: Vec<OpenDir>,
    /// Names of each object that has several, by their place in the walk.
    links: HashMap<u64, Vec<u64>>,
    place: u64,
    scratch: Vec<u8>,
}

struct OpenDir {
    /// The entry in the parent, up to the digest.
    entry: Vec<u8>,
    hasher: blake3::Hasher,
}

impl OpenDir {
    fn new(entry: Vec<u8>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"stratafs directory 1\0");
        Self { entry, hasher }
    }
}

impl TreeHasher {
    /// Starts a tree with its root directory, which is entered already.
    pub(crate) fn new(meta: &Meta, mark: DirMark) -> Self {
        let mut root = Vec::new();
        encode_dir(&mut root, b"", meta, mark);
        Self {
            root,
            open: vec![OpenDir::new(Vec::new())],
            links: HashMap::new(),
            place: 0,
            scratch: Vec::new(),
        }
    }

    /// Enters a directory of the current one.
    pub(crate) fn enter(&mut self, name: &[u8], meta: &Meta, mark: DirMark) {
        let mut entry = Vec::new();
        encode_dir(&mut entry, name, meta, mark);
        self.open.push(OpenDir::new(entry));
        self.place += 1;
    }

    /// Ends the current directory.
    pub(crate) fn leave(&mut self) {
        let Some(OpenDir { mut entry, hasher }) = self.open.pop() else {
            return;
        };
        entry.extend_from_slice(hasher.finalize().as_bytes());
        self.update(&entry);
    }

    /// Adds a file. `object` tells names of one object apart from those of
    /// others; `None` when the file has this name only.
    pub(crate) fn file(&mut self, name: &[u8], meta: &Meta, content: Digest, object: Option<u64>) {
        self.leaf(name, Tag::File, object, |out| {
            encode::meta(out, meta);
            out.extend_from_slice(content.as_bytes());
        });
    }

    /// Adds a symbolic link. `object` as with [`file`](Self::file).
    pub(crate) fn symlink(&mut self, name: &[u8], meta: &Meta, target: &[u8], object: Option<u64>) {
        self.leaf(name, Tag::Symlink, object, |out| {
            encode::meta(out, meta);
            encode::bytes(out, target);
        });
    }

    /// Adds a whiteout.
    pub(crate) fn whiteout(&mut self, name: &[u8]) {
        self.leaf(name, Tag::Whiteout, None, |_| {});
    }

    /// Adds a hard link to an object of a lower layer.
    pub(crate) fn lower_link(&mut self, name: &[u8], target: &LayerPath) {
        self.leaf(name, Tag::LowerLink, None, |out| {
            encode::number(out, target.names().len() as u64);
            for part in target.names() {
                encode::bytes(out, part.as_bytes());
            }
        });
    }

    /// Returns the digest of the tree.
    pub(crate) fn finish(mut self) -> Digest {
        while self.open.len() > 1 {
            self.leave();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"stratafs tree 1\0");
        hasher.update(&self.root);
        if let Some(dir) = self.open.pop() {
            hasher.update(dir.hasher.finalize().as_bytes());
        }
        let mut groups: Vec<_> = self
            .links
            .into_values()
            .filter(|names| names.len() > 1)
            .collect();
        groups.sort_unstable();
        let out = &mut self.scratch;
        out.clear();
        for group in groups {
            encode::number(out, group.len() as u64);
            group
                .into_iter()
                .for_each(|place| encode::number(out, place));
        }
        hasher.update(out);
        hasher.finalize().into()
    }

    fn leaf(
        &mut self,
        name: &[u8],
        tag: Tag,
        object: Option<u64>,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Some(object) = object {
            self.links.entry(object).or_default().push(self.place);
        }
        self.place += 1;
        let mut entry = std::mem::take(&mut self.scratch);
        encode::head(&mut entry, name, tag);
        body(&mut entry);
        self.update(&entry);
        self.scratch = entry;
    }

    fn update(&mut self, entry: &[u8]) {
        if let Some(dir) = self.open.last_mut() {
            dir.hasher.update(entry);
        }
    }
}

fn encode_dir(out: &mut Vec<u8>, name: &[u8], meta: &Meta, mark: DirMark) {
    encode::head(out, name, Tag::Dir);
    out.extend([u8::from(mark.opaque), u8::from(mark.implied)]);
    if !mark.implied {
        encode::meta(out, meta);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(fill: impl FnOnce(&mut TreeHasher)) -> Digest {
        let mut hasher = TreeHasher::new(&Meta::with_mode(0o755), DirMark::default());
        fill(&mut hasher);
        hasher.finish()
    }

    const META: Meta = Meta::with_mode(0o644);

    #[test]
    fn the_shape_is_part_of_the_identity() {
        let content = Digest::of(b"x");
        let flat = tree(|t| {
            t.enter(b"a", &META, DirMark::default());
            t.leave();
            t.file(b"b", &META, content, None);
        });
        let nested = tree(|t| {
            t.enter(b"a", &META, DirMark::default());
            t.file(b"b", &META, content, None);
            t.leave();
        });
        assert_ne!(flat, nested);
    }

    #[test]
    fn hard_links_count_but_their_numbers_do_not() {
        let content = Digest::of(b"x");
        let with = |ids: [Option<u64>; 3]| {
            tree(|t| {
                for (name, id) in [b"a", b"b", b"c"].into_iter().zip(ids) {
                    t.file(name, &META, content, id);
                }
            })
        };
        assert_eq!(
            with([Some(1), Some(1), None]),
            with([Some(9), Some(9), None])
        );
        assert_eq!(with([None; 3]), with([Some(1), Some(2), Some(3)]));
        assert_ne!(with([Some(1), Some(1), None]), with([None; 3]));
        assert_ne!(
            with([Some(1), Some(1), None]),
            with([Some(1), None, Some(1)])
        );
    }

    #[test]
    fn every_part_of_the_metadata_counts() {
        use crate::meta::Time;
        let xattrs = |name: &[u8], value: &[u8]| Some(vec![(name.into(), value.into())].into());
        let metas = [
            META,
            Meta {
                mode: 0o600,
                ..META
            },
            Meta { uid: 1, ..META },
            Meta { gid: 1, ..META },
            META.at(Time::new(1, 0)),
            META.at(Time::new(0, 1)),
            Meta {
                xattrs: xattrs(b"ab", b"c"),
                ..META
            },
            Meta {
                xattrs: xattrs(b"a", b"bc"),
                ..META
            },
        ];
        let digests: std::collections::HashSet<_> = metas
            .iter()
            .map(|meta| tree(|t| t.symlink(b"l", meta, b"t", None)))
            .collect();
        assert_eq!(digests.len(), metas.len());
    }
}
