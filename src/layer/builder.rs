//! Making a layer entry by entry, with all rules about odd entries.

use std::sync::Arc;

use super::build_tree::{BuildTree, Placed};
use super::entry_pos::{DirId, EntryPos, ObjectId, fits};
use super::{Layer, LayerError, finish};
use crate::chunk::Content;
use crate::limits::MAX_LAYER_ENTRIES;
use crate::meta::{Meta, Xattrs};
use crate::name::{LayerPath, Name};

/// Bytes that a name of a path costs beside its own.
const NAME_BYTES: usize = 48;

/// Makes a [`Layer`] from entries in any order.
///
/// The rules, the same for every source:
///
/// - Of several entries for one path the last one wins. A directory over a
///   directory brings its metadata and keeps what is below; anything else
///   replaces what was there, with all below it.
/// - Parents that no entry names are implied: they exist, and where a lower
///   layer has the directory its metadata stays.
/// - An entry below a file or below a symbolic link of the same layer is an
///   error. Links are never followed.
/// - A hard link names an earlier file or symbolic link of the layer, or one
///   of a lower layer (found when the image is made). One that names itself
///   changes nothing if it is there already. A link to a directory, to itself
///   where nothing is, or to what comes later in the layer is an error.
/// - A whiteout hides its name in lower layers. An entry of the same name
///   stays, before or after it: a directory is then opaque.
/// - An opaque directory hides what lower layers have in it.
///
/// An entry costs O(depth of its path). A builder that has given an error is
/// good for dropping only.
///
/// ```
/// use stratafs::chunk::{ChunkPool, ContentBuilder};
/// use stratafs::image::Image;
/// use stratafs::layer::Layer;
/// use stratafs::meta::Meta;
/// use stratafs::name::LayerPath;
/// use stratafs::vfs::Fs;
///
/// let pool = ChunkPool::new();
/// let path = |text: &str| LayerPath::parse(text.as_bytes());
/// let mut lower = Layer::builder();
/// lower.file(&path("etc/hosts")?, Meta::with_mode(0o644), ContentBuilder::of(&pool, b"::1"))?;
/// let mut upper = Layer::builder();
/// upper.whiteout(&path("etc/hosts")?)?;
/// let image = Image::new(&[lower.finish()?, upper.finish()?])?;
/// assert!(!Fs::new(&image).exists("/etc/hosts")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LayerBuilder {
    pub(super) tree: BuildTree,
    pub(super) max_entries: u64,
    pub(super) entries: u64,
    pub(super) metadata: u64,
    /// Attributes that were found to be sound last: a source may give the same
    /// to many entries.
    pub(super) checked_xattrs: Option<Arc<Xattrs>>,
    lower_links: bool,
}

impl std::fmt::Debug for LayerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerBuilder")
            .field("entries", &self.entries)
            .field("max_entries", &self.max_entries)
            .finish_non_exhaustive()
    }
}

impl Default for LayerBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl LayerBuilder {
    /// Starts an empty layer: a root that is only implied, and
    /// [`MAX_LAYER_ENTRIES`] entries at most.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tree: BuildTree::new(),
            max_entries: MAX_LAYER_ENTRIES,
            entries: 0,
            metadata: 0,
            checked_xattrs: None,
            lower_links: false,
        }
    }

    /// Lowers the bound on entries; implied parents count.
    #[must_use]
    pub fn max_entries(mut self, max: u64) -> Self {
        self.max_entries = max.min(MAX_LAYER_ENTRIES);
        self
    }

    /// Returns the bytes of all entries so far as metadata:
    /// [`ENTRY_BYTES`](crate::limits::ENTRY_BYTES) for each, implied parents
    /// included, with names, link targets and attributes. What was replaced
    /// counts as well.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.metadata
    }

    /// Adds a directory; at the root, sets the root's metadata.
    ///
    /// # Errors
    ///
    /// Those of the path ([`LayerError::PathTooLong`],
    /// [`LayerError::BelowFile`], [`LayerError::BelowSymlink`],
    /// [`LayerError::TooManyEntries`]) and [`LayerError::Xattrs`].
    pub fn dir(&mut self, path: &LayerPath, meta: Meta) -> Result<(), LayerError> {
        if path.is_root() {
            return self.root(meta);
        }
        let whole = || path.clone();
        let pos = self.position(path, "a directory", &whole)?;
        self.dir_in(pos, meta).map(drop)
    }

    /// Adds a regular file.
    ///
    /// # Errors
    ///
    /// As [`dir`](Self::dir); [`LayerError::Root`],
    /// [`LayerError::FileTooLarge`].
    pub fn file(
        &mut self,
        path: &LayerPath,
        meta: Meta,
        content: Content,
    ) -> Result<(), LayerError> {
        let whole = || path.clone();
        let pos = self.position(path, "a file", &whole)?;
        self.file_in(pos, meta, content).map(drop)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    ///
    /// As [`dir`](Self::dir); [`LayerError::Root`],
    /// [`LayerError::SymlinkTarget`].
    pub fn symlink(
        &mut self,
        path: &LayerPath,
        meta: Meta,
        target: &[u8],
    ) -> Result<(), LayerError> {
        let whole = || path.clone();
        let pos = self.position(path, "a symbolic link", &whole)?;
        self.symlink_in(pos, meta, target)
    }

    /// Adds one more name for a file or symbolic link. What is not in this
    /// layer is looked for in the lower ones when the image is made.
    ///
    /// # Errors
    ///
    /// As [`dir`](Self::dir); [`LayerError::Root`], [`LayerError::LinkToDir`],
    /// [`LayerError::LinkToItself`], [`LayerError::TooManyLinks`]. What can
    /// only be known at the end is an error of [`finish`](Self::finish).
    pub fn hard_link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), LayerError> {
        let both = || (path.clone(), target.clone());
        let placed = match self.tree.find(target) {
            Some(Placed::Node(id)) if self.tree.is_dir(id) => {
                let (link, target) = both();
                return Err(LayerError::LinkToDir { link, target });
            }
            Some(_) if path == target => return self.count(&|| path.clone()),
            Some(placed) => placed,
            None => Placed::LowerLink(Box::new(target.clone())),
        };
        let loops = matches!(&placed, Placed::LowerLink(lower) if **lower == *path);
        if path == target || loops {
            let (link, target) = both();
            return Err(LayerError::LinkToItself { link, target });
        }
        let whole = || path.clone();
        let pos = self.position(path, "a hard link", &whole)?;
        match placed {
            Placed::Node(id) => self.link_in(pos, ObjectId(id)),
            Placed::LowerLink(_) => {
                self.lower_links = true;
                let names = target.names().iter();
                let bytes: usize = names.map(|name| name.as_bytes().len() + NAME_BYTES).sum();
                self.metadata += bytes as u64;
                self.count(&whole)?;
                self.tree.place(pos.dir.0, pos.name, placed);
                Ok(())
            }
        }
    }

    /// Hides the path in lower layers. Hiding what no lower layer has is
    /// fine.
    ///
    /// # Errors
    ///
    /// As [`dir`](Self::dir); [`LayerError::Root`].
    pub fn whiteout(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        let whole = || path.clone();
        let pos = self.position(path, "a whiteout", &whole)?;
        self.whiteout_in(pos)
    }

    /// Makes a directory opaque; one that no entry names is implied.
    ///
    /// # Errors
    ///
    /// As [`dir`](Self::dir), and [`LayerError::BelowFile`] or
    /// [`LayerError::BelowSymlink`] when `dir` is no directory.
    pub fn opaque(&mut self, dir: &LayerPath) -> Result<(), LayerError> {
        check_path(dir)?;
        let id = self.walk_dirs(dir, dir.names())?;
        self.opaque_in(id);
        Ok(())
    }

    /// Ends the layer: checks hard links that lead out of it, sorts, hashes.
    /// O(n log n) in the entries.
    ///
    /// # Errors
    ///
    /// [`LayerError::LinkBeforeTarget`], [`LayerError::LinkToDir`],
    /// [`LayerError::LinkMissing`].
    pub fn finish(self) -> Result<Layer, LayerError> {
        let nodes = self.tree.compact();
        if self.lower_links {
            finish::check_lower_links(&nodes)?;
        }
        let digest = finish::digest(&nodes);
        Ok(Layer::from_parts(nodes, digest))
    }

    /// Finds or makes the parent of an entry.
    pub(super) fn position<'p>(
        &mut self,
        path: &'p LayerPath,
        what: &'static str,
        whole: &'p dyn Fn() -> LayerPath,
    ) -> Result<EntryPos<'p>, LayerError> {
        check_path(path)?;
        let (parents, name) = path.split_last().ok_or(LayerError::Root(what))?;
        let dir = self.walk_dirs(path, parents)?;
        Ok(EntryPos {
            dir,
            name,
            path: whole,
        })
    }

    /// Walks down `names`, the first components of `path`, making implied
    /// directories.
    fn walk_dirs(&mut self, path: &LayerPath, names: &[Name]) -> Result<DirId, LayerError> {
        let mut dir = BuildTree::ROOT;
        for (depth, name) in names.iter().enumerate() {
            let parent = || LayerPath::from(names.get(..=depth).unwrap_or_default().to_vec());
            dir = match self.tree.slot(dir, name).placed {
                None => {
                    self.count(&|| path.clone())?;
                    self.metadata += name.as_bytes().len() as u64;
                    let id = self.tree.push_implied();
                    self.tree.place(dir, name, Placed::Node(id));
                    id
                }
                Some(Placed::LowerLink(_)) => {
                    let (path, parent) = (path.clone(), parent());
                    return Err(LayerError::BelowFile { path, parent });
                }
                Some(Placed::Node(id)) => {
                    self.tree.expect_dir(id, path, parent)?;
                    id
                }
            };
        }
        Ok(DirId(dir))
    }
}

fn check_path(path: &LayerPath) -> Result<(), LayerError> {
    let names = path.names();
    let bytes = names.iter().map(|name| name.as_bytes().len() + 1).sum();
    if !fits(names.len(), bytes) {
        return Err(LayerError::PathTooLong { path: path.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::layer::EntryBody;
    use crate::limits::{MAX_LAYER_DEPTH, MAX_SYMLINK_BYTES, MAX_XATTR_BYTES};
    use crate::steps::{assert_linear, counted};

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    /// Builds from lines: `d PATH`, `f PATH TEXT`, `s PATH TARGET`,
    /// `h PATH TARGET`, `w PATH`, `o PATH`.
    fn build(lines: &str) -> Result<Layer, LayerError> {
        let pool = ChunkPool::new();
        let mut builder = LayerBuilder::new();
        for line in lines.split(',') {
            let words: Vec<_> = line.split_whitespace().collect();
            let (at, rest) = (path(words[1]), words.get(2).copied().unwrap_or(""));
            let meta = Meta::with_mode(0o700);
            match words[0] {
                "d" => builder.dir(&at, meta)?,
                "f" => builder.file(&at, meta, ContentBuilder::of(&pool, rest.as_bytes()))?,
                "s" => builder.symlink(&at, meta, rest.as_bytes())?,
                "h" => builder.hard_link(&at, &path(rest))?,
                "w" => builder.whiteout(&at)?,
                _ => builder.opaque(&at)?,
            }
        }
        builder.finish()
    }

    /// Lists a layer: `d` explicit, `i` implied, `!` opaque.
    fn list(lines: &str) -> String {
        let layer = build(lines).unwrap();
        let mut out = Vec::new();
        for entry in layer.entries().skip(1) {
            let what = match entry.body {
                EntryBody::Dir { meta, opaque } => {
                    let opaque = if opaque { "!" } else { "" };
                    format!("{}{opaque}", if meta.is_some() { "d" } else { "i" })
                }
                EntryBody::File { content, .. } => format!("f{}", content.size()),
                EntryBody::Symlink { target, .. } => {
                    format!("s{}", String::from_utf8_lossy(target))
                }
                EntryBody::Whiteout => "w".into(),
                EntryBody::LowerLink { target } => format!("h{target}"),
            };
            out.push(format!("{}:{what}", entry.path));
        }
        out.join(" ")
    }

    fn error(lines: &str) -> String {
        build(lines).unwrap_err().to_string()
    }

    #[test]
    fn case_c1_18_the_last_of_several_entries_wins() {
        assert_eq!(list("f a x,f a yy"), "a:f2");
        assert_eq!(list("f a/b x,f a yy"), "a:f2");
        assert_eq!(list("f a/b x,d a"), "a:d a/b:f1");
        assert_eq!(list("f a x,d a,f a/b y"), "a:d a/b:f1");
        assert_eq!(list("s a b,d a"), "a:d");
        assert_eq!(list("d a,f a/x 1,s a b,f c 1"), "a:sb c:f1");
    }

    #[test]
    fn case_c1_19_nothing_lies_below_a_file_or_link() {
        assert_eq!(
            error("f f x,f f/g y"),
            "f/g: f is a file, nothing can lie below it"
        );
        assert!(error("s x /abs,f x/f y").starts_with("x/f: x is a symbolic link"));
        assert!(error("f f x,o f").contains("f is a file"));
        assert!(error("h l lower,f l/x y").contains("l is a file"));
        assert_eq!(list("d f,f f/g y"), "f:d f/g:f1");
    }

    #[test]
    fn case_c1_11_hard_links_look_back_or_down() {
        assert_eq!(list("f a x,h b a"), "a:f1 b:f1");
        assert_eq!(list("h b lower/x"), "b:hlower/x");
        assert_eq!(list("h b lower/x,h c b"), "b:hlower/x c:hlower/x");
        assert_eq!(
            error("h b a,f a x"),
            "b: hard link to a, which comes later in the layer"
        );
        assert_eq!(error("h b a/c,f a x").split(':').next(), Some("b"));
        assert!(error("w a,h b a").contains("hides it by a whiteout"));
        assert!(error("o d,h b d/e/f").contains("opaque"));
        assert_eq!(list("d d,h b d/e/f"), "b:hd/e/f d:d");
    }

    #[test]
    fn case_c1_12_13_14_hard_links_to_odd_things() {
        assert!(error("d d,h l d").contains("hard link to the directory d"));
        assert!(error("h l d,d d").contains("hard link to the directory d"));
        assert!(error("h l /").contains("hard link to the directory /"));
        assert_eq!(list("f a x,h a a"), "a:f1");
        assert!(error("h a a").contains("to itself"));
        assert!(error("h a b,h b a").contains("to itself through a"));
        assert!(error("h a b,h b c,h c a").contains("comes later"));
        assert_eq!(list("s l /etc/x,h m l,f m new"), "l:s/etc/x m:f3");
        assert_eq!(list("s l t,h m l"), "l:st m:st");
    }

    #[test]
    fn case_c1_20_23_whiteouts_in_any_order() {
        assert_eq!(list("w a"), "a:w");
        assert_eq!(list("w a,f a x"), "a:f1");
        assert_eq!(list("f a x,w a"), "a:f1");
        assert_eq!(list("w a,d a,f a/b x"), list("f a/b x,d a,w a"));
        assert_eq!(list("w a,d a"), "a:d!");
        assert_eq!(list("w a,f a/b x"), "a:d! a/b:f1");
        assert_eq!(list("o a"), "a:i!");
        assert_eq!(list("o a,d a"), list("d a,o a"));
        assert!(error("w /").contains("not a whiteout"));
    }

    #[test]
    fn identity_is_what_it_is_not_how_it_came() {
        let digest = |lines| build(lines).unwrap().digest();
        assert_eq!(digest("f a x,f b y"), digest("f b old,f b y,f a x"));
        assert_eq!(digest("f a x,h b a"), digest("f b x,h a b"));
        assert_ne!(digest("f a x,h b a"), digest("f a x,f b x"));
        assert_ne!(digest("d a,f a/b x"), digest("f a/b x"));
        assert_ne!(digest("w a"), digest("f b x"));
    }

    #[test]
    fn bounds_name_the_entry() {
        let mut builder = LayerBuilder::new().max_entries(2);
        let meta = || Meta::with_mode(0o755);
        builder.dir(&path("a/b"), meta()).unwrap();
        let error = builder.dir(&path("c"), meta()).unwrap_err().to_string();
        assert_eq!(error, "c: more than 2 entries in the layer");
        let long = [b'x'; MAX_SYMLINK_BYTES + 1];
        let mut builder = LayerBuilder::new();
        builder.symlink(&path("l"), meta(), &long[1..]).unwrap();
        for target in [&long[..], b"", b"a\0b"] {
            assert!(builder.symlink(&path("l"), meta(), target).is_err());
        }
        let many = vec![("user.a".as_bytes().into(), vec![0; MAX_XATTR_BYTES].into())];
        let meta = Meta {
            xattrs: Some(Arc::new(many)),
            ..meta()
        };
        assert!(
            builder
                .dir(&path("d"), meta)
                .unwrap_err()
                .to_string()
                .starts_with("d: ")
        );
    }

    #[test]
    fn the_deepest_tree_needs_no_stack() {
        let run = || {
            let deep = path(&"d/".repeat(MAX_LAYER_DEPTH));
            let mut builder = LayerBuilder::new();
            builder.dir(&deep, Meta::with_mode(0o755)).unwrap();
            builder
                .dir(&LayerPath::root(), Meta::with_mode(0o755))
                .unwrap();
            let layer = builder.finish().unwrap();
            assert_eq!(layer.node_count(), MAX_LAYER_DEPTH + 1);
            assert_eq!(layer.entries().count(), MAX_LAYER_DEPTH + 1);
        };
        std::thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(run)
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn case_c1_36_names_in_one_directory_are_linear() {
        assert_linear(100_000, |names| {
            counted(|| {
                let mut builder = LayerBuilder::new();
                for number in 0..names {
                    let at = path(&format!("d/{number}"));
                    builder
                        .file(&at, Meta::with_mode(0o644), Content::empty())
                        .unwrap();
                }
                assert_eq!(builder.finish().unwrap().node_count(), names + 2);
            })
        });
    }
}
